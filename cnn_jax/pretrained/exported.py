"""What an export of ours says of its file: export.json, beside it."""

from pathlib import Path
from typing import Any

from cnn_jax import files
from cnn_jax.data import scaling
from cnn_jax.errors import RunError, UsageError
from cnn_jax.models.heads import HEADS

RECORD = "export.json"
_WEIGHTS = (".safetensors", ".h5")


def beside(path: Path, sha256: str) -> dict[str, Any]:
    """Returns `head` and `preprocessing` of an exported file; {} of another one.

    Args:
        path: the file.
        sha256: of its content, by which the record must know it, whatever its name is now.
    """
    record = _read(path.with_name(RECORD))
    listed = record.get("files")
    if not isinstance(listed, list) or not any(
        isinstance(each, dict) and each.get("sha256") == sha256 for each in listed
    ):
        return {}
    head, said = record.get("head"), record.get("preprocessing")
    name = said.get("name") if isinstance(said, dict) else None
    if head not in ("default", *HEADS) or not isinstance(name, str):
        return {}
    return {"head": head, "preprocessing": name if scaling.is_fixed(name) else None}


def file_of(folder: Path) -> Path | None:
    """Returns the file of weights of an export's folder; None: it is no export.

    Raises:
        UsageError: it holds a graph, and no weights by their names.
    """
    name = _read(folder / RECORD).get("file")
    if not isinstance(name, str):
        return None
    if not name.endswith(_WEIGHTS):
        raise UsageError(
            f"--transfer.weights={folder} is an export whose {name} is a graph, not weights by "
            "their names; give the run directory, or export with format=safetensors"
        )
    return folder / Path(name).name


def _read(path: Path) -> dict[str, Any]:
    try:
        found = files.read_json(path) if path.is_file() else {}
    except RunError:
        return {}
    return found if isinstance(found, dict) else {}
