"""What is harmed: images, weights and runs, made once and undisturbed, and copied for every try."""

import os
import pathlib
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harm.bench import Bench, all_figures, copy, figures
from benchmarks.harm.ends import Fault

_COMMON = [
    "--config=digits_lenet",
    "--logging.figures_every=none",
    "--logging.projector_images=0",
    "--dataset.eval_batch_size=128",
    "--quiet",
]
# The flags of each run. The first has all that a resume could get wrong.
RUNS: dict[str, list[str]] = {
    "digits": [
        *_COMMON,
        *("--model.name=mlp", "--model.dropout_rate=0.2", "--dataset.image_size=none"),
        *("--dataset.train_examples=64", "--dataset.batch_size=16", "--train.epochs=3"),
        *("--dataset.flip", "--dataset.crop_padding=1", "--dataset.normalize=standardize"),
        *("--optimizer.ema_decay=0.9", "--optimizer.schedule=cosine", "--checkpoint.every_steps=3"),
    ],
    "photos": [
        *_COMMON,
        *("--dataset.name=folder", "--dataset.path=photos", "--dataset.image_size=8"),
        *("--model.name=mlp", "--dataset.batch_size=8", "--train.epochs=2"),
    ],
    "frozen": [
        *_COMMON,
        *("--model.name=lenet5", "--transfer.freeze=backbone", "--dataset.train_examples=64"),
        *("--dataset.batch_size=16", "--train.epochs=2"),
    ],
}
RUNS["other"] = [*RUNS["digits"], "--seed=1"]
_SMALL = [*_COMMON, "--dataset.train_examples=64", "--dataset.batch_size=32", "--train.epochs=1"]
SWEEP = [
    *_SMALL,
    *("--model.name=mlp", "--dataset.image_size=none", "--sweep.method=grid"),
    *("--sweep.space=optimizer.learning_rate=[0.001,0.01]", "--sweep.parallel=2"),
]
_ADVISE = [
    *_SMALL,
    *("--model.name=lenet5", "--advise.strategies=head,everything"),
    *("--advise.examples=all", "--advise.seeds=1", "--advise.budget=epochs"),
]


