"""Nearly equal images: in two splits they flatter an accuracy, in two classes they contradict.

The search has two parts, and neither needs a trained network:

1. Candidates (`candidates`). Thumbnails' descriptors (`thumbnails`) are multiplied in blocks, each
   image also with the mirror images; of every image the products that are the largest are kept.
2. Confirmation. The two thumbnails are laid over each other (`registration`), in 16 x 16 and then,
   where they may be alike, in 32 x 32 pixels. Two images are nearly equal where the correlation of
   their local contrasts is at least `LEAST`; in data whose images are all alike (x-rays, digits)
   it must be more: halfway from what 999 of 1,000 random pairs of a class stay below, to 1.

Copies that were turned, or of which less than about two thirds are left, are not found.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnn_jax.data import cache, duplicates
from cnn_jax.data.duplicates import Member
from cnn_jax.data.splits import Split
from cnn_jax.inspection import candidates, registration
from cnn_jax.inspection.candidates import Thumbnails

LEAST = 0.75
SMALLEST = 16  # pixels of a side: of smaller images all are alike
_ROUGH = 0.45  # in 16 x 16 pixels, of a pair that is looked at in 32 x 32
_TASK = 256
_RANDOM_PAIRS = 2000
_DEVIATIONS = 4.5


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that are nearly equal.

    Attributes:
        one: where the first is.
        other: where the second is.
        positions: the two images' positions in their splits.
        similarity: the correlation of their local contrasts, at most 1.
        mirrored: whether one is the mirror image of the other.
    """

    one: Member
    other: Member
    positions: tuple[int, int]
    similarity: float
    mirrored: bool


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        pairs: the most similar ones first.
        threshold: the least similarity of a pair; None: the images are too small to be compared.
        candidates: how many pairs were laid over each other.
    """

    pairs: tuple[Pair, ...] = ()
    threshold: float | None = None
    candidates: int = 0


def find(parts: dict[str, Split], *, within: bool = False, quiet: bool = True) -> Found:
    """Returns the pairs of nearly equal images in two splits, or in two classes of one split.

    Equal images are among them. The time grows with the square of the number of images: 60,000 of
    32 x 32 take about a minute of processor time (docs/results/near_duplicates.md).

    Args:
        parts: {name: split}; a split that stands under two names counts once.
        within: whether pairs of one split and one class are wanted too.
        quiet: whether to show no progress.
    """
    chosen: dict[str, Split] = {}
    for name, split in parts.items():
        if len(split) and not any(split is other for other in chosen.values()):
            chosen[name] = split
    shape = next(iter(chosen.values())).images.shape
    if min(shape[1:3]) < SMALLEST:
        return Found()
    images = candidates.prepare(chosen)
    with ThreadPoolExecutor(cache.cores()) as pool:
        ones, others, flipped = candidates.find(images, within, pool, quiet)
        similarity = _confirm(images, ones, others, flipped, pool)
        threshold = _threshold(images, pool)
    kept = np.flatnonzero(similarity >= threshold)
    kept = kept[np.lexsort((others[kept], ones[kept], -similarity[kept]))]
    members: list[Pair] = []
    seen = set()
    for i in kept.tolist():
        both = int(ones[i]), int(others[i])
        if both in seen:  # also as its own mirror image
            continue
        seen.add(both)
        (one, first), (other, second) = (_member(images, chosen, at) for at in both)
        alike = round(min(float(similarity[i]), 1.0), 4)
        members.append(Pair(one, other, (first, second), alike, bool(flipped[i])))
    return Found(tuple(members), threshold, len(ones))


def similarity_of(one: Split, other: Split) -> np.ndarray:
    """Returns the similarity of the i-th images of two splits, float32 [n], the better of two.

    The second image is taken as it is, and mirrored.

    Args:
        one: n examples.
        other: n examples.
    """
    images = candidates.prepare({"one": one, "other": other})
    places = np.arange(len(one))
    with ThreadPoolExecutor(cache.cores()) as pool:
        both = [
            _confirm(images, places, places + len(one), np.full(len(one), flipped), pool, rough=-2)
            for flipped in (False, True)
        ]
    return np.maximum(*both)


def _member(images: Thumbnails, parts: dict[str, Split], place: int) -> tuple[Member, int]:
    """Returns an image and its position in its split."""
    number = int(np.searchsorted(images.starts, place, side="right")) - 1
    name, index = images.names[number], place - int(images.starts[number])
    return duplicates.member(name, parts[name], index), index


def _confirm(
    images: Thumbnails,
    ones: np.ndarray,
    others: np.ndarray,
    flipped: np.ndarray,
    pool: ThreadPoolExecutor,
    rough: float = _ROUGH,
) -> np.ndarray:
    """Returns the similarity of pairs, float32 [n]; -1 of those below `rough` in 16 x 16 pixels."""

    def measure(at: slice) -> np.ndarray:
        one = images.grey[ones[at]].astype(np.float32)
        other = images.grey[others[at]].astype(np.float32)
        mirror = flipped[at]
        other[mirror] = other[mirror, :, ::-1]
        warps = np.tile(registration.IDENTITY, (len(one), 1)).astype(np.float32)
        half, other_half = _half(one), _half(other)
        warps = registration.register(half, other_half, warps, steps=4)
        found = np.full(len(one), -1, np.float32)
        maybe = registration.alike(half, other_half, warps) >= rough
        if maybe.any():
            one, other, warps = one[maybe], other[maybe], warps[maybe]
            blurred = registration.blur(one), registration.blur(other)
            warps = registration.register(*blurred, warps, steps=4)
            found[maybe] = registration.alike(one, other, warps)
        return found

    return _in_tasks(measure, len(ones), pool)


def _in_tasks(
    measure: Callable[[slice], np.ndarray], count: int, pool: ThreadPoolExecutor
) -> np.ndarray:
    slices = [slice(start, start + _TASK) for start in range(0, count, _TASK)]
    return np.concatenate([np.zeros(0, np.float32), *pool.map(measure, slices)])


def _half(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures of half the side, means over 2 x 2 pixels."""
    side = pictures.shape[1] // 2
    return pictures.reshape(len(pictures), side, 2, side, 2).mean(axis=(2, 4))


def _threshold(images: Thumbnails, pool: ThreadPoolExecutor) -> float:
    """Returns the least similarity of a pair, which random pairs of one class hardly ever have."""
    random = np.random.default_rng(0)
    order = random.permutation(len(images.labels))
    order = order[np.argsort(images.labels[order], kind="stable")]
    same = np.flatnonzero(images.labels[order[1:]] == images.labels[order[:-1]])
    same = random.permutation(same)[:_RANDOM_PAIRS]
    ones, others = order[same], order[same + 1]
    if not len(ones):
        return LEAST
    flipped = np.zeros(len(ones), bool)
    correlation = _confirm(images, ones, others, flipped, pool, rough=-2)
    middle, above = np.quantile(np.arctanh(np.clip(correlation, -0.999, 0.999)), (0.5, 0.8413))
    return max(LEAST, float(np.tanh(middle + _DEVIATIONS * (above - middle))))
