"""The command line: absl flags made from the fields of Experiment, and what to run.

`parse` reads the arguments, `resolve` turns a preset and the flags given into an Experiment.
Neither writes anything, and every mistake is a UsageError of one line.
"""

import ast
import dataclasses
import difflib
import itertools
import json
import math
import re
import runpy
import shutil
import textwrap
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags as absl_flags

from cnn_jax import experiment as experiments
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment

PRESETS_DIR = Path(__file__).resolve().parent.parent / "experiments"
DEFAULT_PRESET = "digits_lenet"


class Command(NamedTuple):
    """What `launch.py` can be asked for, with its line in the help and its positional arguments.

    A command that does not compute leaves accelerators to the processes that do.
    """

    name: str
    help: str
    arguments: str = ""
    computes: bool = True


COMMANDS = (
    Command("train", "train a model, or resume the run in --workdir (the default)"),
    Command("evaluate", "measure a trained model on every example of a split"),
    Command("predict", "classify image files with a trained model", "IMAGE..."),
    Command("describe", "print configuration, layers, data and memory without training"),
    Command("models", "list the models: parameters, FLOPs, input, weights, published accuracy"),
    Command("advise", "freeze or fine-tune? trains with every strategy on your data and compares"),
    Command(
        "compare",
        "what runs came to, side by side: seeds folded, ties marked",
        "RUN...",
        computes=False,
    ),
    Command(
        "report", "one HTML page of a run or a sweep, to send to somebody", "RUN", computes=False
    ),
    Command(
        "sweep",
        "search hyperparameters: grid, random or TPE, with early stopping, resumable",
        computes=False,
    ),
)


class _RunFlag(NamedTuple):
    """A flag that is no part of an Experiment; `commands` is empty where it serves all of them."""

    name: str
    kind: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


_RUN_FLAGS = (
    _RunFlag("config", "preset", "a preset's name, its .py file, or a run's config.json"),
    _RunFlag("workdir", "directory", "the run directory"),
    _RunFlag("quiet", "bool", "print no progress", False),
    _RunFlag("debug", "bool", "show the traceback of an error", False),
    _RunFlag(
        "platform", "str", "where to compute; none: JAX's own choice", None, ("cpu", "gpu", "tpu")
    ),
    _RunFlag("cpu_tuning", "bool", "set XLA and the allocator so that a CPU is fast", True),
    _RunFlag(
        "cpu_convolutions",
        "str",
        "who does these and normalises batches on a CPU: auto is winograd if onednn is installed, "
        "else xla",
        "auto",
        ("auto", "winograd", "onednn", "xla"),
    ),
    _RunFlag(
        "checkpoint",
        "best|last|STEP",
        "which checkpoint: best by validation, the newest, or that of a step",
        "best",
        commands=("evaluate", "predict"),
    ),
    _RunFlag(
        "split",
        "str",
        "what to evaluate on; none: test where the data has it, else validation",
        None,
        ("test", "validation", "train"),
        ("evaluate",),
    ),
    _RunFlag(
        "views",
        "str",
        "average over views of each image: its mirror image; these shifted by a pixel two ways",
        "one",
        experiments.VIEWS,
        ("evaluate",),
    ),
    _RunFlag(
        "format",
        "str",
        "how results are printed; markdown and csv with compare alone",
        "table",
        ("table", "json", "markdown", "csv"),
        ("predict", "compare"),
    ),
    _RunFlag(
        "where",
        "CONDITION,...",
        "which runs to compare, such as model.name=mlp,seconds<60",
        commands=("compare",),
    ),
    _RunFlag(
        "sort",
        "NAME",
        "the setting or metric to sort by, -NAME the other way around; none: validation_accuracy",
        commands=("compare",),
    ),
    _RunFlag(
        "profile",
        "FIRST:LAST",
        "trace these steps of the run, for TensorBoard's profile plugin and Perfetto",
        commands=("train",),
    ),
    _RunFlag(
        "layers",
        "bool",
        "print every layer, also of a network with more than 40 of them",
        False,
        commands=("describe",),
    ),
    _RunFlag(
        "output",
        "file",
        "where to save the picture of a network or of a comparison (.png, .svg; none: nowhere), or "
        "the report (.html; none: report.html in its directory)",
        commands=("describe", "compare", "report"),
    ),
)


