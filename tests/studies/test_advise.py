"""The command advise: its plan, its recommendation, and that it goes on where it was stopped."""

import dataclasses
import itertools
import json
import math
import re
import signal
import types
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import launch
from cnn_jax import data, experiment, files, models
from cnn_jax.assembly import assemble
from cnn_jax.cli import advise, flags
from cnn_jax.describe import layer_table
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer
from cnn_jax.options import STRATEGIES, Advise
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import advise as advise_study_command
from cnn_jax.studies import (
    advise_plan,
    advise_runs,
    advise_study,
    advise_time,
    collapse,
    comparison,
)
from cnn_jax.studies.advise_plan import Cost, Parts
from cnn_jax.studies.advise_time import Speed
from cnn_jax.studies.comparison import Cell
from cnn_jax.training import start
from cnn_jax.training.plan import make_plan
from cnn_jax.training.signals import Interrupted
from tests.tiny import ENTRY, data_json

STAGES = tuple(f"block{number}" for number in range(1, 6))
PARTS = Parts(STAGES, separate=True)
SETTINGS = (
    "--model.name=tiny",
    "--dataset.image_size=32",
    "--dataset.normalize=symmetric",
    "--dataset.batch_size=16",
    "--train.epochs=1",
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "tiny", ENTRY)


