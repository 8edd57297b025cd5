import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cnn_jax.errors import RunError
from cnn_jax.reporting import figures

RNG = np.random.default_rng(0)
NAMES = [f"class {i}" for i in range(100)]


def images(count: int, size: int = 8, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def history(epochs: int) -> list[dict]:
    keys = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    return [{"epoch": e + 1, **dict.fromkeys(keys, 0.1 * e)} for e in range(epochs)]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def image_of(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def inside(figure: Figure) -> bool:
    """Returns whether the whole drawing lies within the canvas, so saving cuts nothing off."""
    figures.to_array(figure)
    drawn, canvas = figure.get_tightbbox().bounds, figure.get_size_inches()
    left, bottom, width, height = drawn
    slack = 0.02
    return (
        min(left, bottom) >= -slack
        and left + width <= canvas[0] + slack
        and bottom + height <= canvas[1] + slack
    )


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 3), (224, 3)])
def test_image_grid_shows_names_and_pixels(size, channels):
    x = images(30, size, channels)
    labels = np.arange(30, dtype=np.int32)
    figure = figures.image_grid(x, labels, NAMES)
    assert texts(figure) == NAMES[:25]
    fourth = np.asarray(figure.axes[0].images[3].get_array())
    np.testing.assert_array_equal(fourth, x[3, ..., 0] if channels == 1 else x[3])
    assert inside(figure)


def test_fewer_images_leave_no_empty_rows():
    figure = figures.image_grid(images(7), np.zeros(7, int), ["a"])
    assert texts(figure) == ["a"] * 7
    tall, low = (
        f.get_size_inches()
        for f in (figures.image_grid(images(11), np.zeros(11, int), ["a"]), figure)
    )
    assert tall[0] == low[0]
    assert tall[1] == pytest.approx(low[1] * 3 / 2, rel=0.05)


def test_images_keep_their_shape():
    x = np.zeros((1, 10, 20, 3), np.uint8)
    left, right, bottom, top = (
        figures.image_grid(x, np.array([0]), ["a"]).axes[0].images[0].get_extent()
    )
    assert (right - left) / (bottom - top) == pytest.approx(2)


def test_grey_is_drawn_on_the_full_scale():
    # A dark image stays dark: the range is that of uint8, not of the image.
    figure = figures.image_grid(np.full((1, 8, 8, 1), 20, np.uint8), np.array([0]), ["dark"])
    assert figure.axes[0].images[0].get_clim() == (0, 255)


def test_predictions_are_told_apart_without_colour():
    figure = figures.prediction_grid(
        images(2), np.array([0, 1]), np.array([0, 2]), np.array([0.93, 0.4]), ["cat", "dog", "ox"]
    )
    right, wrong, above = figure.axes[0].texts
    assert right.get_text() == "✓ cat 93%\ntrue: cat"
    assert wrong.get_text() == "✗ ox 40%\ntrue: dog"
    assert right.get_color() != wrong.get_color()
    assert (right.get_fontweight(), wrong.get_fontweight()) == ("normal", "bold")
    assert above.get_text() == "Predictions: 1 of 2 right"


def test_predictions_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        figures.prediction_grid(
            images(2), np.array([0, 1]), np.array([0]), np.array([1.0, 1.0]), ["a", "b"]
        )


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_class_counts(classes):
    counts = {"train": np.arange(classes) * 1000, "validation": [0] * classes}
    figure = figures.class_counts(counts, NAMES[:classes], [0.5, 0.4, 0.3], [0.2, 0.2, 0.1])
    assert titles(figure) == [f"train: {500 * classes * (classes - 1):,}", "validation: 0"]
    first = figure.axes[0]
    # The bars and the names beside them run from top to bottom.
    ends = [bar.get_path().get_extents(bar.get_patch_transform()).x1 for bar in first.patches]
    np.testing.assert_allclose(ends, [i * 1000 for i in range(classes)])
    assert [label.get_text() for label in first.get_yticklabels()] == NAMES[:classes]
    assert first.get_ylim()[0] > first.get_ylim()[1]
    assert "red 0.500 ± 0.200" in figure.get_supxlabel()
    assert "blue 0.300 ± 0.100" in figure.get_supxlabel()
    assert inside(figure)