# How the file of --output may end.
_ENDINGS = {"describe": (".png", ".svg"), "compare": (".png", ".svg"), "report": (".html",)}

# Sections that belong to one command each, and are no part of an Experiment.
_SECTIONS: dict[str, type] = {"advise": experiments.Advise, "sweep": experiments.Sweep}
_SECTION_FIELDS = {
    name: experiments.fields(section, f"{name}.") for name, section in _SECTIONS.items()
}


@dataclasses.dataclass(frozen=True)
class Invocation:
    """A command line, read and checked.

    Attributes:
        command: the name of one of COMMANDS, or "help".
        arguments: the positional arguments after the command.
        overrides: {dotted path: value} of the Experiment flags that were given, and no others.
        config: what `--config` said; None where it was not given.
        workdir: the run directory; None where it was not given.
        quiet: whether progress is suppressed.
        debug: whether errors show their traceback.
        platform: a value for JAX's `jax_platforms`; None leaves the choice to JAX.
        cpu_tuning: whether a CPU gets the settings that make it fast.
        cpu_convolutions: who computes them on a CPU, a value of `runtime.start`.
        checkpoint: "best", "last" or a step.
        split: the split to evaluate; None for the data's own default.
        views: of `data.augment.views`.
        format: "table", "json", "markdown" or "csv".
        profile: the first and the last step to trace; None: no trace.
        layers: whether every layer is printed, however many there are.
        output: the file for a picture; None for no picture.
        where: which runs to compare.
        sort: what to sort them by.
        advise: {field of experiment.Advise: value} of the flags that were given.
        sweep: {field of experiment.Sweep: value} likewise.
    """

    command: str = "train"
    arguments: tuple[str, ...] = ()
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: str | None = None
    workdir: str | None = None
    quiet: bool = False
    debug: bool = False
    platform: str | None = None
    cpu_tuning: bool = True
    cpu_convolutions: str = "auto"
    checkpoint: str | int = "best"
    split: str | None = None
    views: str = "one"
    format: str = "table"
    profile: tuple[int, int] | None = None
    layers: bool = False
    output: str | None = None
    where: str | None = None
    sort: str | None = None
    advise: dict[str, Any] = dataclasses.field(default_factory=dict)
    sweep: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def machine_flags(self) -> list[str]:
        """The flags that say where and how to compute, for a process that this one starts."""
        found = [] if self.platform is None else [f"--platform={self.platform}"]
        found += [] if self.cpu_tuning else ["--nocpu_tuning"]
        given = self.cpu_convolutions != "auto"
        return [*found, *([f"--cpu_convolutions={self.cpu_convolutions}"] if given else [])]


def define(flag_values: absl_flags.FlagValues) -> None:
    """Defines the run flags, and one for each field of Experiment and of one command's section.

    Every flag's default is None, which stands for "not given": presets differ in their defaults.
    """
    for flag in _RUN_FLAGS:
        _define(flag_values, flag.name, flag.kind == "bool", flag.help, _RunFlagParser(flag))
    for path, field in [*_experiment_fields(), *itertools.chain(*_SECTION_FIELDS.values())]:
        is_bool = experiments.field_type(field)[0] is bool
        _define(flag_values, path, is_bool, field.metadata["help"], _FieldParser(path, field))


