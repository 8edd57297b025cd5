"""How an image of any aspect becomes one of the height and width that a network takes.

| name | what is done | what it costs |
|---|---|---|
| squash | both sides are scaled to the target | the aspect is lost |
| crop | the short side (or a share) is scaled to the target, the middle stays | the rest is lost |
| pad | the whole is scaled into the target, with black around it | pixels without content |
| pad_mean | the same, with the mean colour of the image around it | likewise |
"""

from typing import Literal

import numpy as np
from PIL import Image

Resize = Literal["squash", "crop", "pad", "pad_mean"]
# Pillow's filters.
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def resize(
    image: Image.Image,
    target: tuple[int, int],
    how: str,
    box: tuple[float, float, float, float] | None = None,
    share: float = 1.0,
    interpolation: str = "bilinear",
) -> Image.Image:
    """Scales an image with antialiasing (Pillow's); `pad` adds the rest.

    Args:
        image: of any size.
        target: (width, height), in pixels.
        how: a `Resize`.
        box: (left, top, right, bottom) of what counts of the image, in its pixels; None: all.
        share: how much of the image is taken, its middle: of "crop" of the short side, of "squash"
            of each side; the others take all.
        interpolation: one of `FILTERS`.

    Returns:
        An image of the target's size; one that is to be padded is smaller on one side.
    """
    kind = Image.Resampling[interpolation.upper()]
    if how == "squash" and share == 1:
        return image.resize(target, kind, box)
    left, top, right, bottom = box or (0, 0, *image.size)
    width, height = right - left, bottom - top
    if how == "squash":
        across, down = (1 - share) / 2 * width, (1 - share) / 2 * height
        return image.resize(
            target, kind, (left + across, top + down, right - across, bottom - down)
        )
    ratios = width / target[0], height / target[1]  # pixels of the image in one of the target
    if how == "crop":
        inner_width, inner_height = (share * min(ratios) * side for side in target)
        left += max(0, (width - inner_width) / 2)
        top += max(0, (height - inner_height) / 2)
        # Rounding must not lead out of the image, which Pillow refuses.
        box = left, top, min(right, left + inner_width), min(bottom, top + inner_height)
        return image.resize(target, kind, box)
    inner = [
        min(whole, max(1, round(side / max(ratios))))
        for side, whole in zip((width, height), target, strict=True)
    ]
    return image.resize((inner[0], inner[1]), kind, box)


def pad(image: Image.Image, target: tuple[int, int], how: str) -> Image.Image:
    """Returns an image of the target's (width, height) with the given one in its middle.

    Args:
        image: grey or RGB, as `resize` returned it.
        target: (width, height), in pixels.
        how: a `Resize`; of "squash" and "crop" nothing is left to add.
    """
    if image.size == target:
        return image
    fill: tuple[int, ...] = (0,) * len(image.getbands())
    if how == "pad_mean":
        channels = np.asarray(image).reshape(-1, len(fill))
        fill = tuple(round(mean) for mean in channels.mean(axis=0).tolist())
    whole = Image.new(image.mode, target, fill)
    whole.paste(image, ((target[0] - image.width) // 2, (target[1] - image.height) // 2))
    return whole
