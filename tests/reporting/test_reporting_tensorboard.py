import io
import logging
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.util import tensor_util

from cnn_jax import experiment
from cnn_jax.reporting.tensorboard import EventWriter, write_sweep

SETTINGS = experiment.flatten(experiment.Experiment())
# Classes of protocol buffers exist at run time only, so for a type checker they are Any.
API: Any = api_pb2
PLUGIN_DATA: Any = plugin_data_pb2


def read(run_dir: Path) -> event_accumulator.EventAccumulator:
    sizes = {"scalars": 0, "images": 0, "tensors": 0}
    return event_accumulator.EventAccumulator(str(run_dir), size_guidance=sizes).Reload()


def steps(run_dir: Path, tag: str) -> list[int]:
    """Returns the steps of a curve, after asking both of TensorBoard's readers."""
    reader = plugin_event_accumulator.EventAccumulator(str(run_dir))
    found = [event.step for event in reader.Reload().Tensors(tag)]
    assert [event.step for event in read(run_dir).Scalars(tag)] == found
    return found


def plugin_data(run_dir: Path, name: str) -> Any:
    """Returns the data that TensorBoard's HPARAMS table reads under `_hparams_/name`."""
    tag = f"_hparams_/{name}"
    reader = read(run_dir)
    if tag not in reader.PluginTagToContent("hparams"):
        return None
    data = PLUGIN_DATA.HParamsPluginData.FromString(reader.PluginTagToContent("hparams")[tag])
    return getattr(data, name)


@pytest.fixture(autouse=True)
def quiet_reader(caplog):
    # The reader logs each purge as a warning; the writer must log nothing at all.
    caplog.set_level(logging.ERROR, logger="tensorboard")


def test_scalars_keep_step_tag_and_value(tmp_path):
    with EventWriter(tmp_path, SETTINGS) as writer:
        writer.scalars(10, {"train/loss": 2.5, "train/accuracy": np.float32(0.25)})
        writer.scalars(20, {"train/loss": jnp.float32(1.5), "validation/loss": 1})
    reader = read(tmp_path)
    assert set(reader.Tags()["scalars"]) == {"train/loss", "train/accuracy", "validation/loss"}
    points = [(event.step, event.value) for event in reader.Scalars("train/loss")]
    assert points == [(10, 2.5), (20, 1.5)]
    assert reader.Scalars("train/accuracy")[0].value == 0.25


def test_values_that_are_not_finite_survive_in_silence(tmp_path, caplog):
    with EventWriter(tmp_path, SETTINGS) as writer:
        writer.scalars(1, {"loss": math.nan})
        writer.scalars(2, {"loss": math.inf})
        assert not caplog.records
    values = [event.value for event in read(tmp_path).Scalars("loss")]
    assert math.isnan(values[0])
    assert values[1] == math.inf


def test_a_value_that_nobody_knows_is_left_out(tmp_path):
    with EventWriter(tmp_path, SETTINGS) as writer:
        writer.scalars(1, {"train/loss": 2.0, "train/learning_rate": None})
        writer.scalars(2, {"train/learning_rate": None})
    assert read(tmp_path).Tags()["scalars"] == ["train/loss"]


def test_figures_and_text(tmp_path):
    with EventWriter(tmp_path, SETTINGS) as writer:
        writer.figure(7, "figures/blank", Figure(figsize=(2, 1), facecolor="red"))
        writer.text(7, "configuration", "a **b**")
    reader = read(tmp_path)
    (event,) = reader.Images("figures/blank")
    assert (event.step, event.width, event.height) == (7, 200, 100)
    with Image.open(io.BytesIO(event.encoded_image_string)) as image:
        assert image.getpixel((50, 50)) == (255, 0, 0)
    (text,) = reader.Tensors("configuration/text_summary")
    assert text.tensor_proto.string_val == [b"a **b**"]


def test_flush_puts_points_on_disk(tmp_path):
    writer = EventWriter(tmp_path, SETTINGS)
    writer.scalars(1, {"loss": 1.0})
    writer.flush()
    assert steps(tmp_path, "loss") == [1]
    writer.close("interrupted")


def test_a_resumed_run_has_one_point_a_step(tmp_path):
    first = EventWriter(tmp_path, SETTINGS)
    for step in range(10, 100, 10):
        first.scalars(step, {"loss": 1.0, "only/early": 1.0})
    first.close("interrupted")
    second = EventWriter(tmp_path, SETTINGS, resume_step=50)
    for step in range(60, 120, 10):
        second.scalars(step, {"loss": 2.0})
    second.close("interrupted")
    with EventWriter(tmp_path, SETTINGS, resume_step=110) as third:
        third.scalars(120, {"loss": 3.0})
    assert steps(tmp_path, "loss") == list(range(10, 130, 10))
    values = [event.value for event in read(tmp_path).Scalars("loss")]
    assert values == [1.0] * 5 + [2.0] * 6 + [3.0]
    # The curve of a tag that the resumed run does not write is cut as well.
    assert steps(tmp_path, "only/early") == [10, 20, 30, 40, 50]


