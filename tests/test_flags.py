"""The command line: what is read from it, and what is said where it is wrong."""

import dataclasses
from pathlib import Path

import pytest

from cnn_jax import experiment, flags
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset, Experiment, Optimizer, Train
from cnn_jax.sweep import space

PRESET = '''"""How well does a tiny network do?

More about it.
"""

from cnn_jax.experiment import Dataset, Experiment, Train

EXPERIMENT = Experiment(dataset=Dataset(batch_size=50), train=Train(epochs=7))
'''


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    directory = tmp_path / "presets"
    directory.mkdir()
    (directory / "digits_lenet.py").write_text(PRESET)
    (directory / "cifar10_cnn.py").write_text(PRESET.replace("tiny", "small"))
    (directory / "__init__.py").write_text("")
    return directory


def refused(argv: list[str]) -> str:
    with pytest.raises(UsageError) as info:
        flags.parse(argv)
    message = str(info.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("--seed=3", "seed", 3),
        ("--dataset.name=cifar10", "dataset.name", "cifar10"),
        ("--dataset.batch_size=50", "dataset.batch_size", 50),
        ("-dataset.batch_size=50", "dataset.batch_size", 50),
        ("--optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("--optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("--optimizer.name=sgd", "optimizer.name", "sgd"),
        ("--dataset.image_size=none", "dataset.image_size", None),
        ("--dataset.image_size=None", "dataset.image_size", None),
        ("--optimizer.clip_norm=0.5", "optimizer.clip_norm", 0.5),
        ("--dataset.path=a=b c", "dataset.path", "a=b c"),
        ("--dataset.path=-odd", "dataset.path", "-odd"),
        ("--dataset.flip", "dataset.flip", True),
        ("--nodataset.flip", "dataset.flip", False),
        ("--dataset.flip=true", "dataset.flip", True),
        ("--dataset.flip=False", "dataset.flip", False),
        ("--dataset.flip=0", "dataset.flip", False),
    ],
)
def test_a_flag_is_read_with_its_type(text, path, value):
    overrides = flags.parse([text]).overrides
    assert overrides == {path: value}
    assert type(overrides[path]) is type(value)


@pytest.mark.parametrize(
    "path", [path for path, _ in experiment.fields() if path not in ("name", "dataset.name")]
)
def test_every_field_is_a_flag_that_takes_its_own_default(path):
    default = experiment.get(Experiment(), path)
    assert flags.parse([f"--{path}={default}"]).overrides == {path: default}


def test_only_what_was_given_is_overridden():
    assert flags.parse([]) == flags.Invocation()
    got = flags.parse(["--dataset.batch_size", "50", "train", "--train.epochs", "2"])
    assert got.overrides == {"dataset.batch_size": 50, "train.epochs": 2}
    # Given with the value that is the default: given all the same.
    assert flags.parse(["--train.epochs=5"]).overrides == {"train.epochs": 5}


def test_the_last_wins():
    assert flags.parse(["--seed=1", "--seed=2"]).overrides == {"seed": 2}
    got = flags.parse(["--dataset.flip", "--nodataset.flip"])
    assert got.overrides == {"dataset.flip": False}


def test_parsing_twice_keeps_nothing():
    flags.parse(["--seed=1", "--quiet"])
    assert flags.parse([]) == flags.Invocation()


def test_run_flags():
    got = flags.parse(
        [
            *("evaluate", "--config=x", "--workdir", "runs/a", "--quiet", "--platform=cpu"),
            *("--debug", "--split=validation", "--checkpoint=last"),
        ]
    )
    assert got == flags.Invocation(
        "evaluate",
        config="x",
        workdir="runs/a",
        quiet=True,
        debug=True,
        platform="cpu",
        split="validation",
        checkpoint="last",
    )
    assert flags.parse(["evaluate", "--checkpoint=1200"]).checkpoint == 1200
    assert flags.parse(["evaluate"]).checkpoint == "best"
    assert flags.parse(["evaluate", "--split=none", "--platform=none"]).split is None
    assert flags.parse(["predict", "a.png", "--format=json"]).format == "json"
    assert flags.parse(["--noquiet"]).quiet is False
    got = flags.parse(["describe", "--layers", "--output=a b.svg"])
    assert (got.layers, got.output) == (True, "a b.svg")
    assert flags.parse(["--workdir=none"]).workdir == "none"


