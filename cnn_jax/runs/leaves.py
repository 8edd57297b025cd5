"""Trees as checkpoints hold them: leaves by the names on the way to them, and their sha256."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from cnn_jax import distributed
from cnn_jax.errors import UsageError

# Leaves by the names on the way to them, the same for a TrainState and for what Orbax reads back.
Leaves = dict[tuple[str, ...], Any]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _names(path: jax.tree_util.KeyPath) -> tuple[str, ...]:
    def name(entry: Any) -> str:
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                return str(getattr(entry, attribute))
        return str(entry)

    return tuple(map(name, path))


def leaves_of(tree: Any) -> Leaves:
    """Returns host arrays by their names; random keys as their numbers."""
    return {
        _names(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def digest(tree: Any) -> str:
    """Returns the sha256 of a tree's names, dtypes, shapes and bytes, as hex.

    Arrays are replicated over processes, so that each of them can read them whole.
    """
    return digest_leaves(leaves_of(tree))


def digest_leaves(leaves: Leaves) -> str:
    """Returns the sha256 of leaves, which is that of the tree that has them."""
    sha = hashlib.sha256()
    for names in sorted(leaves):
        array = np.ascontiguousarray(leaves[names])
        sha.update(f"{names} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def assemble_tree(leaves: Leaves, like: Any, sharding: NamedSharding) -> Any:
    """Returns a tree like another, of shapes, with these leaves on the devices.

    Raises:
        UsageError: the leaves, which are whole, are those of another model or optimizer.
    """
    wanted = {_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    arrays = {names: leaf for names, leaf in wanted.items() if not _is_key(leaf)}
    check_same_shapes(
        {names: leaf for names, leaf in leaves.items() if not _is_key(wanted.get(names))}, arrays
    )

    def take(path: jax.tree_util.KeyPath, shape: Any) -> Any:
        array = distributed.put(leaves[_names(path)], sharding)
        return jax.random.wrap_key_data(array) if _is_key(shape) else array

    return jax.tree_util.tree_map_with_path(take, like)


def check_same_shapes(stored: Mapping[tuple[str, ...], Any], wanted: Mapping[Any, Any]) -> None:
    """Refuses leaves of a checkpoint that are not those of the model and optimizer at hand.

    Args:
        stored: what the checkpoint holds, by the names on the way to it.
        wanted: arrays or their shapes, likewise.

    Raises:
        UsageError: a name is in one of them alone, or a shape or dtype differs.
    """
    different = [
        names
        for names in sorted(stored.keys() | wanted.keys())
        if _kind(stored.get(names)) != _kind(wanted.get(names))
    ]
    if not different:
        return
    # An optimizer's state follows the parameters: where those differ, the model is the cause.
    names = min(different, key=lambda names: names[0] == "opt_state")
    what = "optimizer" if names[0] == "opt_state" else "model"
    raise UsageError(
        f"the run was trained with another {what}: {'/'.join(names)} is "
        f"{_kind(stored.get(names))} in its checkpoint and {_kind(wanted.get(names))} in the "
        f"{what} that is given now; give the run's own {what}"
    )


def _kind(leaf: Any) -> str:
    return "not there" if leaf is None else f"{leaf.dtype} {tuple(leaf.shape)}"
