"""The public door: what `import cnn_jax` offers. Everything else is private to the package."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import optax

from cnn_jax import distributed, models, runtime
from cnn_jax.cli import presets
from cnn_jax.data import Data, Split, from_arrays, register_dataset
from cnn_jax.data.batches import Batch, Picked, TrainBatches, steps_per_epoch
from cnn_jax.data.feeding import Feed
from cnn_jax.data.reading import read_images
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset, Experiment
from cnn_jax.losses import Loss, register_loss
from cnn_jax.models import register_model
from cnn_jax.runs import changes, loading
from cnn_jax.runs.callbacks import Callback
from cnn_jax.runs.trained import Run
from cnn_jax.training import arguments, start
from cnn_jax.training.own_loop import Step
from cnn_jax.training.parts import prepare
from cnn_jax.training.state import TrainState

__all__ = [
    "batches",
    "create",
    "create_model",
    "from_arrays",
    "from_experiment",
    "from_folder",
    "load",
    "preset",
    "read_images",
    "register_dataset",
    "register_loss",
    "register_model",
    "train",
]

# Where a split of this size in GiB or less is put on the devices whole.
_RESIDENT_LIMIT = 2.0


def preset(name: str | os.PathLike[str]) -> Experiment:
    """Returns the experiment of a preset.

    Args:
        name: a preset's name, such as "cifar10_cnn"; or the path of a preset's `.py` file, which is
            run as your own code, or of a `config.json`.

    Raises:
        UsageError: there is no such preset, or it has an error.
    """
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"a preset is a name or a path, not {name!r}")
    return presets.load(os.fspath(name))


def from_experiment(dataset: Dataset | Experiment, *, test: bool = True) -> Data:
    """Loads the data that an experiment names.

    Args:
        dataset: the experiment, such as `cnn_jax.preset(NAME)`, or its section `dataset`.
        test: whether the test split is wanted.

    Raises:
        UsageError: there is no such data set.
        RunError: the data cannot be had or read.
    """
    if not isinstance(dataset, Dataset | Experiment):
        raise UsageError(f"give cnn_jax.preset(NAME) or a cnn_jax.Dataset(...), not {dataset!r}")
    experiment = dataset if isinstance(dataset, Experiment) else Experiment(dataset=dataset)
    loaded = changes.data_of(experiment, test=test)
    return dataclasses.replace(loaded, section=experiment.dataset)


def from_folder(
    path: str | os.PathLike[str], image_size: int | None = None, **settings: Any
) -> Data:
    """Loads a folder of images, `path/CLASS/*.jpg` or `path/train/CLASS/*` and so on.

        data = cnn_jax.from_folder("photos", image_size=64)
        run = cnn_jax.train(data, model="study_cnn", epochs=10)

    Args:
        path: the folder.
        image_size: height and width that images are resized to, in pixels; None: as stored.
        **settings: others of the section `cnn_jax.Dataset`, such as `on_error="skip"`.

    Raises:
        UsageError: there is no such setting, or the folder holds no classes.
        RunError: an image cannot be read.
    """
    path = str(path) if isinstance(path, os.PathLike) else path
    given = {"name": "folder", "path": path, "image_size": image_size, **settings}
    return from_experiment(Experiment().replace({f"dataset.{k}": v for k, v in given.items()}))


def train(
    what: Data | Experiment | Any,
    labels: Any = None,
    *,
    model: str | nn.Module | None = None,
    loss: str | Loss | None = None,
    optimizer: str | optax.GradientTransformation | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Data | None = None,
    workdir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Trains a network and returns it.

    Without a workdir nothing is written but what $CNN_JAX_CACHE is for: programs that JAX compiled
    and, of data and weights by name, decoded images and downloads. Without `progress` nothing is
    printed. With a workdir it does what the command line does, to the same bits, and the same call
    goes on with a run that was stopped.

        run = cnn_jax.train(data, model="resnet20", epochs=10, batch_size=128)
        run = cnn_jax.train(data, model=MyNet(), loss=focal, optimizer=optax.lion(1e-4))
        run = cnn_jax.train(cnn_jax.preset("cifar10_cnn"), workdir="runs/a")

    Args:
        what: the data, for an experiment of default settings; or an experiment; or images.
        labels: the labels of images; the two are what `cnn_jax.from_arrays` takes.
        model: a registered model's name, or any Linen module that is called as `(images)` or
            `(images, train)` and returns logits [batch, classes].
        loss: a loss's name, or a function (logits, labels) -> values [batch].
        optimizer: an optimizer's name, or any optax.GradientTransformation that needs no more than
            gradients, parameters and, by keyword, `value`, `grad` and `value_fn`.
        epochs: passes over the training split.
        batch_size: examples in a step, over all devices.
        learning_rate: the peak learning rate, of an optimizer by name.
        seed: of parameters, batch order, augmentation and dropout.
        settings: {dotted path: value} of any other setting, such as {"dataset.flip": True}.
        data: the data of an experiment, where they are not those that it names.
        workdir: the run directory.
        progress: whether a bar shows how training goes on, in a notebook too.
        callbacks: objects whose method `log` is told the curves; see `cnn_jax.Callback`.

    Returns:
        The run, with the variables of the best epoch by validation.

    Raises:
        UsageError: the arguments do not fit together; the message names the setting.
        RunError: data or weights cannot be read, or training diverged.
        KeyboardInterrupt: Ctrl-C; with a workdir the state is saved first.
    """
    runtime.start()
    rest = (loss, optimizer, epochs, batch_size, learning_rate, seed, settings)
    config, data, values = arguments.read(what, labels, data, model, *rest)
    how = {"workdir": workdir, "progress": progress, "callbacks": callbacks}
    return start.train(config, data, **values, **how)