def test_the_commands_and_their_arguments():
    assert [c.name for c in flags.COMMANDS] == [
        "train",
        "evaluate",
        "predict",
        "describe",
        "models",
        "advise",
        "compare",
        "report",
        "sweep",
    ]
    for command in ("train", "evaluate", "describe", "models", "advise"):
        assert flags.parse([command]).command == command
    got = flags.parse(["predict", "a.png", "--workdir=w", "b c.png", "--", "--odd.png"])
    assert got.command == "predict"
    assert got.arguments == ("a.png", "b c.png", "--odd.png")


def test_the_flags_of_advise_are_typed_and_belong_to_it_alone():
    got = flags.parse(["advise", "--advise.seeds=2", "--advise.examples=20,all", "--seed=3"])
    assert got.advise == {"seeds": 2, "examples": "20,all"}
    assert got.overrides == {"seed": 3}
    assert "belongs to advise, not to train" in refused(["--advise.seeds=2"])
    assert "at least 1" in refused(["advise", "--advise.seeds=0"])
    with pytest.raises(UsageError, match="100,500,all"):
        experiment.Advise(examples="20,")
    with pytest.raises(UsageError, match="takes some of head,"):
        experiment.Advise(strategies="a")
    assert "one of epochs,flops" in refused(["advise", "--advise.budget=hours"])


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["-h"],
        ["help"],
        ["train", "help"],
        ["train", "--help", "--nonsense=1"],
        ["--train.epochs=x", "-h"],
    ],
)
def test_help_is_found_anywhere(argv):
    assert flags.parse(argv).command == "help"


def test_a_file_called_like_help_after_the_dashes_is_no_call_for_help():
    assert flags.parse(["predict", "--", "-h"]).arguments == ("-h",)


def test_flagfile(tmp_path):
    nested = tmp_path / "nested"
    nested.write_text("--dataset.flip\n")
    file = tmp_path / "flags"
    file.write_text(f"# a comment\n\n--train.epochs=3\n--seed=1\n--flagfile={nested}\n")
    got = flags.parse([f"--flagfile={file}", "--seed=2"])
    assert got.overrides == {"train.epochs": 3, "seed": 2, "dataset.flip": True}
    assert flags.parse(["--seed=2", "--flagfile", str(file)]).overrides["seed"] == 1


@pytest.mark.parametrize(
    ("argument", "suggestion"),
    [
        ("--lr=1", "--optimizer.learning_rate?"),
        ("--learning_rate=1", "--optimizer.learning_rate?"),
        ("--learning-rate=1", "--optimizer.learning_rate?"),
        ("--learning_rat=1", "--optimizer.learning_rate?"),
        ("--optimizer.lr=1", "--optimizer.learning_rate?"),
        ("--optimiser.learning_rate=1", "--optimizer.learning_rate?"),
        ("--batch_size=1", "--dataset.batch_size?"),
        ("--train.batch_size=1", "--dataset.batch_size?"),
        ("--train.epoch=1", "--train.epochs?"),
        ("--epochs=1", "--train.epochs?"),
        ("--model=mlp", "--model.name?"),
        ("--dataset", "--dataset.name?"),
        ("--flip", "--dataset.flip?"),
        ("--noflip", "--dataset.flip?"),
        ("--nodataset.flp", "--dataset.flip?"),
        ("--wokdir=x", "--workdir?"),
        ("--confg=x", "--config?"),
        ("--SEED=1", "--seed?"),
        ("--every_steps=1", "--checkpoint.every_steps or --logging.every_steps?"),
        ("--name=x", "--dataset.name or --model.name or --optimizer.name?"),
    ],
)
def test_an_unknown_flag_gets_a_suggestion(argument, suggestion):
    assert refused([argument]).endswith(f"; did you mean {suggestion}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--zzz=1"], "unknown flag --zzz"),
        (["--undefok=zzz", "--zzz=1"], "unknown flag --undefok=zzz"),
        (["--train.epochs=ten"], "--train.epochs takes int, not 'ten'"),
        (["--train.epochs=2.5"], "--train.epochs takes int, not '2.5'"),
        (["--train.epochs=none"], "--train.epochs takes int, not 'none'"),
        (["--optimizer.learning_rate=x"], "--optimizer.learning_rate takes float, not 'x'"),
        (["--dataset.flip=maybe"], "--dataset.flip takes bool, not 'maybe'"),
        (["--quiet=maybe"], "--quiet takes bool, not 'maybe'"),
        (
            ["--optimizer.name=adan"],
            "--optimizer.name is one of adam, adamw, sgd, muon, not 'adan'",
        ),
        (["--platform=cuda9"], "--platform is one of cpu, gpu, tpu, not 'cuda9'"),
        (
            ["evaluate", "--split=tset"],
            "--split is one of test, validation, train, not 'tset'",
        ),
        (["evaluate", "--checkpoint=-1"], "--checkpoint is best, last or a step, not '-1'"),
        (["--train.epochs=0"], "--train.epochs must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--dataset.validation_fraction=1"], "must be less than 1, not 1.0"),
        (["--optimizer.learning_rate=nan"], "--optimizer.learning_rate must be"),
        (["--optimizer.learning_rate=inf"], "--optimizer.learning_rate takes a finite number"),
        (["--train.epochs"], "--train.epochs misses its value"),
        (["--train.epochs", "--seed=1"], "--train.epochs misses its value: '--seed=1' follows"),
        (["--workdir", "--quiet"], "--workdir misses its value: '--quiet' follows"),
        (["--dataset.path="], "--dataset.path has an empty value"),
        (["--workdir="], "--workdir has an empty value"),
        (["--nodataset.flip=true"], "--nodataset.flip=true does not take an argument"),
        (["--flagfile"], "--flagfile with no argument"),
        (["--flagfile=/no/such"], "--flagfile: Unable to open"),
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["fly"], "the commands are train, evaluate, predict, describe"),
        (["train", "evaluat"], "train takes no argument, but 'evaluat' was given; did you mean"),
        (["evaluate", "a.png"], "evaluate takes no argument, but 'a.png' was given"),
        (["train", "seed=1"], "a flag begins with --"),
        (["train", "--dataset.flip", "false"], "write --flag=false"),
        (["predict"], "predict needs IMAGE..."),
        (["--split=test"], "--split belongs to evaluate, not to train"),
        (["predict", "a", "--split=test"], "--split belongs to evaluate, not to predict"),
        (["describe", "--checkpoint=best"], "--checkpoint belongs to evaluate and predict"),
        (["evaluate", "--format=json"], "--format belongs to predict and compare, not to evaluate"),
        (
            ["train", "--output=a.png"],
            "--output belongs to describe and compare and report, not to train",
        ),
        (["models", "--layers"], "--layers belongs to describe, not to models"),
        (["describe", "--output=a.jpg"], "a file that ends in .png or .svg, not 'a.jpg'"),
        (["describe", "--output=png"], "a file that ends in .png or .svg, not 'png'"),
        (["models", "resnet50"], "models takes no argument, but 'resnet50' was given"),
    ],
)
def test_a_mistake_is_named_in_one_line(argv, message):
    assert message in refused(argv)


