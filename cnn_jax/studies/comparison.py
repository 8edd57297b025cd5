"""Recommends one of several strategies, and says whether its lead is more than noise."""

import dataclasses
import math
from collections.abc import Sequence

from cnn_jax.evaluation import selection
from cnn_jax.studies import seeds
from cnn_jax.studies.collapse import COLLAPSED
from cnn_jax.studies.ttest import SIGNIFICANCE, welch

_REASONS = {"diverged": "diverged", COLLAPSED: "collapsed: says one class only"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A strategy at one size of the training set in one budget, over all seeds.

    Attributes:
        strategy: its name.
        images: the number of training images.
        epochs: the epochs of each run.
        accuracies: the validation accuracy after the last epoch, of each seed that did not diverge.
        diverged: the number of seeds that diverged.
        collapsed: the number of seeds whose network says one class only.
        flops: the FLOPs of one run.
        seconds: the seconds of one run on this machine: the mean of the training, and the frozen
            features once.
        rate: the learning rate, as a share of the strategy's.
    """

    strategy: str
    images: int
    epochs: int
    accuracies: tuple[float, ...]
    diverged: int
    flops: int
    seconds: float
    collapsed: int = 0
    rate: float = 1.0

    @property
    def name(self) -> str:
        """The strategy, and its learning rate where that is another."""
        return named(self.strategy, self.rate)

    @property
    def mean(self) -> float:
        """The mean accuracy; NaN without any."""
        return seeds.fold(self.accuracies).mean

    @property
    def std(self) -> float | None:
        """The sample standard deviation of the accuracies; None of fewer than two."""
        return seeds.fold(self.accuracies).std

    @property
    def text(self) -> str:
        """The accuracy as a person reads it."""
        failed = ", ".join(self._failures())
        if not self.accuracies:
            return failed
        return f"{seeds.fold(self.accuracies)}{f' ({failed})' if failed else ''}"

    def _failures(self) -> list[str]:
        counts = {"diverged": self.diverged, COLLAPSED: self.collapsed}
        return [f"{count} {what}" for what, count in counts.items() if count]

    @property
    def lost(self) -> str:
        """Why it cannot be compared, in a word, or ""."""
        return "diverged" if self.diverged else COLLAPSED if self.collapsed else ""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The strategy to choose, why, and how sure that is.

    Attributes:
        strategy: the one recommended; None where none learnt anything.
        tied: the strategies that cannot be told from the best one, itself included.
        text: reason and uncertainty, in sentences.
        rate: the learning rate, as a share of the strategy's.
    """

    strategy: str | None
    tied: tuple[str, ...]
    text: str
    rate: float = 1.0


def gigaflops(flops: float) -> str:
    """Returns a number of FLOPs in units of 10**9, with at least three digits."""
    return f"{flops / 1e9:,.0f}" if flops >= 1e11 else f"{flops / 1e9:,.3g}"


def named(strategy: str, rate: float) -> str:
    """Returns a strategy and, where it is not the strategy's own, its learning rate."""
    return strategy if rate == 1 else f"{strategy} at {rate:g} of the rate"


def recommend(
    cells: Sequence[Cell],
    validation_images: int,
    largest_share: float | None = None,
    metric: str = "accuracy",
) -> Recommendation:
    """Returns the cheapest of the strategies that cannot be told from the best one.

    Where a seed diverged or its network says one class only, the strategy is not compared.

    Args:
        cells: one of each strategy and learning rate, all of the same budget and size of the
            training set.
        validation_images: the number of images that the accuracies were measured on.
        largest_share: the largest class's share of them, where it is known.
        metric: what the accuracies are where another metric chooses, a key of `selection.METRICS`.
    """
    title, sign, _ = selection.METRICS[metric]
    lost = [f"{cell.name} ({_REASONS[cell.lost]})" for cell in cells if cell.lost]
    left = [cell for cell in cells if not cell.lost]
    sentences = [f"Not compared: {', '.join(lost)}."] if lost else []
    if not left:
        sentences.append("No strategy is left: try a lower --optimizer.learning_rate.")
        return Recommendation(None, (), " ".join(sentences))
    best = max(left, key=lambda cell: (sign * cell.mean, -cell.flops))
    runs = len(best.accuracies)
    compared = []
    tied = [best]
    for cell in left:
        if cell is best:
            continue
        difference = sign * (best.mean - cell.mean)
        if runs == 1:
            same, p = difference == 0, ""
        else:
            value = welch(best.accuracies, cell.accuracies, validation_images)
            same, p = value >= SIGNIFICANCE, f", p = {value:.2g}"
        compared.append(f"{cell.name} is {difference:.4f} behind{p}")
        if same:
            tied.append(cell)
    chosen = min(tied, key=lambda cell: (cell.flops, cell.seconds))
    said = "Most accurate" if metric == "accuracy" else f"Best by {title}"
    sentences.append(f"{said} at {best.images:,} images: {best.name}, {best.text}.")
    if largest_share is not None and best.mean <= largest_share:
        sentences.append(
            f"That is no more than the share of the largest class, {largest_share:.4f}, which a "
            "network that has learnt nothing reaches too."
        )
    if compared:
        test = "" if runs == 1 else f" (Welch's t-test over {runs} seeds)"
        sentences.append(f"Against it{test}: {'; '.join(compared)}.")
    if len(tied) > 1:
        others = " and ".join(cell.name for cell in tied if cell is not chosen)
        sentences.append(
            f"This is a tie: {chosen.name} cannot be told from {others}, "
            f"and is the cheapest of them ({gigaflops(chosen.flops)} GFLOPs a run)."
        )
    elif len(left) > 1 and runs > 1:
        sentences.append("That is more than the noise of the seeds.")
    if runs == 1:
        sentences.append(
            "With one seed nothing can be said about noise: another seed may turn this around "
            "(--advise.seeds=3)."
        )
    if metric != "accuracy":
        sentences.append(f"All were measured on the same {validation_images:,} validation images.")
        return Recommendation(
            chosen.strategy, tuple(cell.name for cell in tied), " ".join(sentences), chosen.rate
        )
    error = 1.96 * math.sqrt(max(best.mean * (1 - best.mean), 0) / validation_images)
    sentences.append(
        f"All were measured on the same {validation_images:,} validation images; on new images the "
        f"accuracy may differ by ±{max(error, 1 / validation_images):.3f} (95 %), whatever the "
        "seeds."
    )
    return Recommendation(
        chosen.strategy, tuple(cell.name for cell in tied), " ".join(sentences), chosen.rate
    )
