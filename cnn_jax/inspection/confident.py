"""Confident learning: which labels contradict what networks say that never saw them.

Source: Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset
labels", arXiv:1911.00068. The probabilities must be out of fold: of a network that was not trained
on the example, whose label it would know by heart else.
"""

import numpy as np


def thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns float64 [classes]: how sure the network is of a class on examples labelled with it.

    A class without an example has infinity: no example is confidently of it.

    Args:
        labels: int [n], as they were given.
        probabilities: float [n, classes], out of fold.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    count = np.bincount(labels, minlength=classes)
    total = np.bincount(labels, weights=own, minlength=classes)
    return np.divide(total, count, out=np.full(classes, np.inf), where=count > 0)


def confident_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns int [n]: the class that an example is confidently of, or -1 where it is of none.

    It is the most probable one of the classes whose thresholds the example reaches.

    Args:
        labels: int [n].
        probabilities: float [n, classes].
    """
    # A threshold is the mean of such probabilities; where all are equal, rounding must not decide.
    reached = probabilities >= thresholds(labels, probabilities) - 1e-6
    best = np.where(reached, probabilities, -1).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1)


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns int [classes, classes]: how many examples of a label are confidently of a class.

    Args:
        labels: int [n].
        probabilities: float [n, classes].
    """
    classes = probabilities.shape[1]
    likely = confident_classes(labels, probabilities)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[likely >= 0], likely[likely >= 0]), 1)
    return joint


def estimated_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns float [classes, classes]: the estimated shares of (label, true class), in all 1.

    The confident joint's rows are scaled to the counts of the labels (the paper's equation 3). A
    label none of whose examples is confidently of a class is taken for right.
    """
    joint = confident_joint(labels, probabilities).astype(np.float64)
    count = np.bincount(labels, minlength=len(joint)).astype(np.float64)
    empty = joint.sum(axis=1) == 0
    joint[empty, empty] = 1
    scaled = joint / joint.sum(axis=1, keepdims=True) * count[:, None]
    return scaled / scaled.sum()


def margins(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns float [n]: the given class's probability less the largest of the others, -1..1.

    The smallest ones are the least likely labels.
    """
    at = np.arange(len(labels))
    others = np.array(probabilities, np.float64)
    own = others[at, labels].copy()
    others[at, labels] = -np.inf
    return own - others.max(axis=1)
