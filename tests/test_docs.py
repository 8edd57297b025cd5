"""The README and the pages of docs/: their links lead somewhere, and their code runs."""

import ast
import contextlib
import inspect
import io
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cnn_jax
from cnn_jax.cli import flags, invocation, presets

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")]
LINKED = [*WRITTEN, *DOCS.glob("*/*.md")]
PROGRAM = re.compile(
    r"^(?:srun )?(?:cnn-jax|(?:\.venv/bin/)?python launch\.py|python -m cnn_jax) (.*)"
)
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> list[str]:
    """Returns the fenced blocks of a page in some languages."""
    return [code for language, code in FENCE.findall(path.read_text()) if language in languages]


def command_lines() -> list[tuple[str, str]]:
    """Returns (page, arguments) of every command of the program that a page shows."""
    found = []
    for page in WRITTEN:
        text = "\n".join(blocks(page, "sh", "bash")).replace("\\\n", " ")
        inline = re.findall(r"^\| `(cnn-jax [^`]*)`", page.read_text(), re.M)
        for line in [*text.splitlines(), *inline]:
            if match := PROGRAM.match(line):
                found.append((named(page), match[1].replace("PRESET", "digits_lenet")))
    return found


def slugs(path: Path) -> set[str]:
    """Returns the anchors of a page's headings."""
    text = FENCE.sub("", path.read_text())
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_pages_show_commands():
    assert len(command_lines()) > 50
    assert len({page for page, _ in command_lines()}) >= 9


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_of_a_page_is_one(page, line):
    """Its command, its flags and their values are known."""
    invoked = flags.parse(shlex.split(line, comments=True))
    if invoked.config is not None and not invoked.config.endswith(".py"):
        presets.resolve(invoked)


@pytest.mark.parametrize("page", LINKED, ids=named)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text())):
        there = (page.parent / target) if target else page
        assert there.exists(), f"{named(page)} links to {target}"
        made = there.suffix == ".md" and "<!-- generated" in there.read_text()
        if anchor and there.suffix == ".md" and not made:
            assert anchor in slugs(there), f"{named(page)} links to {target}#{anchor}"


def test_every_page_is_in_a_list_of_contents():
    listed = (DOCS / "index.md").read_text()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        if name != "index" and page.parent.name != "results":  # all of which are listed
            assert re.search(rf"^{name}$|<{name}>", listed, re.M), name


@pytest.mark.parametrize("page", [DOCS / "python.md", DOCS / "images.md"], ids=named)
def test_the_python_of_a_page_runs(page, places, digits, tmp_path, monkeypatch):
    """All blocks of a page, one after the other, as in a notebook."""
    del digits  # prepared by now
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    said, names = io.StringIO(), {}
    with contextlib.redirect_stdout(said):
        for code in blocks(page, "python"):
            exec(compile(code, named(page), "exec"), names)
    if page.name == "python.md":
        assert "<Evaluation: accuracy 0." in said.getvalue()
        assert len(re.findall(r"^[123] \d+ 0\.\d+$", said.getvalue(), re.M)) == 3  # the callback
        assert int(names["state"].step) == 15
    else:
        assert len(list(Path("photos").glob("*/*.png"))) == 1797


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_the_python_of_every_page_names_what_there_is(page):
    """Functions of the public door and their arguments, also where a page does not run."""
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "cnn_jax":
                    assert hasattr(cnn_jax, node.attr), node.attr
                if node.value.id == "run":
                    known = hasattr(cnn_jax.Run, node.attr) or node.attr in str(cnn_jax.Run.__doc__)
                    assert known, node.attr
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and re.fullmatch(r"cnn_jax\.\w+", called):
                function = getattr(cnn_jax, called.removeprefix("cnn_jax."))
                arguments = inspect.signature(function).parameters
                if not any(p.kind is p.VAR_KEYWORD for p in arguments.values()):
                    assert {k.arg for k in node.keywords} <= set(arguments)


def test_the_reference_has_every_public_name():
    page = (DOCS / "api.md").read_text()
    for name in set(cnn_jax.__all__) - {"cpu"}:
        assert re.search(rf"^\.\. auto\w+:: cnn_jax\.{name}$", page, re.M), name


def test_the_settings_page_has_every_flag():
    page = runpy.run_path(str(DOCS / "generated.py"))
    text = page["setting_tables"]()
    for path, _ in invocation.fields_of(None):
        assert f"`--{path}`" in text or f"`--[no]{path}`" in text
    assert all(f"## {name}\n" in page["preset_list"]() for name in presets.names())


def test_the_changelog_begins_with_this_version():
    versions = re.findall(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert cnn_jax.__version__ in versions[:2]  # the first may be Unreleased


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("sphinx", reason="the extra docs")
    command = [sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-b", "html", str(DOCS)]
    found = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr
    loads = re.compile(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//|<link[^>]*href="https?://')
    for page in tmp_path.rglob("*.html"):
        assert not loads.search(page.read_text()), page.name
    assert "url(http" not in "".join(x.read_text() for x in tmp_path.rglob("*.css"))
