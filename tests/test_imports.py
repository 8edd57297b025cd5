"""The house holds: imports run down, in no circle; only cli/ knows flags; files stay short."""

import ast
import collections
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "cnn_jax"

# The rooms from the roof down; those in one line stand beside each other.
ROOMS = [
    ["__main__"],
    ["__init__", "api"],
    ["cli"],
    ["studies"],
    ["explain", "export", "page", "inspection"],
    ["training"],
    ["runs"],
    ["trust"],
    ["evaluation"],
    ["assembly"],
    ["reporting", "describe"],
    ["pretrained"],
    ["models"],
    ["layers", "losses"],
    ["cpu"],
    ["data"],
    ["experiment", "combinations", "sections", "options", "settings", "patterns"],
    [
        "_version",
        "runtime",
        "processes",
        "distributed",
        "progress",
        "text",
        "files",
        "locks",
        "places",
        "trees",
        "errors",
        "extras",
        "system",
        "convolution",
    ],
]
FLOOR = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
MOST_LINES = 300
CORE_LINES = 4000


def modules() -> dict[str, Path]:
    """Returns {dotted name without "cnn_jax.": file} of the package, `__init__` for itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        found[".".join(parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Returns the modules of the package that a module imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for full in names:
            if full == "cnn_jax" or not full.startswith("cnn_jax."):
                continue
            inner = full.removeprefix("cnn_jax.")
            while inner and inner not in known:
                inner = inner.rpartition(".")[0]
            found.add(inner or "__init__")
    return found - {name}


def room(module: str) -> str:
    return module.partition(".")[0]


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(name, path, known) for name, path in known.items()}


def test_every_room_has_a_floor():
    assert {room(name) for name in modules()} <= FLOOR.keys()


def test_imports_run_down():
    edges = graph()
    rooms = collections.defaultdict(set)
    for name, targets in edges.items():
        rooms[room(name)] |= {room(target) for target in targets} - {room(name)}
    for name in sorted(rooms, key=lambda r: FLOOR[r]):
        print(f"{name:12} -> {', '.join(sorted(rooms[name], key=lambda r: FLOOR[r]))}")
    up = [
        f"{name} -> {target}"
        for name, targets in edges.items()
        for target in targets
        if room(name) != room(target) and FLOOR[room(name)] > FLOOR[room(target)]
    ]
    print(f"{len(up)} arrows up")
    assert not up


def test_no_modules_import_each_other_in_a_circle():
    edges, done = graph(), set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        for target in sorted(edges[name]):
            visit(target, [*path, name])
        done.add(name)

    for name in edges:
        visit(name, [])
    print("0 circles")


def test_only_the_command_line_knows_flags():
    for name, path in modules().items():
        text = path.read_text()
        if room(name) in ("cli", "__main__"):
            continue
        assert "Invocation" not in text, f"{name} knows Invocation"
        assert "cnn_jax.cli" not in text or room(name) in ("api", "__init__"), name


def test_outside_the_command_line_a_message_names_settings_and_no_other_flag():
    """In Python `--dataset.path` is shown as `dataset.path`; `--workdir` would mean nothing."""
    sections = "dataset|model|transfer|optimizer|train|checkpoint|logging"
    sections += "|advise|sweep|explain|trust"
    # `distributed` is an argument in Python, of `cnn_jax.join`.
    flag = re.compile(rf"(?<![\w(-])--(?=[a-z])(?!(?:{sections})\.|distributed\b)")
    found = []
    for name, path in modules().items():
        # A person meets studies on the command line alone; the two others make command lines.
        if room(name) in ("cli", "studies") or name in ("text", "runs.environment"):
            continue
        tree = ast.parse(path.read_text())
        other = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "on_command_line":
                other |= {id(each) for each in ast.walk(node)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or id(node) in other:
                continue
            text = node.value
            if isinstance(text, str) and flag.search(text):
                found.append(f"{name}:{node.lineno}: {text!r}")
    assert not found


def test_few_ask_which_process_writes_and_prints():
    askers = [
        name
        for name, path in modules().items()
        if ".is_first" in path.read_text() and room(name) != "processes"
    ]
    assert askers == [
        "cli.evaluate",
        "cli.main",
        "runs.callbacks",
        "runs.checkpoints",
        "runs.recorder",
        "training.feature_cache",
    ]


def test_a_long_file_says_why():
    for name, path in modules().items():
        text = path.read_text()
        if len(text.splitlines()) > MOST_LINES:
            docstring = ast.get_docstring(ast.parse(text)) or ""
            assert "lines because" in docstring, f"{name} has over {MOST_LINES} lines"


def test_the_core_is_small_and_its_reading_order_is_true():
    page = (PACKAGE.parent / "docs" / "ARCHITECTURE.md").read_text()
    section = page.partition("## The core, in reading order")[2].partition("\n## ")[0]
    numbered = "".join(line for line in section.splitlines() if re.match(r"\d\. ", line))
    files = re.findall(r"`([\w/]+\.py)`", numbered)
    assert files
    assert len(set(files)) == len(files)
    total = sum(len((PACKAGE / file).read_text().splitlines()) for file in files)
    print(f"the core: {total} lines in {len(files)} files")
    assert total <= CORE_LINES
