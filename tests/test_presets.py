"""Presets: found by name and path, run once, with errors that name the line."""

import dataclasses
import inspect
import sys
from pathlib import Path

import pytest

from cnn_jax import experiment
from cnn_jax.cli import flags, presets
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset, Experiment, Optimizer, Train
from cnn_jax.options import Sweep
from cnn_jax.studies.sweep import space

PRESET = '''"""How well does a tiny network do?

More about it.
"""

from cnn_jax.experiment import Dataset, Experiment, Train

EXPERIMENT = Experiment(dataset=Dataset(batch_size=50), train=Train(epochs=7))
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    directory = tmp_path / "presets"
    directory.mkdir()
    (directory / "digits_lenet.py").write_text(PRESET)
    (directory / "cifar10_cnn.py").write_text(PRESET.replace("tiny", "small"))
    (directory / "__init__.py").write_text("")
    return directory


def resolve(folder: Path, *argv: str) -> Experiment:
    return presets.resolve(flags.parse(list(argv)), folder)


def run_code(*argv: str) -> None:
    presets.run_code(flags.parse(list(argv)))


def test_a_preset_by_name_path_and_default(folder, monkeypatch):
    expected = Experiment(dataset=Dataset(batch_size=50), train=Train(epochs=7))
    assert resolve(folder) == dataclasses.replace(expected, name="digits_lenet")
    assert resolve(folder, "--config=cifar10_cnn").name == "cifar10_cnn"
    own = folder.parent / "own.py"
    own.write_text(PRESET)
    assert resolve(folder, f"--config={own}") == dataclasses.replace(expected, name="own")
    monkeypatch.chdir(folder.parent)
    assert resolve(folder, "--config=own.py").name == "own"
    asked = presets.question(Invocation(config="cifar10_cnn"))
    assert asked is not None
    assert asked.endswith("?")


def test_flags_go_over_the_preset(folder):
    got = resolve(folder, "--optimizer.schedule=cosine", "--optimizer.warmup_epochs=2", "--seed=4")
    # The flags are legal together only, and what they leave alone stays the preset's.
    assert got.optimizer == Optimizer(schedule="cosine", warmup_epochs=2)
    assert (got.seed, got.dataset.batch_size, got.train.epochs) == (4, 50, 7)
    assert resolve(folder, "--train.epochs=5").train.epochs == 5


def test_impossible_combinations_are_refused(folder):
    with pytest.raises(UsageError, match="warmup_epochs needs"):
        resolve(folder, "--optimizer.warmup_epochs=2")
    with pytest.raises(UsageError, match=r"dataset\.path belongs to dataset\.name=folder"):
        resolve(folder, "--dataset.path=photographs")


def test_a_saved_configuration(folder, tmp_path):
    saved = Experiment(name="mine", seed=9, dataset=Dataset(image_size=32))
    file = tmp_path / "config.json"
    file.write_text(experiment.to_json(saved))
    assert resolve(folder, f"--config={file}") == saved
    assert resolve(folder, f"--config={file}", "--seed=1").seed == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"seed": \n}', r"config\.json:2: not JSON"),
        ("[" * 100_000, r"config\.json: not JSON of a configuration: nested too deep"),
        ('{"sed": 1}', r"config\.json: .*unknown setting sed"),
        ('{"seed": "1"}', r"config\.json: seed takes int"),
        ("[]", r"config\.json: .*named values"),
        ("\xff", r"config\.json: it is not text in UTF-8"),
    ],
)
def test_a_bad_configuration_is_named(folder, tmp_path, content, message):
    file = tmp_path / "config.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=message):
        resolve(folder, f"--config={file}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xed = 1\n", r"mine\.py(:1)?: it is not text in UTF-8"),
        (b'"""a\xed"""\n', r"mine\.py(:1)?: it is not text in UTF-8"),
        (b"x = 1\0\n", r"mine\.py(:\d+)?: source code string cannot contain null bytes"),
        (b"# coding: nosuch\n", r"mine\.py: unknown encoding: nosuch"),
        (b"x = \n", r"mine\.py:1: invalid syntax"),
    ],
)
def test_a_file_that_is_no_python_is_named(folder, content, message):
    (folder / "mine.py").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        resolve(folder, f"--config={folder / 'mine.py'}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10_cn", r"did you mean cifar10_cnn\?; the presets are cifar10_cnn, digits"),
        ("zebra", "no preset 'zebra'; the presets are cifar10_cnn, digits_lenet"),
        ("../presets/cifar10_cnn", "a path to a preset ends in .py or .json"),
        ("__init__", "no preset '__init__'"),
        ("CIFAR10_CNN", "did you mean cifar10_cnn"),
        ("cifar10_cnn.py", r"there is no file .*cifar10_cnn.py; did you mean cifar10_cnn\?"),
        ("gone.json", "there is no file gone.json"),
    ],
)
def test_an_unknown_preset_is_refused(folder, name, message):
    with pytest.raises(UsageError, match=message):
        resolve(folder, f"--config={name}")


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
            r"bad\.py:3: seed must be at least 0, not -1",
        ),
        (
            "from cnn_jax.experiment import Experiment\nEXPERIMENT = Experiment(sed=1)\n",
            r"bad\.py:2: TypeError: .*sed",
        ),
    ],
)
def test_an_error_in_a_preset_is_located(folder, content, message):
    file = folder / "bad.py"
    file.write_text(content)
    for config in ("bad", str(file)):
        with pytest.raises(UsageError, match=message) as info:
            resolve(folder, f"--config={config}")
        assert "\n" not in str(info.value)


def test_nothing_is_written(folder):
    before = sorted(folder.rglob("*"))
    resolve(folder, "--seed=1", "--workdir=somewhere")
    presets.names(folder)
    presets.summary(folder / "digits_lenet.py")
    assert sorted(folder.rglob("*")) == before


def test_the_presets_of_the_project_resolve():
    for path in sorted(presets.PRESETS_DIR.glob("[!_]*.py")):
        assert presets.resolve(Invocation(config=path.stem)).name == path.stem
        assert presets.resolve_sweep(Invocation(config=path.stem)) == Sweep()
    for path in sorted(presets.PRESETS_DIR.glob("sweeps/[!_]*.py")):
        invocation = Invocation(config=f"sweeps/{path.stem}", sweep={"seeds": 7})
        base, options = presets.resolve(invocation), presets.resolve_sweep(invocation)
        assert (base.name, options.seeds) == (path.stem, 7)
        space.planned(options, space.parse(options.space or "", base), base)


def test_a_sweep_of_a_preset_must_be_one(folder):
    (folder / "own.py").write_text("SWEEP = {'space': 'seed=[1,2]'}\n")
    with pytest.raises(UsageError, match="SWEEP must be one Sweep, but is a dict"):
        presets.resolve_sweep(Invocation(config="own"), folder)


# A user's own code


CODE = """
import sys
sys.modules["sys"].ran = getattr(sys, "ran", 0) + 1
"""


def test_a_file_runs_once_for_every_way_to_give_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "ran", 0, raising=False)
    file = tmp_path / "own.py"
    file.write_text(CODE + PRESET)
    monkeypatch.chdir(tmp_path)
    run_code("--config=own.py", "--code=./own.py", f"--code={file}")
    assert presets.resolve(Invocation(config="own.py")).name == "own"
    assert presets.resolve_sweep(Invocation(config="own.py")) == Sweep()
    assert sys.ran == 1  # pyright: ignore[reportAttributeAccessIssue]
    file.write_text(CODE + PRESET.replace("epochs=7", "epochs=8"))  # edited, in a notebook
    assert presets.load("own.py").train.epochs == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.py"]


def test_code_needs_no_experiment_and_may_import_its_neighbours(tmp_path):
    (tmp_path / "a_neighbour_of_code.py").write_text("VALUE = 3\n")
    (tmp_path / "code.py").write_text("import a_neighbour_of_code\n\nclass Net: ...\n")
    (tmp_path / "preset.py").write_text("from a_neighbour_of_code import VALUE\n")
    run_code("evaluate", f"--code={tmp_path / 'code.py'}", f"--config={tmp_path / 'preset.py'}")
    net = presets.run_file(tmp_path / "code.py")["Net"]
    # Registries compare the files that classes are defined in.
    assert inspect.getsourcefile(net) == str(tmp_path / "code.py")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--code=gone.py"], "--code=gone.py: there is no such file"),
        (["evaluate", "--config=gone.py"], "there is no file gone.py"),
        (["evaluate", "--code=wrong.py"], "wrong.py:2: ZeroDivisionError: division by zero"),
        (["evaluate", "--config=wrong.py"], "wrong.py:2: ZeroDivisionError: division by zero"),
    ],
)
def test_wrong_code_is_named(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text("x = 1\ny = x / 0\n")
    for _ in range(2):
        with pytest.raises(UsageError) as info:
            run_code(*argv)
        assert info.value.for_command_line == message


def test_a_preset_that_mirrors_says_so_and_the_medical_one_does_not_mirror():
    """A mirrored chest is another chest."""
    folder = Path(__file__).parent.parent / "experiments"
    for path in sorted(folder.glob("[!_]*.py")):
        dataset = presets.load(path.stem).dataset
        if dataset.flip or dataset.alternate_flip:
            assert "mirror" in path.read_text().partition("\nfrom ")[0], path.name
    medical = presets.load("medical_vgg16")
    assert not medical.dataset.augments
    assert medical.dataset.resize == "pad"
    assert (medical.train.select, medical.train.class_weights) == ("auc", "balanced")
    assert medical.train.patience
