"""The embedded data set: handwritten digits, in a file of 50 kB beside this one.

1,797 digits of 8x8 grey pixels (Alpaydin and Kaynak 1998, UCI, CC BY 4.0; their test set), which
scikit-learn has as `load_digits`. The source has no splits: 360 images are `test`, stratified and
fixed by the images' ids (`splits.hold_out`), the other 1,437 `train`. digits.npz has `images` of
0..16, `labels`, and `numbers`, an image's place in the source; those of `train` come first.

Processes that decode import this module, so it imports no JAX.
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_jax.data.encoded import Encoded

VERSION = "1.0.0"
CLASS_NAMES = tuple(str(digit) for digit in range(10))
_FILE = Path(__file__).with_name("digits.npz")
_SPLITS = {"train": slice(0, 1437), "test": slice(1437, 1797)}


@dataclasses.dataclass(frozen=True)
class Embedded:
    """The images of a split, as PNG.

    Attributes:
        split: `train` or `test`.
    """

    split: str

    def read(self, numbers: Sequence[int]) -> list[tuple[str, Path | bytes]]:
        """Returns (what messages call it, its bytes) of some images."""
        pixels, _, ids = _read(self.split)
        return [(f"digits {ids[number]}", png(pixels[number])) for number in numbers]


def splits() -> dict[str, Encoded]:
    """Returns the two splits; nothing is read yet."""
    return {name: _encoded(name) for name in _SPLITS}


def _encoded(split: str) -> Encoded:
    def blocks() -> Iterator[tuple[list[str], list[int], list[bytes]]]:
        pixels, labels, ids = _read(split)
        yield ids, labels, [png(image) for image in pixels]

    content = {"sha256": hashlib.sha256(_FILE.read_bytes()).hexdigest()}
    return Encoded(
        name="digits",
        version=VERSION,
        split=split,
        content=content,
        num_examples=_SPLITS[split].stop - _SPLITS[split].start,
        channels=1,
        blocks=blocks,
        records=functools.partial(Embedded, split),
        portable=content,
    )


@functools.cache
def _read(split: str) -> tuple[np.ndarray, list[int], list[str]]:
    """Returns (uint8 [n, 8, 8] of 0..255, the labels, the ids) of a split."""
    with np.load(_FILE, allow_pickle=False) as file:
        images, labels, numbers = (file[name][_SPLITS[split]] for name in file.files)
    pixels = np.round(images * (255 / 16)).astype(np.uint8)
    return pixels, labels.tolist(), [f"digits_{number:04d}" for number in numbers]


def png(image: np.ndarray) -> bytes:
    """Encodes a uint8 image [height, width] or [height, width, 3] as bytes, which TFDS stores."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