def parse(argv: list[str]) -> Invocation:
    """Reads a command line.

    Args:
        argv: the arguments without the program's name, `sys.argv[1:]`. `--flagfile=FILE` stands for
            the flags in the lines of FILE.

    Raises:
        UsageError: a command, flag or value does not exist or is not legal.
    """
    before_dashes = argv[: argv.index("--")] if "--" in argv else argv
    if any(arg in ("--help", "-help", "-h") for arg in before_dashes):
        return Invocation(command="help")
    flag_values = absl_flags.FlagValues()
    flag_values.set_gnu_getopt()
    define(flag_values)
    positionals = _read(flag_values, argv)
    if "help" in positionals:
        return Invocation(command="help")
    command, arguments = _command(positionals)
    given: dict[str, Any] = {
        name: flag_values[name].value for name in flag_values if flag_values[name].present
    }
    output, endings = given.get("output"), _ENDINGS.get(command.name, ())
    for flag in _RUN_FLAGS:
        if flag.name in given and flag.commands and command.name not in flag.commands:
            belongs = " and ".join(flag.commands)
            raise UsageError(f"--{flag.name} belongs to {belongs}, not to {command.name}")
    if output is not None and Path(output).suffix not in endings:
        text = " or ".join(endings)
        raise UsageError(f"--output takes a file that ends in {text}, not {output!r}")
    sections: dict[str, Any] = {}
    for name, fields in _SECTION_FIELDS.items():
        values = {field.name: given.pop(path) for path, field in fields if path in given}
        if values and command.name != name:
            raise UsageError(
                f"--{name}.{next(iter(values))} belongs to {name}, not to {command.name}"
            )
        sections[name] = values
    paths = [path for path, _ in _experiment_fields()]
    return Invocation(
        command=command.name,
        arguments=tuple(arguments),
        overrides={path: given.pop(path) for path in paths if path in given},
        **sections,
        **given,
    )


def resolve(invocation: Invocation, presets_dir: Path = PRESETS_DIR) -> Experiment:
    """Returns the Experiment of the preset (default DEFAULT_PRESET) with the flags given on top.

    A preset is a Python file whose EXPERIMENT is one Experiment, and is named after its file. It is
    run as the user's own code. A `.json` file is one that `experiment.to_json` wrote; it keeps the
    name within.

    Raises:
        UsageError: there is no such preset, it has an error, or the settings are not legal.
    """
    path = _find(invocation, presets_dir)
    preset = _load_json(path) if path.suffix == ".json" else _load_preset(path)
    return experiments.replace(preset, invocation.overrides)


def resolve_sweep(
    invocation: Invocation,
    presets_dir: Path = PRESETS_DIR,
    otherwise: experiments.Sweep | None = None,
) -> experiments.Sweep:
    """Returns the Sweep of the preset with the flags given on top.

    A preset in `sweeps/` is one that has, besides its EXPERIMENT, a SWEEP.

    Args:
        invocation: the command line.
        presets_dir: where presets are.
        otherwise: what stands in for that of a preset without one.

    Raises:
        UsageError: as `resolve`.
    """
    path = _find(invocation, presets_dir)
    found = None if path.suffix == ".json" else _run_preset(path).get("SWEEP")
    if not isinstance(found, experiments.Sweep | None):
        raise UsageError(f"{path}: SWEEP must be one Sweep, but is a {type(found).__name__}")
    return dataclasses.replace(found or otherwise or experiments.Sweep(), **invocation.sweep)


def refuse_settings(invocation: Invocation, tip: str) -> None:
    """Raises UsageError where a command was given a preset, a run or a setting it does not take."""
    given = [*invocation.overrides, *(f for f in ("config", "workdir") if getattr(invocation, f))]
    if given:
        raise UsageError(f"{invocation.command} takes no --{given[0]}; {tip}")


def question(invocation: Invocation, presets_dir: Path = PRESETS_DIR) -> str | None:
    """Returns what an invocation's preset asks, the first line of its docstring, or None.

    Of another model or other data than the preset's it asks nothing.
    """
    path = _find(invocation, presets_dir)
    if path.suffix == ".json" or {"model.name", "dataset.name"} & invocation.overrides.keys():
        return None
    return _summary(path) or None


