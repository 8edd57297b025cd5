"""Which pairs of images may be nearly equal: the largest products of their descriptors."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnn_jax import progress
from cnn_jax.data import splits
from cnn_jax.data.splits import Split
from cnn_jax.inspection import thumbnails

_DIMENSIONS = 96
# How many candidates an image has at most, as it is and mirrored: in another split, where copies
# are common, and in its own.
_MOST, _MOST_OWN = (12, 6), (2, 1)
_PRODUCT = 0.42  # candidates have at least this
_ROWS, _COLUMNS = 1024, 16384


@dataclasses.dataclass(frozen=True)
class Thumbnails:
    """The thumbnails of all splits in a row.

    Attributes:
        names: of the splits.
        starts: int [splits + 1], where each split begins.
        labels: int [n].
        grey: uint8 [n, 32, 32].
        plain: float32 [n, d], descriptors.
        mirrored: float32 [n, d], the descriptors of the mirror images.
    """

    names: tuple[str, ...]
    starts: np.ndarray
    labels: np.ndarray
    grey: np.ndarray
    plain: np.ndarray
    mirrored: np.ndarray


def prepare(parts: dict[str, Split]) -> Thumbnails:
    """Returns thumbnails and descriptors; memory holds some 1.5 KiB an image."""
    sizes = [len(split) for split in parts.values()]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    grey = np.empty((starts[-1], thumbnails.SIDE, thumbnails.SIDE), np.uint8)
    largest = max(parts.values(), key=len)
    some = np.arange(0, len(largest), max(1, len(largest) // 2000))
    sample = splits.take(largest, some).images  # none is read yet
    described = [thumbnails.describe(block) for _, block in thumbnails.blocks(sample)]
    directions = thumbnails.principal(np.concatenate(described), _DIMENSIONS)
    mirror = thumbnails.mirror_order(largest.images.shape[-1])
    plain = np.empty((starts[-1], directions.shape[1]), np.float32)
    mirrored = np.empty_like(plain)
    for start, split in zip(starts.tolist(), parts.values(), strict=False):
        for first, block in thumbnails.blocks(split.images):
            at = slice(start + first, start + first + len(block))
            grey[at] = np.rint(np.clip(thumbnails.grey(block), 0, 255))
            descriptors = thumbnails.describe(block)
            plain[at] = descriptors @ directions
            mirrored[at] = descriptors[:, mirror] @ directions
    labels = splits.strata(np.concatenate([split.labels for split in parts.values()]))
    return Thumbnails(tuple(parts), starts, labels, grey, plain, mirrored)


def _tasks(images: Thumbnails) -> Iterator[tuple[slice, slice, bool]]:
    """Yields (rows, columns, in one split) of all products that are to be made.

    Of two splits the smaller one has the rows, for each of which the best columns are kept.
    """
    bounds = list(zip(images.starts[:-1].tolist(), images.starts[1:].tolist(), strict=True))
    for i, one in enumerate(bounds):
        for other in bounds[i:]:
            rows, columns = sorted((one, other), key=lambda each: each[1] - each[0])
            for start in range(*rows, _ROWS):
                stop = min(start + _ROWS, rows[1])
                first = start if one is other else columns[0]
                yield slice(start, stop), slice(first, columns[1]), one is other


def find(
    images: Thumbnails, within: bool, pool: ThreadPoolExecutor, quiet: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (int [n], int [n], bool [n]): two places, and whether the second is mirrored."""

    def best(task: tuple[slice, slice, bool]) -> list[tuple[np.ndarray, np.ndarray, bool]]:
        rows, columns, same = task
        found = []
        most = _MOST_OWN if same and not within else _MOST
        for flipped, count in zip((False, True), most, strict=True):
            queries = (images.mirrored if flipped else images.plain)[rows]
            pieces = []
            for start in range(columns.start, columns.stop, _COLUMNS):
                stop = min(start + _COLUMNS, columns.stop)
                products = queries @ images.plain[start:stop].T
                if same:
                    place = np.arange(rows.start, rows.stop)[:, None]
                    if start < rows.stop:
                        products[np.arange(start, stop) <= place] = -1
                    if not within:
                        labels = images.labels[rows][:, None]
                        products[images.labels[start:stop] == labels] = -1
                row, column = _largest(products, count)
                pieces.append((row, column + start, products[row, column]))
            row, column, product = (np.concatenate(each) for each in zip(*pieces, strict=True))
            order = np.lexsort((column, -product, row))
            row, column = row[order], column[order]
            rank = np.arange(len(row)) - np.searchsorted(row, row)
            keep = rank < count
            found.append((row[keep] + rows.start, column[keep], flipped))
        return found

    tasks, pieces = list(_tasks(images)), []
    total = sum(rows.stop - rows.start for rows, _, _ in tasks)
    with progress.Counter(total, "comparing", quiet=quiet) as counter:
        for (rows, _, _), found in zip(tasks, pool.map(best, tasks), strict=True):
            pieces += found
            counter.update(rows.stop - rows.start)
    flags = [np.full(len(rows), flipped) for rows, _, flipped in pieces]
    ones, others = (np.concatenate([piece[k] for piece in pieces]) for k in (0, 1))
    first = np.minimum(ones, others)
    return first, np.maximum(ones, others), np.concatenate(flags)


def _largest(products: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows, columns) of the largest products of each row, at least `most` where it has.

    The largest of every 16 columns is found first: a row's best ones are in the best of these.
    """
    count, width = products.shape
    groups = width // 16
    if groups < 2 * most:
        rows, columns = np.nonzero(products >= _PRODUCT)
        return rows, columns
    head = products[:, : groups * 16].reshape(count, 16, groups)
    tops = head.max(axis=1)
    least = np.maximum(np.partition(tops, -most, axis=1)[:, -most], _PRODUCT)
    row, group = np.nonzero(tops >= least[:, None])
    which, member = np.nonzero(head[row, :, group] >= least[row, None])
    tail_row, tail = np.nonzero(products[:, groups * 16 :] >= least[:, None])
    rows = np.concatenate([row[which], tail_row])
    return rows, np.concatenate([member * groups + group[which], tail + groups * 16])
