"""Which of several strategies is best, and whether that is more than noise."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Cell:
    """A strategy at a size of the training set in a budget, over all seeds.

    Attributes:
        strategy: its name.
        images: to train on.
        epochs: of each run.
        accuracies: on validation after the last epoch, of each seed that did not diverge.
        diverged: how many seeds did.
        flops: of one run.
        seconds: of one run, on this machine: mean of the training, and the frozen features once.
    """

    strategy: str
    images: int
    epochs: int
    accuracies: tuple[float, ...]
    diverged: int
    flops: int
    seconds: float

    @property
    def mean(self) -> float:
        """The mean accuracy; NaN without any."""
        return float(np.mean(self.accuracies)) if self.accuracies else math.nan

    @property
    def std(self) -> float | None:
        """The sample standard deviation of the accuracies; None of fewer than two."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None

    @property
    def text(self) -> str:
        """The accuracy as a person reads it."""
        failed = f"{self.diverged} diverged" if self.diverged else ""
        if not self.accuracies:
            return failed
        spread = "" if self.std is None else f" ± {self.std:.4f}"
        return f"{self.mean:.4f}{spread}{f' ({failed})' if failed else ''}"


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What to do, why, and how sure that is.

    Attributes:
        strategy: the one recommended; None where every strategy diverged.
        tied: the strategies that cannot be told from the best one, itself included.
        text: reason and uncertainty, in sentences.
    """

    strategy: str | None
    tied: tuple[str, ...]
    text: str


def gigaflops(flops: int) -> str:
    """Returns a number of FLOPs in 10**9, to three digits at least."""
    return f"{flops / 1e9:,.0f}" if flops >= 1e11 else f"{flops / 1e9:,.3g}"


def welch(a: Sequence[float], b: Sequence[float], images: int) -> float:
    """Returns the p-value of Welch's t-test of equal means, two-sided.

    Accuracies are counts of so many images, so no variance is taken below that of rounding to one:
    seeds that agree by chance prove nothing.

    Source: Welch 1947, "The generalization of 'Student's' problem".
    """
    rounding = 1 / (12 * images**2)
    first, second = (max(float(np.var(x, ddof=1)), rounding) / len(x) for x in (a, b))
    t_squared = float(np.mean(a) - np.mean(b)) ** 2 / (first + second)
    freedom = (first + second) ** 2 / (first**2 / (len(a) - 1) + second**2 / (len(b) - 1))
    return _two_sided(t_squared, freedom)


def paired(a: Sequence[float], b: Sequence[float], images: int) -> float:
    """Returns the p-value of the paired t-test of equal means, two-sided.

    Args:
        a: accuracies, one a seed, two at least.
        b: those of the same seeds.
        images: that they are counts of; see `welch`.

    Source: "Student" 1908, "The probable error of a mean".
    """
    differences = np.subtract(a, b)
    rounding = 2 / (12 * images**2)
    error = max(float(np.var(differences, ddof=1)), rounding) / len(differences)
    return _two_sided(float(np.mean(differences)) ** 2 / error, len(differences) - 1)


def _two_sided(t_squared: float, freedom: float) -> float:
    """Returns how probable a t as far from 0 is, by Student's distribution."""
    return float(jax.scipy.special.betainc(freedom / 2, 0.5, freedom / (freedom + t_squared)))


def recommend(cells: Sequence[Cell], validation_images: int) -> Recommendation:
    """Returns the cheapest of the strategies that cannot be told from the most accurate one.

    Args:
        cells: one of each strategy, of the same budget and size.
        validation_images: what the accuracies were measured on.
    """
    lost = [cell.strategy for cell in cells if cell.diverged]
    left = [cell for cell in cells if not cell.diverged]
    sentences = [f"Out of the question, as it diverged: {', '.join(lost)}."] if lost else []
    if not left:
        return Recommendation(None, (), "Every strategy diverged: lower the learning rate.")
    best = max(left, key=lambda cell: (cell.mean, -cell.flops))
    seeds = len(best.accuracies)
    compared = []
    tied = [best]
    for cell in left:
        if cell is best:
            continue
        difference = best.mean - cell.mean
        if seeds == 1:
            same, p = difference == 0, ""
        else:
            value = welch(best.accuracies, cell.accuracies, validation_images)
            same, p = value >= SIGNIFICANCE, f", p = {value:.2g}"
        compared.append(f"{cell.strategy} is {difference:.4f} behind{p}")
        if same:
            tied.append(cell)
    chosen = min(tied, key=lambda cell: (cell.flops, cell.seconds))
    sentences.append(f"Most accurate at {best.images:,} images: {best.strategy}, {best.text}.")
    if compared:
        test = "" if seeds == 1 else f" (Welch's t-test over {seeds} seeds)"
        sentences.append(f"Against it{test}: {'; '.join(compared)}.")
    if len(tied) > 1:
        others = " and ".join(cell.strategy for cell in tied if cell is not chosen)
        sentences.append(
            f"This is a tie: {chosen.strategy} cannot be told from {others}, "
            f"and is the cheapest of them ({gigaflops(chosen.flops)} GFLOPs a run)."
        )
    elif len(left) > 1 and seeds > 1:
        sentences.append("That is more than the noise of the seeds.")
    if seeds == 1:
        sentences.append(
            "With one seed nothing can be said about noise: another seed may turn this around "
            "(--advise.seeds=3)."
        )
    error = 1.96 * math.sqrt(max(best.mean * (1 - best.mean), 0) / validation_images)
    sentences.append(
        f"All were measured on the same {validation_images:,} validation images; on new images the "
        f"accuracy may differ by ±{max(error, 1 / validation_images):.3f} (95 %), whatever the "
        "seeds."
    )
    return Recommendation(
        chosen.strategy, tuple(cell.strategy for cell in tied), " ".join(sentences)
    )
