"""What a command is given: the run in --workdir, and image files."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import bit_depth, cache, images
from cnn_jax.errors import UsageError
from cnn_jax.runs import loading
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run

_BLOCK = 512  # images that are in memory at a time


def load_run(invocation: Invocation) -> tuple[RunDirectory, Run]:
    """Returns the run in --workdir, with the flags that may change given on top.

    Raises:
        UsageError: there is no run, or a flag may not change.
    """
    if invocation.workdir is None:
        other = ", or --config=imagenet_predict" if invocation.command == "predict" else ""
        raise UsageError(f"{invocation.command} needs --workdir=DIR, the directory of a run{other}")
    if invocation.config is not None and not invocation.has_code_as_config:
        raise UsageError(
            f"{invocation.command} takes no --config={invocation.config}: the run in --workdir has "
            "its own settings; only a .py file of your own is read, for what it registers"
        )
    run = loading.load(invocation.workdir, invocation.checkpoint, settings=invocation.overrides)
    return RunDirectory(invocation.workdir), run


def read_files(
    paths: Sequence[str],
    run: Run,
    on_error: str,
    depth: str,
    failures: list[dict[str, str]],
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields (paths, images) of some files at a time.

    Args:
        paths: the files.
        run: the network that takes the images.
        on_error: "refuse" or "skip", of files that cannot be read.
        depth: as of `decoding`.
        failures: gets those that are skipped, and why.

    Raises:
        UsageError: the run takes no files.
        ImageError: a file cannot be read and is not to be skipped.
    """
    if run.data_info.dtype != "uint8":
        raise UsageError("the run was trained on float arrays; give it such in Python, not files")
    how = decoding(run, paths, depth)

    def read(path: str) -> np.ndarray | images.ImageError:
        try:
            return images.decode(path, how).pixels
        except images.ImageError as error:
            return error

    with ThreadPoolExecutor(cache.cores()) as pool:
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            good, pixels = [], []
            for path, result in zip(block, pool.map(read, block), strict=True):
                if not isinstance(result, images.ImageError):
                    good.append(path)
                    pixels.append(result)
                elif on_error == "refuse":
                    raise result
                else:
                    failures.append({"image": path, "error": result.for_command_line})
                    logging.warning("skipped: %s", result.for_command_line)
            if good:
                yield good, np.stack(pixels)


def decoding(run: Run, paths: Sequence[str], depth: str, *, warn: bool = True) -> images.Decoding:
    """Returns how image files are decoded for a run; warns of those that would be nearly black.

    Args:
        run: the run.
        paths: the files.
        depth: how many bits 16-bit values use; "auto": as many as those of the run.
        warn: whether it warns.
    """
    how = images.like(run.data_info, run.experiment.dataset.max_megapixels)
    if depth != "auto":
        return dataclasses.replace(how, bit_depth=int(depth))
    if warn and (line := bit_depth.dark(paths, how.bit_depth, how.max_megapixels)):
        logging.warning("%s", line)
    return how
