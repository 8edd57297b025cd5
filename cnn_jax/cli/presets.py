"""Presets: Python files with an EXPERIMENT, and perhaps a SWEEP, that a run starts from.

They are the package's own, in `experiments/` of the repository and in `cnn_jax/presets/` where the
package is installed, or files of the user's own, which may also register models, losses and data
sets, and have CALLBACKS. A file runs as the user's own code, once in a process.
"""

import ast
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import re
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from cnn_jax import experiment, places, text
from cnn_jax.cli.console import one_line
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import UsageError, UserError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.runs import callbacks

_PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = _PACKAGE / "presets"
PRESETS_DIR = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "experiments"
DEFAULT_PRESET = "digits_lenet"

# {file: (its content, what it defined)} of the files that were run.
_ran: dict[Path, tuple[bytes, dict[str, Any]]] = {}


def load(config: str, presets_dir: Path = PRESETS_DIR) -> Experiment:
    """Returns the Experiment of a preset.

    Args:
        config: a preset's name; the path of a `.py` file whose EXPERIMENT is one Experiment, which
            is named after the file; or that of a `.json` file that `experiment.to_json` wrote,
            which keeps the name within.
        presets_dir: the folder of the package's presets.

    Raises:
        UsageError: there is no such preset, or it has an error.
    """
    path = _find(config, presets_dir)
    return _load_json(path) if path.suffix == ".json" else _load_python(path)


def resolve(invocation: Invocation, presets_dir: Path = PRESETS_DIR) -> Experiment:
    """Returns the Experiment of the preset (default DEFAULT_PRESET) with the flags given on top.

    Its paths are absolute.

    Raises:
        UsageError: as `load`, or the settings are not legal together.
    """
    preset = load(invocation.config or DEFAULT_PRESET, presets_dir)
    return experiment.with_absolute_paths(experiment.replace(preset, invocation.overrides))


def resolve_sweep(
    invocation: Invocation,
    presets_dir: Path = PRESETS_DIR,
    otherwise: Sweep | None = None,
) -> Sweep:
    """Returns the Sweep of the preset with the flags given on top.

    Args:
        invocation: the command line.
        presets_dir: the folder of the package's presets.
        otherwise: the Sweep to use where the preset has none.

    Raises:
        UsageError: as `resolve`.
    """
    path = _find(invocation.config or DEFAULT_PRESET, presets_dir)
    found = None if path.suffix == ".json" else run_file(path).get("SWEEP")
    if not isinstance(found, Sweep | None):
        raise UsageError(
            f"{text.shown(path)}: SWEEP must be one Sweep, but is a {type(found).__name__}"
        )
    return dataclasses.replace(found or otherwise or Sweep(), **invocation.sweep)


def question(invocation: Invocation, presets_dir: Path = PRESETS_DIR) -> str | None:
    """Returns the first line of the preset's docstring, the question it asks, or None.

    With another model or other data than the preset's, it is another question.
    """
    path = _find(invocation.config or DEFAULT_PRESET, presets_dir)
    if path.suffix == ".json" or {"model.name", "dataset.name"} & invocation.overrides.keys():
        return None
    return summary(path) or None


def names(presets_dir: Path = PRESETS_DIR) -> list[str]:
    """Returns the names of the presets in a folder, sorted, those of sweeps last."""
    files = [*sorted(presets_dir.glob("*.py")), *sorted(presets_dir.glob("sweeps/*.py"))]
    paths = [path.relative_to(presets_dir).with_suffix("") for path in files]
    return [path.as_posix() for path in paths if not path.name.startswith("_")]


