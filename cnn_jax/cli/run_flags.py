"""The run flags: those that are no setting of an Experiment, whose flags follow from its fields."""

from typing import Any, NamedTuple

from cnn_jax.options import VIEWS


class RunFlag(NamedTuple):
    """A flag that is no setting of an Experiment.

    Attributes:
        name: the flag without its dashes.
        kind: the type of its value, as the help shows it.
        help: one sentence.
        default: the value where it is not given.
        choices: the legal values; () where there is no such list.
        commands: the commands that accept it; () for all of them.
        without_effect_on: commands that accept or refuse it, but have no use for it.
        repeated: whether it may be given several times, each time with one more value.
    """

    name: str
    kind: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    without_effect_on: tuple[str, ...] = ()
    repeated: bool = False


_LISTS = ("models", "compare", "report")

# The values of --format; the first is meant where it is not given, but for export.
FORMATS = {
    "predict": ("table", "json", "csv"),
    "compare": ("table", "json", "markdown", "csv"),
    "explain": ("table", "json"),
    "report": ("html", "card"),
    "export": ("stablehlo", "onnx", "safetensors", "keras"),
}

RUN_FLAGS = (
    RunFlag(
        "config",
        "preset",
        "a preset's name, its .py file, or a run's config.json",
        without_effect_on=(
            *("evaluate", "predict", "explain", "page", "trust", "export"),
            *_LISTS,
        ),
    ),
    RunFlag("workdir", "directory", "the run directory", without_effect_on=_LISTS),
    RunFlag(
        "code",
        "FILE.py",
        "your Python file that registers models, losses or data sets, or has CALLBACKS; a "
        "--config that is a .py file counts as one",
        (),
        repeated=True,
    ),
    RunFlag("quiet", "bool", "print no progress", False),
    RunFlag("debug", "bool", "show the traceback of an error", False),
    RunFlag(
        "platform",
        "str",
        "where to compute; none: JAX's own choice",
        None,
        ("cpu", "gpu", "tpu"),
        without_effect_on=_LISTS,
    ),
    RunFlag(
        "cpu_tuning",
        "bool",
        "set XLA and the allocator so that a CPU is fast",
        True,
        without_effect_on=_LISTS,
    ),
    RunFlag(
        "cpu_convolutions",
        "str",
        "which library computes convolutions and normalises batches on a CPU; auto: winograd if "
        "onednn is installed, else xla",
        "auto",
        ("auto", "winograd", "onednn", "xla"),
        without_effect_on=_LISTS,
    ),
    RunFlag(
        "distributed",
        "auto|off|HOST:PORT,COUNT,INDEX",
        "train with several processes; auto: with those of srun, mpirun, a Kubernetes job or a "
        "Cloud TPU pod, where there are several",
        "auto",
        without_effect_on=("sweep", *_LISTS),
    ),
    RunFlag(
        "distributed_timeout",
        "seconds",
        "what to wait for the other processes at the start",
        600,
        commands=("train", "evaluate"),
    ),
    RunFlag(
        "checkpoint",
        "best|last|STEP",
        "which checkpoint: best by validation, the newest, or that of a step",
        "best",
        commands=("evaluate", "predict", "explain", "page", "trust", "export"),
    ),
    RunFlag(
        "split",
        "str",
        "the split to look at; none: test where the data has it, else validation",
        None,
        ("test", "validation", "train"),
        ("evaluate", "explain"),
    ),
    RunFlag(
        "views",
        "str",
        "average over views of each image: itself and its mirror image; these two, each also "
        "shifted by a pixel in two directions",
        "one",
        VIEWS,
        ("evaluate", "trust"),
    ),
    RunFlag(
        "operating_point",
        "RATE:VALUE",
        "of two classes also measure at the threshold at which validation images reach a rate "
        "(sensitivity:0.95, specificity:0.9), or at threshold:0.3",
        commands=("evaluate",),
    ),
    RunFlag(
        "worst",
        "int",
        "name and draw this number of errors, those that the network is surest of; at most 100",
        12,
        commands=("evaluate",),
    ),
    RunFlag(
        "format",
        "str",
        "how results are printed; of report what is written, a page or a model card; of export how "
        "the network is written",
        None,
        tuple(dict.fromkeys(each for formats in FORMATS.values() for each in formats)),
        tuple(FORMATS),
    ),
    RunFlag(
        "where",
        "CONDITION,...",
        "which runs to compare, such as model.name=mlp,seconds<60",
        commands=("compare",),
    ),
    RunFlag(
        "sort",
        "NAME",
        "the setting or metric to sort by, -NAME in reverse; none: validation_accuracy",
        commands=("compare",),
    ),
    RunFlag(
        "profile",
        "FIRST:LAST",
        "trace these steps of the run, for TensorBoard's profile plugin and Perfetto",
        commands=("train",),
    ),
    RunFlag(
        "layers",
        "bool",
        "print every layer, also of a network with more than 40 of them",
        False,
        commands=("describe",),
    ),
    RunFlag(
        "json",
        "bool",
        "print every setting as JSON, and nothing else",
        False,
        commands=("describe",),
    ),
    RunFlag(
        "augmented",
        "bool",
        "draw 25 training images before and after augmentation, and nothing else",
        False,
        commands=("data",),
    ),
    RunFlag(
        "images",
        "bool",
        "show images and the names and places of files; leave them out where they are private",
        True,
        commands=("report", "page"),
    ),
    RunFlag(
        "output",
        "file",
        "where to save the picture of a network or of a comparison (.png, .svg; none: nowhere), or "
        "the report or page (.html; none: report.html or page.html in its directory) or the card "
        "(.md; none: README.md there), or the predictions (.csv; none: they are printed); of data "
        "and export the directory to write to",
        commands=("describe", "compare", "report", "predict", "page", "data", "export"),
    ),
)

# Commands whose --output is a directory; and how the file of the others' may end.
DIRECTORIES = ("data", "export")
ENDINGS = {
    "describe": (".png", ".svg"),
    "compare": (".png", ".svg"),
    "report": (".html",),
    "report card": (".md",),  # with --format=card
    "predict": (".csv",),
    "page": (".html",),
}
