"""Risk and coverage: what share is answered, and how much of it is wrong.

Images are answered from the surest down. Risk is the share of errors among the answered ones,
coverage their share of all. Equal scores cannot be ordered: every figure here is its mean over all
orders of theirs.
"""

import dataclasses
import functools

import numpy as np

from cnn_jax.evaluation import intervals


@dataclasses.dataclass(frozen=True)
class RiskCoverage:
    """The errors among the surest images.

    Attributes:
        ends: int [thresholds], how many images have each distinct score or a larger one.
        errors: float [thresholds], how many errors (or how much cost) are among them.
        thresholds: float [thresholds], the distinct scores, falling.
        count: the number of images.
    """

    ends: np.ndarray
    errors: np.ndarray
    thresholds: np.ndarray
    count: int

    @classmethod
    def of(cls, scores: np.ndarray, wrong: np.ndarray) -> "RiskCoverage":
        """Returns the curve of scores [n] and errors [n] (bool, or costs)."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        errors = np.cumsum(wrong[order].astype(np.float64))[last]
        return cls(last + 1, errors, ordered[last], len(scores))

    @property
    def coverage(self) -> np.ndarray:
        """The share that is answered at each threshold."""
        return self.ends / self.count

    @property
    def risk(self) -> np.ndarray:
        """The share of errors among the answered ones at each threshold."""
        return self.errors / self.ends

    @functools.cached_property
    def _expected(self) -> np.ndarray:
        """The expected errors among the first 1, 2, ..., n images."""
        return np.interp(
            np.arange(1, self.count + 1),
            np.concatenate([[0], self.ends]),
            np.concatenate([[0.0], self.errors]),
        )

    @property
    def aurc(self) -> float:
        """The mean of the risk over all coverages (Geifman et al. 2019, arXiv:1805.08206)."""
        return float((self._expected / np.arange(1, self.count + 1)).mean())

    @property
    def excess_aurc(self) -> float:
        """AURC less that of the best order of the same errors, which ends with all of them."""
        wrong = round(float(self.errors[-1]))
        best = np.maximum(np.arange(1, self.count + 1) - (self.count - wrong), 0)
        return max(0.0, self.aurc - float((best / np.arange(1, self.count + 1)).mean()))

    @property
    def augrc(self) -> float:
        """The mean over coverages of P(answered and wrong) (Traub et al. 2024, arXiv:2407.01032).

        Half of the squared error rate is perfect, half of the error rate is chance.
        """
        return float(self._expected.mean() / self.count)

    def coverage_at(self, risk: float) -> float:
        """Returns the largest coverage whose risk here is at most this; no promise."""
        fine = self.risk <= risk
        return float(self.coverage[fine].max()) if fine.any() else 0.0


def is_better(
    scores: np.ndarray, than: np.ndarray, wrong: np.ndarray, groups: np.ndarray
) -> tuple[bool, float]:
    """Returns whether a score has a smaller AUGRC than another one, and by how much.

    It has to in 97.5 % of bootstrap samples of whole groups, the same ones for both.

    Args:
        scores: float [n].
        than: float [n].
        wrong: bool [n].
        groups: int [n], from `intervals.group_numbers`.
    """
    gains = np.concatenate(
        [
            _weighted_augrc(than, wrong, weights) - _weighted_augrc(scores, wrong, weights)
            for weights in intervals.resamples(groups)
        ]
    )
    gain = RiskCoverage.of(than, wrong).augrc - RiskCoverage.of(scores, wrong).augrc
    return bool(np.quantile(gains, 0.025) > 0), float(gain)


def _weighted_augrc(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the AUGRC [draws] of images that are drawn weights [draws, n] times.

    The area below the errors over the images, straight between thresholds.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    weights = weights[:, order]
    total = np.cumsum(weights, axis=1)[:, last]
    errors = np.cumsum(weights * wrong[order], axis=1)[:, last]
    steps = np.diff(total, axis=1, prepend=0)
    mean = (errors + np.concatenate([np.zeros((len(weights), 1)), errors[:, :-1]], axis=1)) / 2
    return (steps * mean).sum(axis=1) / total[:, -1] ** 2
