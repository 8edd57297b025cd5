"""The figure of a comparison: a row a data set, a handful of panels, nothing over anything else."""

import itertools
import random

from cnn_jax.reporting import figures


def record(accuracy, setting, state="complete"):
    return {"setting": setting, "state": state, "value": accuracy, "std": 0.01, "name": "made"}


def compared(title, models, many=False):
    records = []
    for i, (model, rate) in enumerate(itertools.product(models, (1e-4, 1e-3, 0.1))):
        noise = (
            {f"other{k}": random.Random(f"{i} {k}").randrange(3) for k in range(9)} if many else {}
        )
        both = {"flip": i % 2 == 1, "crop": 4 * (i % 2)}
        accuracy = 0.5 + 0.05 * models.index(model) + i % 3 / 1000
        records.append(record(accuracy, {"model": model, "rate": rate} | both | noise))
    records.append(record(float("nan"), records[0]["setting"] | {"rate": 9.0}, "diverged"))
    return figures.Compared(title, records, list(records[0]["setting"]), largest_share=0.1)


def overlapping(figure):
    """Returns pairs of labels of ticks that stand over each other, slanted ones left out."""
    figures.to_array(figure)
    boxes = []
    for axes in figure.findobj(lambda artist: hasattr(artist, "get_xticklabels")):
        low, high = axes.get_ylim()
        boxes += [
            (label.get_text(), label.get_window_extent())
            for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]
            if label.get_text() and not label.get_rotation()
            # Matplotlib keeps labels of ticks beyond the ends.
            if min(low, high) <= label.get_position()[1] <= max(low, high)
        ]
    return [
        (a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)
    ]


def test_each_data_set_has_a_row_of_a_handful_of_panels():
    models = ["resnet18_cifar", "wide_resnet28_10", "densenet_bc100_12", "study_cnn_wide"]
    data_sets = [
        compared("cifar10", models, many=True),
        compared("folder /photographs/of/cats", ["vgg16", "resnet50"]),
    ]
    figure = figures.comparison(data_sets)
    rows = figure.subfigs
    assert [row.get_suptitle().split(":")[0] for row in rows] == [
        "cifar10",
        "folder /photographs/of/cats",
    ]
    labels = [[axes.get_xlabel() for axes in row.axes] for row in rows]
    assert [len(names) for names in labels] == [5, 4]
    assert labels[0][1] == "model"  # what explains most
    assert "flip\nwith crop" in labels[1]  # they change together
    assert "differ in 13 settings" in rows[0].get_suptitle()
    # No axes show two data sets.
    names = [label.get_text() for label in rows[1].axes[1].get_xticklabels()]
    assert names == ["resnet50", "vgg16"]
    assert not overlapping(figure)


def test_what_is_left_out_is_said():
    many = [compared(f"data{i}", ["a", "b"]) for i in range(8)]
    figure = figures.comparison(many)
    assert len(figure.subfigs) == 6
    assert figure.get_supxlabel() == "2 more data sets not drawn"
    one = figures.comparison([compared("data", [f"model{i:02}" for i in range(15)])])
    ranking, panel = one.subfigs[0].axes[:2]
    assert ranking.get_xlabel() == "validation accuracy (26 more are not listed)"
    names = [label.get_text() for label in panel.get_xticklabels()]
    assert len(names) == 10
    assert "6 others" in names
