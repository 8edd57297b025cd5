"""Reads a command line: defines absl flags from the fields of Experiment and parses arguments.

Nothing is written, and every mistake is a UsageError of one line.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from cnn_jax import experiment, places, settings
from cnn_jax.cli import invocation as invocations
from cnn_jax.cli.console import one_line
from cnn_jax.cli.invocation import COMMANDS, Command, Invocation
from cnn_jax.cli.run_flags import DIRECTORIES, ENDINGS, FORMATS, RUN_FLAGS, RunFlag
from cnn_jax.errors import UsageError
from cnn_jax.processes import clusters
from cnn_jax.settings import convert
from cnn_jax.text import did_you_mean

_HELP = ("--help", "-help", "-h")
_VERSION = ("--version", "-version")
# Endings that no directory of --output has: of a file that somebody expects.
_OF_FILES = (".png", ".svg", ".json", ".html", ".onnx", ".stablehlo", ".safetensors", ".h5", ".md")
_PLACES = ("workdir", "config", "code", "output", *experiment.PATHS)
_PLACES += ("trust.path", "trust.costs", "trust.new")


def define(flag_values: absl_flags.FlagValues) -> None:
    """Defines the run flags, and one for each setting.

    Every flag's default is None, which stands for "not given": presets differ in their defaults.
    """
    for flag in RUN_FLAGS:
        parser = _RunFlagParser(flag)
        make = absl_flags.MultiFlag if flag.repeated else absl_flags.Flag
        made = make(parser, None, flag.name, None, flag.help, boolean=flag.kind == "bool")
        absl_flags.DEFINE_flag(made, flag_values)
    for path, field in invocations.fields_of(None):
        parser = _FieldParser(path, field)
        is_bool = settings.field_type(field)[0] is bool
        help_text = field.metadata["help"]
        made = absl_flags.Flag(parser, None, path, None, help_text, boolean=is_bool)
        absl_flags.DEFINE_flag(made, flag_values)


def parse(argv: list[str]) -> Invocation:
    """Reads a command line.

    Args:
        argv: the arguments without the program's name, `sys.argv[1:]`. `--flagfile=FILE` stands for
            the flags in the lines of FILE.

    Raises:
        UsageError: a command, flag or value does not exist or is not legal.
    """
    before_dashes = argv[: argv.index("--")] if "--" in argv else argv
    if any(argument in _HELP for argument in before_dashes):
        return _help(before_dashes)
    if any(argument in _VERSION for argument in before_dashes):
        return Invocation(command="version")
    flag_values = absl_flags.FlagValues()
    flag_values.set_gnu_getopt()
    define(flag_values)
    positionals = _read(flag_values, argv)
    if "help" in positionals:
        return _help(positionals)
    command, arguments = _command(positionals)
    given: dict[str, Any] = {
        name: flag_values[name].value for name in flag_values if flag_values[name].present
    }
    _check_belonging(command, given)
    _check_places(command, arguments, given)
    given = _format(command, given)
    sections: dict[str, Any] = {
        name: {field.name: given.pop(path) for path, field in fields if path in given}
        for name, fields in invocations.SECTION_FIELDS.items()
    }
    paths = [path for path, _ in invocations.experiment_fields()]
    return Invocation(
        command=command.name,
        arguments=tuple(arguments),
        overrides={path: given.pop(path) for path in paths if path in given},
        code=tuple(given.pop("code", ())),
        **sections,
        **given,
    )


def refuse_settings(invocation: Invocation, tip: str) -> None:
    """Raises UsageError where a command was given a preset, a run or a setting it does not take.

    A preset of the user's own is legal: it is run for what it registers.
    """
    given = list(invocation.overrides)
    if invocation.config is not None and not invocation.has_code_as_config:
        given.append("config")
    if invocation.workdir is not None:
        given.append("workdir")
    if given:
        raise UsageError(f"{invocation.command} takes no --{given[0]}; {tip}")


def _help(words: list[str]) -> Invocation:
    """Returns the call for help on the first command among some words, or on everything."""
    names = [command.name for command in COMMANDS]
    return Invocation(command="help", arguments=tuple([w for w in words if w in names][:1]))


def _format(command: Command, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the flags with a legal --format."""
    legal = FORMATS.get(command.name, ("table",))
    asked = given.get("format")
    if asked is None and command.name == "export":
        raise UsageError(f"export needs --format, which is one of {', '.join(legal)}")
    if asked is not None and asked not in legal:
        raise UsageError(f"--format of {command.name} is one of {', '.join(legal)}, not {asked!r}")
    return {**given, "format": asked or legal[0]}


def _check_belonging(command: Command, given: dict[str, Any]) -> None:
    """Raises UsageError where a flag belongs to another command, or --output to no such file."""
    for flag in RUN_FLAGS:
        if flag.name in given and flag.commands and command.name not in flag.commands:
            belongs = " and ".join(filter(None, [", ".join(flag.commands[:-1]), flag.commands[-1]]))
            raise UsageError(f"--{flag.name} belongs to {belongs}, not to {command.name}")
    for name, fields in invocations.SECTION_FIELDS.items():
        wrong = [path for path, _ in fields if path in given and command.name != name]
        if wrong:
            raise UsageError(f"--{wrong[0]} belongs to {name}, not to {command.name}")
    output = given.get("output")
    endings = ENDINGS.get(f"{command.name} {given.get('format')}", ENDINGS.get(command.name, ()))
    if output is not None and command.name in DIRECTORIES:
        if Path(output).suffix in _OF_FILES:
            raise UsageError(f"--output of {command.name} is a directory, not {output!r}")
    elif output is not None and Path(output).suffix not in endings:
        legal = " or ".join(endings)
        raise UsageError(f"--output takes a file that ends in {legal}, not {output!r}")


