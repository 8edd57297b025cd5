"""The wheel, installed into a fresh environment and used outside the repository."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import cnn_jax
from tests.studies.test_own_code import OWN

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SETTINGS = (
    "--config=digits_lenet",
    "--train.epochs=1",
    "--logging.figures_every=none",
    "--logging.projector_images=0",
)
PRESETS = sorted(path.name for path in (ROOT / "experiments").glob("[!_]*.py"))


def check_call(*command: str | Path, **options) -> str:
    """Runs a program and returns what it printed; where it fails, the test shows its errors."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the sources, where an earlier build has left nothing."""
    source = tmp_path_factory.mktemp("source")
    for name in ("cnn_jax", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(source)]
    check_call(sys.executable, "-m", "pip", "wheel", source, *options)
    (path,) = source.glob("*.whl")
    return path


def needed_packages(*extras: str) -> set[str]:
    """Returns the packages that `pip install cnn_jax`, with some extras, would install here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found = {"cnn-jax"}
    asked: set[str] = set()
    while wanted:
        text = wanted.pop()
        requirement = Requirement(text)
        if text in asked or (requirement.marker and not requirement.marker.evaluate()):
            continue
        asked.add(text)
        name = canonicalize_name(requirement.name)
        if name == "cnn-jax":  # the installed one may be an earlier version
            for extra in requirement.extras:
                wanted += project["optional-dependencies"][extra]
            continue
        found.add(name)
        for each in metadata.requires(name) or []:
            marker = Requirement(each).marker
            if marker is None or any(
                marker.evaluate({"extra": e}) for e in ("", *requirement.extras)
            ):
                wanted.append(each.partition(";")[0])
    return found


def other_modules(*extras: str) -> set[str]:
    """Returns the modules that are installed here and would not be, such as pytest and Keras."""
    needed = needed_packages(*extras)
    return {
        module
        for module, packages in metadata.packages_distributions().items()
        if not needed & {canonicalize_name(package) for package in packages}
    }


# In the fresh environment: modules of packages that the wheel does not ask for cannot be imported.
GUARD = """
import os, sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN and name not in os.environ.get("ALSO", "").split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Guard())
"""


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A fresh virtual environment with the wheel and its dependencies, which are this one's.

    One `.pth` file adds the folder of this environment's packages at the end of the path. Python
    reads no `.pth` file within that folder, so an editable installation of the repository stays
    unseen. The other one hides the packages that the wheel does not need.
    """
    path = tmp_path_factory.mktemp("environment") / "venv"
    check_call(sys.executable, "-m", "venv", "--without-pip", path)
    packages = check_call(
        path / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    ).strip()
    ours = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(packages) / "dependencies.pth").write_text("\n".join(ours) + "\n")
    (Path(packages) / "guard.py").write_text(f"HIDDEN = {other_modules()!r}\n{GUARD}")
    (Path(packages) / "guard.pth").write_text("import guard\n")
    pip = [sys.executable, "-m", "pip", "--python", path / "bin" / "python"]
    check_call(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel)
    return path


@pytest.fixture
def run(environment, places, digits, tmp_path) -> Callable[..., str]:
    """Runs a program of the fresh environment in an empty folder and returns what it printed."""
    del digits  # prepared by now
    variables = {name: v for name, v in os.environ.items() if not name.startswith("PYTHON")}

    def run(program: str, *arguments: str | Path, also: str = "") -> str:
        # A path that is relative to the folder, as a printed command has it, is found from there.
        path = tmp_path / program if "/" in program else environment / "bin" / program
        return check_call(path, *arguments, cwd=tmp_path, env={**variables, **places, "ALSO": also})

    return run


def test_every_package_folder_and_file_is_listed():
    folders = {path.parent for path in (ROOT / "cnn_jax").rglob("*.py")}
    names = {".".join(path.relative_to(ROOT).parts) for path in folders}
    presets = {"cnn_jax.presets", "cnn_jax.presets.sweeps"}
    assert SETUPTOOLS["packages"] == sorted(names | presets)
    others = {
        f"{'.'.join(path.parent.relative_to(ROOT).parts)}/{path.name}"
        for path in (ROOT / "cnn_jax").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }
    listed = SETUPTOOLS["package-data"].items()
    assert others == {f"{package}/{name}" for package, names in listed for name in names}


def test_the_wheel_holds_one_package_with_its_presets(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"cnn_jax"}
    held = {name.removeprefix("cnn_jax/presets/") for name in names if "/presets/" in name}
    assert held >= {*PRESETS, "sweeps/cifar10_rate_and_decay.py"}
    assert "cnn_jax/py.typed" in names


