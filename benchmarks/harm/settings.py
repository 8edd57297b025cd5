"""Tries with other settings than expected: configurations, presets and flags."""

import functools
import json
from collections.abc import Callable

from benchmarks.harm import damages
from benchmarks.harm.bench import Bench, check_same, figures
from benchmarks.harm.world import RUNS, World, train

_BATCH = 40


def configurations(bench: Bench, world: World) -> None:
    """Forty configurations with other values, of another shape, or torn, are described."""
    draw = bench.draw
    original = json.loads((world.run("digits") / "config.json").read_text())
    bench.about = f"{_BATCH} config.json"
    calls = {}
    for number in range(_BATCH):
        path = bench.folder / f"{number}.json"
        if draw.random() < 0.8:
            what, text = damages.harm_json(draw, original)
            path.write_text(text)
        else:
            path.write_text(json.dumps(original, indent=2))
            what = damages.harm_file(draw, path)
        calls[f"{path.name} {what}"] = ["describe", f"--config={path}"]
    bench.many(calls)


def presets(bench: Bench, world: World) -> None:
    """Preset files of a user's own with other values, or with broken code, are described."""
    del world
    draw = bench.draw
    bench.about = f"{_BATCH} preset files"
    calls = {}
    for number in range(_BATCH):
        path = bench.folder / f"preset{number}.py"
        what, text = _preset(draw)
        path.write_text(text, errors="surrogateescape")
        command = draw.choice((["describe"], ["sweep", f"--workdir={bench.folder / 'sweep'}"]))
        if "SWEEP" in text:
            command = ["describe"]
        calls[f"{path.name} {what}"] = [*command, f"--config={path}"]
    bench.many(calls)


_PRESET = '''"""A question?"""
from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train
from cnn_jax.options import Sweep

EXPERIMENT = Experiment(
    dataset=Dataset(name="digits", image_size=32, batch_size=16),
    model=Model(name="mlp"),
    optimizer=Optimizer(learning_rate=0.01),
    train=Train(epochs=1),
)
SWEEP = Sweep(space="optimizer.learning_rate=log(1e-3,1e-2)", trials=2)
'''
_PARTS = ('"digits"', "32", "16", '"mlp"', "0.01", "epochs=1", "Model(", "Experiment(", "SWEEP")


def _preset(draw: damages.Draw) -> tuple[str, str]:
    how = draw.choice(("value", "value", "value", "bytes", "code"))
    if how == "value":
        part, value = draw.choice(_PARTS), ascii(draw.choice(damages.VALUES))
        value = {"nan": "float('nan')", "inf": "float('inf')"}.get(value, value)
        return f"{part} is {value[:40]}", _PRESET.replace(part, value)
    if how == "bytes":
        what, data = damages.harm_bytes(draw, _PRESET.encode())
        return what, data.decode(errors="surrogateescape")
    line = draw.choice(
        (
            "raise ValueError('no')",
            "import nosuch",
            "EXPERIMENT = None",
            "del EXPERIMENT",
            "EXPERIMENT.seed = 3",
            "1/0",
            "import sys; sys.exit(3)",
            "def f(): return f()\nf()",
            "class SWEEP: pass",
            "EXPERIMENT = dict(EXPERIMENT=1)",
        )
    )
    return line.splitlines()[0], _PRESET + line + "\n"


def flags(bench: Bench, world: World) -> None:
    """Forty command lines with one to three flags of odd values; describe, or a command line."""
    del world
    draw = bench.draw
    bench.about = f"{_BATCH} command lines"
    names = _flag_names()
    calls = {}
    for number in range(_BATCH):
        words = [f"--{draw.choice(names)}={_flag_value(draw)}" for _ in range(draw.choice((1, 2)))]
        command = draw.choice(
            ("describe",) * 6 + ("help", "models", "compare", "report", "predict")
        )
        if draw.random() < 0.1:
            words = [draw.choice(("--", "-", "--=", "--no", "-h=1", "--nodataset", "x y", "--é"))]
        words = [word.replace("{folder}", str(bench.folder)) for word in words]
        calls[f"{number} {command} {words}"[:300]] = [command, *words]
    bench.many(calls)


