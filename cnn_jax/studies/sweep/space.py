"""The space of a sweep: which settings vary, and over what. It is checked before anything runs."""

import dataclasses
import itertools
import math
import random
import re
import shlex
from collections.abc import Sequence
from typing import Any

from cnn_jax import experiment, models, settings, text
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.reporting import tables
from cnn_jax.studies.sweep.dimension import Dimension

_FORMS = "log(LOW,HIGH), uniform(LOW,HIGH), int(LOW,HIGH) or [A,B,...]"
# The most combinations that are tried in search of a legal one, or of a new one.
_MOST_COMBINATIONS = 10_000
_LIST = r"""\[((?:[^\[\]"']|"[^"]*"|'[^']*')*)\]"""
_ITEM = re.compile(rf"([\w.]+)=(?:(log|uniform|int)\(([^()]*)\)|{_LIST})(?=\s|$)")


def parse(text: str, base: Experiment) -> tuple[Dimension, ...]:
    """Returns the dimensions of "optimizer.learning_rate=log(1e-4,1e-1) model.name=[a,b]".

    Args:
        text: items separated by spaces; a range may end with its number of points for a grid; a
            value with commas or brackets is quoted: transfer.freeze=["block1,block2"].
        base: the experiment that the settings vary.

    Raises:
        UsageError: the base may not be swept; or an item does not have such a form, names no
            setting, does not fit the type or range of its setting, or has a value that is illegal
            in every combination with the others.
    """
    check(base)
    dimensions = []
    rest = text.strip()
    while rest:
        match = _ITEM.match(rest)
        if match is None:
            wrong = rest.split()[0]
            raise UsageError(f"--sweep.space: {wrong!r} is not NAME={_FORMS}")
        name, kind, numbers, choices = match.groups()
        rest = rest[match.end() :].lstrip()
        if any(dimension.path == name for dimension in dimensions):
            raise UsageError(f"--sweep.space names {name} twice")
        field = _field(name)
        if kind is None:
            dimensions.append(_choice(name, field, choices))
        else:
            dimensions.append(_range(name, field, kind, numbers))
    if not dimensions:
        raise UsageError(f"--sweep.space is empty: give NAME={_FORMS}, separated by spaces")
    for dimension in dimensions:
        others = [other for other in dimensions if other is not dimension]
        for value in dimension.ends():
            _try_some(base, {dimension.path: value}, others)
    return tuple(dimensions)


def check(config: Experiment) -> None:
    """Checks data and model of an experiment that is to be swept, without loading data.

    Raises:
        UsageError: the sweep would choose by the test split, or the model or its options do not
            exist.
    """
    if config.dataset.validation_split == "test":
        raise UsageError(
            "a sweep must not choose by the test split, and --dataset.validation_split=test would; "
            "give --dataset.validation_split=none to hold out a part of 'train'"
        )
    models.create(config.model.name, 2, head=config.model.head, **config.model.options())


def _try_some(base: Experiment, fixed: dict[str, Any], others: Sequence[Dimension]) -> None:
    """Raises the first combination's error where no combination with the fixed values is legal."""
    first: UsageError | None = None
    ends = itertools.product(*(dimension.ends() for dimension in others))
    for values in itertools.islice(ends, _MOST_COMBINATIONS):
        changes = dict(zip((dimension.path for dimension in others), values, strict=True))
        try:
            _try(base, fixed | changes)
        except UsageError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first


def _field(name: str) -> dataclasses.Field:
    known = dict(experiment.fields())
    if name not in known:
        raise UsageError(
            f"--sweep.space: there is no setting {name!r}{text.did_you_mean(name, list(known))}"
        )
    if name in ("seed", "name", "dataset.fold"):
        tips = {"seed": "; --sweep.seeds repeats every setting", "name": ""}
        tip = tips.get(name, "; --sweep.folds=5 trains every setting on each of five folds")
        raise UsageError(f"--sweep.space: {name} is not a setting to sweep{tip}")
    if name == "train.select":
        raise UsageError("--sweep.space: all settings are judged by one --train.select: give it")
    return known[name]