def test_class_counts_of_grey_images():
    figure = figures.class_counts({"train": [1, 2]}, ["a", "b"], [0.3], [0.1])
    assert "grey 0.300 ± 0.100" in figure.get_supxlabel()
    assert not figures.class_counts({"train": [1, 2]}, ["a", "b"]).get_supxlabel()
    # Grey images that are stored in colour are grey; more channels have numbers.
    three = figures.class_counts({"train": [1]}, ["a"], [0.577] * 3, [0.2] * 3)
    assert three.get_supxlabel().endswith(":\ngrey 0.577 ± 0.200")
    six = figures.class_counts({"train": [1]}, ["a"], [2000.0] * 6, [1e-5] * 6, "in some units")
    assert six.get_supxlabel().startswith(
        "channel mean ± std, in some units:\nchannel 1 2e+03 ± 1e-05"
    )
    assert six.get_supxlabel().endswith("and 1 more")
    assert inside(six)


def test_training_curves_mark_the_first_best_epoch():
    rows = history(4)
    for row, accuracy in zip(rows, (0.3, 0.6, 0.6, 0.5), strict=True):
        row["validation_accuracy"] = accuracy
    figure = figures.training_curves(rows)
    loss, accuracy = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    assert legend(accuracy) == ["train", "validation", "best epoch: 2 (0.6000)"]
    points = accuracy.lines[1].get_xydata()
    assert np.asarray(points).tolist() == [[1, 0.3], [2, 0.6], [3, 0.6], [4, 0.5]]
    assert legend(loss)[2] == "best epoch: 2 (0.1000)"


@pytest.mark.parametrize("epochs", [0, 1, 200])
def test_training_curves_of_any_length(epochs):
    assert inside(figures.training_curves(history(epochs)))


def test_training_curves_survive_gaps():
    rows = history(3)
    rows[0]["validation_accuracy"] = None
    rows[1]["validation_accuracy"] = math.nan
    del rows[2]["validation_accuracy"]
    rows[2]["train_loss"] = math.inf
    figure = figures.training_curves(rows)
    figures.to_array(figure)
    assert legend(figure.axes[1]) == ["train", "validation"]


@pytest.mark.parametrize("classes", [2, 20, 21, 100])
def test_confusion_matrix(classes):
    matrix = RNG.integers(0, 50, (classes, classes))
    matrix[1] = 0  # A class without examples.
    matrix[0] = 0
    matrix[0, 1] = 1234
    figure = figures.confusion_matrix(matrix, NAMES[:classes])
    axes = figure.axes[0]
    shares = image_of(axes)
    assert shares[0, 1] == 1
    assert not shares[1].any()
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == (classes**2 if classes <= 20 else 0)
    if texts:
        assert texts[1] == "1,234"
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES[:classes]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert f"{np.trace(matrix) / matrix.sum():.1%}" in axes.get_title()
    assert inside(figure)


