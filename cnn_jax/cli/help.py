"""The text of `--help`: of the whole command line, and of one command."""

import dataclasses
import shutil
import textwrap
from pathlib import Path
from typing import Any

from cnn_jax import settings
from cnn_jax.cli import console, presets
from cnn_jax.cli import invocation as invocations
from cnn_jax.cli.invocation import COMMANDS, SECTIONS, Command
from cnn_jax.cli.run_flags import FORMATS, RUN_FLAGS
from cnn_jax.experiment import Experiment

_FOOTNOTE = "A default is the value of a setting that neither preset nor flag gives."
_LONGEST_KIND = 48  # characters of the values that a flag may have, behind its name


def text(command: str | None = None, presets_dir: Path = presets.PRESETS_DIR) -> str:
    """Returns the help of a command, or of everything, wrapped to the terminal's width."""
    if command is not None:
        return _of_command(invocations.command_of(command), presets_dir)
    page = _Page()
    page.lines.append(f"usage: {console.command('[COMMAND] [--flag=value ...]')}")
    page.title("Commands")
    commands = [(f"{c.name} {c.arguments}".strip(), c.help) for c in COMMANDS]
    page.listing([*commands, ("help COMMAND", "the flags of one command")])
    page.presets(presets_dir)
    page.run_flags(None)
    page.settings(None)
    page.footnote()
    return page.text()


def _of_command(command: Command, presets_dir: Path) -> str:
    page = _Page()
    words = [command.name, *filter(None, [command.arguments]), "[--flag=value ...]"]
    page.lines.append(f"usage: {console.command(*words)}")
    page.paragraph(f"{command.help[0].upper()}{command.help[1:]}.")
    page.title("Example")
    page.lines.append(f"  {console.command(command.example)}")
    if command.settings == invocations.EVERY_SETTING:
        page.presets(presets_dir)
    page.run_flags(command)
    page.settings(command)
    if command.settings == invocations.EVERY_SETTING:
        page.footnote()
    return page.text()


class _Page:
    """Lines of help, wrapped to the terminal's width."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._width = max(30, min(100, shutil.get_terminal_size().columns))

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def title(self, title: str) -> None:
        self.lines += ["", self._wrap(title, "", 2)]

    def paragraph(self, text: str) -> None:
        self.lines += ["", self._wrap(text, "", 0)]

    def footnote(self) -> None:
        self.paragraph(_FOOTNOTE)

    def listing(self, pairs: list[tuple[str, str]]) -> None:
        """Adds names with a text beside each."""
        column = max((len(name) for name, _ in pairs), default=0) + 4
        for name, text in pairs:
            if column > self._width - 20:  # too narrow for two columns
                self.lines += [f"  {name}", self._wrap(text, " " * 6, 6)]
            else:
                self.lines.append(self._wrap(text, f"  {name}".ljust(column), column))

    def presets(self, presets_dir: Path) -> None:
        self.title(f"Presets, for --config (default: {presets.DEFAULT_PRESET})")
        names = presets.names(presets_dir)
        self.listing([(name, presets.summary(presets_dir / f"{name}.py")) for name in names])

    def run_flags(self, command: Command | None) -> None:
        """Adds the run flags that a command has use for; None: those of all commands."""
        self.title("Run")
        for flag in RUN_FLAGS:
            if command is not None and flag.commands and command.name not in flag.commands:
                continue
            if command is not None and command.name in flag.without_effect_on:
                continue
            own = FORMATS.get(command.name) if command and flag.name == "format" else None
            choices = own or flag.choices
            kind = "|".join(choices) or flag.kind
            only = f" (only with {', '.join(flag.commands)})" if flag.commands else ""
            default = presets.DEFAULT_PRESET if flag.name == "config" else flag.default
            default = own[0] if own and command and command.name != "export" else default
            legal = "may be repeated" if flag.repeated else ""
            if len(kind) > _LONGEST_KIND:  # words are not broken
                kind, legal = flag.name, f"one of {', '.join(choices)}"
            self._flag(
                _signature(flag.name, kind, None if flag.repeated else default, legal),
                flag.help + (only if command is None else ""),
            )
        self._flag("--flagfile=file", "read flags from a file, one a line")
        if command is None:
            self._flag("--version", "print the version")

    def settings(self, command: Command | None) -> None:
        """Adds the settings that a command acts on, by section; None: those of all commands."""
        section = ""
        for path, field in invocations.fields_of(command):
            if path.rpartition(".")[0] != section:
                section = path.rpartition(".")[0]
                self.title(_section_title(section))
            kind, optional, choices = settings.field_type(field)
            or_none = "or none" if optional and field.default is not None else ""
            of_run = command is not None and command.reads_run and section not in SECTIONS
            default = "the run's" if of_run else field.default
            legal = "|".join(choices) or kind.__name__
            help_text = field.metadata["help"]
            if path == "model.name":
                help_text += f"; `{console.command('models')}` lists them"
            self._flag(_signature(path, legal, default, _range(field), or_none), help_text)

    def _flag(self, signature: str, text: str) -> None:
        self.lines += [self._wrap(signature, "  ", 10), self._wrap(text, " " * 6, 6)]

    def _wrap(self, text: str, first: str, indent: int) -> str:
        return textwrap.fill(
            text,
            self._width,
            initial_indent=first,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
            break_long_words=False,
        )


def _signature(name: str, kind: str, default: Any, *legal: str) -> str:
    flag = f"--[no]{name}" if kind == "bool" else f"--{name}={kind}"
    shown = str(default).lower() if isinstance(default, bool | None) else default
    return f"{flag}  ({'; '.join([f'default: {shown}', *filter(None, legal)])})"


def _section_title(section: str) -> str:
    sections = {field.name: field.type for field in dataclasses.fields(Experiment)}
    docstring = (sections | invocations.SECTIONS)[section].__doc__ or ""
    return f"{section.capitalize()}: {docstring.partition(chr(10))[0]}"


def _range(field: dataclasses.Field) -> str:
    words = {
        "minimum": "at least",
        "maximum": "at most",
        "above": "more than",
        "below": "less than",
    }
    bounds = [(text, field.metadata.get(key)) for key, text in words.items()]
    return ", ".join(f"{text} {bound:g}" for text, bound in bounds if bound is not None)
