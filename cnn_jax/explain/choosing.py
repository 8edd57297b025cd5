"""Which examples of a split are worth an explanation."""

import numpy as np

from cnn_jax.data import Split
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import embedding
from cnn_jax.explain.network import Network


def most_confused(confusion: np.ndarray) -> tuple[int, int]:
    """Returns the two classes that are taken for each other most often.

    Args:
        confusion: int [classes, classes], rows are true classes.

    Raises:
        UsageError: nothing is confused.
    """
    both = np.triu(confusion + confusion.T, k=1)
    if not both.any():
        raise UsageError("no two classes are confused here")
    one, other = np.unravel_index(int(both.argmax()), both.shape)
    return int(one), int(other)


def typical_confusions(
    network: Network, split: Split, probabilities: np.ndarray, pair: tuple[int, int], count: int
) -> list[np.ndarray]:
    """Returns the indices of typical confusions: [one taken for the other, the other for the one].

    Typical are those whose pooled features are nearest to the mean of all such confusions, by the
    cosine; so a few pictures stand for many.

    Args:
        network: the network.
        split: the examples.
        probabilities: float [n, classes] of them.
        pair: the two classes.
        count: at most how many of each kind.
    """
    predicted = probabilities.argmax(axis=1)
    found = []
    for true, said in (pair, pair[::-1]):
        chosen = np.flatnonzero((split.labels == true) & (predicted == said))
        if len(chosen) > count:
            features = network.run.features(split.images[chosen])
            features = embedding.pooled(features).astype(np.float64)
            features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-12
            near = features @ features.mean(axis=0)
            chosen = chosen[np.argsort(-near, kind="stable")[:count]]
        found.append(chosen)
    return found