def test_names_are_shortened_and_never_mathematics():
    names = ["$a$ costs more than $b_c$ " + str(i) for i in range(2)]
    figure = figures.confusion_matrix(np.eye(2, dtype=int), names)
    figures.to_array(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert all(len(label) <= 20 for label in labels)
    assert labels[0].startswith("$a$ costs")
    # Their ends, which tell them apart, are kept.
    assert labels[0] != labels[1]
    figures.to_array(figures.image_grid(images(2), np.array([0, 1]), names))


def filter_canvas(kernel: np.ndarray) -> np.ndarray:
    return image_of(figures.filters(kernel).axes[0])


def test_filters_are_scaled_each_by_itself_about_zero():
    kernel = np.zeros((1, 2, 1, 3))
    kernel[0, :, 0, 0] = [4, -2]
    kernel[0, :, 0, 1] = [-0.01, 0]
    values = set(np.unique(filter_canvas(kernel)).round(6))
    # 4 -> 1, -2 -> 1/4, -0.01 -> 0, 0 -> 1/2; zeros are grey, the page white, frames black.
    assert values == {0.0, 0.25, 0.5, 1.0}


@pytest.mark.parametrize("shape", [(3, 3, 3, 32), (5, 5, 1, 6), (11, 11, 3, 97), (2, 3, 17, 14)])
def test_filters_of_any_shape(shape):
    kernel = RNG.normal(size=shape).astype(np.float32)
    canvas = filter_canvas(kernel)
    assert canvas.min() >= 0
    assert canvas.max() <= 1
    assert (canvas.ndim == 3 and canvas.shape[-1] == 3) == (shape[2] == 3)
    assert inside(figures.filters(kernel))


def test_save_writes_a_png_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "figure.png"
    for epochs in (1, 2):
        figures.save(figures.training_curves(history(epochs)), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert list(path.parent.iterdir()) == [path]


def test_save_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    figure = figures.training_curves(history(1))
    figures.save(figure, path)
    old = path.read_bytes()

    def break_off(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", break_off)
    with pytest.raises(RunError, match=r"figure\.png cannot be written: No space left"):
        figures.save(figure, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_to_array():
    array = figures.to_array(figures.training_curves(history(2)))
    assert array.dtype == np.uint8
    assert array.shape == (450, 900, 3)
    assert (array[0, 0] == 255).all()
    assert array.std() > 5


def test_a_sweep_with_one_complete_setting(tmp_path):
    """Its accuracy is both the lowest and the highest."""
    records = [
        {"setting": {"rate": rate}, "state": state, "value": 0.9, "std": None}
        for rate, state in ((1e-3, "complete"), (10.0, "diverged"))
    ]
    figure = figures.sweep(records, ["rate"])
    figures.save(figure, tmp_path / "sweep.png")  # warnings are errors
    assert all(axes.get_legend() is None for axes in figure.axes)  # it would lie on points
    assert (tmp_path / "sweep.png").stat().st_size > 10_000


def test_of_thousands_of_classes_the_most_confused_are_drawn():
    classes = 2000
    matrix = np.diag(np.full(classes, 10))
    confused = np.arange(100, 130)
    matrix[confused, np.roll(confused, 1)] = 5
    names = [f"class {i}" for i in range(classes)]
    figure = figures.confusion_matrix(matrix, names)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [names[i] for i in confused]
    assert axes.get_title() == (
        "Accuracy 99.3% on 20,150 examples\nthe 30 most confused of 2,000 classes"
    )
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares[0, 0] == pytest.approx(10 / 15)


def test_of_thousands_of_classes_the_largest_and_the_smallest_are_drawn():
    counts = {"train": np.arange(2000), "test": np.ones(2000, int)}
    figure = figures.class_counts(counts, [f"class {i}" for i in range(2000)])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 30
    assert (names[0], names[-1]) == ("class 1999", "class 0")
    assert figure.axes[0].get_title() == "train: 1,999,000"
    assert figure.get_figheight() < 10


def test_rows_of_augmented_images_have_their_names():
    rows = {"as stored": np.zeros((3, 4, 6, 1), np.uint8), "a" * 60: np.full((3, 4, 6, 1), 9)}
    figure = figures.augmented(rows, "two rows")
    (axes,) = figure.axes
    assert [len(axes.images), axes.texts[0].get_text()] == [6, "as stored"]
    assert len(axes.texts[1].get_text()) < 30
    left, right, bottom, top = axes.images[3].get_extent()
    assert (right - left) == pytest.approx(1.5 * (bottom - top))
    assert axes.get_ylim()[0] == pytest.approx(figure.get_size_inches()[1])
