import gzip
import json

import pytest

from cnn_jax import experiment
from cnn_jax.cli import flags
from cnn_jax.errors import UsageError
from cnn_jax.runs import checkpoints
from cnn_jax.training import start

CONFIG = experiment.Experiment(
    dataset=experiment.Dataset(batch_size=32),
    model=experiment.Model(name="mlp"),
    train=experiment.Train(epochs=1),
    checkpoint=experiment.Checkpoint(every_steps=4),
    logging=experiment.Logging(figures_every=None, projector_images=0),
)


def train(digits, path, steps, config=CONFIG):
    """Returns the steps of each trace that the run directory holds after training."""
    start.train(config, digits, workdir=path, say=print, profile_steps=steps)
    traces = []
    for file in sorted((path / "plugins" / "profile").glob("*/perfetto_trace.json.gz")):
        assert list(file.parent.glob("*.xplane.pb"))  # what TensorBoard's plugin reads
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        marks = [event for event in events if event.get("name") == "train"]
        traces.append([int(mark["args"]["step_num"]) for mark in marks])
    return traces


def test_the_steps_asked_for_are_traced_and_no_others(digits, tmp_path, capsys):
    assert train(digits, tmp_path, (3, 5)) == [[3, 4, 5]]
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("profile")]
    assert "steps 3 to 5" in line
    assert str(next((tmp_path / "plugins" / "profile").iterdir())) in line
    assert "perfetto" in line


def test_a_resumed_run_traces_what_is_left_and_says_when_nothing_is(
    digits, tmp_path, capsys, monkeypatch
):
    class Killed(BaseException):
        pass

    save = checkpoints.Checkpoints.save

    def save_and_die(*arguments):
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            train(digits, tmp_path, None)
        with pytest.raises(Killed):  # to step 8
            assert train(digits, tmp_path, (1, 4)) == []
    assert "no trace: the run goes on at step 5" in capsys.readouterr().out
    assert train(digits, tmp_path, (7, 9)) == [[9]]
    assert "steps 9 to 9" in capsys.readouterr().out


def test_steps_that_the_run_has_not_are_refused(digits, tmp_path):
    with pytest.raises(UsageError, match="steps 4 to 11 cannot be traced: the run has 10 steps"):
        train(digits, tmp_path, (4, 11))


@pytest.mark.parametrize("text", ["0:3", "5:3", "x", "3", "3:", "-1:2", "1:2:3"])
def test_what_are_no_steps_is_refused(text):
    with pytest.raises(UsageError, match=r"such as 10:15"):
        flags.parse([f"--profile={text}"])


def test_only_train_takes_it():
    assert flags.parse(["--profile=3:5"]).profile == (3, 5)
    with pytest.raises(UsageError, match="belongs to train"):
        flags.parse(["sweep", "--profile=3:5"])
