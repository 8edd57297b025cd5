"""Strangers: how unlike the training images an image is, with the false alarms held.

Three numbers say so: the energy of the logits (Liu et al. 2020, arXiv:2010.03759); the distance to
the k-th nearest of some training images, in features of length one (deep nearest neighbours, Sun et
al. 2022, arXiv:2204.06507); and the distance of Mahalanobis to the training images in the output of
the middle convolution (Lee et al. 2018, arXiv:1807.03888), for what the last layer keeps tells the
classes apart, and drops much of what else an image is. They become a p-value by images that the
network has not seen: the share of them that are as strange. Of ordinary images at most 1 % then
have a p-value of 1 % or less, on average over those images (conformal p-values, Bates et al. 2023,
arXiv:2104.08279). What share of strange images is noticed nobody can promise.
"""

import dataclasses

import numpy as np

MOST = 500  # training images that are kept, the first ones by the hash of their ids
_NEIGHBOURS = 50
_SHARE = 0.02  # of the images kept, at most
_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class Bank:
    """Features of training images, to measure distances to.

    Attributes:
        features: float16 [m, channels], of length one.
        neighbours: k, which of the nearest counts.
        middle: (mean float32 [c], inverse of the covariance float32 [c, c]) of the output of the
            middle convolution; None: there is none.
    """

    features: np.ndarray
    neighbours: int
    middle: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, features: np.ndarray, middle: np.ndarray | None = None) -> "Bank":
        """Returns the bank of features [m, channels] of training images.

        Half precision moves a distance by less than 0.001. The covariance is shrunk as Ledoit and
        Wolf (2004) do, so that it has an inverse for any number of images.

        Args:
            features: float [m, channels].
            middle: float [m, c] of the middle convolution, or None.
        """
        k = max(1, min(_NEIGHBOURS, round(_SHARE * len(features))))
        known = None
        if middle is not None and len(middle) > 1:
            mean = middle.mean(axis=0, dtype=np.float64)
            covariance = shrunk_covariance(middle - mean)
            if np.isfinite(covariance).all() and np.trace(covariance) > 0:
                inverse = np.linalg.pinv(covariance, hermitian=True)
                known = mean.astype(np.float32), inverse.astype(np.float32)
        return cls(unit(features).astype(np.float16), k, known)

    def surprise(self, middle: np.ndarray) -> np.ndarray:
        """Returns the squared distance of Mahalanobis of outputs of the middle convolution.

        Args:
            middle: float [n, c].

        Returns:
            float64 [n]; about c in the mean for images like those of the bank.
        """
        assert self.middle is not None
        mean, inverse = self.middle
        away = np.nan_to_num(np.asarray(middle, np.float32)) - mean
        return np.einsum("ij,ij->i", away @ inverse, away).astype(np.float64)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Returns the distance to the k-th nearest, float64 [n], within 0..2.

        Args:
            features: float [n, channels].
        """
        bank = self.features.astype(np.float32).T
        found = []
        for start in range(0, len(features), _CHUNK):
            near = unit(features[start : start + _CHUNK]) @ bank
            kth = np.partition(near, near.shape[1] - self.neighbours, axis=1)
            found.append(kth[:, near.shape[1] - self.neighbours])
        nearest = np.concatenate(found) if found else np.zeros(0)
        return np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 0.0))


def unit(features: np.ndarray) -> np.ndarray:
    """Returns features of length one, float32; what is 0 or not finite stays 0."""
    features = np.nan_to_num(np.asarray(features, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(features).max(axis=1, keepdims=True, initial=0.0)
    features = features / np.maximum(largest, 1e-30)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)


def p_values(held_out: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns (1 + how many held-out scores are at least as large) / (1 + their number).

    Args:
        held_out: float [m], of images that are as new to the network as those to come; sorted or
            not.
        scores: float [n]; large is strange.

    Returns:
        float64 [n], no smaller than uniform for images like the held-out ones.
    """
    ordered = np.sort(held_out)
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return (1 + above) / (1 + len(ordered))


def least_images(false_alarms: float) -> int:
    """Returns how many held-out images it takes for a p-value that small: 1 / alarms - 1.

    Without false alarms no image is judged, and it takes none.
    """
    if not false_alarms:
        return 0
    return int(np.ceil(1 / false_alarms - 1 - 1e-9))


def detection(
    ordinary: np.ndarray, strange: np.ndarray, false_alarms: float
) -> tuple[float, float]:
    """Returns (AUROC, share of strange ones noticed) at a share of false alarms on these images.

    Args:
        ordinary: float [m] scores; large is strange.
        strange: float [n].
        false_alarms: the share of ordinary ones at or above the threshold, at most.
    """
    from cnn_jax.evaluation import ranking

    both = np.concatenate([ordinary, strange])
    is_strange = np.arange(len(both)) >= len(ordinary)
    k = int(np.floor(false_alarms * len(ordinary) + 1e-9))
    ordered = np.sort(ordinary)[::-1]
    limit = ordered[k] if k < len(ordered) else -np.inf
    return ranking.auc(both, is_strange), float((strange > limit).mean())


def shrunk_covariance(away: np.ndarray) -> np.ndarray:
    """Returns the covariance, shrunk towards a multiple of the identity (Ledoit and Wolf 2004).

    The share of the identity is the one with the least expected squared error.

    Args:
        away: float [n, c], the differences from the mean.

    Returns:
        float [c, c].
    """
    n, c = away.shape
    covariance = away.T @ away / n
    size = np.trace(covariance) / c
    distance = (covariance**2).sum() / c - size**2  # between the covariance and size * identity
    squares = away**2
    noise = ((squares.T @ squares).sum() / n - (covariance**2).sum()) / (n * c)
    share = min(noise, distance) / distance if distance > 0 else 0.0
    return (1 - share) * covariance + share * size * np.eye(c)
