"""Measures what each augmentation costs beside a training step, and draws what it does.

    python benchmarks/augmentation.py

Every augmentation is compiled alone and takes a batch of 128 uint8 images of 32 x 32 x 3, as it
does within a step; all take turns in every round. The step is that of resnet18_cifar on the same
batch, without augmentation. Seconds and processor seconds are the fewest of the rounds. Shares are
of the step's processor seconds, divided by the number of cores: other work of the machine changes
these least, and a step that kept all cores busy would take so long. Results go to
docs/results/augmentation.md and .json, and a picture of CIFAR-10's images, where it is prepared, to
docs/figures/augmentation.png.
"""

import argparse
import datetime
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import cpu, data, experiment, runtime  # noqa: E402
from cnn_jax.data import augmentation  # noqa: E402
from cnn_jax.data.batches import Batch  # noqa: E402
from cnn_jax.data.cache import cores  # noqa: E402
from cnn_jax.errors import UserError  # noqa: E402
from cnn_jax.experiment import Dataset  # noqa: E402
from cnn_jax.reporting import figures, tables  # noqa: E402
from cnn_jax.runs import environment  # noqa: E402
from cnn_jax.training import loop, parts, steps  # noqa: E402

RESULT = ROOT / "docs" / "results" / "augmentation.json"
PICTURE = ROOT / "docs" / "figures" / "augmentation.png"
BATCH = 128
_DRAWN = 10
# {setting as it is typed: the settings of a data set}
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "flip": {"flip": True},
    "crop_padding=4": {"crop_padding": 4},
    "random_crop=0.3": {"random_crop": 0.3},
    "zoom=0.3": {"zoom": 0.3},
    "shear=20": {"shear": 20.0},
    "rotation=20": {"rotation": 20.0},
    "translation=0.15": {"translation": 0.15},
    "brightness=0.4": {"brightness": 0.4},
    "contrast=0.6": {"contrast": 0.6},
    "saturation=0.8": {"saturation": 0.8},
    "hue=0.15": {"hue": 0.15},
    "trivial_augment": {"trivial_augment": True},
    "cutout=12": {"cutout": 12},
    "random_erasing=0.5": {"random_erasing": 0.5},
    "mixup=0.4": {"mixup": 0.4},
    "cutmix=1": {"cutmix": 1.0},
}
_GEOMETRY = ("random_crop=0.3", "zoom=0.3", "shear=20", "rotation=20", "translation=0.15")
_COLOURS = ("brightness=0.4", "contrast=0.6", "saturation=0.8", "hue=0.15")
TOGETHER = {"all five of geometry": _GEOMETRY, "all four of colour": _COLOURS}


def augmenter(settings: dict[str, Any], mean: tuple[float, ...]) -> Callable[..., jax.Array]:
    """Returns a jitted function (images uint8, key) -> augmented images."""
    dataset = Dataset(**settings)
    mix = augmentation.make_mix(dataset, 10)

    def run(images: jax.Array, key: jax.Array) -> jax.Array:
        images = augmentation.apply(dataset, images, key, mean)
        if mix is None:
            return images
        labels = jnp.zeros(len(images), jnp.int32)
        return mix(images.astype(jnp.float32), labels, key)[0]

    return jax.jit(run, compiler_options=cpu.compiler_options())