class World:
    """What the tries share, made when it is first needed.

    Args:
        base: an empty folder.

    Attributes:
        base: that folder.
        places: the variables that say where caches and prepared data are.
        seconds: how long each undisturbed command took, where its programs were compiled already.
    """

    def __init__(self, base: pathlib.Path):
        self.base = base.resolve()
        self.seconds: dict[str, float] = {}
        self.places = {
            "CNN_JAX_CACHE": str(self.base / "cache"),
            "TFDS_DATA_DIR": str(self.base / "prepared"),
            "JAX_COMPILATION_CACHE_DIR": str(self.base / "programs"),
            "HOME": str(self.base / "home"),
        }
        self._made: dict[str, Any] = {}
        # A user without rights takes part in some tries.
        self.base.chmod(0o777)
        for path in self.places.values():
            pathlib.Path(path).mkdir(mode=0o777)
            pathlib.Path(path).chmod(0o777)

    def _once(self, name: str, make: Callable[[Bench], Any]) -> Any:
        if name not in self._made:
            bench = Bench(self.base / "undisturbed" / name, random.Random(0), self.places)
            self._made[name] = make(bench)
        return self._made[name]

    def photos(self) -> pathlib.Path:
        """Returns a folder of 54 PNG images of 8 x 8 pixels, three classes in three splits."""

        def make(bench: Bench) -> pathlib.Path:
            rng = np.random.default_rng(0)
            for split, count in (("train", 10), ("validation", 4), ("test", 4)):
                for label, name in enumerate(("cat", "dog", "owl")):
                    folder = bench.folder / "photos" / split / name
                    folder.mkdir(parents=True)
                    for number in range(count):
                        pixels = rng.integers(60 * label, 60 * label + 120, (8, 8, 3))
                        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
            return bench.folder / "photos"

        return self._once("photos", make)

    def run(self, name: str) -> pathlib.Path:
        """Returns the directory of a finished run, not evaluated yet."""
        return self._once(f"run-{name}", lambda bench: self._train(bench, name))

    def _train(self, bench: Bench, name: str) -> pathlib.Path:
        if name == "photos":
            copy(self.photos(), bench.folder / "photos")
        self._timed(bench, "train", name, ["--workdir=run", *RUNS[name]], "run")
        return bench.folder / "run"

    def _timed(self, bench: Bench, command: str, name: str, flags: list[str], target: str) -> None:
        """Runs a command twice, the second time with its programs compiled, and takes the time."""
        from benchmarks.harm import damages

        bench.succeed([command, *flags])
        damages.remove(bench.folder / target)
        began = time.monotonic()
        bench.succeed([command, *flags])
        self.seconds[f"{command} {name}".strip()] = time.monotonic() - began

    def wanted(self, name: str) -> dict[str, Any]:
        """Returns the figures of a finished run, not evaluated."""
        return figures(self.run(name))

    def evaluated(self, name: str) -> pathlib.Path:
        """Returns the directory of a finished run that was evaluated on its test split."""

        def make(bench: Bench) -> pathlib.Path:
            run = copy(self.run(name), bench.folder / "run")
            if name == "photos":
                copy(self.photos(), bench.folder / "photos")
            began = time.monotonic()
            bench.succeed(["evaluate", "--workdir=run"])
            self.seconds[f"evaluate {name}"] = time.monotonic() - began
            return run

        return self._once(f"evaluated-{name}", make)

    def killed(self, name: str) -> pathlib.Path:
        """Returns the directory of a run that was killed after its first epoch or second save."""

        def make(bench: Bench) -> pathlib.Path:
            if name == "photos":
                copy(self.photos(), bench.folder / "photos")
            last = 2 if "--checkpoint.every_steps=3" in RUNS[name] else 1

            def die_after_a_save() -> None:
                from cnn_jax.runs.checkpoints import Checkpoints

                save, count = Checkpoints.save, [0]

                def saved(self: Checkpoints, step: int, state: Any, meta: Any) -> None:
                    save(self, step, state, meta)
                    count[0] += 1
                    if count[0] == last:
                        self.wait()
                        os.kill(os.getpid(), signal.SIGKILL)

                Checkpoints.save = saved

            process = bench.start(["train", "--workdir=run", *RUNS[name]], before=die_after_a_save)
            process.sent.append(signal.SIGKILL)
            ended = bench.finish(process)
            if ended.code != -signal.SIGKILL:
                raise Fault(f"the run that was to be killed was not: {ended.stderr}")
            return bench.folder / "run"

        return self._once(f"killed-{name}", make)

    def sweep(self) -> dict[str, Any]:
        """Returns {settings: history} of the runs of an undisturbed sweep."""

        def make(bench: Bench) -> dict[str, Any]:
            self._timed(bench, "sweep", "", ["--workdir=sweep", *SWEEP], "sweep")
            return all_figures(bench.folder / "sweep")

        return self._once("sweep", make)

    def sweep_folder(self) -> pathlib.Path:
        """Returns the directory of an undisturbed sweep."""
        self.sweep()
        return self.base / "undisturbed" / "sweep" / "sweep"

    def advise(self) -> dict[str, Any]:
        """Returns {settings: history} of the runs of an undisturbed advise."""

        def make(bench: Bench) -> dict[str, Any]:
            flags = self.advise_command()[1:]
            self._timed(bench, "advise", "", ["--workdir=advice", *flags], "advice")
            return all_figures(bench.folder / "advice")

        return self._once("advise", make)

    def advise_command(self) -> list[str]:
        """Returns the command line of an advise, without its directory."""
        return ["advise", f"--transfer.weights={self.run('frozen')}", *_ADVISE]

    def advise_folder(self) -> pathlib.Path:
        """Returns the directory of an undisturbed advise."""
        self.advise()
        return self.base / "undisturbed" / "advise" / "advice"


def train(name: str, workdir: str = "run") -> list[str]:
    """Returns the command line of a run."""
    return ["train", f"--workdir={workdir}", *RUNS[name]]