# Texts with a grammar of their own, which is where a parser may fall.
_GRAMMARS = {
    "sweep.space": "optimizer.learning_rate=log(1e-4,1e-1,3) model.name=[lenet5,'mlp']",
    "transfer.lr_scale": "head:10,backbone/conv1:0.1,bias:64",
    "transfer.freeze": "backbone/(conv1|conv2)/.*",
    "transfer.unfreeze": "1:head,2:backbone/conv2",
    "transfer.include": "^head/.*$",
    "optimizer.milestones": "0.5,0.75",
    "dataset.fold": "2/5",
    "advise.examples": "100,500,all",
    "advise.strategies": "head,last_block",
    "sweep.resources": "slurm_partition=gpu,timeout_min=240",
    "where": "model.name=mlp,seconds<60,train.epochs>=3",
    "sort": "-validation_accuracy",
    "profile": "3:10",
    "checkpoint": "12",
}


def grammars(bench: Bench, world: World) -> None:
    """Forty texts that have a grammar of their own, with some characters changed."""
    draw = bench.draw
    run = world.run("frozen")
    bench.about = f"{_BATCH} texts with a grammar"
    calls: dict[str, Callable[[], int] | list[str]] = {}
    for number in range(_BATCH):
        name = draw.choice(list(_GRAMMARS))
        words = f"--{name}={_mutated(draw, _GRAMMARS[name])}"
        about = ascii(f"{number} {words}")
        if name == "sweep.space":  # a legal one would be trained
            calls[about] = functools.partial(_parse_space, words.partition("=")[2])
        elif name in ("where", "sort"):
            calls[about] = ["compare", str(run), words]
        elif name == "checkpoint":
            calls[about] = ["predict", f"--workdir={run}", words, str(bench.folder / "none.png")]
        else:
            config = f"--config={run / 'config.json'}"
            command = {"advise": "advise", "sweep": "sweep", "profile": "train"}.get(
                name.partition(".")[0], "describe"
            )
            # Without data or weights only the checks before them are made.
            if command != "describe":
                config = "--config=freeze_or_finetune"
                words = [words, f"--dataset.path={bench.folder / 'none'}", "--dataset.name=folder"]
            calls[about] = [command, config, *([words] if isinstance(words, str) else words)]
    bench.many(calls)


def _mutated(draw: damages.Draw, text: str) -> str:
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(text) + 1)
        new = draw.choice(("", " ", ",", ":", "=", "(", ")", "[", "]", "'", '"', "*", "\\", "é"))
        new = draw.choice(
            (new, new, draw.choice(("-", "1e400", "9" * 30, "9" * 5000, "nan", "inf", "\n", "/")))
        )
        text = text[:at] + new + text[at + draw.choice((0, 1, 3)) :]
    return text


def _parse_space(text: str) -> int:
    from cnn_jax.experiment import Experiment
    from cnn_jax.studies.sweep import space

    space.parse(text, Experiment())
    return 0


def _flag_names() -> list[str]:
    from cnn_jax.cli import invocation
    from cnn_jax.cli.run_flags import RUN_FLAGS

    paths = [path for path, _ in invocation.fields_of(None)]
    return paths * 2 + [flag.name for flag in RUN_FLAGS]


def _flag_value(draw: damages.Draw) -> str:
    value = draw.choice((*damages.VALUES, "{folder}/x", "{folder}", "lenet5", "resnet18", 7, 2.0))
    words = value if isinstance(value, str) else json.dumps(value)
    # A shell passes no null character, and bytes that are not text as these surrogates.
    return words.replace("\0", "").replace("\ud800", "\udcff")[:2000]


def trained_flags(bench: Bench, world: World) -> None:
    """A short training with one setting of an odd value, and then without it."""
    draw = bench.draw
    names = [name for name in _flag_names() if "." in name and name not in _LONG]
    word = f"--{draw.choice(names)}={_flag_value(draw)}".replace("{folder}", str(bench.folder))
    bench.about = ascii(word)[:150]
    base = [flag for flag in RUNS["digits"] if flag.partition("=")[0] != word.partition("=")[0]]
    bench.run(["train", "--workdir=harmed", *base, word])
    wanted = world.wanted("digits")
    bench.succeed(train("digits"))
    check_same(figures(bench.folder / "run"), wanted, "without that setting")


# A legal value of these may take hours.
_LONG = ("train.epochs", "dataset.image_size", "transfer.cache_views")
