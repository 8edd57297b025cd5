"""What a look at all images of a data set found, kept in the cache.

Files are told by names, times and sizes, arrays of decoded images by their checksums.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import files, runtime
from cnn_jax.data import channels, splits
from cnn_jax.data.cache import Encoded
from cnn_jax.data.splits import Split
from cnn_jax.data.streamed import Streamed
from cnn_jax.errors import RunError


def kept(kind: str, encoded: Sequence[Encoded], settings: Any, look: Callable[[], Any]) -> Any:
    """Returns what `look` returns, of an earlier call where the files are the same.

    Args:
        kind: what is looked for; the name of the file begins with it.
        encoded: the splits whose files are looked at.
        settings: what the result depends on beside them, ready for JSON.
        look: returns something of what JSON has.

    Raises:
        RunError: the cache cannot be written.
    """
    return by([[[each.split, each.content] for each in encoded], settings], kind, look)


def by(seen: Any, kind: str, look: Callable[[], Any]) -> Any:
    """Returns what `look` returns, of an earlier call where the values of `seen` are the same.

    The arguments and errors are otherwise those of `kept`.
    """
    key = json.dumps(seen, sort_keys=True)
    name = f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    path = runtime.cache_dir() / "arrays" / name
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        before = json.loads(path.read_text())
        if isinstance(before, dict) and before.get("sha256") == files.json_sha256(
            before.get("found")
        ):
            return before["found"]
    # Not there, or damaged: they are looked at again.
    found = look()
    try:
        runtime.make_cache_folder("arrays")
        files.write_json(path, {"found": found, "sha256": files.json_sha256(found)})
    except OSError as error:
        raise RunError(
            f"cannot keep what was seen in {path}: {error.strerror or error}; free some space, or "
            "set CNN_JAX_CACHE to a directory that can be written"
        ) from error
    return found


def of_splits(
    kind: str, parts: dict[str, Split], look: Callable[[], Any], ids: bool = False
) -> Any:
    """Returns what `look` finds in the pixels of splits, of an earlier call if they are the same.

    Of images in memory, and of others that nothing tells apart, it looks each time.

    Args:
        kind: what is looked for.
        parts: {name: split}.
        look: as of `kept`.
        ids: whether the result depends on the ids too.
    """
    if any(split.identity is None for split in parts.values()):
        return look()
    seen = []
    for name, split in parts.items():
        sha = hashlib.sha256(np.ascontiguousarray(split.labels).data)
        if ids:
            sha.update("\0".join(split.ids).encode(errors="surrogateescape"))
        seen.append([name, split.identity, sha.hexdigest()])
    return by(seen, kind, look)


def digest(parts: dict[str, Split]) -> str:
    """Returns `splits.digest`; the pixels are read once, and not at later starts.

    Of streamed images it is that of their names, sizes and labels, where these are known.
    """
    known = [s.identity is not None for s in parts.values() if isinstance(s.images, Streamed)]
    if any(known):
        sha = hashlib.sha256()
        for name, split in sorted(parts.items()):
            sha.update(f"{name} {split.images.shape} {split.identity}\n".encode())
            sha.update(np.ascontiguousarray(split.labels).data)
        return sha.hexdigest()
    return of_splits("digest", parts, lambda: splits.digest(parts))


def statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, standard deviation) of each channel, likewise; see `channels`."""
    look = functools.partial(channels.channel_statistics, split.images)
    mean, std = of_splits("statistics", {"": split}, look)
    return tuple(mean), tuple(std)


def sources(encoded: Sequence[Encoded]) -> list[Path | bytes]:
    """Returns the images of splits: their files, or the bytes that a table holds."""
    return [source for each in encoded for _, _, block in each.blocks() for source in block]
