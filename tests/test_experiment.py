import dataclasses
import json

import pytest

from cnn_jax import experiment, settings
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train
from cnn_jax.options import Advise, Sweep


def test_json_and_back_is_the_same_experiment():
    e = Experiment(
        name="x", seed=3, optimizer=Optimizer(clip_norm=0.5), model=Model(dropout_rate=0.2)
    )
    assert experiment.from_dict(json.loads(experiment.to_json(e))) == e


def test_missing_settings_take_their_defaults():
    assert experiment.from_dict({"seed": 4}) == Experiment(seed=4)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sed": 1}, "unknown setting sed"),
        ({"train": {"epoch": 1}}, "unknown setting train.epoch"),
        ({"train": 3}, "train must hold named values"),
        ({"train": {"epochs": "3"}}, "train.epochs takes int"),
        ({"train": {"epochs": True}}, "train.epochs takes int"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate must be more than 0"),
        ({"dataset": {"validation_fraction": 1.0}}, "must be less than 1"),
        ({"dataset": {"batch_size": 0}}, "must be at least 1"),
    ],
)
def test_illegal_settings_are_named(values, said):
    with pytest.raises(UsageError, match=said):
        experiment.from_dict(values)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"dataset": Dataset(path="x")}, "belongs to dataset.name=folder"),
        ({"dataset": Dataset(validation_fraction=0.5, test_fraction=0.5)}, "nothing to train on"),
        ({"dataset": Dataset(validation_split="train")}, "images trained on"),
        ({"optimizer": Optimizer(schedule="cosine", warmup_epochs=5)}, "less than train.epochs"),
        ({"optimizer": Optimizer(weight_decay=0.1)}, "no effect with adam"),
        ({"optimizer": Optimizer(warmup_epochs=1)}, "needs optimizer.schedule"),
        ({"optimizer": Optimizer(milestones="0.5")}, "milestones needs optimizer.schedule=step"),
        ({"train": Train(loss="binary_cross_entropy", label_smoothing=0.1)}, "label_smoothing"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(parts, said):
    with pytest.raises(UsageError, match=said):
        Experiment(**parts)


@pytest.mark.parametrize(
    "text", ["0.75,0.5", "0.5,0.5", "0,0.5", "0.5,1", "half", "", "0.5,", "nan"]
)
def test_milestones_that_are_no_ascending_shares_are_refused(text):
    with pytest.raises(UsageError, match="ascending shares of the run between 0 and 1"):
        Experiment(optimizer=Optimizer(schedule="step", milestones=text))


def test_milestones_have_a_default_and_belong_to_one_schedule():
    assert Optimizer(schedule="step").milestone_shares == (0.5, 0.75)
    assert Optimizer(schedule="step", milestones="0.3, 0.6,0.9").milestone_shares == (0.3, 0.6, 0.9)
    assert Optimizer(schedule="cosine").milestone_shares == ()


def test_replace_takes_dotted_paths_and_validates():
    e = experiment.replace(Experiment(), {"seed": 2, "optimizer.learning_rate": 0.1})
    assert (e.seed, e.optimizer.learning_rate) == (2, 0.1)
    with pytest.raises(UsageError):
        experiment.replace(e, {"optimizer.learning_rate": -1.0})


@pytest.mark.parametrize(
    ("changes", "warmup"),
    [
        ({"train.epochs": 1}, 0.2),
        ({"train.epochs": 2}, 0.4),
        ({"train.epochs": 3}, 2),
        ({"train.epochs": 20}, 2),
        ({"optimizer.schedule": "constant"}, 0),
        ({"train.epochs": 1, "optimizer.warmup_epochs": 0.5}, 0.5),
    ],
)
def test_a_warmup_gives_way_to_fewer_epochs(changes, warmup):
    e = Experiment(optimizer=Optimizer(schedule="cosine", warmup_epochs=2), train=Train(epochs=10))
    assert experiment.replace(e, changes).optimizer.warmup_epochs == pytest.approx(warmup)
    with pytest.raises(UsageError, match=r"warmup_epochs=3 must be less than train\.epochs=2"):
        experiment.replace(e, {"train.epochs": 2, "optimizer.warmup_epochs": 3})


def test_difference_names_what_changed():
    old = Experiment()
    new = experiment.replace(old, {"train.epochs": 9, "seed": 1})
    assert experiment.difference(old, new) == {"train.epochs": (5, 9), "seed": (0, 1)}


def test_every_setting_has_a_help_text_and_a_legal_default():
    for path, field in experiment.fields():
        assert field.metadata["help"], path
        assert field.default is not dataclasses.MISSING
        settings.check_value(path, field, field.default)


def test_every_number_has_a_highest_legal_value():
    everything = [
        *experiment.fields(),
        *settings.fields(Sweep, "sweep."),
        *settings.fields(Advise, "advise."),
    ]
    numbers = 0
    for path, field in everything:
        kind, *_ = settings.field_type(field)
        if kind not in (int, float):
            continue
        numbers += 1
        for value in (10**400, 2**64, -(10**400)) if kind is int else (10**400, 1e300, -1e300):
            with pytest.raises(UsageError, match=f"{path} must be "):
                settings.check_value(path, field, value)
        if kind is float:
            for value in (float("nan"), float("inf")):
                with pytest.raises(UsageError, match=f"{path} takes a finite number"):
                    settings.check_value(path, field, value)
            with pytest.raises(UsageError, match=f"{path} "):
                settings.check_value(path, field, 1e-300)
    assert numbers > 25


def test_runs_that_differ_in_seed_and_place_alone_share_a_setting():
    base = Experiment(name="a")
    same = {"seed": 5, "dataset.data_dir": "elsewhere", "logging.figures_every": None}
    assert experiment.setting_name(experiment.replace(base, same)) == experiment.setting_name(base)
    assert experiment.setting_name(base).startswith("a ")
    other = experiment.replace(base, {"optimizer.learning_rate": 0.5})
    assert experiment.setting_name(other) != experiment.setting_name(base)
