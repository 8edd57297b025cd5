"""Warnings of Python and of libraries, as one line each on the command line."""

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnn_jax import text

# What JAX says of each program that it cannot keep, or cannot read again.
_PROGRAM = re.compile(
    r"Error (?P<what>writing|reading) persistent compilation cache entry for '(?P<name>[^']*)': "
    r"(\w+: )?(\[Errno \d+\] )?(?P<reason>[^\n]*)"
)


def show_in_lines(programs: Path) -> None:
    """Shows each warning from now on as one line, and those on kept programs once.

    JAX never replaces a program that is damaged, as a full disk or a power cut leaves it; such a
    file is removed, so that the next start writes it again.

    Args:
        programs: where JAX keeps compiled programs, if that is a folder of our cache.
    """
    warnings.showwarning = _lines(programs)


def _lines(programs: Path) -> Callable[..., None]:
    said: set[str] = set()

    def show(message: Warning | str, *_: Any) -> None:
        line = str(message)
        if found := _PROGRAM.search(line):
            what = found["what"]
            if what == "reading":
                for path in programs.glob(f"{found['name']}-*-cache"):
                    path.unlink(missing_ok=True)
                line = f"compiled programs in {programs} are damaged, and made anew"
            else:
                line = (
                    f"compiled programs cannot be kept in {programs}: {found['reason']}; each "
                    "start makes them anew; free some space, or set CNN_JAX_CACHE"
                )
            if what in said:
                return
            said.add(what)
        print(f"warning: {text.one_line(line)}", file=sys.stderr)

    return show