def test_the_command_is_installed_and_the_repository_is_not_seen(run, environment):
    version = f"cnn-jax {cnn_jax.__version__}\n"
    assert run("cnn-jax", "--version") == run("python", "-m", "cnn_jax", "--version") == version
    text = run("cnn-jax", "--help")
    assert text.startswith("usage: ")
    assert "cnn-jax [COMMAND]" in text
    for name in PRESETS:
        assert f"  {name.removesuffix('.py')} " in text
    where = run("python", "-c", "import cnn_jax; print(cnn_jax.__file__)")
    assert Path(where).is_relative_to(environment)
    assert run("python", "-c", "import importlib.util as u; print(u.find_spec('experiments'))") == (
        "None\n"
    )


def test_packages_of_development_are_out_of_reach(run):
    hidden = other_modules()
    assert hidden >= {"keras", "optuna", "pytest", "tensorboard", "_pytest"}
    assert hidden >= {"grain", "h5py", "matplotlib", "pooch", "sklearn", "tensorflow_datasets"}
    assert not hidden & {"jax", "flax", "optax", "scipy", "tensorboardX", "safetensors"}
    code = "import importlib.util as u, sys; print([u.find_spec(n) for n in sys.argv[1:]])"
    with pytest.raises(AssertionError, match="No module named 'pytest'"):
        run("python", "-c", code, "pytest")
    assert "None" not in run("python", "-c", code, "jax", "optax", "tensorboardX")


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-newest.txt"])
def test_constraints_are_versions_of_all_that_the_package_needs(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(Requirement(line).name) for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["plots"], *extras["weights"], *extras["dev"]]
    requirements = [Requirement(line) for line in wanted]
    needed = {
        canonicalize_name(r.name) for r in requirements if not r.marker or r.marker.evaluate()
    }
    assert needed - {"cnn-jax"} <= pinned


def pasted(run: Callable[..., str], out: str, label: str, **filled: str) -> str:
    """Runs the command that stands behind a label, with its placeholders filled."""
    (line,) = (line for line in out.splitlines() if line.startswith(f"{label} "))
    words = [filled.get(word, word) for word in shlex.split(line.removeprefix(label))]
    return run(*words)


def test_commands_that_are_printed_work_when_pasted(run, tmp_path):
    """Also with a model, a loss and a data set of the user's own."""
    (tmp_path / "own.py").write_text(OWN)
    settings = ("--train.epochs=4", "--optimizer.learning_rate=1e-2")
    out = run("cnn-jax", "--config=own.py", *settings, "--workdir=a run")
    evaluated = pasted(run, out, "evaluate")
    assert "test accuracy" in evaluated
    Image.new("L", (8, 8), 90).save(tmp_path / "an image.png")
    assert "an image.png" in pasted(run, evaluated, "predict", **{"IMAGE...": "an image.png"})


@pytest.mark.slow
def test_what_advise_prints_works_when_pasted(run, tmp_path):
    """Also with a model, a loss and a data set of the user's own."""
    (tmp_path / "own.py").write_text(OWN)
    settings = ("--train.epochs=4", "--optimizer.learning_rate=1e-2")
    run("cnn-jax", "--config=own.py", *settings, "--workdir=a run")
    weights = ["--transfer.weights=a run", "--advise.budget=epochs"]
    options = ["--advise.strategies=everything", "--advise.examples=all", "--advise.seeds=1"]
    asked = ("--config=own.py", *settings, *weights, *options, "--workdir=advice")
    advice = run("python", "-m", "cnn_jax", "advise", *asked)
    pasted(run, advice, "train it")
    assert (tmp_path / "advice/recommended/result.json").exists()