def _find(invocation: Invocation, presets_dir: Path) -> Path:
    """Returns the file of an invocation's preset."""
    config = DEFAULT_PRESET if invocation.config is None else invocation.config
    suffix = Path(config).suffix
    if suffix in (".py", ".json"):
        path = Path(config).expanduser()
        if not path.is_file():
            tip = did_you_mean(path.stem, _presets(presets_dir), "--config=")
            raise UsageError(f"--config={config}: there is no such file{tip}")
    elif config in _presets(presets_dir):
        path = presets_dir / f"{config}.py"
    else:
        names = _presets(presets_dir)
        if re.search(r"[/\\.]", config):
            hint = "; a path to a preset ends in .py or .json"
        else:
            hint = did_you_mean(config, names, "--config=")
        known = f"the presets are {', '.join(names)}" if names else f"{presets_dir} has no presets"
        raise UsageError(f"there is no preset {config!r}{hint}; {known}")
    return path


def help_text(presets_dir: Path = PRESETS_DIR) -> str:
    """Returns the text of `--help`, wrapped to the terminal's width."""
    width = max(50, min(100, shutil.get_terminal_size().columns))

    def wrap(text: str, first: str, indent: int) -> str:
        return textwrap.fill(
            text,
            width,
            initial_indent=first,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
            break_long_words=False,
        )

    def listing(pairs: list[tuple[str, str]]) -> list[str]:
        column = max((len(name) for name, _ in pairs), default=0) + 4
        return [wrap(text, f"  {name}".ljust(column), column) for name, text in pairs]

    def flag_entry(signature: str, text: str) -> list[str]:
        return [wrap(signature, "  ", 10), wrap(text, " " * 6, 6)]

    lines = ["usage: python launch.py [COMMAND] [--flag=value ...]", "", "Commands"]
    commands = [(f"{c.name} {c.arguments}".strip(), c.help) for c in COMMANDS]
    lines += listing([*commands, ("help", "this text")])
    lines += ["", f"Presets, for --config (default: {DEFAULT_PRESET})"]
    lines += listing([(n, _summary(presets_dir / f"{n}.py")) for n in _presets(presets_dir)])
    lines += ["", "Run"]
    for flag in _RUN_FLAGS:
        kind = "|".join(flag.choices) or flag.kind
        only = f" (only with {', '.join(flag.commands)})" if flag.commands else ""
        default = DEFAULT_PRESET if flag.name == "config" else flag.default
        lines += flag_entry(_signature(flag.name, kind, default), flag.help + only)
    lines += flag_entry("--flagfile=file", "read flags from a file, one a line")
    section = ""
    for path, field in [*_experiment_fields(), *itertools.chain(*_SECTION_FIELDS.values())]:
        if path.rpartition(".")[0] != section:
            section = path.rpartition(".")[0]
            lines += ["", wrap(_group_title(section), "", 2)]
        kind, optional, choices = experiments.field_type(field)
        or_none = "or none" if optional and field.default is not None else ""
        signature = _signature(
            path, "|".join(choices) or kind.__name__, field.default, _range(field), or_none
        )
        lines += flag_entry(signature, field.metadata["help"])
    lines += ["", wrap("A default is that of a setting the preset leaves alone.", "", 0)]
    return "\n".join(lines) + "\n"


# Flags and their values.