def resolve(presets: Path, *argv: str) -> Experiment:
    return flags.resolve(flags.parse(list(argv)), presets)


def test_a_preset_by_name_path_and_default(presets, monkeypatch):
    expected = Experiment(dataset=Dataset(batch_size=50), train=Train(epochs=7))
    assert resolve(presets) == dataclasses.replace(expected, name="digits_lenet")
    assert resolve(presets, "--config=cifar10_cnn").name == "cifar10_cnn"
    own = presets.parent / "own.py"
    own.write_text(PRESET)
    assert resolve(presets, f"--config={own}") == dataclasses.replace(expected, name="own")
    monkeypatch.chdir(presets.parent)
    assert resolve(presets, "--config=own.py").name == "own"
    asked = flags.question(flags.Invocation(config="cifar10_cnn"))
    assert asked is not None
    assert asked.endswith("?")


def test_flags_go_over_the_preset(presets):
    got = resolve(presets, "--optimizer.schedule=cosine", "--optimizer.warmup_epochs=2", "--seed=4")
    # The flags are legal together only, and what they leave alone stays the preset's.
    assert got.optimizer == Optimizer(schedule="cosine", warmup_epochs=2)
    assert (got.seed, got.dataset.batch_size, got.train.epochs) == (4, 50, 7)
    assert resolve(presets, "--train.epochs=5").train.epochs == 5


def test_impossible_combinations_are_refused(presets):
    with pytest.raises(UsageError, match="warmup_epochs needs"):
        resolve(presets, "--optimizer.warmup_epochs=2")
    with pytest.raises(UsageError, match=r"--dataset\.path belongs to --dataset\.name=folder"):
        resolve(presets, "--dataset.path=photographs")


