"""Hosts that share out batches and wait for each other, simulated by the code's own functions."""

import dataclasses
from typing import Any, cast
from unittest import mock

import numpy as np

from cnn_jax import distributed
from cnn_jax.data import crops
from cnn_jax.data.batches import TrainBatches, steps_per_epoch
from cnn_jax.data.streamed import Chunks


@dataclasses.dataclass(frozen=True)
class Device:
    """A device as far as `rows_of_process` asks: which process has it."""

    process_index: int


class Mesh:
    """Devices of simulated hosts, those of a host side by side, as `make_mesh` has them."""

    def __init__(self, hosts: int, devices: int):
        self.devices = np.array([Device(host) for host in range(hosts) for _ in range(devices)])
        self.size = len(self.devices)


def rows(hosts: int, devices: int, batch_size: int) -> list[slice]:
    """Returns the rows of a batch that each host reads, by the function that real ones call."""
    mesh: Any = Mesh(hosts, devices)
    found = []
    for host in range(hosts):
        with mock.patch("jax.process_index", lambda host=host: host):
            found.append(distributed.rows_of_process.__wrapped__(mesh, batch_size))
    return found


def order(hosts: int, examples: int, batch_size: int, devices: int, epoch: int) -> dict[str, Any]:
    """Simulates one epoch and compares it with that of one host.

    Args:
        hosts: how many there are; each draws the order by itself.
        examples: in the training split.
        batch_size: over all hosts.
        devices: of each host.
        epoch: from 0.

    Returns:
        {owner: int32 [examples], the host that read each; once: whether an epoch counts every
        example exactly once; same: whether the batches are those of one host, to the bit, and
        those of a run that another number of hosts resumes in the middle of the epoch}.
    """
    steps = steps_per_epoch(examples, batch_size)
    first, middle = epoch * steps, epoch * steps + steps // 2
    whole = TrainBatches(0, examples, batch_size)
    want = [whole.at(first + step) for step in range(steps)]
    counts, owner = np.zeros(examples, np.int64), np.full(examples, -1, np.int32)
    read, same = np.zeros((steps, batch_size), np.int64), True
    for host, own in enumerate(rows(hosts, devices, batch_size)):
        given = iter(TrainBatches(0, examples, batch_size, start=first))
        resumed = iter(TrainBatches(0, examples, batch_size, start=middle))
        for step in range(steps):
            batch = next(given)
            positions, weights = batch.positions[own], batch.weights[own]
            counting = positions[weights > 0]
            counts[counting] += 1  # no example is twice in a batch
            owner[counting] = host
            read[step, own] += 1
            same &= np.array_equal(positions, want[step].positions[own])
            same &= np.array_equal(weights, want[step].weights[own])
            if first + step >= middle:
                same &= np.array_equal(next(resumed).positions[own], positions)
    once = bool((counts == 1).all() and (read == 1).all())
    return {"owner": owner, "once": once, "same": bool(same)}


class Notes:
    """Stands in for a `streamed.Reader`: an image is a note of which part of which one is wanted.

    It is also its own records.
    """

    shape, smallest = (1, 1, 20), 0.08
    size = (500, 375)  # width and height of every image

    @property
    def records(self) -> "Notes":
        """Where images are read from."""
        return self

    def read(self, numbers: list[int]) -> list[tuple[str, int]]:
        """Returns (name, number) of some images."""
        return [(str(number), number) for number in numbers]

    def into(self, name: str, source: int, out: np.ndarray, part: crops.RandomPart) -> None:
        """Writes the note."""
        del name
        out[0, 0] = np.array([source, *part(*self.size)], np.int32).view(np.uint8)


def streamed(hosts: int, examples: int, batch_size: int, devices: int, step: int) -> bool:
    """Returns whether hosts that decode a batch cut the random parts that one host would.

    Args:
        hosts: how many there are; each decodes its rows, in chunks.
        examples: in the training split.
        batch_size: over all hosts.
        devices: of each host.
        step: of the run.
    """
    order, reader = TrainBatches(0, examples, batch_size, start=step), cast(Any, Notes())
    numbers = np.arange(examples)

    def decode(own: slice) -> np.ndarray:
        chunks = Chunks(reader, numbers, order, np.arange(own.start, own.stop))
        return np.concatenate([chunks[place].images for place in range(chunks.a_batch)])

    together = np.concatenate([decode(own) for own in rows(hosts, devices, batch_size)])
    return np.array_equal(together, decode(slice(0, batch_size)))


def skew(
    decode: np.ndarray,
    hosts: int,
    rows_of_host: int,
    workers: int,
    step_seconds: float,
    ahead: int,
    slow: float = 1.0,
    steps: int = 100,
    seed: int = 0,
) -> float:
    """Returns the rate of a simulated run, as a share of what the devices could do alone.

    A step begins when every host has its rows of the batch, and the one before has ended. Each
    worker of a host has its share of every batch, and decodes up to `ahead` batches before their
    turn, whether or not the others have got there.

    Args:
        decode: seconds to decode an image, from which each image's time is drawn.
        hosts: how many there are.
        rows_of_host: images that each decodes for a step.
        workers: processes of a host that decode, each its share of the images.
        step_seconds: what the devices take for a step.
        ahead: batches that a host may be ahead.
        slow: how many times as long the first host takes for everything.
        steps: the length of the simulation.
        seed: of the drawing.
    """
    generator = np.random.default_rng(seed)
    share = -(-rows_of_host // workers)
    speed = np.ones(hosts)
    speed[0] = slow
    ready = np.zeros((hosts, workers))  # when each worker has its share of its newest batch
    begun: list[float] = []  # when each step began
    end = 0.0
    for step in range(steps):
        drawn = generator.choice(decode, (hosts, workers, share)).sum(2) * speed[:, None]
        # A place in the buffer is free when the step that used it has begun.
        free = begun[step - ahead] if step >= ahead and ahead else (end if not ahead else 0.0)
        ready = np.maximum(ready, free) + drawn
        begun.append(max(end, float(ready.max())))
        end = begun[-1] + step_seconds
    return steps * step_seconds / end
