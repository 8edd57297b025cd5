"""Decodes chunks of batches in processes of their own, by Grain, or in threads of this one."""

import collections
import contextlib
import importlib
import itertools
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from cnn_jax.data.streamed import CHUNK, Chunk, Chunks
from cnn_jax.errors import RunError

_AHEAD = 2  # batches that the processes are ahead of the step
_SHARED = "/dev/shm"


def load(chunks: Chunks, workers: int, threads: int) -> Generator[Chunk]:
    """Yields the chunks in their order, which does not depend on who decodes them.

    A chunk holds until the next one is asked for: processes share its memory with this one.

    Args:
        chunks: what is to be decoded.
        workers: processes that decode; 0: threads of this process do.
        threads: their number.

    Raises:
        RunError: a process has ended by itself, for want of memory, say.
    """
    yield from _in_processes(chunks, workers) if workers else _in_threads(chunks, threads)


def _in_threads(chunks: Chunks, threads: int) -> Iterator[Chunk]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[Future[Chunk]] = collections.deque()
        for number in itertools.count():
            waiting.append(pool.submit(chunks.__getitem__, number))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()


def _in_processes(chunks: Chunks, workers: int) -> Iterator[Chunk]:
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # as in a notebook; Grain asks for flags of its own
        flags.FLAGS.mark_as_parsed()
    size = CHUNK * int(np.prod(chunks.reader.shape))
    buffer = max(1, -(-_AHEAD * chunks.a_batch // workers))
    shared = _room() > (buffer + 2) * workers * size
    options = grain.experimental.DatasetOptions(min_shm_size=0 if shared else sys.maxsize)
    data: Any = grain.MapDataset.source(chunks)
    data = data.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    data = grain.experimental.WithOptionsIterDataset(data, options)
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer)
    data = data.mp_prefetch(processes, worker_init_fn=_begin)
    with _no_main():
        given = iter(data)
        chunk = _next(given)
    try:
        while True:
            yield chunk
            chunk = _next(given)
    finally:
        given.close()


def _next(given: Any) -> Chunk:
    try:
        return next(given)
    except RuntimeError as error:
        raise RunError(
            f"a process that decodes images has ended ({' '.join(str(error).split())[:200]}); "
            "if memory ran out, give fewer: --dataset.workers=1"
        ) from error


def _room() -> int:
    """Returns the bytes that processes may share; a container has 64 MiB unless it is told."""
    try:
        return shutil.disk_usage(_SHARED).free if os.path.isdir(_SHARED) else sys.maxsize
    except OSError:
        return 0


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """New processes run `worker_main` in place of this process's main module."""
    own = sys.modules["__main__"]
    sys.modules["__main__"] = importlib.import_module("cnn_jax.data.worker_main")
    try:
        yield
    finally:
        sys.modules["__main__"] = own


def _begin(index: int, count: int) -> None:
    """Begins a process: it ends with its parent, however that ends."""
    del index, count
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