# One process each: every start of JAX takes seconds.
CORE = """
import os
import pathlib
import sys
import numpy as np
from PIL import Image
import cnn_jax
from cnn_jax.cli.main import main

os.dup2(1, 2)  # warnings are counted, too
random = np.random.default_rng(0)
labels = np.arange(80) % 2
noise = random.integers(0, 100, (80, 8, 8, 1))
images = (noise + 100 * labels[:, None, None, None]).astype(np.uint8)
data = cnn_jax.from_arrays(images, labels, test=0.2)
run = cnn_jax.train(data, model="mlp", epochs=5, batch_size=16)
assert run.evaluate("test").accuracy == 1
assert (run.predict(images).probabilities.argmax(axis=1) == labels).all()

paths = [pathlib.Path("photos", ("dark", "light")[c], f"{i}.png") for i, c in enumerate(labels)]
for image, path in zip(images, paths):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(path)
rows = ["image,label", *(f"{path},{path.parent.name}" for path in paths)]
pathlib.Path("table.csv").write_text("\\n".join(rows) + "\\n")
settings = ["--model.name=mlp", "--train.epochs=1", "--dataset.batch_size=8"]
sources = {"folder": ["--dataset.path=photos"], "table": ["--dataset.path=table.csv"], "digits": []}
for name, source in sources.items():
    given = [f"--dataset.name={name}", *source, *settings, "--dataset.image_size=8"]
    assert main([*given, f"--workdir={name}"]) == 0
    assert main(["evaluate", f"--workdir={name}", "--split=validation"]) == 0
    assert main(["predict", f"--workdir={name}", str(paths[0])]) == 0
needless = ("grain", "h5py", "matplotlib", "pooch", "sklearn", "tensorflow_datasets")
print([name for name in needless if name in sys.modules])
"""


def test_the_core_trains_evaluates_and_predicts(run, tmp_path):
    """On arrays, a folder, a table and the digits, without what is optional."""
    (tmp_path / "core.py").write_text(CORE)
    out = run("python", "core.py")
    assert out.endswith("[]\n")
    assert out.count("accuracy") >= 3
    left_out = "figures are left out: they need Matplotlib: pip install 'cnn-jax[plots]'"
    assert out.count(left_out) == 1
    assert not (tmp_path / "digits" / "figures").exists()


MISSING = {
    "describe --output=net.png": "figures need Matplotlib: pip install 'cnn-jax[plots]'",
    "explain --workdir=run": "figures need Matplotlib: pip install 'cnn-jax[plots]'",
    "sweep --workdir=x --sweep.space=optimizer.learning_rate=log(1e-4,1e-1)": (
        "sweep needs Optuna: pip install 'cnn-jax[sweep]'"
    ),
    "--workdir=x --dataset.name=cifar10": (
        "--dataset.name=cifar10 needs TensorFlow Datasets: pip install 'cnn-jax[tfds]'"
    ),
    "--workdir=x --dataset.name=imagenet_v2": "which is not installed: pip install 'cnn-jax[tfds]'",
    "predict --config=imagenet_predict photo.png": (
        "--transfer.weights=imagenet needs pooch: pip install 'cnn-jax[weights]'"
    ),
    "predict --config=imagenet_predict --transfer.weights=hf://a/b photo.png": (
        "--transfer.weights=hf://a/b needs huggingface_hub: pip install 'cnn-jax[hub]'"
    ),
    "--workdir=x --dataset.name=table --dataset.path=t.parquet": (
        "the table t.parquet needs pyarrow: pip install 'cnn-jax[parquet]'"
    ),
    "--workdir=x --dataset.streaming=true --dataset.image_size=8 --dataset.workers=2": (
        "--dataset.workers=2 needs Grain: pip install 'cnn-jax[streaming]'"
    ),
}


def test_what_is_missing_is_one_line_that_names_the_extra(run, tmp_path):
    Image.new("RGB", (300, 300)).save(tmp_path / "photo.png")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "all.py").write_text(
        "import contextlib, io, json, sys\n"
        "from cnn_jax.cli.main import main\n"
        "said = []\n"
        "for line in sys.argv[1:]:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as errors:\n"
        "        code = main(line.split())\n"
        "    said.append([code, errors.getvalue()])\n"
        "print(json.dumps(said))\n"
    )
    said = json.loads(run("python", "all.py", *MISSING).splitlines()[-1])
    for (command, line), (code, errors) in zip(MISSING.items(), said, strict=True):
        assert code == 2, command
        (shown,) = errors.splitlines()
        assert shown.startswith("error: "), command
        assert shown.endswith(line), command


def test_a_run_and_its_report(run, tmp_path):
    run("cnn-jax", *SETTINGS, "--workdir=run")
    run("python", "-m", "cnn_jax", "report", "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<style>" in page
    assert "<script>" in page


def test_a_sweep_starts_its_runs(run, tmp_path):
    also = " ".join(other_modules() - other_modules("sweep"))
    space = "--sweep.space=optimizer.learning_rate=[0.001]"
    run("cnn-jax", "sweep", *SETTINGS, "--workdir=s", space, "--sweep.method=grid", also=also)
    trials = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [trial["state"] for trial in trials] == ["complete"]