def test_a_file_cut_short_by_a_kill_does_not_hide_what_follows(tmp_path):
    first = EventWriter(tmp_path, SETTINGS)
    first.scalars(10, {"loss": 1.0})
    first.scalars(20, {"loss": 1.0})
    first.close("interrupted")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    with EventWriter(tmp_path, SETTINGS, resume_step=10) as second:
        second.scalars(20, {"loss": 2.0})
    assert steps(tmp_path, "loss") == [10, 20]


def test_a_fresh_run_hides_the_points_of_an_old_one(tmp_path):
    for step in (10, 5):
        with EventWriter(tmp_path, SETTINGS) as writer:
            writer.scalars(step, {"loss": 1.0})
    assert steps(tmp_path, "loss") == [5]


def test_every_hyperparameter_is_there_from_the_start(tmp_path):
    odd = {"a.list": [1, 2], "a.float32": np.float32(0.5), "a.nan": math.nan, "a.int": np.int64(3)}
    writer = EventWriter(tmp_path, SETTINGS | odd)
    start = plugin_data(tmp_path, "session_start_info").hparams
    writer.close("interrupted")
    assert set(start) == set(SETTINGS) | set(odd)
    assert start["optimizer.clip_norm"].string_value == "none"
    assert start["optimizer.learning_rate"].number_value == 1e-3
    assert start["dataset.flip"].WhichOneof("kind") == "bool_value"
    assert start["dataset.name"].string_value == "digits"
    assert start["a.list"].string_value == "[1, 2]"
    assert start["a.float32"].number_value == 0.5
    assert start["a.nan"].string_value == "nan"
    assert start["a.int"].number_value == 3
    table = plugin_data(tmp_path, "experiment")
    assert {info.name for info in table.hparam_infos} == set(start)
    metrics = {info.name.tag for info in table.metric_infos}
    assert metrics == {"validation/accuracy", "validation/loss"}
    # In the run's own file, not in a run beside it.
    assert len(list(tmp_path.rglob("*"))) == 1


def test_the_description_of_a_sweep_stands_in_for_those_of_its_runs(tmp_path):
    run_dir = tmp_path / "trials" / "0000" / "seed0"
    EventWriter(run_dir, SETTINGS, group="one").close()
    assert plugin_data(run_dir, "session_start_info").group_name == "one"
    first = ["train.epochs", "dataset.name"]
    EventWriter(tmp_path / "alone", SETTINGS, first=first).close()
    for _ in range(2):  # a sweep that goes on has one already
        write_sweep(tmp_path, SETTINGS, first)
    for directory in (tmp_path, tmp_path / "alone"):
        infos = plugin_data(directory, "experiment").hparam_infos
        assert {info.name for info in infos} == set(SETTINGS)
        assert {info.name for info in infos if info.differs} == set(first)
    assert plugin_data(tmp_path, "session_start_info") is None
    assert plugin_data(tmp_path / "alone", "session_start_info").group_name == ""
    below = tmp_path / "trials" / "0001" / "seed0"
    EventWriter(below, SETTINGS).close()
    assert plugin_data(below, "experiment") is None
    assert set(plugin_data(below, "session_start_info").hparams) == set(SETTINGS)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("finished", "STATUS_SUCCESS"), ("diverged", "STATUS_FAILURE"), ("interrupted", None)],
)
def test_the_status_of_a_session(tmp_path, status, expected):
    writer = EventWriter(tmp_path, SETTINGS)
    writer.close(status)
    writer.close("finished")
    end = plugin_data(tmp_path, "session_end_info")
    assert (end and API.Status.Name(end.status)) == expected


def test_a_run_interrupted_and_resumed_ends_as_a_success(tmp_path):
    with pytest.raises(KeyboardInterrupt), EventWriter(tmp_path, SETTINGS):
        raise KeyboardInterrupt
    assert plugin_data(tmp_path, "session_end_info") is None
    with EventWriter(tmp_path, SETTINGS, resume_step=3):
        pass
    assert API.Status.Name(plugin_data(tmp_path, "session_end_info").status) == "STATUS_SUCCESS"
    assert plugin_data(tmp_path, "session_start_info").hparams["seed"].number_value == 0


def test_a_closed_writer_refuses(tmp_path):
    writer = EventWriter(tmp_path, SETTINGS)
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.scalars(1, {"loss": 1.0})


def test_a_precision_recall_curve_goes_to_its_own_tab(tmp_path):
    positive, scores = np.array([True, False, True, False]), np.array([0.9, 0.6, 0.4, 0.1])
    with EventWriter(tmp_path, SETTINGS) as writer:
        writer.precision_recall(3, "validation/cat", positive, scores.astype(np.float32))
    found = read(tmp_path)
    assert found.PluginTagToContent("pr_curves").keys() == {"validation/cat"}
    (event,) = found.Tensors("validation/cat")
    rows = tensor_util.make_ndarray(event.tensor_proto)  # true, false, ... precision, recall
    assert (event.step, rows.shape) == (3, (6, 127))
    half = 127 // 2
    assert rows[:4, half].tolist() == [1, 1, 1, 1]
    assert rows[4:, half].tolist() == [0.5, 0.5]
