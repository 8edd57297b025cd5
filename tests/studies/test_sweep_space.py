"""The space of a sweep: its forms, its grids and samples, and what it refuses."""

import math

import pytest

from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset, Experiment, Optimizer
from cnn_jax.options import Sweep
from cnn_jax.studies.sweep import space

BASE = Experiment(optimizer=Optimizer(name="adamw"))
TEXT = (
    "optimizer.learning_rate=log(1e-4,1e-1,4) model.name=[lenet5, mlp] "
    "dataset.batch_size=int(16,64) optimizer.clip_norm=[none,1.0] dataset.flip=[true,false]"
)


def test_forms():
    rate, model, batch, clip, flip = space.parse(TEXT, BASE)
    assert rate == space.Dimension("optimizer.learning_rate", "log", 1e-4, 1e-1, 4)
    assert model.choices == ("lenet5", "mlp")
    assert (batch.low, batch.high, batch.kind) == (16, 64, "int")
    assert clip.choices == (None, 1.0)
    assert flip.choices == (True, False)


def test_a_grid_is_every_combination_in_order():
    dimensions = space.parse("optimizer.learning_rate=log(1e-4,1e-1,4) train.epochs=[1,2]", BASE)
    settings = space.grid(dimensions, BASE)
    assert [s["optimizer.learning_rate"] for s in settings[::2]] == [1e-4, 1e-3, 1e-2, 1e-1]
    assert [s["train.epochs"] for s in settings[:2]] == [1, 2]
    assert len(settings) == 8
    uniform = space.parse("optimizer.weight_decay=uniform(0,0.1,3)", BASE)
    assert [s["optimizer.weight_decay"] for s in space.grid(uniform, BASE)] == [0, 0.05, 0.1]
    whole = space.parse("train.epochs=int(1,3,5)", BASE)
    assert [s["train.epochs"] for s in space.grid(whole, BASE)] == [1, 2, 3]


def test_a_value_in_quotes_may_have_commas_and_brackets():
    text = """transfer.freeze=["stage1, stage2",none] dataset.path=['a [1], "b"', c]"""
    folder = Experiment(dataset=Dataset(name="folder", path="a"))
    freeze, path = space.parse(text, folder)
    assert freeze.choices == ("stage1, stage2", "none")
    assert path.choices == ('a [1], "b"', "c")


def test_samples_stay_inside_and_repeat_with_their_seed():
    dimensions = space.parse(TEXT, BASE)
    assert math.prod(dimension.size for dimension in dimensions) == math.inf
    settings = space.sample(dimensions, BASE, 200, seed=1)
    assert settings == space.sample(dimensions, BASE, 200, seed=1)
    assert settings != space.sample(dimensions, BASE, 200, seed=2)
    rates = sorted(s["optimizer.learning_rate"] for s in settings)
    assert 1e-4 <= rates[0] < rates[-1] <= 1e-1
    assert 2e-3 < rates[100] < 6e-3  # half of them below the geometric mean
    assert {s["dataset.batch_size"] for s in settings} <= set(range(16, 65))
    for path in ("model.name", "optimizer.clip_norm", "dataset.flip"):
        assert len({s[path] for s in settings}) == 2


