"""A real sweep in the real TensorBoard, by what it answers over HTTP."""

import json
import signal
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cnn_jax import experiment
from tests import browser

pytest.importorskip("optuna")
SETTINGS = (
    "--model.name=mlp",
    "--dataset.image_size=none",
    "--dataset.train_examples=316",
    "--optimizer.name=sgd",
    "--train.epochs=1",
    "--logging.projector_images=50",
    "--logging.figures_every=none",  # which take a second; those of the data are drawn once
    "--sweep.method=grid",
    "--sweep.seeds=2",
    # A rate at which the first update is the last one that is finite.
    "--sweep.space=optimizer.learning_rate=[0.1,1e38]",
)
RUNS = {"trials/0000/seed0", "trials/0000/seed1", "trials/0001/seed0"}
METRICS = ["validation/accuracy", "validation/loss"]


class Board(NamedTuple):
    sweep: Path
    address: str

    def ask(self, path: str, body: dict | None = None, **query: str) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.address}/data/{path}?{urllib.parse.urlencode(query)}"
        header = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(address, data, header), timeout=60
        ) as answer:
            return answer.read()

    def json(self, path: str, body: dict | None = None, **query: str):
        return json.loads(self.ask(path, body, **query))


@pytest.fixture(scope="module")
def board(cli, tmp_path_factory):
    base = tmp_path_factory.mktemp("tensorboard")
    result = cli("sweep", "--workdir=sweep", *SETTINGS, cwd=base)
    assert result.returncode == 0, result.stderr
    with browser.tensorboard(base / "sweep", base / "log") as address:
        made = Board(base / "sweep", address)
        browser.until(lambda: set(made.json("runs")) >= RUNS, "the runs")
        browser.until(lambda: len(groups(made)) == 2, "the groups")
        yield made


def groups(board):
    body = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE"],
        "colParams": [{"metric": {"tag": tag, "group": ""}} for tag in METRICS],
        "startIndex": 0,
        "sliceSize": 100,
        "aggregationType": "AGGREGATION_AVG",
    }
    found = board.json("plugin/hparams/session_groups", body)["sessionGroups"]
    return sorted(found, key=lambda group: group["hparams"]["optimizer.learning_rate"])


def history(board, run):
    return json.loads((board.sweep / run / "history.json").read_text())


def test_the_hparams_table_has_every_key_and_what_varies_comes_first(board):
    body = {"experimentName": "", "hparamsLimit": 0}
    table = board.json("plugin/hparams/experiment", body)
    keys = [info["name"] for info in table["hparamInfos"]]
    assert keys[0] == "optimizer.learning_rate"
    assert [info["name"] for info in table["hparamInfos"] if info["differs"]] == keys[:1]
    assert set(keys) == set(experiment.flatten(experiment.Experiment()))
    assert [info["name"]["tag"] for info in table["metricInfos"]] == METRICS
    for group in groups(board):
        assert set(group["hparams"]) == set(keys)


def test_the_seeds_of_a_setting_are_one_row_with_their_mean(board):
    good, bad = groups(board)
    assert good["name"].startswith("0000-sweep ")
    assert bad["name"].startswith("0001-sweep ")
    assert [session["name"] for session in good["sessions"]] == sorted(RUNS)[:2]
    assert {session["status"] for session in good["sessions"]} == {"STATUS_SUCCESS"}
    shown = {value["name"]["tag"]: value["value"] for value in good["metricValues"]}
    accuracies = [history(board, run)[-1]["validation_accuracy"] for run in sorted(RUNS)[:2]]
    assert shown["validation/accuracy"] == pytest.approx(np.mean(accuracies))


def test_a_diverged_trial_is_a_row_that_says_failure(board):
    bad = groups(board)[1]
    assert bad["hparams"]["optimizer.learning_rate"] == 1e38
    (session,) = bad["sessions"]
    assert (session["name"], session["status"]) == ("trials/0001/seed0", "STATUS_FAILURE")
    # It had no validation before it diverged, and nothing stands in its place.
    assert [m["value"] for m in bad["metricValues"]] in ([], ["NaN"])


def test_curves_images_and_texts(board):
    run = "trials/0000/seed0"
    tags = board.json("plugin/scalars/tags")[run]
    assert {"train/loss", "train/learning_rate", *METRICS} <= set(tags)
    points = board.json("plugin/scalars/scalars", run=run, tag="validation/accuracy")
    assert [point[1:] for point in points] == [
        [record["step"], pytest.approx(record["validation_accuracy"])]
        for record in history(board, run)
    ]
    images = board.json("plugin/images/tags")[run]
    assert set(images) == {"data/images", "data/classes"}
    texts = board.json("plugin/text/tags")[run]
    assert {"configuration/text_summary", "command/text_summary"} <= set(texts)
    (command,) = board.json("plugin/text/text", run=run, tag="command/text_summary")
    assert "cnn_jax" in command["text"]  # a sweep starts its runs by `python -m cnn_jax`
    assert " train --config=" in command["text"]


def test_the_projector_has_every_run_that_finished(board):
    runs = browser.until(lambda: board.json("plugin/projector/runs"), "the projector")
    assert set(runs) == set(sorted(RUNS)[:2])
    for run in runs:
        (info,) = board.json("plugin/projector/info", run=run)["embeddings"]
        where = {"run": run, "name": info["tensorName"]}
        count, units = info["tensorShape"]
        tensor = np.frombuffer(board.ask("plugin/projector/tensor", **where), np.float32)
        assert (count, tensor.size) == (50, 50 * units)
        assert np.isfinite(tensor).all()
        rows = board.ask("plugin/projector/metadata", **where).decode().splitlines()
        assert rows[0].split("\t") == ["id", "label", "predicted", "confidence", "outcome"]
        assert len(rows) == 51
        assert board.ask("plugin/projector/sprite_image", **where).startswith(b"\x89PNG")


def test_a_run_is_seen_while_it_trains_and_is_one_curve_once_resumed(board, start):
    run, tag = "live", "validation/accuracy"
    options = ["train", "--workdir=sweep/live", "--model.name=mlp", "--dataset.train_examples=316"]
    options += ["--logging.figures_every=none", "--logging.projector_images=0"]
    options += ["--train.epochs=5000", "--logging.every_steps=1"]

    def points(tag):
        shown = board.json("plugin/scalars/tags").get(run, {})
        return board.json("plugin/scalars/scalars", run=run, tag=tag) if tag in shown else []

    for number in (signal.SIGKILL, signal.SIGTERM):  # the first loses what is not yet saved
        seen = len(points(tag))
        process = start(*options, cwd=board.sweep.parent)
        try:
            browser.until(lambda seen=seen: len(points(tag)) > seen + 3, "points in training")
            assert process.poll() is None
        finally:
            process.send_signal(number)
            output = process.communicate(timeout=60)
    assert "resumed" in "".join(output)
    steps = [record["step"] for record in history(board, run)]
    browser.until(lambda: len(points(tag)) == len(steps), "the last of them")
    assert [point[1] for point in points(tag)] == steps
    written = [point[1] for point in points("train/loss")]
    assert written == list(range(1, len(written) + 1))
