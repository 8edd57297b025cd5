"""The embedded data set, as a TFDS builder: scikit-learn's handwritten digits.

Importing this module registers the builder, and takes as long as importing TFDS.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from cnn_jax.data import splits

_TEST_EXAMPLES = 360


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8x8 grey pixels (Alpaydin and Kaynak 1998, UCI; test set).

    The source's values 0..16 are scaled to 0..255. The source has no splits: 360 images are
    `test`, stratified and fixed by the images' ids (`splits.hold_out`), the other 1,437 `train`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(names=[str(i) for i in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download
        data: Any = load_digits()
        images = np.round(data.images * (255 / 16)).astype(np.uint8)
        ids = [f"digits_{i:04d}" for i in range(len(images))]
        train, test = splits.hold_out(data.target, ids, _TEST_EXAMPLES)
        return {
            name: self._generate_examples(images[part], data.target[part], [ids[i] for i in part])
            for name, part in (("train", train), ("test", test))
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, ids: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for image, label, name in zip(images, labels, ids, strict=True):
            yield name, {"id": name, "image": png(image), "label": int(label)}


def png(image: np.ndarray) -> bytes:
    """Encodes a uint8 image [height, width] or [height, width, 3] as bytes, which TFDS stores."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
