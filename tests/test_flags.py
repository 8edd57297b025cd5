"""The command line: what is read from it, and what is said where it is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from cnn_jax import experiment, settings
from cnn_jax.cli import flags
from cnn_jax.cli.invocation import COMMANDS, Invocation
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise

ROOT = Path(__file__).resolve().parent.parent


def refused(argv: list[str]) -> str:
    with pytest.raises(UsageError) as info:
        flags.parse(argv)
    message = info.value.for_command_line
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
    default = settings.get(Experiment(), path)
    assert flags.parse([f"--{path}={default}"]).overrides == {path: default}


def test_only_what_was_given_is_overridden():
    assert flags.parse([]) == Invocation()
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
    assert flags.parse([]) == Invocation()


def test_run_flags():
    got = flags.parse(
        [
            *("evaluate", "--config=x", "--workdir", "runs/a", "--quiet", "--platform=cpu"),
            *("--debug", "--split=validation", "--checkpoint=last"),
        ]
    )
    assert got == Invocation(
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
    assert [c.name for c in COMMANDS] == [
        "train",
        "evaluate",
        "predict",
        "trust",
        "explain",
        "describe",
        "data",
        "models",
        "advise",
        "compare",
        "report",
        "page",
        "export",
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
        Advise(examples="20,")
    with pytest.raises(UsageError, match="takes numbers of training images"):
        Advise(examples="9" * 5000)
    with pytest.raises(UsageError, match="takes some of head,"):
        Advise(strategies="a")
    assert "one of epochs,flops" in refused(["advise", "--advise.budget=hours"])


@pytest.mark.parametrize(
    ("argv", "about"),
    [
        (["--help"], None),
        (["-h"], None),
        (["help"], None),
        (["train", "help"], "train"),
        (["help", "evaluate"], "evaluate"),
        (["evaluate", "--workdir=train", "-h"], "evaluate"),
        (["train", "--help", "--nonsense=1"], "train"),
        (["--train.epochs=x", "-h"], None),
        (["trian", "--help"], None),
        (["predict", "a.png", "--help"], "predict"),
    ],
)
def test_help_is_found_anywhere_and_is_about_a_command(argv, about):
    got = flags.parse(argv)
    assert (got.command, got.arguments) == ("help", (about,) if about else ())


def test_the_version_is_asked_for_anywhere():
    assert flags.parse(["evaluate", "--version", "--nonsense"]).command == "version"
    assert flags.parse(["predict", "--", "--version"]).arguments == ("--version",)


def test_code_may_be_given_several_times_and_goes_to_other_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got = flags.parse(["--code=a.py", "--code", "b c.py", "--config=d.py", "--platform=cpu"])
    assert got.code == ("a.py", "b c.py")
    code = [f"--code={tmp_path / name}" for name in ("a.py", "b c.py", "d.py")]
    assert got.code_flags == code
    assert got.machine_flags == ["--platform=cpu", *code]
    assert flags.parse(["--config=digits_lenet"]).machine_flags == []
    assert flags.parse(["--code=d.py", "--config=./d.py"]).code_flags == code[2:]
    # It is legal where settings are not.
    flags.refuse_settings(flags.parse(["report", "r", "--config=d.py"]), "tip")
    with pytest.raises(UsageError, match="report takes no config; tip"):
        flags.refuse_settings(flags.parse(["report", "r", "--config=d"]), "tip")


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
        ("--epochs=1", "--train.epochs or --data.epochs?"),
        ("--model=mlp", "--model.name?"),
        ("--dataset", "--dataset.name?"),
        ("--flip", "--dataset.flip?"),
        ("--noflip", "--dataset.flip?"),
        ("--nodataset.flipp", "--dataset.flip?"),
        ("--wokdir=x", "--workdir?"),
        ("--confg=x", "--config?"),
        ("--vesion", "--version?"),
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
            "--optimizer.name is one of adam, adamw, sgd, muon, own, not 'adan'",
        ),
        (["--platform=cuda9"], "--platform is one of cpu, gpu, tpu, not 'cuda9'"),
        (
            ["evaluate", "--split=tset"],
            "--split is one of test, validation, train, not 'tset'",
        ),
        (["evaluate", "--checkpoint=-1"], "--checkpoint is best, last or a step, not '-1'"),
        (["evaluate", f"--checkpoint={'9' * 5000}"], "--checkpoint is best, last or a step, not"),
        (["train", f"--profile=1:{'9' * 5000}"], "--profile is the first and the last step"),
        (["--code=model"], "--code takes a Python file (.py), not 'model'"),
        (["--code="], "--code has an empty value"),
        (["--train.epochs=0"], "--train.epochs must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--dataset.validation_fraction=1"], "must be less than 1, not 1.0"),
        (["--optimizer.learning_rate=nan"], "--optimizer.learning_rate takes a finite number"),
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
        (["fly"], "the commands are train, evaluate, predict, trust, explain"),
        (["train", "evaluat"], "train takes no argument, but 'evaluat' was given; did you mean"),
        (["evaluate", "a.png"], "evaluate takes no argument, but 'a.png' was given"),
        (["train", "seed=1"], "a flag begins with --"),
        (["train", "--dataset.flip", "false"], "write --flag=false"),
        (["predict"], "predict needs IMAGE..."),
        (["--split=test"], "--split belongs to evaluate and explain, not to train"),
        (
            ["predict", "a", "--split=test"],
            "--split belongs to evaluate and explain, not to predict",
        ),
        (
            ["describe", "--checkpoint=best"],
            "--checkpoint belongs to evaluate, predict, explain, page, trust and export",
        ),
        (
            ["evaluate", "--format=json"],
            "--format belongs to predict, compare, explain, report and export, not to evaluate",
        ),
        (
            ["train", "--output=a.png"],
            "--output belongs to describe, compare, report, predict, page, data and export, not",
        ),
        (["models", "--layers"], "--layers belongs to describe, not to models"),
        (["describe", "--output=a.jpg"], "a file that ends in .png or .svg, not 'a.jpg'"),
        (["report", "x", "--output=card.md"], "a file that ends in .html, not 'card.md'"),
        (["report", "x", "--format=card", "--output=x.html"], "ends in .md, not 'x.html'"),
        (["describe", "--output=png"], "a file that ends in .png or .svg, not 'png'"),
        (["models", "resnet50"], "models takes no argument, but 'resnet50' was given"),
    ],
)
def test_a_mistake_is_named_in_one_line(argv, message):
    assert message in refused(argv)


def test_reading_a_command_line_does_not_import_jax():
    program = """
import sys
import cnn_jax, cnn_jax.cli
from cnn_jax.cli import main
assert main.main(["--help"]) == main.main(["evaluate", "--help"]) == main.main(["--version"]) == 0
assert main.main(["trian"]) == 2
assert not {"jax", "numpy", "flax"} & sys.modules.keys()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "did you mean train?" in done.stderr