def _check_places(command: Command, arguments: list[str], given: dict[str, Any]) -> None:
    """Raises UsageError where a file or folder is named that can be none on this machine."""
    for name in _PLACES:
        paths = given.get(name) or ()
        for path in [paths] if isinstance(paths, str) else paths:
            if name != "transfer.weights" or not path.startswith(places.HUB):
                places.place(path, f"--{name}")
    for argument in arguments:
        places.place(argument, command.arguments.strip("[.]"))


class _FieldParser(absl_flags.ArgumentParser):
    """Reads the text of a setting's flag; `settings.check_value` decides what is legal."""

    def __init__(self, path: str, field: dataclasses.Field) -> None:
        self._path = path
        self._field = field

    def parse(self, argument: str) -> Any:
        kind, optional, _ = settings.field_type(self._field)
        _check_text(self._path, argument)
        value: Any = argument
        if optional and argument.lower() == "none":
            value = None
        elif kind is not str:
            value = convert(kind, argument)
        settings.check_value(self._path, self._field, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{self._path} takes a finite number, not {argument!r}")
        return value


class _RunFlagParser(absl_flags.ArgumentParser):
    """Reads the text of a run flag."""

    def __init__(self, flag: RunFlag) -> None:
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
        if flag.name == "distributed":
            clusters.check(argument)
        if flag.kind == "seconds":
            if not re.fullmatch("[0-9]{1,6}", argument) or int(argument) < 1:
                raise UsageError(f"--{flag.name} is a number of seconds, not {argument!r}")
            return int(argument)
        if flag.name == "checkpoint" and argument not in ("best", "last"):
            if not re.fullmatch("[0-9]{1,18}", argument):
                raise UsageError(f"--checkpoint is best, last or a step, not {argument!r}")
            return int(argument)
        if flag.kind == "int":
            if not re.fullmatch("[0-9]{1,3}", argument) or int(argument) > 100:
                raise UsageError(f"--{flag.name} is a number from 0 to 100, not {argument!r}")
            return int(argument)
        if flag.name == "code" and not argument.endswith(".py"):
            raise UsageError(f"--code takes a Python file (.py), not {argument!r}")
        if flag.name == "profile":
            match = re.fullmatch("([0-9]{1,18}):([0-9]{1,18})", argument)
            if match is None or not 1 <= int(match[1]) <= int(match[2]):
                raise UsageError(
                    f"--profile is the first and the last step to trace, such as 10:15, "
                    f"not {argument!r}"
                )
            return int(match[1]), int(match[2])
        return argument


def _check_text(name: str, text: str) -> None:
    if not text.strip():
        raise UsageError(f"--{name} has an empty value")
    # absl takes the next argument for the value of `--flag value`, also where it is a flag.
    if text.startswith("--"):
        raise UsageError(f"--{name} misses its value: {text!r} follows")


def _read(flag_values: absl_flags.FlagValues, argv: list[str]) -> list[str]:
    """Sets the flags and returns the positional arguments."""
    try:
        args = [_short(arg) for arg in flag_values.read_flags_from_files(argv)]
        # --undefok would have absl drop misspelt flags silently.
        for arg in args[: args.index("--")] if "--" in args else args:
            if re.match("--?undefok(=|$)", arg):
                raise UsageError(f"unknown flag {arg}")
        return flag_values(["program", *args])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        known = [*flag_values, "help", "version", "flagfile"]
        tip = did_you_mean(error.flagname, known, "--")
        raise UsageError(f"unknown flag --{one_line(error.flagname)}{tip}") from None
    except absl_flags.CantOpenFlagFileError as error:
        raise UsageError(f"--flagfile: {one_line(error).removeprefix('ERROR:: ')}") from None
    except (absl_flags.Error, ValueError) as error:
        # absl's own refusals: a flag without a value, --noflag=value, a directory as flagfile.
        text = one_line(error)
        missing = re.fullmatch(r"Missing value for flag -*(\S+)", text)
        raise UsageError(f"--{missing[1]} misses its value" if missing else text) from None


def _short(argument: str) -> str:
    """Returns --evaluate.NAME, which looks like the flags of sweep and advise, as --NAME."""
    for flag in RUN_FLAGS:
        if flag.commands == ("evaluate",) and re.match(rf"--evaluate\.{flag.name}(=|$)", argument):
            return f"--{argument.removeprefix('--evaluate.')}"
    return argument


def _command(positionals: list[str]) -> tuple[Command, list[str]]:
    """Returns the command and its arguments, or refuses them."""
    names = [command.name for command in COMMANDS]
    if not positionals:
        return COMMANDS[0], []
    name, *arguments = positionals
    if name not in names:
        tip = did_you_mean(name, names) or _flag_tip(name)
        raise UsageError(f"unknown command {name!r}{tip}; the commands are {', '.join(names)}")
    command = invocations.command_of(name)
    if arguments and not command.arguments:
        tip = did_you_mean(arguments[0], names) or _flag_tip(arguments[0])
        raise UsageError(f"{name} takes no argument, but {arguments[0]!r} was given{tip}")
    if command.arguments == "RUN" and len(arguments) > 1:
        raise UsageError(f"{name} takes one directory, not {len(arguments)}")
    if command.arguments and not arguments and not command.arguments.startswith("["):
        raise UsageError(f"{name} needs {command.arguments}: which files or directories?")
    return command, arguments


def _flag_tip(argument: str) -> str:
    """Returns a hint where a stray argument looks like a part of a flag."""
    if "=" in argument:
        return "; a flag begins with --"
    if argument.lower() in ("true", "false"):
        return f"; write --flag={argument.lower()}"
    return ""
