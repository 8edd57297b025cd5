"""Which data are decoded while they are trained on, in place of once beforehand.

Of a streamed data set the training images stay as they are stored. Those that are evaluated are
decoded to an array all the same: every epoch needs them, alike, and they are few.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from cnn_jax import experiment, extras, files, processes, progress, runtime
from cnn_jax.data import cache, images, kept, splits, turbo
from cnn_jax.data.cache import Encoded
from cnn_jax.data.sources import Source
from cnn_jax.data.splits import Split
from cnn_jax.data.streamed import Reader, Streamed
from cnn_jax.errors import UsageError

_SAMPLE = 2048  # images that the mean and the standard deviation are computed of
_BLOCK = 256
_DISK = 0.9  # of the free disk that decoded images may take
_WHY_NOT = {
    "sides": "images of one size are needed: give --dataset.image_size",
    "source": "its images are not in files that could be read one by one",
    "bytes": "the table holds the images themselves, and is read whole; write them to files",
}


def wanted(
    source: Source,
    names: list[str],
    config: experiment.Dataset,
    how: images.Decoding,
    channels: int | None,
    notes: list[str],
) -> bool:
    """Returns whether the training images of a data set are streamed; a note says why.

    Args:
        source: the data set.
        names: of its own splits that are opened, "train" among them.
        config: the section "dataset" of an experiment.
        how: how images would be decoded beforehand.
        channels: those that they would have; None: as they are stored.
        notes: receives a line if they are.

    Raises:
        UsageError: they are to be, and cannot be.
    """
    if config.streaming == "false":
        return False
    train = source.splits["train"]
    reason = None
    if not isinstance(train, Encoded) or train.records is None:
        reason = "bytes" if source.name == "table" and isinstance(train, Encoded) else "source"
    elif config.image_size is None:
        reason = "sides"
    if config.streaming == "true":
        if reason is not None:
            raise UsageError(f"--dataset.streaming=true: {_WHY_NOT[reason]}")
        notes.append("train is streamed: its images are decoded while it is trained")
        return True
    if reason is not None or config.image_size is None:
        return False
    count = sum(each.num_examples for n in names if isinstance(each := source.splits[n], Encoded))
    size = count * config.image_size**2 * 3
    stored = cast(Encoded, train)
    stored = dataclasses.replace(stored, channels=channels or stored.channels)

    def too_large() -> str | None:
        team = processes.team()
        machines = team.machines or [{"memory": runtime.host_memory(), "disk": runtime.free_disk()}]
        memory, free = (min(each[what] for each in machines) for what in ("memory", "disk"))
        if (size <= memory and size <= _DISK * free) or cache.has(stored, how, config.on_error):
            return None
        who = "the machine has" if team.count == 1 else "the smallest machine has"
        return (
            f"train is streamed: {count:,} images of {config.image_size} x {config.image_size} "
            f"take {_gib(size)} decoded, {who} {_gib(memory)} of memory, and the disk of the "
            f"cache {_gib(free)} free; dataset.streaming=false decodes them beforehand"
        )

    # All processes do the same: one that streams runs another program than one that does not.
    why = processes.team().decide(f"streaming of {stored.name} {stored.split}", too_large)
    if why is not None:
        notes.append(why)
    return why is not None


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


def open_split(
    stored: Encoded, config: experiment.Dataset, how: images.Decoding, notes: list[str], quiet: bool
) -> Split:
    """Returns a split whose images are decoded when they are asked for; only labels are read.

    Args:
        stored: as it is stored; its `records` are not None.
        config: the section "dataset" of an experiment.
        how: how evaluation decodes them.
        notes: receives what decodes them.
        quiet: whether to show no progress.
    """
    assert stored.records is not None
    found = kept.kept("listing", [stored], None, lambda: _listing(stored, quiet))
    labels = np.array(found["labels"], np.int32)
    threads = cache.cores()
    workers = threads if config.workers is None else config.workers
    if workers and config.workers is None and not extras.has("grain"):
        workers = 0
        notes.append(f"decoded in threads; in processes with Grain: {extras.install('streaming')}")
    elif workers:
        extras.need("grain", f"--dataset.workers={workers}", "streaming")
    how = dataclasses.replace(how, channels=stored.channels)
    smallest = config.random_crop
    reader = Reader(stored.records(), how, smallest)
    if smallest is not None:
        notes.append(f"random parts are cut out where images are decoded, by {turbo.decoder()}")
    shown: Any = Streamed(reader, np.arange(len(labels)), config.on_error, threads, workers)
    about = [stored.name, stored.version, stored.split, stored.portable, how.key(), smallest]
    return Split(shown, labels, found["ids"], identity=files.json_sha256(about))


def _listing(stored: Encoded, quiet: bool) -> dict[str, Any]:
    """Returns {ids, labels} of all examples; of TFDS it reads every one, once for all."""
    ids: list[str] = []
    labels: list[int] = []
    label = f"reading the labels of {stored.name} {stored.split}"
    with progress.Counter(stored.num_examples, label, quiet=quiet) as bar:
        for block_ids, block_labels, _ in stored.blocks():
            ids += block_ids
            labels += block_labels
            bar.update(len(block_ids))
    return {"ids": ids, "labels": [int(each) for each in labels]}


def is_streamed(split: Split) -> bool:
    """Returns whether the images of a split are decoded when they are asked for."""
    return isinstance(split.images, Streamed)


def decode_evaluated(
    parts: dict[str, Split], config: experiment.Dataset, quiet: bool, notes: list[str]
) -> dict[str, Split]:
    """Returns the splits with all but "train" as arrays: they are decoded, or in the cache.

    The arguments and errors are those of `cache.open_or_decode`.
    """
    found = dict(parts)
    for name, split in parts.items():
        if name != "train" and is_streamed(split):
            found[name] = _decoded(name, split, config, quiet, notes)
    return found


def _decoded(
    name: str, split: Split, config: experiment.Dataset, quiet: bool, notes: list[str]
) -> Split:
    streamed = cast(Streamed, split.images)
    numbers = np.arange(len(split))

    def blocks() -> Iterator[tuple[list[str], list[int], list[Any]]]:
        for start in range(0, len(split), _BLOCK):
            chosen = numbers[start : start + _BLOCK]
            found = streamed.reader.records.read(streamed.index[chosen].tolist())
            places = chosen.tolist()
            yield [str(i) for i in places], places, [source for _, source in found]

    content = {"part": split.identity}
    encoded = Encoded(
        config.name.partition(":")[0],
        "",
        name,
        content,
        len(split),
        streamed.shape[-1],
        blocks,
    )
    opened, skipped = cache.open_or_decode(
        encoded, streamed.reader.how, config.on_error, quiet, notes, config.verify
    )
    cache.note_skipped(name, skipped, notes)
    kept_rows = splits.take(split, np.asarray(opened.labels))
    return dataclasses.replace(kept_rows, images=opened.images, identity=opened.identity)


def statistics(train: Split, notes: list[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, standard deviation) of each channel over some training images, noted."""
    some = train
    if len(train) > _SAMPLE:
        some = splits.take(train, splits.subset(splits.strata(train.labels), train.ids, _SAMPLE))
        notes.append(
            f"mean and standard deviation of the channels are those of {_SAMPLE:,} of the "
            f"{len(train):,} training images, class by class in proportion"
        )

    return kept.statistics(some)
