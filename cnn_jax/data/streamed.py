"""Images that are decoded when they are asked for, and chunks of batches for those who train.

Nothing here imports JAX: the processes that decode load this module.
"""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from cnn_jax.data import crops, encoded_images, images, turbo
from cnn_jax.data.batches import TrainBatches
from cnn_jax.data.images import Decoding, ImageError
from cnn_jax.data.indexed import Lazy
from cnn_jax.data.records import Records
from cnn_jax.errors import RunError

CHUNK = 32  # images that a process decodes at a time
_SMALL = 1 << 30  # bytes that nobody need ask the memory for
_ENDLESS = 1 << 40  # chunks: epoch follows epoch, and whoever trains stops


class Bad(NamedTuple):
    """An image that cannot be read: its row among those of this process, its name, and why."""

    row: int
    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads and decodes images of one split, in whatever process it finds itself.

    Attributes:
        records: the encoded images.
        how: how they are decoded where no part is chosen; its size is not None.
        smallest: the least share of the area of a random part in training; None: training images
            are those of evaluation.
    """

    records: Records
    how: Decoding
    smallest: float | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        size = self.how.size or 0
        height, width = (size, size) if isinstance(size, int) else size
        return height, width, self.how.channels

    def into(
        self, name: str, source: Path | bytes, out: np.ndarray, part: crops.RandomPart | None = None
    ) -> str | None:
        """Decodes an image, or a part of it, into an array; returns why it cannot be read."""
        try:
            data = images.content(source, name)
            if part is None or not self._quickly(data, out, part):
                out[...] = images.decode(data, self.how, name, part).pixels
        except ImageError as error:
            return error.reason
        return None

    def _quickly(self, data: bytes, out: np.ndarray, part: crops.RandomPart) -> bool:
        if not turbo.AVAILABLE or self.how.channels != 3:
            return False
        about = turbo.frame(data)
        if about is None:
            return False
        if about.exif:
            try:
                image = encoded_images.open_image(data)
            except Exception:  # damaged files make Pillow raise nearly anything
                return False
            if image is None or encoded_images.orientation(image)[0] not in (None, 1):
                return False
        most = self.how.max_megapixels * 1_000_000
        return turbo.decode_part(data, about, part, (out.shape[1], out.shape[0]), most, out)


class Streamed(Lazy):
    """Images that are decoded, as those of evaluation are, whenever they are asked for.

    Args:
        reader: decodes them.
        index: int [n], which of its records they are.
        on_error: `refuse` an image that cannot be read, or `skip` it: it is black.
        threads: that decode in this process.
        workers: processes that decode for training; 0: those threads do.
    """

    def __init__(
        self, reader: Reader, index: np.ndarray, on_error: str, threads: int, workers: int
    ):
        self.reader, self.index, self.on_error = reader, np.asarray(index), on_error
        self.threads, self.workers = threads, workers
        self._said: set[str] = set()
        self.shape = (len(self.index), *reader.shape)
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if rows is Ellipsis:
            rows, rest = slice(None), [Ellipsis, *rest]
        chosen = self.index[rows]
        self._check_memory(chosen.size)
        out = np.zeros((chosen.size, *self.shape[1:]), np.uint8)
        found = self.reader.records.read(chosen.reshape(-1).tolist())

        def decode(place: int) -> str | None:
            return self.reader.into(*found[place], out[place])

        with ThreadPoolExecutor(self.threads) as pool:
            for (name, _), reason in zip(found, pool.map(decode, range(len(found))), strict=True):
                if reason is not None:
                    self.complain(name, reason)
        if np.ndim(chosen) == 0:
            return out[(0, *rest)]
        return out[(slice(None), *rest)] if rest else out

    def _check_memory(self, count: int) -> None:
        from cnn_jax import runtime  # which imports JAX, and is not needed where chunks are decoded

        size, memory = count * int(np.prod(self.shape[1:])), runtime.host_memory()
        if size > max(_SMALL, memory / 2):
            raise RunError(
                f"{count:,} images at once take {size / 2**30:,.0f} GiB decoded, of "
                f"{memory / 2**30:,.0f} GiB of memory, and what was asked for needs all of them: "
                "give --dataset.streaming=false, which decodes them to the disk beforehand"
            )

    def complain(self, name: str, reason: str) -> None:
        """Raises RunError for an image that cannot be read; where such are skipped, warns once."""
        if self.on_error == "refuse":
            raise RunError(
                f"{name}: {reason}; mend or remove, or go on with --dataset.on_error=skip"
            )
        if name not in self._said:
            self._said.add(name)
            logging.warning("skipped %s: %s", name, reason)

    def rows(self, indices: np.ndarray) -> "Streamed":
        """Returns some of the images; none is decoded."""
        index = self.index[indices]
        return Streamed(self.reader, index, self.on_error, self.threads, self.workers)


class Chunk(NamedTuple):
    """Some images of one batch.

    Attributes:
        images: uint8 [chunk, height, width, channels].
        bad: those that cannot be read; their rows are black.
    """

    images: np.ndarray
    bad: tuple[Bad, ...]


@dataclasses.dataclass(frozen=True)
class Chunks:
    """All batches of training in chunks, each a pure function of its number.

    Attributes:
        reader: decodes the images.
        numbers: int [n], which record each example of the split is.
        order: says which examples form which batch.
        rows: int [own], the rows of each batch that this process needs.
    """

    reader: Reader
    numbers: np.ndarray
    order: TrainBatches
    rows: np.ndarray

    @property
    def a_batch(self) -> int:
        """The number of chunks of a batch."""
        return -(-len(self.rows) // CHUNK)

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> Chunk:
        step, place = divmod(int(index), self.a_batch)
        step += self.order.start
        rows = self.rows[place * CHUNK : (place + 1) * CHUNK]
        positions = self.order.at(step).positions[rows]
        out = np.empty((len(rows), *self.reader.shape), np.uint8)
        found = self.reader.records.read(self.numbers[positions].tolist())
        parts = self._parts(step, rows, positions)
        bad = []
        for i, ((name, source), part) in enumerate(zip(found, parts, strict=True)):
            reason = self.reader.into(name, source, out[i], part)
            if reason is not None:
                out[i] = 0
                bad.append(Bad(place * CHUNK + i, name, reason))
        return Chunk(out, tuple(bad))

    def _parts(
        self, step: int, rows: np.ndarray, positions: np.ndarray
    ) -> Sequence[crops.RandomPart | None]:
        if self.reader.smallest is None or self.order.seed is None:
            return [None] * len(rows)
        epoch, first = self.order.place(step)
        # An epoch that balances classes takes some examples several times, each time another part.
        draws = (first + rows if self.order.repeats else np.zeros_like(rows)).tolist()
        smallest = self.reader.smallest
        return [
            crops.RandomPart(self.order.seed, epoch, example, draw, smallest)
            for example, draw in zip(positions.tolist(), draws, strict=True)
        ]
