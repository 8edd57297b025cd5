"""Packages that only some commands need: imported here, or named in one line."""

import contextlib
import functools
import importlib
import importlib.util
import io
import logging
import warnings
from typing import Any

from absl import logging as absl_logging

from cnn_jax.errors import UsageError

# How a package calls itself, where its module has another name.
_NAMES = {
    "grain": "Grain",
    "matplotlib": "Matplotlib",
    "optuna": "Optuna",
    "ray": "Ray",
    "tensorflow_datasets": "TensorFlow Datasets",
}


def install(extra: str) -> str:
    """Returns the command that installs an extra of this package."""
    return f"pip install 'cnn-jax[{extra}]'"


def has(module: str) -> bool:
    """Returns whether a module is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook hides it; it is half imported
        return False


@functools.cache
def can_draw() -> bool:
    """Returns whether Matplotlib is installed; where it is not, a warning says so once."""
    if not has("matplotlib"):
        absl_logging.warning("figures are left out: they need Matplotlib: %s", install("plots"))
        return False
    return True


def need_to_draw() -> None:
    """Raises UsageError where Matplotlib is not installed.

    It does not import it quietly: what is drawn beside a training must not silence that.
    """
    if not has("matplotlib"):
        raise UsageError(f"figures need Matplotlib: {install('plots')}")


def need(module: str, what: str, extra: str) -> Any:
    """Returns a module of an optional package.

    Args:
        module: its name.
        what: what it is needed for, such as "format=onnx", or a whole "figures need".
        extra: the extra of this package that installs it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        missing = (getattr(error, "name", None) or module).partition(".")[0]
        verb = "" if what.endswith((" need", " needs")) else " needs"
        raise UsageError(
            f"{what}{verb} {_NAMES.get(missing, missing)}: {install(extra)}"
        ) from error


@contextlib.contextmanager
def quiet() -> Any:
    """Keeps what other packages warn of and print about themselves from the user's eyes."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()):
                yield
    finally:
        logging.disable(level)
