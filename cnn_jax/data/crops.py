"""Random parts of images, chosen and cut out where the images are decoded.

The part is drawn from the pixels as they are stored, before anything is scaled: "Inception's
crop" (Szegedy et al. 2015, section 6), as PyTorch's RandomResizedCrop draws it.
"""

import dataclasses
import math

import numpy as np

_ASPECTS = (3 / 4, 4 / 3)  # of width to height
_TRIES = 10


@dataclasses.dataclass(frozen=True)
class RandomPart:
    """A random part of one image in one epoch: a pure function of the values.

    Attributes:
        seed: of the run.
        epoch: from 0.
        example: the position of the image in its split.
        draw: where an epoch takes an example several times, tells them from each other.
        smallest: the least share of the image's area.
    """

    seed: int
    epoch: int
    example: int
    draw: int
    smallest: float

    def __call__(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Returns (left, top, width, height) of the part, in pixels of an image of this size.

        Its area is uniform over `smallest`..1 of the image's, its aspect log-uniform over 3/4..4/3,
        its place uniform; ten draws are made until one fits, and else the largest middle part of an
        aspect in that range is taken.
        """
        counter = [0, 0, self.example, self.draw]  # the lowest of the four counts the numbers drawn
        source = np.random.Philox(key=[self.seed, self.epoch], counter=counter)
        # What a Generator would draw, which takes as long to make as the numbers do.
        u = ((source.random_raw(2 * _TRIES + 2) >> np.uint64(11)) * 2.0**-53).tolist()
        for area, aspect in zip(u[0 : 2 * _TRIES : 2], u[1 : 2 * _TRIES : 2], strict=True):
            pixels = width * height * (self.smallest + (1 - self.smallest) * area)
            low, high = map(math.log, _ASPECTS)
            ratio = math.exp(low + (high - low) * aspect)
            wide, tall = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                left, top = int(u[-2] * (width - wide + 1)), int(u[-1] * (height - tall + 1))
                return left, top, wide, tall
        wide = min(width, max(1, round(height * _ASPECTS[1])))
        tall = min(height, max(1, round(width / _ASPECTS[0])))
        return (width - wide) // 2, (height - tall) // 2, wide, tall


def reduction(part: tuple[int, int], target: tuple[int, int], gap: int) -> int:
    """Returns by how much a JPEG is reduced while it is decoded: 8, 4, 2 or 1.

    Args:
        part: (width, height) that is cut out, in pixels as stored.
        target: (width, height) that it is scaled to.
        gap: how many times the target must remain.
    """
    fits = (
        k for k in (8, 4, 2) if all(p >= gap * k * t for p, t in zip(part, target, strict=True))
    )
    return next(fits, 1)
