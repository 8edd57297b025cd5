"""Ensembles: networks of several seeds, or views of an image, that say one thing together."""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from cnn_jax.trust.calibration import log_softmax


def mean_probabilities(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the logarithm of the mean probability over members, float64 [n, classes].

    It takes the place of logits: one temperature is fitted on it afterwards. Calibrating the
    members first and averaging then leaves the mean too unsure (Rahaman & Thiery 2021,
    arXiv:2007.08792).

    Args:
        logits: of each member, float [n, classes].
    """
    logs = np.stack([log_softmax(np.asarray(each, np.float64)) for each in logits])
    return np.asarray(logsumexp(logs, axis=0)) - np.log(len(logits))
