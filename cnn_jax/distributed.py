"""Makes the mesh of devices and puts arrays on it: data-parallel, with one axis named `data`.

The same calls serve one device, several devices, and several processes: every process has the same
arrays in host memory, and copies the parts that its own devices need.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UsageError


def make_mesh() -> Mesh:
    """Returns a mesh of all devices of all processes, with the single axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


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


def is_primary() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0
