"""Parts of pages that are made of the code: settings, commands, presets, networks, examples."""

import ast
import dataclasses
from pathlib import Path

from cnn_jax import models, settings
from cnn_jax.cli import invocation, presets
from cnn_jax.cli.run_flags import FORMATS, RUN_FLAGS
from cnn_jax.describe.layer_table import by
from cnn_jax.experiment import Experiment
from cnn_jax.pretrained import catalogue

ROOT = Path(__file__).resolve().parent.parent
_BOUNDS = {"minimum": "≥", "maximum": "≤", "above": ">", "below": "<"}


def setting_tables() -> str:
    """Returns a table a section of settings, with type, default, bounds and help of each flag."""
    sections: dict[str, list[list[str]]] = {}
    for path, field in invocation.fields_of(None):
        section = path.rpartition(".")[0]
        kind, optional, choices = settings.field_type(field)
        words = [" ".join(f"`{choice}`" for choice in choices) or kind.__name__]
        words += ["or none"] if optional and field.default is not None else []
        bounds = [(sign, field.metadata.get(key)) for key, sign in _BOUNDS.items()]
        words += [f"{sign} {bound}" for sign, bound in bounds if bound not in (None, 2**63 - 1)]
        row = _flag(f"[no]{path}" if kind is bool else path, words, field.default)
        row.append(_text(field.metadata["help"]))
        sections.setdefault(section, []).append(row)
    classes = {field.name: field.type for field in dataclasses.fields(Experiment)}
    classes |= invocation.SECTIONS
    parts = []
    for section, rows in sections.items():
        about = (classes[section].__doc__ or "").partition("\n")[0] if section else ""
        title = section or "The run"
        parts.append(f"## {title}\n\n{about}\n\n")
        parts.append(_table(["flag", "what it does"], rows))
    return "\n".join(parts)


def command_list() -> str:
    """Returns the commands, each with its example and its own flags."""
    parts = []
    for command in invocation.COMMANDS:
        words = " ".join(filter(None, [command.name, command.arguments]))
        parts.append(f"## {command.name}\n\n{command.help[0].upper()}{_text(command.help[1:])}.\n")
        parts.append(f"```sh\ncnn-jax {command.example}\n```\n")
        formats = FORMATS.get(command.name)
        own = [flag.name for flag in RUN_FLAGS if command.name in flag.commands]
        own = [f"format={'|'.join(formats)}" if n == "format" and formats else n for n in own]
        if own:
            parts.append(f"Flags of its own: {', '.join(f'`--{name}`' for name in own)}.\n")
        if command.name in invocation.SECTIONS:
            parts.append(f"Settings: [{command.name}](settings.md#{command.name}).\n")
        if command.arguments:
            parts.append(f"Called as `{words}`.\n")
    return "\n".join(parts)


def run_flags() -> str:
    """Returns the table of the flags that are no settings of an experiment."""
    rows = []
    for flag in RUN_FLAGS:
        kind = " ".join(f"`{choice}`" for choice in flag.choices) or flag.kind
        only = f" (only with {', '.join(flag.commands)})" if flag.commands else ""
        row = _flag(f"[no]{flag.name}" if flag.kind == "bool" else flag.name, [kind], flag.default)
        rows.append([*row, _text(flag.help) + only])
    return _table(["flag", "what it does"], rows)


def preset_list() -> str:
    """Returns the presets, each with its docstring and its file."""
    parts = []
    for name in presets.names():
        text = (presets.PRESETS_DIR / f"{name}.py").read_text()
        docstring = ast.get_docstring(ast.parse(text)) or ""
        question, _, rest = docstring.partition("\n")
        parts.append(f"## {name}\n\n**{question}**\n{_as_markdown(rest)}\n")
        code = text.partition('"""\n')[2].partition('"""\n')[2] or text.split('"""')[2]
        parts.append(f"```python\n{code.strip()}\n```\n")
    return "\n".join(parts)


def network_table() -> str:
    """Returns the table of the registered models."""
    weights = {entry.model for entry in catalogue.ENTRIES}
    rows = [
        [
            f"`{name}`",
            f"{entry.parameters:,}" if entry.parameters else "",
            f"{entry.flops / 1e9:.3g}" if entry.flops else "",
            by(entry.input_shape).replace(" ", "\u00a0"),
            by(entry.smallest).replace(" ", "\u00a0"),
            "yes" if name in weights else "",
            entry.published,
            entry.source,
        ]
        for name, entry in models.REGISTRY.items()
    ]
    heads = ["model", "parameters", "GFLOP", "input", "smallest", "ImageNet weights"]
    return _table([*heads, "published accuracy", "source"], rows)


def example_list() -> str:
    """Returns the examples, each with the first line of its docstring and its text."""
    parts = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        parts.append(f"## {path.name}\n\n{docstring.partition(chr(10))[0]}\n")
        parts.append(f"```python\n{path.read_text().strip()}\n```\n")
    return "\n".join(parts)


def other_results() -> str:
    """Returns the names of the pages of results that index.md does not list."""
    listed = (ROOT / "docs" / "index.md").read_text()
    names = [f"results/{path.stem}" for path in sorted((ROOT / "docs" / "results").glob("*.md"))]
    return "".join(f"{name}\n" for name in names if name not in listed)


def _as_markdown(text: str) -> str:
    """Returns the rest of a docstring, whose indented commands are code in Markdown as well."""
    return "\n" + text.strip("\n") if text.strip() else ""


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(x.replace("|", "\\|") for x in row) + " |\n" for row in lines)


def _flag(name: str, values: list[str], default: object) -> list[str]:
    """Returns the cell of a flag: its name, and below it its values and its default."""
    shown = str(default).lower() if isinstance(default, bool | None) else default
    return [f"`--{name}`<br>{', '.join(values)}; default `{shown}`"]


def _text(help_text: str) -> str:
    """Returns a line of the help as Markdown, with its flags as code."""
    words = []
    for word in help_text.split(" "):
        bare = word.rstrip(";:,.)").lstrip("(")
        is_code = bare.startswith("--") or "_" in bare or "*" in bare or "<" in bare
        words.append(word.replace(bare, f"`{bare}`") if is_code and "`" not in word else word)
    return " ".join(words)
