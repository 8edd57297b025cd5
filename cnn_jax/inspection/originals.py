"""Encoded images before they are resized: sizes, shapes, formats and bits, from their headers."""

import collections
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnn_jax.data import encoded_images
from cnn_jax.data.sources import Source
from cnn_jax.data.splits import Split

ODD_ASPECT = 2.0  # the longer side by the shorter one
_MOST = 10_000  # images of a split whose headers are read
_SHOWN = 8  # images that are kept, to be seen before and after
_HEAD = 1 << 18  # bytes that hold the header of nearly any image
_READ_WHOLE = ("TIFF", "DICOM", "HEIC")  # formats whose header may stand anywhere
_BITS = {"1": 1, "I": 16, "I;16": 16, "I;16B": 16, "I;16L": 16, "F": 32}  # a channel; else 8
_UPRIGHT_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


class Shape(NamedTuple):
    """One image as it is stored: its id, width and height as they are seen, mode, format, bits."""

    id: str
    width: int
    height: int
    mode: str
    format: str
    bits: int


@dataclasses.dataclass(frozen=True)
class Originals:
    """The images of all splits before they are resized.

    Attributes:
        looked_at: how many headers were read.
        of: how many images there are.
        widths: the least, the median and the greatest width, in pixels.
        heights: likewise.
        aspects: width by height, likewise.
        odd: the images one side of which is at least twice the other.
        formats: {"JPEG": how many, ...}.
        modes: {Pillow's mode: how many}, "RGB", "L" for grey, and so on.
        bits: {bits a channel: how many}.
        examples: some images, the oddest shapes first, with their encoded bytes or files.
    """

    looked_at: int
    of: int
    widths: tuple[float, float, float]
    heights: tuple[float, float, float]
    aspects: tuple[float, float, float]
    odd: tuple[Shape, ...]
    formats: dict[str, int]
    modes: dict[str, int]
    bits: dict[int, int]
    examples: tuple[tuple[Shape, bytes | Path], ...] = dataclasses.field(repr=False, default=())


def of_source(source: Source) -> Originals | None:
    """Reads the headers of a data set's images; None where none can be read.

    Images that are stored as arrays have no headers, but a size.
    """
    shapes: list[Shape] = []
    stored: list[bytes | Path | None] = []
    total = 0
    for split in source.splits.values():
        if isinstance(split, Split):
            height, width, channels = split.images.shape[1:]
            mode, bits = {1: "L", 3: "RGB"}.get(channels, ""), 8 * split.images.dtype.itemsize
            shapes += [Shape(str(i), width, height, mode, "array", bits) for i in split.ids]
            stored += [None] * len(split)
            total += len(split)
            continue
        every = -(-split.num_examples // _MOST)
        for ids, _, images in split.blocks():
            for id_, image in zip(ids, images, strict=True):
                total += 1
                shape = _shape(id_, image) if (total - 1) % every == 0 else None
                if shape is not None:
                    shapes.append(shape)
                    stored.append(image)
    if not shapes:
        return None
    width, height = np.array([(shape.width, shape.height) for shape in shapes], np.float64).T
    aspect = width / height
    oddness = np.abs(np.log(aspect))
    order = np.argsort(-oddness, kind="stable")
    odd = [shapes[i] for i in order if oddness[i] >= np.log(ODD_ASPECT) - 1e-9]
    # Half of the examples are the oddest; the others are spread over all that there are.
    chosen = [*order[: _SHOWN // 2], *np.linspace(0, len(shapes) - 1, _SHOWN).astype(int)]
    chosen = list(dict.fromkeys(map(int, chosen)))[:_SHOWN]
    bits = collections.Counter(shape.bits for shape in shapes)
    return Originals(
        looked_at=len(shapes),
        of=total,
        widths=_ends(width),
        heights=_ends(height),
        aspects=_ends(aspect),
        odd=tuple(odd),
        formats=dict(collections.Counter(shape.format for shape in shapes).most_common()),
        modes=dict(collections.Counter(shape.mode for shape in shapes).most_common()),
        bits=dict(sorted(bits.items())),
        examples=tuple((shapes[i], image) for i in chosen if (image := stored[i]) is not None),
    )


def _ends(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.min()), float(np.median(values)), float(values.max())


def _shape(id_: str, image: bytes | Path) -> Shape | None:
    """Returns what an image's header says; None of one that cannot be read."""
    try:
        if isinstance(image, bytes):
            head = image
        elif not image.is_file():  # a pipe would be waited for
            return None
        else:
            with image.open("rb") as file:
                head = file.read(_HEAD)
                known = encoded_images.kind(head)
                if known is not None and known.name in _READ_WHOLE:
                    head += file.read()
        opened = encoded_images.open_image(head)
        if opened is None:
            return None
        with opened:
            turned = encoded_images.orientation(opened)[0] in _UPRIGHT_TURNS
            width, height = opened.size[::-1] if turned else opened.size
            mode, kind = opened.mode, str(opened.format)
        bits = _BITS.get(mode, 8)
        if kind == "PNG" and head[24] == 16:  # of colours Pillow reads the upper 8 bits
            bits = 16
        return Shape(id_, width, height, mode, kind, bits)
    except Exception:  # damaged files make Pillow raise nearly anything; decoding names them
        return None
