"""Images that a trained network is given, and the classes that it finds."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnn_jax import text
from cnn_jax.data import DataInfo, Split, arrays
from cnn_jax.data import images as decoding
from cnn_jax.errors import UsageError

# An array [n, height, width, channels] as stored, one such image, a list of them, the images of a
# split, one path, or several.
Images = np.ndarray | Split | str | os.PathLike[str] | Sequence[Any]

_BATCH = 64


def image_batches(
    images: Images, info: DataInfo, max_megapixels: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (images [batch, height, width, channels], how many of them count).

    Args:
        images: images as the data of `info`, or paths of files, which are resized to them.
        info: the height, width, channels and type that the network takes.
        max_megapixels: files of which more would be decoded are refused.

    Raises:
        UsageError: the images have another shape or type, or there are none.
        RunError: a file cannot be read as an image.
    """
    given: Any = [images] if isinstance(images, str | os.PathLike) else images
    if isinstance(given, Split):
        given = given.images
    if not hasattr(given, "shape"):
        given = _listed(given)
    read = None
    if hasattr(given, "shape"):
        one = (info.image_shape, info.image_shape[:2] if info.image_shape[2] == 1 else None)
        given = arrays.check_images(given[None] if given.shape in one else given, like=info)
    elif info.dtype == "uint8":
        read = functools.partial(decoding.decode, how=decoding.like(info, max_megapixels))
    else:
        raise UsageError("the run was trained on float arrays; give it such, not files")
    if len(given) == 0:
        raise UsageError("there are no images to look at")
    size = min(_BATCH, len(given))
    for start in range(0, len(given), size):
        part: Any = given[start : start + size]
        if read is not None:
            part = [read(os.fspath(path)).pixels for path in part]
        part = np.asarray(part)
        fill = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
        yield np.concatenate([part, fill]), len(part)


def _listed(images: Any) -> Any:
    """Returns paths as they are, and a list of arrays or numbers as one array."""
    if not isinstance(images, Sequence):
        raise UsageError(f"images are an array or paths of files, not {type(images).__name__}")
    if all(isinstance(each, str | os.PathLike) for each in images):
        return images
    try:
        array = np.asarray(images)
    except ValueError:  # of several shapes
        raise UsageError("images in a list have several shapes; give them all one") from None
    if array.dtype.kind == "i" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)  # nested lists of pixels
    return array


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The classes of some images.

    Attributes:
        classes: the name of the most probable class of each image; of several findings those that
            were found, with | between them.
        labels: int64 [n], its index; or uint8 [n, classes], 1 for each finding.
        probabilities: float32 [n, classes].
        class_names: the names of the classes, in the order of the probabilities.
        set: for each image the classes of which one is the true one, with the coverage that `trust`
            promised; None: nothing was promised of the network, and so below.
        answers: bool [n], whether it answers on its own.
        p_value: float64 [n], small where an image is unlike the training images.
        reasons: why it does not answer, "" where it does.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    set: tuple[tuple[str, ...], ...] | None = None
    answers: np.ndarray | None = None
    p_value: np.ndarray | None = None
    reasons: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        some = ", ".join(map(str, self.classes[:5])) + (", ..." if len(self) > 5 else "")
        return f"<Predictions of {text.plural(len(self), 'image')}: {some}>"

    def top(self, count: int = 3) -> list[list[tuple[str, float]]]:
        """Returns the most probable classes of each image, as (name, probability)."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.class_names[i], float(row[i])) for i in some]
            for row, some in zip(self.probabilities, order, strict=True)
        ]
