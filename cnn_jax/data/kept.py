"""What a look at all files of a data set found, kept in the cache under names, times and sizes."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cnn_jax import files, runtime
from cnn_jax.data.cache import Encoded
from cnn_jax.errors import RunError


def kept(kind: str, splits: Sequence[Encoded], settings: Any, look: Callable[[], Any]) -> Any:
    """Returns what `look` returns, of an earlier call where the files are the same.

    Args:
        kind: what is looked for; the name of the file begins with it.
        splits: whose files are looked at.
        settings: what the result depends on beside them, ready for JSON.
        look: returns something of what JSON has.

    Raises:
        RunError: the cache cannot be written.
    """
    seen = [[[each.split, each.content] for each in splits], settings]
    key = json.dumps(seen, sort_keys=True)
    name = f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    path = runtime.cache_dir() / "arrays" / name
    with contextlib.suppress(OSError, ValueError, RecursionError):
        before = json.loads(path.read_text())
        if isinstance(before, dict) and before.get("sha256") == _sum(before.get("found")):
            return before["found"]
    # Not there, or damaged: they are looked at again.
    found = look()
    try:
        runtime.make_cache_folder("arrays")
        files.write_json(path, {"found": found, "sha256": _sum(found)})
    except OSError as error:
        raise RunError(
            f"cannot keep what was seen in {path}: {error.strerror or error}; free some space, or "
            "set CNN_JAX_CACHE to a directory that can be written"
        ) from error
    return found


def sources(splits: Sequence[Encoded]) -> list[Path | bytes]:
    """Returns the images of splits: their files, or the bytes that a table holds."""
    return [source for each in splits for _, _, block in each.blocks() for source in block]


def _sum(values: Any) -> str:
    """Returns the sha256 of a result in the cache, so that a flipped bit is no other result."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