class _FieldParser(absl_flags.ArgumentParser):
    """Reads the text of an Experiment flag; legality is `experiment.check_value`'s matter."""

    def __init__(self, path: str, field: dataclasses.Field) -> None:
        self._path = path
        self._field = field

    def parse(self, argument: str) -> Any:
        kind, optional, _ = experiments.field_type(self._field)
        _check_text(self._path, argument)
        value: Any = argument
        if optional and argument.lower() == "none":
            value = None
        elif kind is not str:
            value = convert(kind, argument)
        experiments.check_value(self._path, self._field, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{self._path} takes a finite number, not {argument!r}")
        return value


class _RunFlagParser(absl_flags.ArgumentParser):
    """Reads the text of a run flag."""

    def __init__(self, flag: _RunFlag) -> None:
        self._flag = flag

    def parse(self, argument: str) -> Any:
        flag = self._flag
        _check_text(flag.name, argument)
        if flag.choices and flag.default is None and argument.lower() == "none":
            return None
        if flag.kind == "bool":
            value = convert(bool, argument)
            if not isinstance(value, bool):
                raise UsageError(f"--{flag.name} takes bool, not {argument!r}")
            return value
        if flag.choices and argument not in flag.choices:
            raise UsageError(f"--{flag.name} is one of {', '.join(flag.choices)}, not {argument!r}")
        if flag.name == "checkpoint" and argument not in ("best", "last"):
            if not re.fullmatch(r"[0-9]+", argument):
                raise UsageError(f"--checkpoint is best, last or a step, not {argument!r}")
            return int(argument)
        if flag.name == "profile":
            match = re.fullmatch("([0-9]+):([0-9]+)", argument)
            if match is None or not 1 <= int(match[1]) <= int(match[2]):
                raise UsageError(
                    f"--profile is the first and the last step to trace, such as 10:15, "
                    f"not {argument!r}"
                )
            return int(match[1]), int(match[2])
        return argument


def _define(
    flag_values: absl_flags.FlagValues,
    name: str,
    boolean: bool,
    help: str,
    parser: absl_flags.ArgumentParser,
) -> None:
    flag = absl_flags.Flag(parser, None, name, None, help, boolean=boolean)
    absl_flags.DEFINE_flag(flag, flag_values)


def _experiment_fields() -> list[tuple[str, dataclasses.Field]]:
    """Returns the fields that are flags: all but the name, which is the preset's file name."""
    return [(path, field) for path, field in experiments.fields() if path != "name"]


def convert(kind: type, text: str) -> Any:
    """Returns the text as bool, int or float, or unchanged where it reads as no such value."""
    try:
        return absl_flags.BooleanParser().parse(text) if kind is bool else kind(text)
    except ValueError:
        return text


def _check_text(name: str, text: str) -> None:
    if not text.strip():
        raise UsageError(f"--{name} has an empty value")
    # absl takes the next argument for the value of `--flag value`, also where it is a flag.
    if text.startswith("--"):
        raise UsageError(f"--{name} misses its value: {text!r} follows")


def _read(flag_values: absl_flags.FlagValues, argv: list[str]) -> list[str]:
    """Sets the flags and returns the positional arguments."""
    try:
        args = flag_values.read_flags_from_files(argv)
        # --undefok would have absl drop misspelt flags silently.
        for arg in args[: args.index("--")] if "--" in args else args:
            if re.match("--?undefok(=|$)", arg):
                raise UsageError(f"unknown flag {arg}")
        return flag_values(["launch.py", *args])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        tip = did_you_mean(error.flagname, [*flag_values, "help", "flagfile"], "--")
        raise UsageError(f"unknown flag --{_one_line(error.flagname)}{tip}") from None
    except absl_flags.CantOpenFlagFileError as error:
        raise UsageError(f"--flagfile: {_one_line(error).removeprefix('ERROR:: ')}") from None
    except (absl_flags.Error, ValueError) as error:
        # What absl refuses itself: a flag without a value, --noflag=value, a directory as flagfile.
        text = _one_line(error)
        missing = re.fullmatch(r"Missing value for flag -*(\S+)", text)
        raise UsageError(f"--{missing[1]} misses its value" if missing else text) from None


def _command(positionals: list[str]) -> tuple[Command, list[str]]:
    """Returns the command and its arguments, or refuses them."""
    names = [command.name for command in COMMANDS]
    if not positionals:
        return COMMANDS[0], []
    name, *arguments = positionals
    if name not in names:
        tip = did_you_mean(name, names, "") or _flag_tip(name)
        raise UsageError(f"unknown command {name!r}{tip}; the commands are {', '.join(names)}")
    command = COMMANDS[names.index(name)]
    if arguments and not command.arguments:
        tip = did_you_mean(arguments[0], names, "") or _flag_tip(arguments[0])
        raise UsageError(f"{name} takes no argument, but {arguments[0]!r} was given{tip}")
    if command.arguments == "RUN" and len(arguments) > 1:
        raise UsageError(f"{name} takes one directory, not {len(arguments)}")
    if command.arguments and not arguments:
        raise UsageError(f"{name} needs {command.arguments}: which files or directories?")
    return command, arguments


def _flag_tip(argument: str) -> str:
    """Returns a hint where a stray argument looks like a part of a flag."""
    if "=" in argument:
        return "; a flag begins with --"
    if argument.lower() in ("true", "false"):
        return f"; write --flag={argument.lower()}"
    return ""


def did_you_mean(wrong: str, candidates: list[str], prefix: str = "") -> str:
    """Returns "; did you mean ...?" with at most three of the candidates, or "".

    For dotted flags the last component alone counts too, as does a section for its `name`
    (`--model` for `--model.name`), and initials (`lr` for `learning_rate`).
    """
    wrong = wrong.lower().replace("-", "_")

    def ratio(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a, b).ratio()

    def score(name: str, text: str) -> float:
        last, last_text = name.rpartition(".")[2], text.rpartition(".")[2]
        initials = "".join(word[0] for word in last.split("_"))
        scores = [ratio(name, text), 0.85 * ratio(last, last_text)]
        scores.append(0.95 * (last == last_text or name == f"{text}.name"))
        scores.append(0.9 * (len(initials) > 1 and initials == last_text))
        return max(scores)

    texts = [wrong, wrong[2:]] if wrong.startswith("no") else [wrong]
    scores = {name: max(score(name, text) for text in texts) for name in candidates}
    best = max(scores.values(), default=0.0)
    if best < 0.65:
        return ""
    near = [name for name in sorted(scores, key=lambda n: -scores[n]) if scores[name] > best - 0.1]
    return f"; did you mean {' or '.join(prefix + name for name in near[:3])}?"


def _one_line(error: BaseException | str) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# Presets.


def _presets(presets_dir: Path) -> list[str]:
    """Returns the names of the presets in a directory, sorted, those of sweeps last."""
    files = [*sorted(presets_dir.glob("*.py")), *sorted(presets_dir.glob("sweeps/*.py"))]
    names = [path.relative_to(presets_dir).with_suffix("") for path in files]
    return [name.as_posix() for name in names if not name.name.startswith("_")]


def _load_preset(path: Path) -> Experiment:
    found = _run_preset(path).get("EXPERIMENT")
    if not isinstance(found, Experiment):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UsageError(f"{path}: EXPERIMENT must be one Experiment, but is {what}")
    return dataclasses.replace(found, name=path.stem)


def _run_preset(path: Path) -> dict[str, Any]:
    """Returns what a Python file defines, without leaving a __pycache__ beside it."""
    try:
        return runpy.run_path(str(path))
    except SyntaxError as error:
        raise UsageError(f"{error.filename or path}:{error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        raise UsageError(f"{where}: {kind}{_one_line(error)}") from error


def _load_json(path: Path) -> Experiment:
    try:
        return experiments.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (UsageError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {_one_line(error)}") from None


def _summary(path: Path) -> str:
    """Returns the first line of a preset's docstring without running it."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (SyntaxError, ValueError, OSError):
        return "(cannot be read)"
    return docstring.partition("\n")[0]


# Help.


def _signature(name: str, kind: str, default: Any, *legal: str) -> str:
    flag = f"--[no]{name}" if kind == "bool" else f"--{name}={kind}"
    shown = str(default).lower() if isinstance(default, bool | None) else default
    return f"{flag}  ({'; '.join([f'default: {shown}', *filter(None, legal)])})"


def _group_title(section: str) -> str:
    sections = {f.name: f.type for f in dataclasses.fields(Experiment)}
    docstring = (sections | _SECTIONS)[section].__doc__ or ""
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
