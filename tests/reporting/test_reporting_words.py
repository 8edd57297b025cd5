"""Names of any script in figures; a warning of Matplotlib's is an error here."""

import logging

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from cnn_jax.reporting import figures
from cnn_jax.reporting.figures import words

HOSTILE = [
    "パン",
    "naïve 猫",
    "$x^2$ a_b \\frac{",
    "_hidden",
    "קטן",
    "قط أسود",
    "e\u0301\u0302\u0323",
    "\U0001f600\U0001f431\u200d\ufe0f",
    "\x1b[2J\r\n\ttab",
    "\udcff\ud800",
    "",
    "long " * 60,
]


@pytest.fixture
def forget():
    """Fonts are looked for anew, in the test and after it."""
    caches = (words._drawable, words._is_usual, words._other_family, words._other_faces)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def test_what_no_font_has_is_written_as_its_code_point(monkeypatch, forget):
    own = matplotlib.get_data_path()
    bundled = [e for e in font_manager.fontManager.ttflist if e.fname.startswith(own)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", bundled)
    assert words.shorten("パン", 20) == r"\u30d1\u30f3"
    assert words.shorten("naïve 猫", 20) == r"naïve \u732b"
    assert words.shorten("a\x1b[2J\ud800", 20) == r"a\x1b[2J\ud800"
    # Neither a code point nor an accent is cut off its letter.
    assert words.shorten("パンパンパン", 20) == r"\u30d1\u30f3…\u30f3"
    assert words.shorten("x" * 20 + "e\u0323\u0302", 6) == "xxxx…ệ"


def test_a_font_that_has_the_character_is_used(monkeypatch, forget, tmp_path, caplog):
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "pa"])
    builder.setupCharacterMap({ord("パ"): "pa"})
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "pa": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "pa": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    entry = font_manager.FontEntry(str(tmp_path / "squares.ttf"), name="Squares", weight=400)
    monkeypatch.setattr(
        font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist, entry]
    )
    assert words.shorten("パ ン", 20) == r"パ \u30f3"
    assert words.style(["cat"])["fontfamily"] == list(matplotlib.rcParams["font.family"])
    assert words.style(["パ"], bold=True)["fontweight"] == "normal"  # it has no other
    image = np.zeros((2, 8, 8, 1), np.uint8)
    with caplog.at_level(logging.WARNING):
        figure = figures.prediction_grid(
            image, np.array([0, 0]), np.array([0, 1]), np.ones(2), ["パ", "cat"]
        )
        assert figure.axes[0].texts[0].get_fontfamily()[-1] == "Squares"
        figures.to_array(figure)
    assert not caplog.records


def test_names_that_would_look_the_same_are_told_apart():
    assert words.distinct(["species_0760", "cat", "species_1760"], 11) == [
        "…ecies_0760",
        "cat",
        "…ecies_1760",
    ]
    names = ["x" * 30, "cat", "x" * 31, *map(str, range(9))]
    assert words.distinct(names, 8)[:3] == ["0: xxx…x", "cat", "2: xxx…x"]


def test_wide_letters_and_names_have_room(tmp_path):
    names = ["W" * 40, "M" * 40]
    assert words.shorten(names[0], 11) == "WWWWW…W"
    matrix = np.array([[500_000, 3], [100_000, 99_999]])
    figure = figures.confusion_matrix(matrix, names)
    figures.to_array(figure)
    box = figure.axes[0].get_window_extent()
    assert box.width / figure.dpi > 2.5  # as large as with short names
    title = figure.axes[0].title.get_window_extent()
    assert title.x0 > 0
    assert title.x1 < figure.get_size_inches()[0] * figure.dpi


def test_of_a_large_image_fewer_pixels_are_drawn():
    figure = figures.image_grid(np.zeros((1, 2000, 1500, 3), np.uint8), np.array([0]), ["a"])
    pixels = figure.axes[0].images[0].get_array()
    assert pixels is not None
    assert pixels.shape == (500, 375, 3)


def test_every_figure_takes_every_name(tmp_path, caplog):
    count = len(HOSTILE)
    image = np.zeros((count, 4, 4, 3), np.uint8)
    labels = np.arange(count)
    drawn = [
        figures.image_grid(image, labels, HOSTILE, "title"),
        figures.prediction_grid(image, labels, labels[::-1], np.ones(count), HOSTILE, HOSTILE),
        figures.class_counts({"train": np.ones(count, int)}, HOSTILE),
        figures.confusion_matrix(np.eye(count, dtype=int), HOSTILE),
        figures.sweep(
            [
                {"setting": {"x$_": name}, "state": "complete", "value": 0.5, "std": None}
                for name in HOSTILE
            ],
            ["x$_"],
        ),
    ]
    with caplog.at_level(logging.WARNING):
        for i, figure in enumerate(drawn):
            figures.save(figure, tmp_path / f"{i}.png")
    assert not caplog.records
