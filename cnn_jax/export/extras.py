"""Packages that only some formats need: imported here, or named in one line."""

import contextlib
import importlib
import io
import logging
import warnings
from typing import Any

from cnn_jax.errors import UsageError


def need(module: str, what: str, extra: str) -> Any:
    """Returns a module of an optional package.

    Args:
        module: its name.
        what: what it is needed for, such as "format=onnx".
        extra: the extra of this package that installs it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None) or module
        raise UsageError(
            f"{what} needs {missing}, which is not installed: pip install 'cnn_jax[{extra}]'",
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
