"""Runs trained in one program against the same runs trained alone."""

import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from flax import traverse_util

from cnn_jax import build, data, experiment, run
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import evaluator
from cnn_jax.reporting import results
from cnn_jax.sweep import together
from cnn_jax.training import checkpoints, loop, steps

BASE = experiment.Experiment(
    dataset=experiment.Dataset(batch_size=32, train_examples=316, flip=True, crop_padding=1),
    model=experiment.Model(name="mlp", dropout_rate=0.2),
    optimizer=experiment.Optimizer(name="adamw", schedule="cosine", ema_decay=0.9),
    train=experiment.Train(epochs=2),
    logging=experiment.Logging(figures_every=None, projector_images=0),
)
CHANGES: list[dict] = [
    {"seed": 1},
    {"optimizer.learning_rate": 1e-2, "optimizer.weight_decay": 0.1},
    {"train.label_smoothing": 0.2, "model.dropout_rate": 0.5},
    {"model.dropout_rate": 0.0, "seed": 5},
]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):  # figures of the data, which take a second a run and are tested elsewhere
    monkeypatch.setattr(results, "write_data_figures", lambda *_: None)


def directories(path, count):
    return [run.RunDirectory(path / str(number)) for number in range(count)]


def outcome(directory):
    """Returns (history without times, {path: array} of the last checkpoint)."""
    history = [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in directory.read("history")
    ]
    variables, _ = checkpoints.load_variables(directory.checkpoints, "last")
    return history, traverse_util.flatten_dict(variables, sep="/")


def alone(config, directory):
    loaded = data.load(config.dataset)
    directory.create()
    assembly = build.assemble(config, loaded.info)
    loop.Trainer(config, loaded, assembly, None, directory, quiet=True).run()


def assert_same(one, other):
    for ours, theirs in zip(one[0], other[0], strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            np.testing.assert_allclose(value, theirs[key], rtol=1e-4, atol=1e-4)
    assert one[1].keys() == other[1].keys()
    for path, array in one[1].items():
        np.testing.assert_allclose(array, other[1][path], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_each_member_ends_with_what_it_comes_to_alone(tmp_path, model):
    base = experiment.replace(BASE, {"model.name": model})
    changes = CHANGES
    if model == "lenet5":  # convolutions, pooling and no dropout
        base = experiment.replace(
            base, {"model.dropout_rate": None, "dataset.image_size": 32, "train.epochs": 1}
        )
        changes = CHANGES[:2]
    configs = [experiment.replace(base, change) for change in changes]
    members = directories(tmp_path / "together", len(configs))
    began = time.monotonic()
    assert together.train(configs, members) == dict.fromkeys(members, "finished")
    last = [member.read("history")[-1]["seconds"] for member in members]
    assert max(last) < 1.5 * min(last)  # each has its share
    assert sum(last) < time.monotonic() - began
    results = []
    for config, member in zip(configs, members, strict=True):
        single = run.RunDirectory(tmp_path / "alone" / member.path.name)
        alone(config, single)
        results.append(outcome(single))
        assert_same(outcome(member), results[-1])
        assert member.config() == config
        assert member.read("result")["training"]["epochs"] == config.train.epochs
    assert len({str(history) for history, _ in results}) == len(configs)


def test_one_that_diverges_is_a_result_and_leaves_the_others_alone(tmp_path):
    changes: list[dict] = [{}, {"optimizer.learning_rate": 1e38}, {"seed": 2}]
    configs = [experiment.replace(BASE, change) for change in changes]
    members = directories(tmp_path, 3)
    status = together.train(configs, members)
    assert [status[member] for member in members] == ["finished", "diverged", "finished"]
    single = run.RunDirectory(tmp_path / "alone")
    alone(configs[2], single)
    assert_same(outcome(members[2]), outcome(single))


def test_interrupted_and_gone_on_with(tmp_path, monkeypatch):
    """The members have come to different steps when they go on, as after a kill."""
    configs = [experiment.replace(BASE, {"seed": seed}) for seed in range(3)]
    members = directories(tmp_path, 3)
    made = 0
    put = together.distributed.put

    def interrupting(*arguments):
        nonlocal made
        made += 1
        if made == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return put(*arguments)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(together.distributed, "put", interrupting)
    assert set(together.train(configs, members).values()) == {"interrupted"}
    monkeypatch.undo()
    alone(configs[1], members[1])
    steps = [member.read("status")["step"] for member in (members[0], members[2])]
    assert steps[0] == steps[1] < 20
    assert together.train(configs, members) == dict.fromkeys(members, "finished")
    single = run.RunDirectory(tmp_path / "alone")
    for config, member in zip(configs, members, strict=True):
        single = run.RunDirectory(tmp_path / "alone" / member.path.name)
        alone(config, single)
        assert_same(outcome(member), outcome(single))


def test_one_compilation_for_all_and_one_evaluation(tmp_path, monkeypatch):
    compiled, evaluated = [], []
    make, init = steps.make_train_step, evaluator.Evaluator.__init__

    def counting_step(*arguments):
        step = make(*arguments)

        def traced(*given):
            compiled.append(jax.tree.leaves(given)[0].shape)
            return step(*given)

        return traced

    def counting_evaluator(self, *arguments):
        evaluated.append(1)
        init(self, *arguments)

    monkeypatch.setattr(steps, "make_train_step", counting_step)
    monkeypatch.setattr(evaluator.Evaluator, "__init__", counting_evaluator)
    rates = [{"optimizer.learning_rate": rate} for rate in (1e-4, 1e-3, 1e-2, 1e-1)]
    configs = [experiment.replace(BASE, {**rate, "train.epochs": 1}) for rate in rates]
    together.train(configs, directories(tmp_path, 4))
    assert len(compiled) == len(evaluated) == 1


def test_what_cannot_be_trained_together_is_refused(tmp_path):
    configs = [BASE, experiment.replace(BASE, {"train.epochs": 3})]
    with pytest.raises(UsageError, match=r"may differ in optimizer\.learning_rate, .*, seed alone"):
        together.train(configs, directories(tmp_path, 2))
    none = experiment.replace(BASE, {"model.dropout_rate": None})
    assert together.alike(none) != together.alike(BASE)
    configs = [experiment.replace(BASE, {"transfer.unfreeze": "2:head", "transfer.freeze": "head"})]
    with pytest.raises(UsageError, match="from scratch"):
        together.train(configs, directories(tmp_path, 1))