@pytest.fixture(scope="module")
def weights(places, digits, tmp_path_factory) -> Path:
    """The directory of a finished run."""
    del digits
    path = tmp_path_factory.mktemp("pretrained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.REGISTRY, "tiny", ENTRY)
        for name, value in places.items():
            patch.setenv(name, value)
        arguments = [*SETTINGS, "--dataset.train_examples=32", "--quiet"]
        arguments += ["--logging.figures_every=none", "--logging.projector_images=0"]
        assert launch.main(["train", f"--workdir={path}", *arguments]) == 0
    return path


def arguments(weights, *more):
    return ["advise", "--workdir=out", f"--transfer.weights={weights}", *SETTINGS, *more]


# The strategies.


def made(**settings):
    base = Experiment(
        dataset=Dataset(batch_size=8),
        model=Model(name="tiny"),
        transfer=Transfer(weights="imagenet", freeze="backbone", **settings.pop("transfer", {})),
        **settings,
    )
    info = data.DataInfo("made", "", ("a", "b"), (32, 32, 3), (0,) * 3, (1,) * 3, {}, {}, (), "")
    return base, info


def planned(config, info, images=20):
    return make_plan(config, assemble(config, info, {"preprocessing": "caffe"}), images)


@pytest.mark.parametrize(
    ("strategy", "frozen", "scales"),
    [
        ("head", STAGES, {"head": 1}),
        ("last_block", STAGES[:4], {"head": 1, "block5": 0.25}),
        ("last_two_blocks", STAGES[:3], {"head": 1, "block4": 0.25, "block5": 0.25}),
        ("everything", [], {"head": 1, **dict.fromkeys(STAGES, 0.25)}),
        ("scratch", [], {"head": 1, **dict.fromkeys(STAGES, 0.25)}),
    ],
)
def test_what_a_strategy_trains_and_at_which_rate(strategy, frozen, scales):
    base, info = made(
        transfer={"unfreeze": "2:block5", "lr_scale": "head:3"},
        optimizer=Optimizer(schedule="cosine", warmup_epochs=1),
        train=Train(epochs=4),
    )
    config = advise_plan.configure(base, strategy, PARTS, 0.25, epochs=8, images=20, seed=5)
    (phase,) = planned(config, info).phases
    assert phase.frozen_stages == len(frozen)
    found = {path.split("/")[-3 if "block" in path else 0]: g for path, g in phase.groups.items()}
    assert {name: group.lr_scale for name, group in found.items()} == scales
    assert (config.transfer.weights is None) == (strategy == "scratch")
    assert config.dataset.train_examples == 20
    assert (config.seed, config.train.epochs, config.optimizer.warmup_epochs) == (5, 8, 2)


def test_parameters_before_the_first_stage_are_frozen_too():
    base, _ = made()
    config = advise_plan.configure(base, "last_block", Parts(("a", "b+"), True), 0.1)
    pattern = f"(?:^|/)(?:{config.transfer.freeze})(?:/|$)"
    paths = ["backbone/stem/kernel", "backbone/a/kernel", "backbone/b+/kernel", "head/kernel"]
    assert [bool(re.search(pattern, path)) for path in paths] == [True, True, False, False]


def test_cached_views_are_left_out_where_nothing_is_frozen():
    base = Experiment(
        dataset=Dataset(flip=True),
        model=Model(name="tiny"),
        transfer=Transfer(weights="imagenet", freeze="backbone", cache_views=2),
    )
    assert advise_plan.configure(base, "head", PARTS, 0.1).transfer.cache_views == 2
    assert advise_plan.configure(base, "everything", PARTS, 0.1).transfer.cache_views == 0


def test_a_backbone_of_few_stages_has_fewer_strategies():
    everything = list(STRATEGIES)
    assert advise_plan.available(everything, PARTS) == (everything, [])
    kept, notes = advise_plan.available(everything, Parts(("",), True))
    assert kept == ["head", "everything", "scratch"]
    assert notes == [
        "last_block is left out: the backbone has 1 stage",
        "last_two_blocks is left out: the backbone has 1 stage",
    ]
    two = Parts(("a", "b"), True)
    assert advise_plan.available(["last_two_blocks"], two)[1][0].endswith("has 2 stages")


def test_a_module_in_one_part_can_be_trained_as_a_whole():
    kept, notes = advise_plan.available(list(STRATEGIES), Parts(("",), separate=False))
    assert kept == ["everything", "scratch"]
    assert len(notes) == 3
    base, _ = made()
    config = advise_plan.configure(base, "everything", Parts(("",), separate=False), 0.1)
    assert (config.transfer.freeze, config.transfer.lr_scale) == ("none", None)


# The budgets.


def test_what_a_run_costs():
    base, info = made()
    rows = layer_table.layer_table(planned(base, info).assembly.model, (32, 32, 3))
    blocks = [sum(r.flops for r in rows if f"/{name}/" in r.name) for name in STAGES]
    head = next(r.flops for r in rows if r.name == "head/logits")

    def cost(strategy, images=20, **changes):
        config = advise_plan.configure(base, strategy, PARTS, 0.1)
        config = experiment.replace(config, changes)
        return advise_plan.cost(planned(config, info, images), rows)

    # 20 images in batches of 8 are three steps of 8.
    assert cost("head") == Cost(20 * sum(blocks), 24 * 2 * head)
    assert cost("last_block") == Cost(20 * sum(blocks[:4]), 24 * (2 * blocks[4] + 3 * head))
    full = 3 * (sum(blocks) + head) - blocks[0]
    assert cost("everything") == cost("scratch") == Cost(0, 24 * full)
    # Nothing is cached with augmentation, unless views of it are.
    flipped = cost("head", **{"dataset.flip": True})
    assert flipped == Cost(0, 24 * (sum(blocks) + 2 * head))
    views = cost("head", **{"dataset.flip": True, "transfer.cache_views": 3})
    assert views == Cost(3 * 20 * sum(blocks), 24 * 2 * head)
    assert cost("head").of(10) == 20 * sum(blocks) + 480 * head


def test_epochs_within_a_budget():
    costs = {
        "head": Cost(once=100, epoch=1),
        "last_block": Cost(once=90, epoch=20),
        "everything": Cost(once=0, epoch=300),
        "half": Cost(once=0, epoch=45),
    }
    reference = costs["last_block"]
    assert advise_plan.plan_epochs(costs, reference, "epochs", 10) == dict.fromkeys(costs, 10)
    found = advise_plan.plan_epochs(costs, reference, "flops", 10)
    # 290 in all: many epochs of a head are cut off, one that is too dear is run nevertheless.
    assert found == {"head": 50, "last_block": 10, "everything": 1, "half": 6}
    assert Cost(10, 5).epochs_within(3, 9) == 1


# The comparison.


def cell(strategy, *accuracies, flops=100, diverged=0):
    return Cell(strategy, 500, 10, accuracies, diverged, flops, 1.0)


def test_a_difference_inside_the_noise_is_a_tie_and_the_cheaper_one_wins():
    cells = [
        cell("head", 0.95, 0.97, 0.96, flops=10),
        cell("last_block", 0.96, 0.98, 0.97, flops=50),
        cell("scratch", 0.50, 0.52, 0.51, flops=5),
    ]
    found = comparison.recommend(cells, 1000)
    assert found.strategy == "head"
    assert set(found.tied) == {"head", "last_block"}
    assert "a tie: head cannot be told from last_block" in found.text
    assert "scratch is 0.4600 behind, p = " in found.text


def test_a_difference_beyond_the_noise_decides():
    cells = [
        cell("head", 0.900, 0.902, 0.901, flops=10),
        cell("everything", 0.951, 0.950, 0.952, flops=900),
    ]
    found = comparison.recommend(cells, 1000)
    assert (found.strategy, found.tied) == ("everything", ("everything",))
    assert "more than the noise" in found.text
    assert "tie" not in found.text
    assert "±0.013" in found.text  # 1.96 sqrt(0.951 * 0.049 / 1000)


def test_one_seed_says_nothing_about_noise():
    found = comparison.recommend([cell("head", 0.9), cell("everything", 0.91, flops=900)], 100)
    assert found.strategy == "everything"
    assert "nothing can be said about noise" in found.text
    assert "p =" not in found.text
    equal = comparison.recommend([cell("everything", 0.9, flops=900), cell("head", 0.9)], 100)
    assert equal.strategy == "head"


def test_what_diverged_is_not_recommended():
    cells = [cell("head", 0.6, 0.61), cell("everything", 0.99, diverged=1)]
    found = comparison.recommend(cells, 100)
    assert found.strategy == "head"
    assert "Not compared: everything (diverged)." in found.text
    lost = comparison.recommend([cell("everything", diverged=2)], 100)
    assert lost.strategy is None
    assert cells[1].text == "0.9900 (1 diverged)"
    assert math.isnan(cell("everything", diverged=2).mean)
    assert cell("head", 0.5, 0.7).text == "0.6000 ± 0.1414"


# The command.


def test_from_the_flags_to_the_figure(main, weights, capsys, monkeypatch):
    monkeypatch.setattr(collapse, "has_collapsed", lambda *_: False)  # so few steps teach nothing
    options = ("--advise.strategies=head,last_block", "--advise.examples=20,40")
    more = (*options, "--advise.seeds=2", "--advise.budget=epochs")
    assert main(*arguments(weights, *more)) == 0
    out = capsys.readouterr().out
    assert "run 8 of 8: last_block, 40 images, 1 epoch, seed 1; about 0:" in out
    assert "recommended: " in out
    found = json.loads(Path("out/advise.json").read_text())
    (budget,) = found["budgets"].values()
    assert [(c["strategy"], c["images"]) for c in budget["cells"]] == [
        (strategy, images) for strategy in ("head", "last_block") for images in (20, 40)
    ]
    for summed in budget["cells"]:
        own = [
            files.read_json(Path("out") / one["run"] / "history.json")[-1]["validation_accuracy"]
            for one in found["runs"]
            if (one["strategy"], one["images"]) == (summed["strategy"], summed["images"])
        ]
        assert len(own) == 2
        assert summed["accuracies"] == own
        assert summed["mean"] == pytest.approx(np.mean(own))
        assert summed["std"] == pytest.approx(np.std(own, ddof=1))
        assert summed["flops"] > 0
        assert summed["seconds"] > 0
    assert budget["recommendation"]["strategy"] in ("head", "last_block")
    text = Path("out/advise.md").read_text()
    assert "| last_block | 40 | 1 |" in text
    assert budget["recommendation"]["text"] in text
    assert Path("out/figures/advise.png").read_bytes().startswith(b"\x89PNG")
    # The features of the validation split serve both sizes of the training set.
    head = files.read_json(Path("out/runs/head-20images-1epochs-seed0/result.json"))
    assert head["features"]["stages"] == 5
    assert head["probe"]["accuracy"] > 0
    events = EventAccumulator("out/runs/head-20images-1epochs-seed0").Reload()
    (point,) = events.Scalars("validation/probe_accuracy")
    assert point.step == 0
    assert point.value == pytest.approx(head["probe"]["accuracy"])
    # What is recommended can be trained as it is, and nothing is done twice.
    chosen = experiment.from_dict(files.read_json(Path("out/recommended.json")))
    assert chosen.dataset.train_examples is None
    assert chosen.transfer.weights == str(weights)
    times = {path: path.stat().st_mtime_ns for path in Path("out/runs").glob("*/history.json")}
    assert len(times) == 8
    assert main("advise", "--workdir=out", "--quiet") == 0
    assert times == {p: p.stat().st_mtime_ns for p in Path("out/runs").glob("*/history.json")}
    assert not list(Path("out/runs").glob("*/checkpoints"))
    assert "training run" not in capsys.readouterr().err


class FakeTraining:
    """Stands in for training: accuracies by strategy, and which run fails in which way."""

    def __init__(self, stop_at=None, diverges=(), fails=(), collapses=()):
        self.made: list[str] = []
        self.stop_at, self.diverges, self.fails = stop_at, diverges, fails
        self.collapses = collapses  # at the strategy's own rate

    def __call__(self, config, *, workdir):
        directory = RunDirectory(workdir)
        strategy = directory.path.name.partition("-")[0]
        assert directory.status() is None
        self.made.append(directory.path.name)
        if len(self.made) == self.stop_at:
            raise Interrupted(signal.SIGTERM, 3, 9)
        directory.create()
        directory.write("config", experiment.to_dict(config))
        if strategy in self.diverges or strategy in self.fails:
            status = "diverged" if strategy in self.diverges else "failed"
            recorder.set_status(directory, status)
            raise RunError("something was not finite")
        accuracy = {"head": 0.8, "scratch": 0.5}.get(strategy, 0.9) + config.seed / 1000
        collapsed = strategy in self.collapses and config.optimizer.learning_rate > 5e-4
        record = {
            "validation_accuracy": 0.2 if collapsed else accuracy,
            "never_predicted": [*range(9)] if collapsed else [],
            "seconds": 2.0,
        }
        directory.write("data", data_json(class_counts={"validation": [40, 60]}))
        directory.write("history", [record] * config.train.epochs)
        recorder.set_status(directory, "finished")


@pytest.fixture
def run(monkeypatch):
    """Runs `advise` with another function in place of training."""

    def run(arguments, train):
        monkeypatch.setattr(start, "train", train)
        speed = Speed(start=6.5, step=1.0, image=0.0, feature=0.0, save=0.0)
        speeds = {name: speed for name in STRATEGIES} | {"scratch": speed._replace(step=10.0)}
        monkeypatch.setattr(advise_time, "measure", lambda study: speeds)
        return advise.run_command(flags.parse(arguments))

    return run


@pytest.fixture
def here(main):
    """An empty folder, with the places of the tests."""
    return main


def test_a_killed_advise_goes_on_with_its_own_options(here, weights, run, capsys):
    options = ("--advise.examples=20,all", "--advise.seeds=2", "--seed=10")
    first = FakeTraining(stop_at=4)
    assert run(arguments(weights, *options), first) == 143
    assert "go on with all of them: " in capsys.readouterr().out
    second = FakeTraining()
    assert run(["advise", "--workdir=out"], second) == 0
    assert first.made[:3] + second.made == list(dict.fromkeys(first.made[:3] + second.made))
    found = json.loads(Path("out/advise.json").read_text())
    assert len(found["runs"]) == len(first.made) - 1 + len(second.made)
    assert {one["seed"] for one in found["runs"]} == {10, 11}
    assert {one["images"] for one in found["runs"]} == {20, 1293}
    assert set(found["budgets"]) == {"epochs", "flops"}
    # Equal epochs and equal FLOPs are the same run where they allow the same epochs.
    once = [one for one in found["runs"] if one["strategy"] == "last_block"]
    assert len(once) == 4
    more = FakeTraining()
    assert run(["advise", "--workdir=out", "--advise.seeds=3"], more) == 0
    assert {name.rpartition("seed")[2] for name in more.made} == {"12"}


def test_a_run_that_diverges_is_counted_and_not_repeated(here, weights, run, capsys):
    train = FakeTraining(diverges=("everything", "scratch"))
    options = ("--advise.examples=20", "--advise.seeds=2", "--advise.budget=epochs")
    assert run(arguments(weights, *options), train) == 0
    out = capsys.readouterr().out
    assert train.made[4:7] == [  # one seed is enough, and one more at a tenth of the rate
        "everything-20images-1epochs-seed0-rate0.1",
        "scratch-20images-1epochs-seed0",
        "scratch-20images-1epochs-seed0-rate0.1",
    ]
    assert "1 diverged" in out
    assert "everything (diverged), everything at 0.1 of the rate (diverged), scratch" in out
    again = FakeTraining()
    assert run(arguments(weights, *options), again) == 0
    assert again.made == []


def test_a_run_that_says_one_class_only_is_tried_at_a_tenth_of_its_rate(here, weights, run, capsys):
    train = FakeTraining(collapses=("last_block", "everything", "last_two_blocks"))
    options = ("--advise.examples=20", "--advise.seeds=2", "--advise.budget=epochs")
    assert run(arguments(weights, *options), train) == 0
    out = capsys.readouterr().out
    assert "tried once more, at a tenth of its learning rate" in out.partition("run 1 of")[0]
    assert "validation accuracy 0.2000, collapsed: says one class only" in out
    assert "everything is tried once more at a tenth of its learning rate" in out
    assert sum("last_block" in name for name in train.made) == 1 + 2
    table = out.partition("Equal epochs\n")[2]
    assert re.search(r"last_block  +20  +1  0\.2000 \(1 collapsed\)", table)
    assert re.search(r"last_block at 0\.1 of the rate  +20  +1  0\.9005 ± 0\.0007", table)
    assert re.search(r"largest class alone  +0\.1", table)
    assert "Not compared: last_block (collapsed: says one class only), " in table
    assert "recommended: last_block at 0.1 of the rate." in table
    chosen = experiment.from_dict(files.read_json(Path("out/recommended.json")))
    assert chosen.optimizer.learning_rate == pytest.approx(1e-4)
    again = FakeTraining()
    assert run(["advise", "--workdir=out"], again) == 0
    assert again.made == []


def test_what_is_no_better_than_the_largest_class_is_said():
    cells = [cell("head", 0.44, 0.46), cell("everything", 0.2, 0.2)]
    assert "no more than the share of the largest class, 0.4500" in (
        comparison.recommend(cells, 100, 0.45).text
    )
    assert "largest class" not in comparison.recommend(cells, 100, 0.4).text


def test_the_plan_and_an_estimate_come_first(here, weights, run, capsys):
    options = ("--advise.examples=32", "--advise.strategies=head,scratch", "--advise.seeds=2")
    options = (*options, "--advise.budget=epochs")
    assert run(arguments(weights, *options), FakeTraining()) == 0
    said = capsys.readouterr().out.partition("run 1 of 4: ")[0]
    # Of 32 images in batches of 16 an epoch is two steps, and a start takes 6.5 s and 1.5 s.
    assert re.search(r"head +32 +1 +2 +10\n", said)
    assert re.search(r"scratch +32 +1 +2 +28\n", said)
    assert "estimate   4 runs, about 0:01:16 in all" in said
    run(["advise", "--workdir=out", "--advise.seeds=3"], FakeTraining())
    assert "2 runs, after 4 that are trained already, about 0:00:38" in capsys.readouterr().out
    run(["advise", "--workdir=out"], FakeTraining())
    assert "estimate" not in capsys.readouterr().out  # nothing is left


@pytest.mark.parametrize(
    ("minutes", "fitted"),
    [
        ("2.4", ""),  # 114 s, and a tenth to be sure
        ("1.4", "2 seeds in place of 3"),
        ("1", "2 seeds in place of 3, 2 epochs in place of 4"),
        ("0.4", "without scratch"),
    ],
)
def test_a_plan_is_fitted_to_the_minutes(minutes, fitted):
    base, info = made(train=Train(epochs=4))
    images = np.zeros((8, 32, 32, 3), np.uint8)
    split = data.Split(images, np.zeros(8, np.int32), [""] * 8)
    info = dataclasses.replace(info, class_counts={"validation": [4, 4]})
    costs = {"head": Cost(0, 1), "everything": Cost(0, 2), "scratch": Cost(0, 3)}
    study = advise_study.Study(
        base=base,
        options=Advise(budget="epochs"),
        data=data.Data(info, {"train": split, "validation": split}),
        sizes=[8],
        parts=PARTS,
        strategies=list(costs),
        notes=[],
        costs={8: costs},
        references={8: costs["head"]},
        preset_epochs=4,
        forward_flops=1,
    )
    speed = Speed(start=0.0, step=0.5, image=0.0, feature=0.0, save=0.0)
    speeds = {"head": speed, "everything": speed, "scratch": speed._replace(step=7.0)}
    clock = advise_time.Clock(speeds)
    plan = advise_time.fit(study, clock, 60 * float(minutes), float(minutes))
    assert ", ".join(plan.given_up(study)) == fitted
    assert study.within(**plan.size) == plan
    with pytest.raises(UsageError, match=r"advise\.minutes=0\.1 is too short: the smallest"):
        advise_time.fit(study, clock, 6, 0.1)
    # What was trained corrects what is left.
    trials = plan.trials({})
    before = clock.seconds(plan, trials)
    clock.trained(plan, trials[0], 3 * clock.seconds(plan, trials[:1]), [])
    assert clock.seconds(plan, trials) == pytest.approx(2 * before)  # half the way to it


def test_a_fitted_plan_is_kept_and_time_that_runs_out_is_said(here, weights, run, capsys):
    options = ("--advise.examples=32", "--advise.strategies=head,scratch")
    options = (*options, "--advise.budget=epochs", "--advise.minutes=1.5")
    first = FakeTraining(stop_at=2)
    assert run(arguments(weights, *options), first) == 143
    said = capsys.readouterr().out
    assert "minutes    to fit into 1.5: 2 seeds in place of 3" in said
    second = FakeTraining()
    assert run(["advise", "--workdir=out"], second) == 0
    assert len({*first.made, *second.made}) == 4
    assert "To fit into 1.5 minutes: 2 seeds in place of 3." in Path("out/advise.md").read_text()
    # Another wish is another plan.
    assert run(["advise", "--workdir=out", "--advise.minutes=none"], more := FakeTraining()) == 0
    assert {name.rpartition("seed")[2] for name in more.made} == {"2"}


def test_no_seed_is_begun_for_which_no_time_is_left(here, weights, run, capsys, monkeypatch):
    clock = types.SimpleNamespace(monotonic=itertools.count(0, 9).__next__)  # 9 s between looks
    monkeypatch.setattr(advise_study_command, "time", clock)
    monkeypatch.setattr(advise_runs, "time", clock)
    options = ("--advise.examples=32", "--advise.strategies=head,scratch")
    options = (*options, "--advise.budget=epochs", "--advise.minutes=2")
    assert run(arguments(weights, *options), FakeTraining(collapses=("scratch",))) == 0
    out = capsys.readouterr().out
    assert "no time is left for another seed: 1 in place of more" in out
    assert {one["seed"] for one in json.loads(Path("out/advise.json").read_text())["runs"]} == {0}


def test_another_failure_ends_it(here, weights, run):
    with pytest.raises(RunError, match="not finite"):
        run(arguments(weights, "--advise.examples=20"), FakeTraining(fails=("head",)))


def test_what_is_refused_in_one_line(here, weights, run):
    def refused(*more):
        with pytest.raises(UsageError) as info:
            run(arguments(weights, *more), FakeTraining())
        assert "\n" not in str(info.value)
        return info.value.for_command_line

    assert "needs --transfer.weights" in refused("--transfer.weights=none")
    assert "1,293 images" in refused("--advise.examples=100,5000")
    assert "of 10 classes" in refused("--advise.examples=9,all")
    assert "directory of a training run" in refused(f"--workdir={weights}")
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    assert "holds other files (mine.txt)" in refused()


def test_only_a_part_of_the_data_is_all_of_it(here, weights, run):
    train = FakeTraining()
    options = ("--advise.examples=20,all", "--advise.seeds=1", "--dataset.train_examples=60")
    assert run(arguments(weights, *options), train) == 0
    assert {re.findall(r"(\d+)images", name)[0] for name in train.made} == {"20", "60"}