def test_a_value_may_need_another_one_beside_it():
    adam = Experiment(optimizer=Optimizer(name="adam"))
    text = "optimizer.name=[adamw,sgd] optimizer.weight_decay=log(1e-5,1e-1,2)"
    assert len(space.grid(space.parse(text, adam), adam)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("optimizer.learning_rat=log(1e-4,1e-1)", "did you mean optimizer.learning_rate"),
        ("optimizer.learning_rate=log(1e-1,1e-4)", "LOW must be below HIGH"),
        ("optimizer.learning_rate=log(0,1)", "must start above 0"),
        ("optimizer.learning_rate=log(1e-4)", "takes two numbers"),
        ("optimizer.learning_rate=log(a,b)", "takes two numbers"),
        ("optimizer.learning_rate=log(1e-4,inf)", "finite"),
        ("optimizer.learning_rate=log(1e-4,1,1)", "at least 2"),
        ("optimizer.learning_rate=log(1e-4,1,inf)", "perhaps the points"),
        ("optimizer.learning_rate=[1e-3,inf]", "finite number"),
        ("optimizer.learning_rate=1e-3", "is not NAME="),
        ("optimizer.learning_rate=[abc]", "takes float"),
        ("optimizer.learning_rate=[]", "is empty"),
        ("dataset.path=['a]", "is not NAME="),
        ("dataset.path=[a[1]]", "is not NAME="),
        ("optimizer.learning_rate=[0.1,0.1]", "twice"),
        ("optimizer.momentum=uniform(0,2)", "must be less than 1"),
        ("train.epochs=uniform(1,3)", "int(LOW,HIGH)"),
        ("train.epochs=int(1,2.5)", "whole"),
        ("model.name=uniform(0,1)", "takes str values"),
        ("optimizer.schedule=uniform(0,1)", "use optimizer.schedule=[constant"),
        ("optimizer.schedule=[cosin]", "is one of"),
        ("seed=[1,2]", "--sweep.seeds"),
        ("train.epochs=[1] train.epochs=[2]", "twice"),
        ("optimizer.name=[adam,adamw] optimizer.weight_decay=[0.1]", "has no effect with adam"),
        ("dataset.validation_split=[none,test]", "must not choose by the test split"),
        ("model.name=[study_cnn,lenet55]", "did you mean lenet5?"),
        ("model.width=[0.5,1.0]", "--model.width has no effect on lenet5"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(text, message):
    with pytest.raises(UsageError) as error:
        space.grid(space.parse(text, BASE), BASE)
    assert message in error.value.for_command_line
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_no_setting_is_drawn_twice(method):
    dimensions = space.parse("train.epochs=int(1,3) dataset.batch_size=[16,32]", BASE)
    drawn = space.sample(dimensions, BASE, 6, seed=0)
    assert len({tuple(setting.values()) for setting in drawn}) == 6
    with pytest.raises(UsageError, match=r"the space has 6 settings; give sweep\.method=grid"):
        space.planned(Sweep(method=method, trials=7), dimensions, BASE)


def test_a_range_of_few_numbers_is_not_drawn_from_for_ever():
    dimensions = space.parse("optimizer.weight_decay=uniform(0.1,0.100002)", BASE)
    with pytest.raises(UsageError, match="the space has hardly more than 3 settings"):
        space.sample(dimensions, BASE, 20, seed=0)


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_the_points_of_a_grid_belong_to_a_grid(method):
    dimensions = space.parse("optimizer.learning_rate=log(1e-4,1e-1,4)", BASE)
    options = Sweep(method=method)
    with pytest.raises(UsageError, match=r"\(0.0001,0.1,4\) has the points of a grid"):
        space.planned(options, dimensions, BASE)
    assert len(space.planned(Sweep(method="grid"), dimensions, BASE)) == 4


def test_paths_of_a_space_hold_in_another_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = """dataset.path=[a, "b, c", 'd "e"'] optimizer.learning_rate=log(1e-4,1e-1,4)"""
    found = space.with_absolute_paths(f"{text} transfer.weights=[imagenet,none,w.h5]")
    monkeypatch.chdir("/")
    base = Experiment(dataset=Dataset(name="folder", path="a"))
    path, rate, weights = space.parse(found, base)
    assert path.choices == (f"{tmp_path}/a", f"{tmp_path}/b, c", f'{tmp_path}/d "e"')
    assert (rate.low, rate.points) == (1e-4, 4)
    assert weights.choices == ("imagenet", None, f"{tmp_path}/w.h5")
    assert space.with_absolute_paths(found) == found
    assert space.with_absolute_paths("dataset.path=[a] nonsense").endswith("/a] nonsense")
    with pytest.raises(UsageError, match="only folders and files of this machine"):
        space.with_absolute_paths("dataset.path=[gs://bucket/a]")