def fastest(
    functions: dict[str, Callable[[int], Any]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Returns (seconds, processor seconds), the fewest of some calls; the functions take turns.

    Args:
        functions: {name: function of the number of the round}.
        rounds: calls of each, after one that is not measured.
    """
    best = dict.fromkeys(functions, (float("inf"), float("inf")))
    for number in range(rounds + 1):
        for name, function in functions.items():
            clocks = (time.perf_counter, time.process_time)
            began = [clock() for clock in clocks]
            jax.block_until_ready(function(number))
            took = [clock() - start for clock, start in zip(clocks, began, strict=True)]
            if number:
                best[name] = (min(best[name][0], took[0]), min(best[name][1], took[1]))
    return best


def train_step(images: np.ndarray, labels: np.ndarray) -> Callable[[int], Any]:
    """Returns a function that makes one step of resnet18_cifar on a batch."""
    config = experiment.Experiment().replace(
        {"model.name": "resnet18_cifar", "dataset.batch_size": BATCH}
    )
    given = data.from_arrays(images, labels)
    ready = parts.prepare(config, given)
    step = loop.jit_step(steps.make_train_step(ready.plan), ready.mesh)
    hyper, weights = ready.hyperparameters(), np.ones(BATCH, np.float32)
    batch = Batch(images[:BATCH], labels[:BATCH], weights, np.arange(BATCH, dtype=np.int32))
    state = [ready.first_state()]

    def run(_: int) -> Any:
        state[0] = step(state[0], batch, hyper)
        return state[0].step

    return run


def picture(images: np.ndarray, mean: tuple[float, ...]) -> None:
    """Draws ten images under every augmentation."""
    x = jnp.asarray(images[:_DRAWN])
    rows = {"as stored": np.asarray(x)}
    for name, settings in AUGMENTATIONS.items():
        found = augmenter(settings, mean)(x, jax.random.key(3))
        rows[name] = np.asarray(jnp.clip(jnp.round(found), 0, 255).astype(jnp.uint8))
    figures.save(figures.augmented(rows), PICTURE)


def page(result: dict[str, Any]) -> str:
    """Returns the page of the results."""
    wall, processor = result["step"]
    quiet = processor / result["cores"]
    rows = [
        [f"`{name}`", f"{1e3 * own[0]:.2f}", f"{1e3 * own[1]:.2f}", f"{own[0] / quiet:.2%}"]
        for name, own in result["augmentations"].items()
    ]
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    heads = ["setting", "ms", "processor ms", "of a step"]
    return (
        "# What augmentation costs\n\n"
        f"{tables.markdown(rows, heads)}\n\n"
        f"A step of `resnet18_cifar` takes {1e3 * processor:,.0f} ms of processor time on the same "
        f"batch of {result['batch']} images of 32 x 32 x 3: forward, backward and update, without "
        f"augmentation; {1e3 * wall:,.0f} ms passed meanwhile. Shared evenly by {result['cores']} "
        f"cores that is {1e3 * quiet:,.0f} ms, of which the last column is a share. Each setting "
        "is compiled alone, with the copy of the batch that it makes. All are the fewest of "
        f"{result['rounds']} rounds, of the step of {result['step_rounds']}. {result['note']}\n\n"
        f"Made by `python benchmarks/augmentation.py` on {result['date']}, on "
        f"{result['cores']} cores of {result['processor']}; {packages}.\n"
    )


def main() -> int:
    """Measures, draws and writes; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--step-rounds", type=int, default=10)
    parser.add_argument("--note", default="", help="a sentence on the machine")
    options = parser.parse_args()
    try:
        info = (found := data.load(Dataset(name="cifar10"), test=False)).info
        images, labels = np.asarray(found.train.images[:1000]), found.train.labels[:1000]
        mean = tuple(255 * value for value in info.mean)
        picture(images, mean)
        print(f"figure     {PICTURE}")
    except UserError as error:
        print(f"there is no picture: {error}")
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (1000, 32, 32, 3), np.uint8)
        labels, mean = np.arange(1000, dtype=np.int32) % 10, (127.5,) * 3
    batch = jnp.asarray(images[:BATCH])
    together = {
        name: {k: v for each in names for k, v in AUGMENTATIONS[each].items()}
        for name, names in TOGETHER.items()
    }
    functions = {}
    for name, settings in {**AUGMENTATIONS, **together}.items():
        jitted = augmenter(settings, mean)
        functions[name] = lambda number, jitted=jitted: jitted(batch, jax.random.key(number))
    measured = fastest(functions, options.rounds)
    step = fastest({"step": train_step(images, labels)}, options.step_rounds)["step"]
    result = {
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
        "cores": cores(),
        "packages": {
            name: version
            for name, version in environment.environment()["packages"].items()
            if name in ("jax", "jaxlib", "flax", "numpy", "onednn")
        },
        "batch": BATCH,
        "rounds": options.rounds,
        "step_rounds": options.step_rounds,
        "note": options.note,
        "step": step,
        "augmentations": measured,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    text = page(result)
    RESULT.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