def summary(path: Path) -> str:
    """Returns the first line of a preset's docstring without running it."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (SyntaxError, ValueError, OSError):
        return "(cannot be read)"
    return docstring.partition("\n")[0]


def run_code(invocation: Invocation, presets_dir: Path = PRESETS_DIR) -> list[Any]:
    """Runs the user's own files, for the models, losses and data sets that they register.

    Returns:
        The elements of their lists CALLBACKS, which `train` tells its curves.

    Raises:
        UsageError: a file is not there or has an error.
    """
    paths = []
    for name in invocation.code:
        path = places.place(name, "--code")
        if not path.is_file():
            raise UsageError(f"--code={name}: there is no such file")
        paths.append(path)
    if invocation.config is not None and invocation.has_code_as_config:
        paths.append(_find(invocation.config, presets_dir))
    found = []
    for path in dict.fromkeys(path.resolve() for path in paths):
        own = run_file(path).get("CALLBACKS", [])
        try:
            callbacks.check(own)
        except UsageError as error:
            raise UsageError(f"{text.shown(path)}: CALLBACKS: {error.for_command_line}") from None
        found += own
    return found


def run_file(path: Path) -> dict[str, Any]:
    """Returns the names that a Python file defines; it runs unless it ran before unchanged.

    It is a module of its own, so that its classes know the file they are from, and it can import
    the modules beside it.

    Raises:
        UsageError: the file has an error; the message names its line.
    """
    path = path.resolve()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{text.shown(path)}: {error.strerror}") from error
    if path in _ran and _ran[path][0] == content:
        return _ran[path][1]
    name = f"cnn_jax_code_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    loader = _Loader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        code = loader.get_code(name)
    except UnicodeDecodeError:
        raise UsageError(f"{text.shown(path)}: it is not text in UTF-8") from None
    except SyntaxError as error:
        raise UsageError(_syntax(error, path)) from None
    try:
        exec(code, vars(module))
    except SyntaxError as error:  # of a module that it imports
        raise UsageError(_syntax(error, path)) from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"{_place(error, path)}: {_message(error)}") from error
    _ran[path] = content, vars(module)
    return vars(module)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a file without reading or leaving a __pycache__ beside it."""

    def get_code(self, fullname: str) -> types.CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _place(error: BaseException, path: Path) -> str:
    """Returns the file and the last of its lines that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{text.shown(path)}:{lines[-1]}" if lines else text.shown(path)


def _syntax(error: SyntaxError, path: Path) -> str:
    """Returns where a file is no Python, and why."""
    where = text.shown(Path(error.filename or path)) + (f":{error.lineno}" if error.lineno else "")
    unreadable = error.msg.startswith("(unicode error)") and "codec can't decode byte" in error.msg
    return f"{where}: {'it is not text in UTF-8' if unreadable else error.msg}"


def _message(error: BaseException) -> str:
    if isinstance(error, UserError):
        return error.for_command_line
    return f"{type(error).__name__}: {one_line(error)}"


def _find(config: str, presets_dir: Path) -> Path:
    """Returns the file of a preset."""
    known = names(presets_dir)
    if config in known:
        return presets_dir / f"{config}.py"
    path = places.place(config, "preset")
    if path.suffix in (".py", ".json"):
        if not path.is_file():
            tip = text.did_you_mean(path.stem, known)
            raise UsageError(f"there is no file {config}{tip}")
        return path
    if re.search(r"[/\\.]", config):
        hint = "; a path to a preset ends in .py or .json"
    else:
        hint = text.did_you_mean(config, known)
    listing = f"the presets are {', '.join(known)}" if known else f"{presets_dir} has no presets"
    raise UsageError(f"there is no preset {config!r}{hint}; {listing}")


def _load_python(path: Path) -> Experiment:
    found = run_file(path).get("EXPERIMENT")
    if not isinstance(found, Experiment):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UsageError(f"{text.shown(path)}: EXPERIMENT must be one Experiment, but is {what}")
    return dataclasses.replace(found, name=path.stem)


def _load_json(path: Path) -> Experiment:
    try:
        return experiment.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise UsageError(f"{path}: not JSON of a configuration: nested too deep") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error.for_command_line}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: it is not text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
