"""One page of a run or a sweep: what is on it, that it loads nothing, that it stays small."""

import html.parser
import re

import pytest

from cnn_jax import experiment
from cnn_jax.cli import flags, report
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.reporting import charts
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import report_parts
from tests.tiny import data_json

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1350).to_bytes(4, "big") + bytes(1000)


class Reader(html.parser.HTMLParser):
    """Collects addresses and checks that every element is closed."""

    VOID = ("meta", "link", "img", "line", "circle", "polyline")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def finished(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.write("config", experiment.to_dict(Experiment(name="digits_lenet")))
    directory.write("data", data_json(name="made <b>", notes=["a note & more"]))
    keys = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
    directory.write(
        "history", [{"epoch": i, "seconds": 2.0 * i, **dict.fromkeys(keys, i / 5)} for i in (1, 2)]
    )
    recorder.set_status(directory, "finished")
    record = {
        "accuracy": 0.75,
        "loss": 0.5,
        "examples": 4,
        "checkpoint_step": 9,
        "class_names": ["cat", "<script>"],
        "confusion_matrix": [[2, 0], [1, 1]],
        "per_class_accuracy": [1.0, 0.5],
    }
    recorder.update_result(directory, "evaluation", {"test": record})
    directory.figures.mkdir()
    for name in ("training_curves", "zebra", "data_images"):
        (directory.figures / f"{name}.png").write_bytes(PNG)
    return directory


def written(directory, capsys, *more):
    assert report.run_command(flags.parse(["report", str(directory.path), *more])) == 0
    return capsys.readouterr().out


def test_a_run_is_one_file_that_loads_nothing(finished, capsys, tmp_path):
    output = tmp_path / "new" / "page.html"
    assert str(output) in written(finished, capsys, f"--output={output}")
    text = output.read_text()
    reader = Reader(text)
    assert reader.addresses
    assert all(address.startswith("data:") for address in reader.addresses)
    assert reader.tags.count("img") == 2  # the curves are drawn once
    assert reader.tags.count("svg") == 2
    assert 'style="min-width: 594px"' in text  # 9 inches
    assert "made &lt;b&gt;" in text
    assert "&lt;script&gt;" in text
    assert reader.tags.count("script") == 1
    assert "0.7500" in text  # the accuracy on test
    captions = re.findall("<figcaption>([^<]*)</figcaption></figure>", text)
    assert captions[-2:] == ["data images", "zebra"]
    assert "best epoch: 2 (0.4000)" in text
    assert "digits" in text
    # The size of the test split, which training does not open, and the classes of every split.
    assert "made &lt;b&gt; 1: train 10, validation 5, test 4 images of 8 x 8 x 1." in text
    rows = re.findall(r"<tr><td>(\w+)</td>" + r"<td[^>]*>(\d+)</td>" * 3 + "</tr>", text)
    assert rows == [("cat", "5", "2", "2"), ("dog", "5", "3", "2")]
    assert "Always saying cat, the largest class, would have 0.5000." in text
    assert "test accuracy, step 9, 4 images" in text


def test_without_images_nothing_of_files_is_shown(finished, capsys):
    config = experiment.replace(
        Experiment(name="/secret/preset.py"),
        {"dataset.name": "folder", "dataset.path": "secret", "transfer.weights": "secret.h5"},
    )
    finished.write("config", experiment.to_dict(config))
    finished.write("data", data_json(name="made", notes=["secret.png twice"]))
    words = "/secret/launch.py train --workdir secret --dataset.path=secret --config=/secret/a.py"
    start = {
        "command": ["/secret/python3", *words.split(), "--seed=1"],
        "packages": {"jax": "1"},
        **dict.fromkeys(("python", "platform", "processor", "git_commit"), "?"),
        "cores": 2,
    }
    finished.write("environment", [start])
    for name in ("test_predictions", "validation_confusion_matrix", "data_classes"):
        (finished.figures / f"{name}.png").write_bytes(PNG)
    written(finished, capsys, "--noimages")
    text = (finished.path / "report.html").read_text()
    assert "secret" not in text
    assert re.findall("<figcaption>([^<:]*)</figcaption></figure>", text) == [
        "validation confusion matrix",
        "data classes",
    ]
    assert "left out (--noimages)" in text
    assert "launch.py train --workdir LEFT-OUT --dataset.path=LEFT-OUT" in text
    assert "--seed=1" in text
    written(finished, capsys)
    text = (finished.path / "report.html").read_text()
    assert text.count("secret") > 5
    assert "--noimages" not in text


def test_validation_and_test_are_of_one_checkpoint(finished, capsys):
    keys = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
    history = [
        {"epoch": i, "step": 9 * i, "seconds": 1.0, **dict.fromkeys(keys, 0.9 - i / 10)}
        for i in (1, 2)
    ]
    finished.write("history", history)
    record = {**finished.read("result")["evaluation"]["test"], "checkpoint_step": 18}
    recorder.add_evaluation(finished, "test", {**record, "accuracy": 0.5})
    written(finished, capsys)
    text = (finished.path / "report.html").read_text()
    cards = dict(re.findall(r'<div class="card"><b>([^<]*)</b>([^<]*)</div>', text))
    assert cards["0.8000"] == "best validation accuracy, step 9"
    assert cards["0.7500"] == "test accuracy, step 9, 4 images"
    assert cards["0.7000"] == "validation accuracy, last epoch, step 18"
    assert "Other checkpoints" in text
    # A test of another checkpoint than the best stands beside the validation of that one.
    record = {**record, "checkpoint_step": 18}
    recorder.update_result(finished, "evaluation", {"test": {**record, "accuracy": 0.25}})
    written(finished, capsys)
    text = (finished.path / "report.html").read_text()
    cards = dict(re.findall(r'<div class="card"><b>([^<]*)</b>([^<]*)</div>', text))
    assert cards["0.7000"] == "validation accuracy, step 18"
    assert cards["0.2500"] == "test accuracy, step 18, 4 images"


def test_the_commands_are_those_that_said_something(finished, capsys):
    starts = []
    for words in ("--config=a --seed=1", "--workdir=r", "--workdir=r --train.epochs=9"):
        start = {
            "command": ["/usr/bin/python3", "launch.py", "train", *words.split()],
            "packages": {"jax": "1"},
            **dict.fromkeys(("python", "platform", "processor", "git_commit"), "?"),
            "cores": 2,
        }
        starts.append(start)
    finished.write("environment", starts)
    written(finished, capsys)
    text = (finished.path / "report.html").read_text()
    assert "launch.py train --config=a --seed=1\n" in text
    assert "launch.py train --workdir=r --train.epochs=9" in text
    assert "launch.py train --workdir=r\n" not in text
    assert "started 3 times" in text


@pytest.mark.parametrize(
    ("script", "typed"),
    [
        ("launch.py", "python launch.py train --seed=1"),
        ("/lib/cnn_jax/__main__.py", "python -m cnn_jax train --seed=1"),
        ("/bin/cnn-jax", "cnn-jax train --seed=1"),
    ],
)
def test_a_command_is_shown_as_a_person_types_it(finished, capsys, script, typed):
    start = {
        "command": ["/usr/bin/python3", script, "train", "--seed=1"],
        "packages": {"jax": "1"},
        **dict.fromkeys(("python", "platform", "processor", "git_commit"), "?"),
        "cores": 2,
    }
    finished.write("environment", [start])
    written(finished, capsys)
    assert f"<pre>{typed}</pre>" in (finished.path / "report.html").read_text()


def test_a_run_whose_name_is_a_file_does_not_run_it(finished, capsys, tmp_path):
    code = tmp_path / "code.py"
    code.write_text("raise SystemExit(9)")
    finished.write("config", experiment.to_dict(Experiment(name=str(code))))
    written(finished, capsys)


def test_pictures_that_would_make_it_too_large_are_named(finished, capsys, monkeypatch):
    monkeypatch.setattr(report_parts, "MOST_BYTES", 65_000)
    (finished.figures / "zebra.png").write_bytes(PNG + bytes(40_000))
    written(finished, capsys)
    text = (finished.path / "report.html").read_text()
    assert "Left out for their size: zebra." in text
    assert len(text.encode()) < 65_000


def test_a_sweep_shows_every_setting_and_the_best_first(tmp_path, capsys, finished):
    directory = RunDirectory(tmp_path / "sweep")
    directory.path.mkdir()
    (directory.path / "trials").mkdir()
    finished.path.rename(directory.path / "trials" / "seed0")
    options = Sweep(space="optimizer.learning_rate=log(1e-4,1)", method="tpe")
    (directory.path / "trials" / "0002").mkdir()
    finished.path = (directory.path / "trials" / "seed0").rename(
        directory.path / "trials" / "0002" / "seed0"
    )
    plan = {
        "experiment": experiment.to_dict(Experiment(name="x")),
        "sweep": vars(options),
        "question": "Which <rate>?",
    }
    directory.write("plan", plan)
    states = [("complete", 0.7), ("pruned", None), ("complete", 0.9), ("diverged", None)]
    directory.write(
        "sweep",
        [
            {
                "place": f"000{i}",
                "setting": {"optimizer.learning_rate": 10.0**-i},
                "state": state,
                "value": value,
                "std": None,
                "epochs": 3,
                "seconds": 1.0,
            }
            for i, (state, value) in enumerate(states)
        ],
    )
    written(directory, capsys)
    text = (directory.path / "report.html").read_text()
    reader = Reader(text)
    assert "With one seed each" in text
    assert re.findall(r"<td[^>]*>(000\d)</td>", text) == ["0002", "0000", "0001", "0003"]
    assert reader.tags.count("circle") == 2 + 2  # two settings, and the best one's two epochs
    assert "0.9000" in text
    assert "Which &lt;rate&gt;?" in text
    plan["command"] = "python /secret/launch.py sweep --sweep.space='dataset.path=[secret/a]'"
    plan["sweep"] = {**vars(options), "space": "dataset.path=[secret/a,'secret/b']"}
    directory.write("plan", plan)
    written(directory, capsys, "--noimages")
    assert "secret" not in (directory.path / "report.html").read_text()
    assert "Training of the best" in text


def test_what_is_no_run_is_refused(tmp_path):
    for argument, message in ((tmp_path, "neither a run"), (tmp_path / "no", "no directory")):
        with pytest.raises(UsageError, match=message):
            report.run_command(flags.parse(["report", str(argument)]))
    with pytest.raises(UsageError, match=r"ends in \.html"):
        flags.parse(["report", "x", "--output=x.png"])
    with pytest.raises(UsageError, match="one directory"):
        flags.parse(["report", "x", "y"])


def test_values_that_are_no_numbers_have_places_of_their_own():
    points = [(value, 0.5, "") for value in ("mlp", None, True, "mlp", 0.25)]
    text = charts.scatter(points, "x", "y")
    found = re.findall(r'<circle cx="([\d.]+)"', text)
    assert len(found) == 5
    assert len(set(found)) == 4
    assert all(f">{name}</text>" in text for name in ("mlp", "none", "True", "0.25"))


def test_curves_with_gaps_and_without_values():
    assert charts.lines({"a": [float("nan")]}, "epoch", "loss") == ""
    text = charts.lines({"a": [1.0, float("nan"), 3.0, 2.0]}, "epoch", "loss")
    assert text.count("<circle") == 3
    assert text.count("<polyline") == 2


def test_a_curve_of_any_length_is_small_and_keeps_its_extremes():
    values = [0.5] * 10_000
    values[5000], values[5001] = 9.0, -9.0
    text = charts.lines({"train": values, "validation": values}, "epoch", "loss")
    assert len(text) < 80_000
    assert text.count("<circle") == 200
    top, bottom = 14.0, 274.0
    corners = re.findall('<polyline points="([^"]*)"', text)[0]
    heights = [float(y) for y in re.findall(r",([\d.]+)", corners)]
    assert (min(heights), max(heights)) == (top + 13.0, bottom - 13.0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15, 10_000])
def test_epochs_are_whole_numbers(count):
    text = charts.lines({"a": [0.3] * count}, "epoch", "loss")
    ticks = re.findall(r'hanging" text-anchor="\w+">([^<]*)<', text)
    assert ticks
    assert all(1 <= int(tick.replace(",", "")) <= count for tick in ticks)
    assert len(ticks) <= 6