def test_a_saved_configuration(presets, tmp_path):
    saved = Experiment(name="mine", seed=9, dataset=Dataset(image_size=32))
    file = tmp_path / "config.json"
    file.write_text(experiment.to_json(saved))
    assert resolve(presets, f"--config={file}") == saved
    assert resolve(presets, f"--config={file}", "--seed=1").seed == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"seed": \n}', r"config\.json:2: not JSON"),
        ('{"sed": 1}', r"config\.json: .*unknown setting sed"),
        ('{"seed": "1"}', r"config\.json: --seed takes int"),
        ("[]", r"config\.json: .*named values"),
        ("\xff", r"config\.json: .*decode"),
    ],
)
def test_a_bad_configuration_is_named(presets, tmp_path, content, message):
    file = tmp_path / "config.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=message):
        resolve(presets, f"--config={file}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10_cn", r"did you mean --config=cifar10_cnn\?; the presets are cifar10_cnn, digits"),
        ("zebra", "no preset 'zebra'; the presets are cifar10_cnn, digits_lenet"),
        ("../presets/cifar10_cnn", "a path to a preset ends in .py or .json"),
        ("__init__", "no preset '__init__'"),
        ("CIFAR10_CNN", "did you mean --config=cifar10_cnn"),
        ("cifar10_cnn.py", r"no such file; did you mean --config=cifar10_cnn\?"),
        ("gone.json", "gone.json: there is no such file"),
    ],
)
def test_an_unknown_preset_is_refused(presets, name, message):
    with pytest.raises(UsageError, match=message):
        resolve(presets, f"--config={name}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n", r"bad\.py: EXPERIMENT must be one Experiment, but is nothing"),
        ("EXPERIMENT = {}\n", r"bad\.py: .*but is a dict"),
        ("x = 1\ny = (\n", r"bad\.py:2: "),
        ("\n\nx = 1 / 0\n", r"bad\.py:3: ZeroDivisionError: division by zero"),
        ("import no_such_module\n", r"bad\.py:1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", r"bad\.py:1: SystemExit: 3"),
        (
            "from cnn_jax.experiment import Experiment\n\nEXPERIMENT = Experiment(seed=-1)\n",
            r"bad\.py:3: --seed must be at least 0, not -1",
        ),
        (
            "from cnn_jax.experiment import Experiment\nEXPERIMENT = Experiment(sed=1)\n",
            r"bad\.py:2: TypeError: .*sed",
        ),
    ],
)
def test_an_error_in_a_preset_is_located(presets, content, message):
    file = presets / "bad.py"
    file.write_text(content)
    for config in ("bad", str(file)):
        with pytest.raises(UsageError, match=message) as info:
            resolve(presets, f"--config={config}")
        assert "\n" not in str(info.value)


def test_nothing_is_written(presets):
    before = sorted(presets.rglob("*"))
    resolve(presets, "--seed=1", "--workdir=somewhere")
    flags.help_text(presets)
    assert sorted(presets.rglob("*")) == before


def test_the_presets_of_the_project_resolve():
    for path in sorted(flags.PRESETS_DIR.glob("[!_]*.py")):
        assert flags.resolve(flags.Invocation(config=path.stem)).name == path.stem
        assert flags.resolve_sweep(flags.Invocation(config=path.stem)) == experiment.Sweep()
    for path in sorted(flags.PRESETS_DIR.glob("sweeps/[!_]*.py")):
        invocation = flags.Invocation(config=f"sweeps/{path.stem}", sweep={"seeds": 7})
        base, options = flags.resolve(invocation), flags.resolve_sweep(invocation)
        assert (base.name, options.seeds) == (path.stem, 7)
        space.planned(options, space.parse(options.space or "", base), base)


def test_a_sweep_of_a_preset_must_be_one(presets):
    (presets / "own.py").write_text("SWEEP = {'space': 'seed=[1,2]'}\n")
    with pytest.raises(UsageError, match="SWEEP must be one Sweep, but is a dict"):
        flags.resolve_sweep(flags.Invocation(config="own"), presets)


def test_help_lists_everything_within_the_width(presets, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(len, flags.help_text(presets).splitlines())) <= 70
    monkeypatch.setenv("COLUMNS", "90")
    text = flags.help_text(presets)
    assert max(map(len, text.splitlines())) <= 90
    for path, _ in experiment.fields():
        assert (f"--{path}=" in text or f"--[no]{path}" in text) == (path != "name")
    for command in flags.COMMANDS:
        assert f"  {command.name}" in text
    assert "cifar10_cnn   How well does a small network do?" in text
    assert "--[no]dataset.flip  (default: false)" in text
    assert "--optimizer.name=adam|adamw|sgd|muon  (default: adam)" in text
    assert "--train.label_smoothing=float  (default: 0.0; at least 0, less than 1)" in text
    assert "\nOptimizer: How parameters follow the gradient.\n" in text


def test_help_survives_a_broken_preset(presets):
    (presets / "broken.py").write_text("x = (\n")
    assert "(cannot be read)" in flags.help_text(presets)
