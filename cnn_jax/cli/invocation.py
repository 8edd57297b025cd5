"""The commands, the settings that each takes, and the Invocation: a command line as it was read."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from cnn_jax import experiment, sections, settings
from cnn_jax.options import Advise, Explain, Labels, Page, Sweep, Trust

# `Command.settings` of a command that takes them all: every path starts with "".
EVERY_SETTING = ("",)
# What is done with image files that a person names.
_FILES = ("dataset.bit_depth", "dataset.on_error", "dataset.max_megapixels")


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        name: the word that calls it, and the module in `cnn_jax.cli` that runs it.
        help: one line for `--help`.
        example: a command line without the program's name.
        arguments: the positional arguments, as the help shows them, in brackets where it may go
            without; "" where it takes none.
        settings: the settings of an Experiment that it acts on, by what their paths start with.
        reads_run: whether a setting that is not given has the value it has in the run.
        computes: whether it needs the accelerator; if not, it leaves that to other processes.
        together: whether several processes can do it together.
    """

    name: str
    help: str
    example: str
    arguments: str = ""
    settings: tuple[str, ...] = ()
    reads_run: bool = False
    computes: bool = True
    together: bool = False


COMMANDS = (
    Command(
        "train",
        "train a model, or resume the run in --workdir (the default)",
        "train --config=cifar10_cnn --train.epochs=10 --workdir=runs/cifar10",
        settings=EVERY_SETTING,
        together=True,
    ),
    Command(
        "evaluate",
        "measure a trained model on every example of a split",
        "evaluate --workdir=runs/cifar10 --split=validation",
        settings=(
            *sections.IMAGES,
            "dataset.data_dir",
            "dataset.bit_depth",
            "dataset.on_error",
            "dataset.max_megapixels",
            "dataset.verify",
            "dataset.follow_links",
            "dataset.positive",
            "dataset.ordered",
            "dataset.eval_batch_size",
            "dataset.resident_limit",
        ),
        reads_run=True,
        together=True,
    ),
    Command(
        "predict",
        "classify image files, or those of a folder, with a trained model",
        "predict --workdir=runs/cifar10 photos --output=found.csv",
        "IMAGE...",
        settings=(*_FILES, "model.name", "transfer.weights"),
    ),
    Command(
        "trust",
        "calibrate a trained model, and certify how much it may answer on its own",
        "trust --workdir=runs/cifar10 --trust.max_error=0.02",
        settings=(
            "dataset.path",
            "dataset.data_dir",
            "dataset.on_error",
            "dataset.max_megapixels",
            "dataset.verify",
            "dataset.follow_links",
            "dataset.root",
            "dataset.eval_batch_size",
        ),
        reads_run=True,
    ),
    Command(
        "explain",
        "show why a trained model says what it says of images, with tests of each map",
        "explain --workdir=runs/cifar10 cat.jpg --explain.against=dog",
        "[IMAGE...]",
        settings=(
            "dataset.path",
            "dataset.data_dir",
            "dataset.root",
            *_FILES,
            "dataset.verify",
        ),
        reads_run=True,
    ),
    Command(
        "describe",
        "print classes, layers, steps, memory and settings without training",
        "describe --config=cifar10_cnn --model.name=resnet20 --output=resnet20.png",
        settings=EVERY_SETTING,
    ),
    Command(
        "data",
        "before training: classes, copies across splits, shapes; of a run: doubtful labels",
        "data --config=cifar10_cnn --output=data_report/cifar10",
        settings=EVERY_SETTING,
    ),
    Command(
        "models",
        "list the models: parameters, FLOPs, input, weights, published accuracy",
        "models",
    ),
    Command(
        "advise",
        "freeze or fine-tune? trains with every strategy on your data and compares",
        "advise --config=cats_vs_dogs_vgg16 --advise.examples=100,500,all --workdir=runs/advice",
        settings=EVERY_SETTING,
    ),
    Command(
        "compare",
        "show the results of runs side by side: seeds folded, ties marked",
        "compare runs --where=model.name=mlp --sort=-seconds",
        "RUN...",
        computes=False,
    ),
    Command(
        "report",
        "write one HTML page of a run or a sweep, to send to somebody, or a model card",
        "report runs/sweep --output=report.html",
        "RUN",
        computes=False,
    ),
    Command(
        "page",
        "write one HTML page in which the trained network runs, to see how it works",
        "page --workdir=runs/digits_lenet --output=page.html",
        settings=("dataset.path", "dataset.data_dir", "dataset.root"),
        reads_run=True,
    ),
    Command(
        "export",
        "write the network for others: ONNX, StableHLO, weights for PyTorch or Keras",
        "export --workdir=runs/cifar10 --format=onnx --output=cifar10_onnx",
        settings=("dataset.path", "dataset.data_dir", "dataset.root"),
        reads_run=True,
    ),
    Command(
        "sweep",
        "search hyperparameters: grid, random or TPE, with early stopping, resumable",
        "sweep --config=digits_lenet --sweep.space='optimizer.learning_rate=log(1e-4,1e-1)'",
        settings=EVERY_SETTING,
        computes=False,
    ),
)