def _choice(name: str, field: dataclasses.Field, text: str) -> Dimension:
    kind, optional, _ = settings.field_type(field)
    words = _words(text)
    if not words:
        raise UsageError(f"--sweep.space: {name}=[] is empty")
    values = tuple(
        None if optional and word == "none" else settings.convert(kind, word) for word in words
    )
    if len(set(values)) < len(values):
        raise UsageError(f"--sweep.space: {name}=[{text}] names a value twice")
    for value in values:
        settings.check_value(name, field, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--sweep.space: {name}=[{text}] takes finite numbers")
    return Dimension(name, "choice", choices=values)


def with_absolute_paths(text: str) -> str:
    """Returns a space in which paths also hold in another working directory.

    What is no such space is returned as it is, for `parse` to refuse.

    Raises:
        UsageError: a path can be none on this machine.
    """
    found, rest = [], text.strip()
    while match := _ITEM.match(rest):
        name, _, _, choices = match.groups()
        item = match.group()
        if name in experiment.PATHS and choices is not None:
            words = (experiment.absolute(name, word) for word in _words(choices))
            item = f"{name}=[{','.join(map(_quoted, words))}]"
        found.append(item)
        rest = rest[match.end() :].lstrip()
    return " ".join([*found, rest] if rest else found)


def _quoted(word: str) -> str:
    """Returns a value as an item of a space takes it, in quotes where it needs them."""
    if re.fullmatch(r"[\w./:+-]+", word):
        return word
    return "'\"'".join(f'"{part}"' if part else "" for part in word.split('"'))


def _words(text: str) -> list[str]:
    """Returns the values between the commas; a value in quotes may have commas of its own."""
    split = shlex.shlex(text, posix=True)
    split.whitespace, split.whitespace_split = ",", True
    split.commenters = split.escape = ""
    return [word.strip() for word in split if word.strip()]


def _range(name: str, field: dataclasses.Field, kind: str, text: str) -> Dimension:
    legal = {"log": float, "uniform": float, "int": int}[kind]
    needed, _, choices = settings.field_type(field)
    if needed is not legal or choices:
        wanted = "one of its choices" if choices else f"{needed.__name__} values"
        form = f"[{','.join(choices) or 'A,B,...'}]" if needed is not int else "int(LOW,HIGH)"
        raise UsageError(f"--sweep.space: {name} takes {wanted}, not {kind}(): use {name}={form}")
    try:
        numbers = [float(part) for part in text.split(",")]
        low, high, *points = numbers
        points = int(points[0]) if points else None
        whole = kind != "int" or (low.is_integer() and high.is_integer())
        right = len(numbers) <= 3 and all(map(math.isfinite, numbers)) and whole
        right = right and (points is None or (points >= 2 and points == numbers[2]))
    except (ValueError, OverflowError):
        raise UsageError(
            f"--sweep.space: {name}={kind}({text}) takes two numbers, and perhaps the points of a "
            "grid"
        ) from None
    if not right:
        raise UsageError(
            f"--sweep.space: {name}={kind}({text}) takes {'whole' if not whole else 'finite'} "
            "numbers, and perhaps the points of a grid, at least 2"
        )
    if not low < high:
        raise UsageError(f"--sweep.space: {name}={kind}({text}) is empty: LOW must be below HIGH")
    if kind == "log" and low <= 0:
        raise UsageError(f"--sweep.space: {name}={kind}({text}) must start above 0")
    dimension = Dimension(name, kind, low, high, points)
    for value in dimension.ends():
        settings.check_value(name, field, value)
    return dimension


def _try(base: Experiment, changes: dict[str, Any]) -> None:
    try:
        check(experiment.replace(base, changes))
    except UsageError as error:
        reason = error.for_command_line
        raise UsageError(f"--sweep.space: with {tables.settings(changes)}: {reason}") from None


def planned(
    options: Sweep, dimensions: Sequence[Dimension], base: Experiment
) -> list[dict[str, Any]]:
    """Returns the settings of a grid or of random search; none for "tpe", which plans none ahead.

    Raises:
        UsageError: a range has no number of points and needs one, or has one and takes none; there
            are fewer settings than trials; or a setting is not legal.
    """
    if options.method == "grid":
        return grid(dimensions, base)
    different = math.prod(dimension.size for dimension in dimensions)
    if different < options.trials:
        raise UsageError(
            f"--sweep.trials={options.trials}, but the space has {different:.0f} settings; "
            "give --sweep.method=grid for all of them, or fewer trials"
        )
    for dimension in dimensions:
        if dimension.points is not None:
            raise UsageError(
                f"--sweep.space: {dimension.path}={dimension.kind}({dimension.low:g},"
                f"{dimension.high:g},{dimension.points}) has the points of a grid, and "
                f"--sweep.method={options.method} takes none; leave them out, or give "
                "--sweep.method=grid"
            )
    if options.method == "random":
        return sample(dimensions, base, options.trials, base.seed)
    return []


def grid(dimensions: Sequence[Dimension], base: Experiment) -> list[dict[str, Any]]:
    """Returns every combination of the dimensions' grids, {path: value}, checked against the base.

    Raises:
        UsageError: a range has no number of points, or a combination is not legal.
    """
    paths = [dimension.path for dimension in dimensions]
    values = itertools.product(*(dimension.grid() for dimension in dimensions))
    settings = [dict(zip(paths, combination, strict=True)) for combination in values]
    for setting in settings:
        _try(base, setting)
    return settings


def sample(
    dimensions: Sequence[Dimension], base: Experiment, trials: int, seed: int
) -> list[dict[str, Any]]:
    """Returns different settings drawn from the dimensions; the same ones for the same seed.

    Raises:
        UsageError: there are fewer settings than trials, or one is not legal.
    """
    generator = random.Random(seed)
    drawn: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _ in range(_MOST_COMBINATIONS + 100 * trials):
        if len(drawn) == trials:
            break
        setting = {dimension.path: dimension.at(generator.random()) for dimension in dimensions}
        drawn.setdefault(tuple(setting.values()), setting)
    else:  # numbers have six digits: a narrow range holds few
        raise UsageError(
            f"--sweep.trials={trials}, but the space has hardly more than {len(drawn)} settings; "
            "widen it, or give fewer trials"
        )
    settings = list(drawn.values())
    for setting in settings:
        _try(base, setting)
    return settings
