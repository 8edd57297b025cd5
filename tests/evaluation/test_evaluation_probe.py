import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.preprocessing import StandardScaler

from cnn_jax.evaluation.probe import ridge_probe

PENALTIES = (1e-2, 1.0, 30.0, 1e3, 1e5)


def problem(n, d, classes, seed=0):
    """Overlapping classes, features of very different scale, one constant and one dead."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    scales = 10.0 ** rng.uniform(-2, 2, d)

    def split(size):
        labels = np.concatenate([np.arange(classes), rng.integers(0, classes, size - classes)])
        features = (centres[labels] + 2.5 * rng.normal(size=(size, d))) * scales + 3
        features[:, 0], features[:, 1] = 0.1, 0.0
        return features.astype(np.float32), labels

    return *split(n), *split(400)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("n", "d"), [(200, 24), (40, 120), (60, 60)])
def test_every_penalty_gives_the_accuracy_of_scikit_learn(n, d, classes):
    x, y, v, w = problem(n, d, classes)
    found = ridge_probe(x, y, v, w, classes, PENALTIES)
    scaler = StandardScaler().fit(x.astype(np.float64))
    a, b = scaler.transform(x.astype(np.float64)), scaler.transform(v.astype(np.float64))
    assert len({accuracy for _, accuracy in found.path}) > 1  # the penalty matters here
    for penalty, accuracy in found.path:
        assert accuracy == RidgeClassifier(alpha=penalty).fit(a, y).score(b, w)
        predicted = Ridge(alpha=penalty).fit(a, np.eye(classes)[y]).predict(b)
        assert accuracy == np.mean(predicted.argmax(axis=1) == w)
    assert found.accuracy == max(accuracy for _, accuracy in found.path)
    assert dict(found.path)[found.penalty] == found.accuracy


def test_of_equally_accurate_penalties_the_largest_is_kept():
    x = np.array([[-2.0], [-1], [1], [2]])
    y = np.array([0, 0, 1, 1])
    found = ridge_probe(x, y, x, y, 2, (3.0, 0.1, 7.0))
    assert (found.accuracy, found.penalty) == (1.0, 7.0)
    assert found.path == [(3.0, 1.0), (0.1, 1.0), (7.0, 1.0)]


def test_feature_maps_are_averaged_over_height_and_width():
    x, y, v, w = problem(80, 12, 3)

    def maps(rows):
        halves = np.stack([2 * rows, np.zeros_like(rows)], axis=1)
        return np.stack([halves, halves[:, ::-1]], axis=2)

    pooled = ridge_probe(x, y, v, w, 3)
    assert maps(x).shape == (80, 2, 2, 12)
    assert ridge_probe(maps(x), y, maps(v), w, 3) == pooled


def test_the_standard_path_spans_interpolation_and_the_mean():
    x, y, v, w = problem(200, 24, 4)
    found = ridge_probe(x, y, v, w, 4)
    penalties = [penalty for penalty, _ in found.path]
    assert penalties == sorted(penalties)
    assert penalties[0] < 1e-4 * len(x)
    assert penalties[-1] > 100 * len(x)
    assert 0.5 < found.accuracy <= 1


def test_a_constant_feature_that_rounds_adds_nothing():
    x, y, v, w = problem(90, 10, 2)
    tiny = np.float32(0.1) * np.ones((1, 1), np.float32)
    wide = ridge_probe(
        np.hstack([x, np.repeat(tiny, len(x), 0)]), y, np.hstack([v, np.repeat(tiny, 400, 0)]), w, 2
    )
    assert wide.path == ridge_probe(x, y, v, w, 2).path


def test_a_class_without_training_images_is_never_predicted():
    x, y, v, w = problem(90, 10, 2)
    assert ridge_probe(x, y, v, w, 7).path == ridge_probe(x, y, v, w, 2).path