# Sections of flags that belong to the command of that name, and are no part of an Experiment.
SECTIONS: dict[str, type] = {
    "advise": Advise,
    "sweep": Sweep,
    "data": Labels,
    "explain": Explain,
    "page": Page,
    "trust": Trust,
}

# (dotted path, field) of everything that is a flag.
Fields = list[tuple[str, dataclasses.Field]]
SECTION_FIELDS: dict[str, Fields] = {
    name: settings.fields(section, f"{name}.") for name, section in SECTIONS.items()
}


def experiment_fields() -> Fields:
    """Returns the settings that are flags: all but the name, which is the preset's file name."""
    return [(path, field) for path, field in experiment.fields() if path != "name"]


def fields_of(command: Command | None) -> Fields:
    """Returns the settings that a command acts on; None: those of all commands."""
    if command is None:
        return [*experiment_fields(), *itertools.chain(*SECTION_FIELDS.values())]
    chosen = [(p, field) for p, field in experiment_fields() if p.startswith(command.settings)]
    return [*chosen, *SECTION_FIELDS.get(command.name, [])]


def command_of(name: str) -> Command:
    """Returns the command of a name that is known to be one."""
    return next(command for command in COMMANDS if command.name == name)


@dataclasses.dataclass(frozen=True)
class Invocation:
    """A command line, read and checked.

    Attributes:
        command: the name of one of COMMANDS, or "help", or "version".
        arguments: the positional arguments after the command; of "help" the command it is about.
        overrides: {dotted path: value} of the Experiment flags that were given, and no others.
        config: the value of `--config`; None where it was not given.
        workdir: the run directory; None where it was not given.
        code: the user's own Python files, as they were given.
        quiet: whether progress is suppressed.
        debug: whether errors show their traceback.
        platform: a value for JAX's `jax_platforms`; None leaves the choice to JAX.
        cpu_tuning: whether a CPU gets the settings that make it fast.
        cpu_convolutions: which library computes convolutions on a CPU; see `cnn_jax.cpu.using`.
        distributed: which processes train together; see `cnn_jax.processes.joined`.
        distributed_timeout: seconds to wait for them.
        checkpoint: "best", "last" or a step.
        split: the split to evaluate; None for the data's own default.
        views: a value of `options.VIEWS`.
        operating_point: the rule of a threshold, such as "sensitivity:0.95", or None.
        worst: how many of the surest errors are named and drawn.
        format: one of `run_flags.FORMATS` of the command.
        profile: the first and the last step to trace; None: no trace.
        layers: whether every layer is printed, however many there are.
        json: whether the configuration is printed as JSON, and nothing else.
        augmented: whether images are drawn before and after augmentation.
        images: whether a page shows images and the names and places of files.
        output: the file to write a picture or a report to; None where it was not given.
        where: which runs to compare.
        sort: the name to sort them by.
        advise: {field of options.Advise: value} of the flags that were given.
        sweep: {field of options.Sweep: value}, likewise.
        data: {field of options.Labels: value}, likewise.
        explain: {field of options.Explain: value}, likewise.
        page: {field of options.Page: value}, likewise.
        trust: {field of options.Trust: value}, likewise.
    """

    command: str = "train"
    arguments: tuple[str, ...] = ()
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: str | None = None
    workdir: str | None = None
    code: tuple[str, ...] = ()
    quiet: bool = False
    debug: bool = False
    platform: str | None = None
    cpu_tuning: bool = True
    cpu_convolutions: str = "auto"
    distributed: str = "auto"
    distributed_timeout: int = 600
    checkpoint: str | int = "best"
    split: str | None = None
    views: str = "one"
    operating_point: str | None = None
    worst: int = 12
    format: str = "table"
    profile: tuple[int, int] | None = None
    layers: bool = False
    json: bool = False
    augmented: bool = False
    images: bool = True
    output: str | None = None
    where: str | None = None
    sort: str | None = None
    advise: dict[str, Any] = dataclasses.field(default_factory=dict)
    sweep: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    explain: dict[str, Any] = dataclasses.field(default_factory=dict)
    page: dict[str, Any] = dataclasses.field(default_factory=dict)
    trust: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def code_flags(self) -> list[str]:
        """The flags that make the user's own models, losses and data sets known elsewhere."""
        own = [*self.code, *([self.config] if self.has_code_as_config else [])]
        files = dict.fromkeys(Path(file).expanduser().resolve() for file in own if file)
        return [f"--code={file}" for file in files]

    @property
    def has_code_as_config(self) -> bool:
        """Whether `--config` names a Python file, which is then run for what it registers too."""
        return self.config is not None and self.config.endswith(".py")

    @property
    def machine_flags(self) -> list[str]:
        """The flags that a process started by this one needs: where to compute, whose code."""
        platform = [] if self.platform is None else [f"--platform={self.platform}"]
        tuning = [] if self.cpu_tuning else ["--nocpu_tuning"]
        asked = self.cpu_convolutions
        convolutions = [] if asked == "auto" else [f"--cpu_convolutions={asked}"]
        return [*platform, *tuning, *convolutions, *self.code_flags]
