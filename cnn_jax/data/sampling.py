"""An order of training in which every class is drawn equally often."""

import numpy as np


def balanced_order(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Returns the examples of an epoch, int32 [n], as many of each class, in a random order.

    It depends on its arguments alone. With K classes that have examples, each is drawn n / K times,
    rounded up for some by chance. A class of fewer examples repeats them: all have been drawn k
    times before one is drawn k + 1 times. Of a larger one each epoch draws others.

    Args:
        seed: of the run.
        epoch: from 0.
        labels: int [n], the class of each example.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    by_class = np.argsort(labels, kind="stable")
    members = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)
    share, rest = divmod(len(labels), len(members))
    draws = np.full(len(members), share)
    draws[generator.permutation(len(members))[:rest]] += 1
    drawn = []
    for own, count in zip(members, draws, strict=True):
        rounds = [generator.permutation(own) for _ in range(-(-count // len(own)))]
        drawn += [np.concatenate(rounds)[:count]] if rounds else []
    return generator.permutation(np.concatenate(drawn)).astype(np.int32)
