"""The mesh of devices, and putting arrays on it: data-parallel, one axis named `data`.

The same calls serve one device, several, and several processes: every process holds the same host
arrays and hands over the parts that its own devices need.
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
    """Returns the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what is split over the devices along its first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Returns the tree's host arrays as device arrays of this sharding.

    An array is only indexed for the parts that this process holds, so a memory map is read in part.
    """

    def put_one(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put_one, tree)


def check_batch_size(flag: str, batch_size: int, mesh: Mesh) -> None:
    """Raises UsageError where a batch cannot be split evenly over the devices."""
    if batch_size % mesh.size:
        lower = batch_size // mesh.size * mesh.size
        near = [str(size) for size in (lower, lower + mesh.size) if size > 0]
        raise UsageError(
            f"--{flag}={batch_size} cannot be split evenly over {mesh.size} devices; "
            f"use a multiple of {mesh.size}, such as {' or '.join(near)}"
        )


def is_primary() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0
