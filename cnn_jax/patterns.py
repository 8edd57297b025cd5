"""Parses the texts of some settings: patterns of parameter paths, lists of them, and shares."""

import itertools
import re
import warnings

from cnn_jax.errors import UsageError
from cnn_jax.text import whole_number

MOST_FOLDS = 100


def matches(pattern: str, path: str) -> bool:
    """Returns whether a regular expression matches whole neighbouring parts of a path.

    "block[1-4]" and "backbone/block1" match "backbone/block1/conv1/kernel"; "block" and "conv" do
    not.

    Raises:
        UsageError: the pattern is not a regular expression.
    """
    try:
        with warnings.catch_warnings():
            # Of brackets that later versions of Python will read otherwise.
            warnings.simplefilter("error", FutureWarning)
            return re.search(rf"(?:^|/)(?:{pattern})(?:/|$)", path) is not None
    except (re.error, FutureWarning, RecursionError, OverflowError) as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from None


def parse_unfreeze(text: str | None) -> list[tuple[int, str]]:
    """Returns [(epoch, pattern)] for a text like "3:block5,6:block4", sorted by epoch.

    Raises:
        UsageError: the text does not have this form.
    """
    pairs = []
    for part in text.split(",") if text else []:
        epoch, colon, pattern = part.partition(":")
        number = whole_number(epoch.strip())
        if not colon or not number or not pattern:
            raise UsageError(
                f"--transfer.unfreeze takes EPOCH:PATTERN,... with epochs from 1, not {part!r}; "
                "for example 3:block5,6:block4"
            )
        matches(pattern, "")
        pairs.append((number, pattern.strip()))
    return sorted(pairs, key=lambda pair: pair[0])


def parse_shares(text: str | None) -> tuple[float, ...]:
    """Returns the numbers in a text like "0.5,0.75"; none for None.

    Raises:
        UsageError: the text is not a list of ascending numbers between 0 and 1.
    """
    try:
        shares = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        shares = [0.0]
    bounds = [0.0, *shares, 1.0]
    if not all(before < after for before, after in itertools.pairwise(bounds)):
        raise UsageError(
            "--optimizer.milestones takes ascending shares of the run between 0 and 1, such as "
            f"0.5,0.75, not {text!r}"
        )
    return tuple(shares)


def parse_class_weights(text: str) -> dict[str, float]:
    """Returns {class: weight} for a text like "cat:1,dog:2.5"; none for "none" and "balanced".

    Raises:
        UsageError: the text does not have this form.
    """
    if text in ("none", "balanced"):
        return {}
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, colon, weight = part.rpartition(":")
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if not colon or not name.strip() or not 1e-6 <= value <= 1e6:
            raise UsageError(
                "--train.class_weights is none, balanced or NAME:W,... with weights of 1e-6 to "
                f"1e6, not {part!r}; for example benign:1,malignant:10"
            )
        if name.strip() in weights:
            raise UsageError(f"--train.class_weights gives {name.strip()!r} two weights")
        weights[name.strip()] = value
    return weights


def parse_fold(text: str, name: str = "--dataset.fold") -> tuple[int, int]:
    """Returns (which fold, from 1; how many there are) for a text like "2/5".

    Args:
        text: the text.
        name: what it was given as, for the message.

    Raises:
        UsageError: the text does not have this form.
    """
    number, count = map(whole_number, text.partition("/")[::2])
    is_written_so = f"{number}/{count}" == text  # a fold has one name: not 02/5
    if not is_written_so or not number or not count or not max(number, 2) <= count <= MOST_FOLDS:
        raise UsageError(
            f"{name}={text} is not FOLD/FOLDS, such as 2/5, of 2 to {MOST_FOLDS} folds"
        )
    return number, count


def every_fold(text: str | None) -> str | None:
    """Returns "*/5" for "2/5": what runs share that differ in the fold alone; None for None."""
    return None if text is None else f"*/{parse_fold(text)[1]}"


def parse_lr_scale(text: str | None) -> list[tuple[str, float]]:
    """Returns [(pattern, factor)] for a text like "block5:0.1,block4:0.01", in its order.

    Raises:
        UsageError: the text does not have this form.
    """
    pairs = []
    for part in text.split(",") if text else []:
        pattern, colon, factor = part.rpartition(":")
        try:
            value = float(factor)
        except ValueError:
            value = -1.0
        if not colon or not pattern or not 0 < value < float("inf"):
            raise UsageError(
                f"--transfer.lr_scale takes PATTERN:FACTOR,... with factors above 0, not {part!r}; "
                "for example block5:0.1,block4:0.01"
            )
        matches(pattern, "")
        pairs.append((pattern.strip(), value))
    return pairs