def load(
    directory: str | os.PathLike[str],
    checkpoint: str | int = "best",
    *,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Returns the trained network of a run directory; see `cnn_jax.runs.loading.load`."""
    runtime.start()
    return loading.load(directory, checkpoint, model=model, loss=loss, settings=settings)


def create_model(name: str, num_outputs: int, **options: Any) -> Any:
    """Returns a registered model, a Linen module without parameters yet.

        model = cnn_jax.create_model("resnet20", 10)
        variables = model.init(jax.random.key(0), images)
        logits = model.apply(variables, images)

    Args:
        name: the model's name, as `cnn-jax models` lists them.
        num_outputs: logits for an image.
        **options: `head`, `dtype` and the model's own, such as `dropout_rate`.

    Raises:
        UsageError: no model has this name, or an option has no effect on it.
    """
    if num_outputs < 1:
        raise UsageError(f"num_outputs must be at least 1, not {num_outputs}")
    return models.create(name, num_outputs, **options)


def batches(
    split: Split | Data,
    batch_size: int,
    *,
    seed: int | None = 0,
    epochs: int = 1,
    start: int = 0,
    balanced: bool = False,
) -> Iterator[Batch | Picked]:
    """Returns the batches of some epochs, one by one, in the order in which `train` takes them.

    A batch has `images`, `labels`, and `weights`: the last batch of an epoch is filled up with
    examples of weight 0. The images wait on the devices, or are streamed where they are too many.

    Args:
        split: the examples, such as `data.train`, which is also meant by `data`.
        batch_size: examples in a batch.
        seed: of the order, which is a function of seed and epoch; None: in the order they are in.
        epochs: passes over the split.
        start: steps to leave out, of a run that goes on.
        balanced: whether an epoch draws equally many examples of each class.

    Raises:
        UsageError: a number is out of its range, or the batch cannot be split over the devices.
    """
    split = split.train if isinstance(split, Data) else split
    if not isinstance(split, Split):
        raise UsageError(f"give a Split such as data.train, not {type(split).__name__}")
    if batch_size < 1 or epochs < 1 or start < 0:
        raise UsageError("batch_size and epochs are 1 or more, and start is 0 or more")
    if balanced and seed is None:
        raise UsageError("balanced batches are drawn by chance: give a seed")
    mesh = distributed.make_mesh()
    distributed.check_batch_size("batch_size", batch_size, mesh)
    count = epochs * steps_per_epoch(len(split), batch_size) - start
    labels = split.labels if balanced else None
    order = TrainBatches(seed, len(split), batch_size, start, balance=labels)
    return itertools.islice(Feed(split, mesh, _RESIDENT_LIMIT).batches(order), max(0, count))


def create(
    what: Data | Experiment | Any,
    labels: Any = None,
    *,
    model: str | nn.Module | None = None,
    loss: str | Loss | None = None,
    optimizer: str | optax.GradientTransformation | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Data | None = None,
) -> tuple[TrainState, Step]:
    """Returns the first state and the train step, for those who write their own loop.

        state, step = cnn_jax.create(data, model="study_cnn", learning_rate=1e-3)
        for batch in cnn_jax.batches(data.train, 64, seed=0):
            state = step(state, batch)

    The arguments are those of `train`; `epochs` and `batch_size` tell learning-rate schedules how
    long the run is.

    Raises:
        UsageError: the arguments do not fit together.
        RunError: data or weights cannot be read.
    """
    runtime.start()
    rest = (loss, optimizer, epochs, batch_size, learning_rate, seed, settings)
    config, data, values = arguments.read(what, labels, data, model, *rest)
    parts = prepare(arguments.name_values(config, data, **values), data, **values)
    return parts.first_state(), Step(parts)
