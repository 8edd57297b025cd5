"""Settings of Sphinx: `make docs` builds a site of these pages, the docstrings and the examples."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import generated  # noqa: E402  # pyright: ignore[reportMissingImports]

from cnn_jax import __version__  # noqa: E402

project = "cnn_jax"
version = release = __version__
project_copyright = "the authors of cnn_jax, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# A link to a page, a heading or a file that is not there is a warning.
myst_heading_anchors = 3
smartquotes = False  # two dashes are those of a flag
suppress_warnings = ["myst.header"]  # a page of results may begin at any level

# Docstrings in Google's style, with code between single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# The theme takes the fonts of the reader's system, and a page loads nothing from elsewhere.
html_theme = "furo"
html_title = "cnn_jax"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["site"]
html_css_files = ["site.css"]

# Files of the repository that a page of the site shows, and that page.
_SHOWN = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/results/faults.md": "results/faults.md",
    "benchmarks/results/speed.md": "results/speed.md",
    "cnn_jax/cpu/README.md": "cpu.md",
    "examples": "examples.md",
}
_FILE = re.compile(r"^<!-- file: (\S+) -->\n", re.M)
_GENERATED = re.compile(r"^<!-- generated: (\w+) -->\n", re.M)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)#\s]+)")


def _read(app, docname: str, source: list[str]) -> None:
    """Puts into a page what it shows of the repository, and what is made of the code."""
    page = Path(app.srcdir) / f"{docname}.md"

    def shown(match: re.Match[str]) -> str:
        file = (page.parent / match[1]).resolve()
        return _placed(file.read_text(), file.parent, page.parent)

    text = _placed(source[0], page.parent, page.parent)
    text = _FILE.sub(shown, text)
    source[0] = _GENERATED.sub(lambda match: getattr(generated, match[1])(), text)


def _placed(text: str, begins: Path, page: Path) -> str:
    """Returns Markdown whose links lead to pages of the site where these show the file.

    Args:
        text: the Markdown.
        begins: the folder at which its links begin.
        page: the folder of the page that shows it.
    """

    def place(match: re.Match[str]) -> str:
        target = (begins / match[1]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return match[1]  # of which Sphinx warns
        inside = target.relative_to(ROOT)
        for file in (inside, *inside.parents):
            if file.as_posix() in _SHOWN:
                target = ROOT / "docs" / _SHOWN[file.as_posix()]
        return os.path.relpath(target, page)

    return _LINK.sub(place, text)


def _mark_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Marks what is indented after an empty line of a docstring as code, which Markdown needs not.

    The lines are still those of Google's style, whose sections begin without an empty line.
    """
    before = ["", ""]
    for number in reversed(range(2, len(lines))):
        before = lines[number - 2 : number]
        starts = lines[number].startswith("    ") and not before[1]
        if starts and before[0] and not before[0].startswith("    "):
            lines[number:number] = [".. code-block:: python", ""]


def setup(app) -> None:
    """Connects the functions above with Sphinx."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _mark_code, priority=100)
