"""Makes the mesh of devices and puts arrays on it: data-parallel, with one axis named `data`.

The same calls serve one device, several devices, and several processes. A batch is one array over
the devices of all processes; `rows_of_process` says which rows of it a process has to read.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UsageError


def make_mesh() -> Mesh:
    """Returns a mesh of all devices of all processes, with the single axis `data`."""
    if jax.process_count() == 1:
        return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    # The devices of a process stand side by side, so that its rows of a batch do.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


@functools.lru_cache(64)
def rows_of_process(mesh: Mesh, batch_size: int) -> slice:
    """Returns which rows of a batch are on this process's devices.

    The batch of process `jax.process_index()` of `jax.process_count()`; every other row is the work
    of another process.

    Args:
        mesh: the devices.
        batch_size: examples in a batch, over all devices of all processes.
    """
    index = jax.process_index()
    own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == index]
    each = batch_size // mesh.size
    return slice(own[0] * each, (own[-1] + 1) * each)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that are split over the devices along their first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Returns a tree of host arrays as device arrays with this sharding.

    A process indexes an array only for the parts that its devices hold: of a memory map it reads no
    more than these.
    """

    def put_one(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put_one, tree)


def put_rows(tree: Any, mesh: Mesh, batch_size: int) -> Any:
    """Returns a batch on the devices, of the rows that this process has read.

    Args:
        tree: host arrays [rows, ...] of `rows_of_process`.
        mesh: the devices.
        batch_size: examples in the batch, over all devices of all processes.
    """
    sharding = over_batch(mesh)

    def put_one(rows: np.ndarray) -> jax.Array:
        shape = (batch_size, *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return jax.tree.map(put_one, tree)


def on_this_process(tree: Any) -> Any:
    """Returns replicated arrays as they are on one device of this process, to compute alone."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def check_batch_size(setting: str, batch_size: int, mesh: Mesh) -> None:
    """Checks that a batch can be split evenly over the devices.

    Args:
        setting: the dotted name of the setting that gives it, for the message.
        batch_size: examples in a batch, over all devices.
        mesh: the devices.

    Raises:
        UsageError: it cannot be split evenly.
    """
    if batch_size % mesh.size:
        lower = batch_size // mesh.size * mesh.size
        near = [str(size) for size in (lower, lower + mesh.size) if size > 0]
        raise UsageError(
            f"--{setting}={batch_size} cannot be split evenly over {mesh.size} devices; "
            f"use a multiple of {mesh.size}, such as {' or '.join(near)}"
        )
