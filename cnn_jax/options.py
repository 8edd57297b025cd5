"""The settings of commands such as `advise` and `sweep`, which are no part of an Experiment.

It has over 300 lines because the settings of every such command stand here and nowhere else.
"""

import dataclasses
from typing import Literal

from cnn_jax.errors import UsageError
from cnn_jax.patterns import MOST_FOLDS
from cnn_jax.settings import check_all, setting
from cnn_jax.text import whole_number

VIEWS = ("one", "mirror", "mirror_translate")
STRATEGIES = ("head", "last_block", "last_two_blocks", "everything", "scratch")


@dataclasses.dataclass(frozen=True)
class Advise:
    """Which strategies the command `advise` compares, at which sizes and costs.

    Raises:
        UsageError: a value is outside its range, or has another form.
    """

    strategies: str = setting(
        "all", "some of " + ", ".join(STRATEGIES) + ", separated by commas; or all"
    )
    examples: str = setting(
        "100,500,all",
        "numbers of training images, separated by commas; all: every image",
    )
    seeds: int = setting(
        3, "runs of every strategy at every size, with a different seed each", minimum=1
    )
    budget: Literal["epochs,flops", "epochs", "flops"] = setting(
        "epochs,flops",
        "what every strategy may spend; epochs: the preset's; flops: as many as training the last "
        "block takes for the preset's epochs; both: two comparisons",
    )
    backbone_lr_scale: float = setting(
        0.1,
        "learning rate of a backbone that is trained, as a share of the head's",
        above=0,
    )
    minutes: float | None = setting(
        None,
        "what the comparison may take: fewer seeds, epochs and strategies where it would take "
        "longer; none: as long as it takes",
        above=0,
    )

    def __post_init__(self) -> None:
        check_all(self, "advise.")
        unknown = [name for name in self.chosen if name not in STRATEGIES]
        if unknown or len(set(self.chosen)) < len(self.chosen):
            raise UsageError(
                f"--advise.strategies takes some of {','.join(STRATEGIES)}, each once, "
                f"not {self.strategies!r}"
            )
        for size in self.examples.split(","):
            if size != "all" and not whole_number(size):
                raise UsageError(
                    "--advise.examples takes numbers of training images and all, such as "
                    f"100,500,all, not {self.examples!r}"
                )

    @property
    def chosen(self) -> list[str]:
        """The strategies, in the order given."""
        return list(STRATEGIES) if self.strategies == "all" else self.strategies.split(",")

    def sizes(self, whole: int) -> list[int]:
        """Returns the sizes as numbers, ascending and without repetition.

        Args:
            whole: the number of training images there are.
        """
        return sorted({whole if n == "all" else int(n) for n in self.examples.split(",")})

    @property
    def budgets(self) -> list[str]:
        """The budgets, in the order given."""
        return list(map(str, self.budget.split(",")))


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Which settings the command `sweep` varies, how it searches, and who works on it.

    Raises:
        UsageError: a value is outside its range, or has another form.
    """

    space: str | None = setting(
        None,
        "settings and their ranges, such as 'optimizer.learning_rate=log(1e-4,1e-1) "
        "model.name=[study_cnn,lenet5]'; also uniform(LOW,HIGH) and int(LOW,HIGH); for a grid, a "
        "third number is the number of points",
    )
    method: Literal["grid", "random", "tpe"] = setting(
        "random",
        "grid: every combination; random: drawn independently; tpe: Bayesian, by a tree of Parzen "
        "estimators",
    )
    trials: int = setting(
        20, "combinations of values to try with random and tpe", minimum=1, resumable=True
    )
    seeds: int = setting(1, "runs of each combination, which is ranked by their mean", minimum=1)
    folds: int | None = setting(
        None,
        "train each combination on each of this many folds of 'train' (cross-validation), with "
        "each of its seeds; it is ranked by the mean; none: no folds",
        minimum=2,
        maximum=MOST_FOLDS,
    )
    prune: Literal["none", "median", "asha"] = setting(
        "none",
        "stop a combination early by the validation accuracy of its first run; median: below the "
        "median of the others at the same epoch; asha: not in the best third at epochs 1, 3, 9, "
        "... (successive halving)",
    )
    parallel: int = setting(
        1, "number of workers; with local, this process is one of them", minimum=1, resumable=True
    )
    storage: str | None = setting(
        None, "an Optuna storage address; none: a journal file in the sweep's directory"
    )
    launcher: Literal["local", "slurm", "ray"] = setting(
        "local",
        "who starts the --sweep.parallel workers; slurm needs submitit, ray needs Ray",
        resumable=True,
    )
    resources: str | None = setting(
        None,
        "what Slurm gives each worker, as parameters of submitit, such as slurm_partition=gpu,"
        "gpus_per_node=1,timeout_min=240; or what Ray gives it, such as num_gpus=1",
        resumable=True,
    )

    def __post_init__(self) -> None:
        check_all(self, "sweep.")
        if self.resources is not None and self.launcher == "local":
            raise UsageError(
                "--sweep.resources has no effect on this machine's own processes; leave it out or "
                "give --sweep.launcher=slurm or ray"
            )


@dataclasses.dataclass(frozen=True)
class Labels:
    """How the command `data` looks for wrong training labels of a run.

    Raises:
        UsageError: a value is outside its range.
    """

    folds: int = setting(
        4, "networks or heads, each of which leaves out one part of the training images", minimum=2
    )
    method: Literal["auto", "retrain", "heads"] = setting(
        "auto",
        "retrain: train the run's experiment anew for each fold; heads: fit a linear classifier on "
        "its features for each fold; auto: heads where its backbone was left frozen, else retrain",
    )
    epochs: int | None = setting(
        None, "epochs of each network that is trained anew; none: as many as the run", minimum=1
    )

    def __post_init__(self) -> None:
        check_all(self, "data.")


@dataclasses.dataclass(frozen=True)
class Explain:
    """What the command `explain` explains, and how.

    Raises:
        UsageError: a value is outside its range, or has another form.
    """

    class_: str | None = setting(
        None, "the class whose evidence is shown; none: the most probable one"
    )
    against: str | None = setting(
        None, "why the class and not this one: maps of the difference of their logits"
    )
    methods: str | None = setting(
        None,
        "maps, separated by commas: hirescam, gradcam (of a layer), occlusion, ig (integrated "
        "gradients), smoothgrad (of pixels); none: hirescam where there is a feature map, "
        "occlusion and ig",
    )
    layer: str | None = setting(
        None,
        "the feature map of hirescam, gradcam, features and units: a stage, or the path of a "
        "module; none: the last feature map",
    )
    box: str | None = setting(
        None,
        "TOP,LEFT,BOTTOM,RIGHT as shares of the image, such as 0.25,0.25,0.75,0.75: how much of "
        "each map lies there",
    )
    worst: int | None = setting(
        None, "explain this many errors of the split, the most certain first", minimum=1
    )
    pair: str | None = setting(
        None,
        "explain typical confusions of two classes, such as cat,dog; auto: of the two that are "
        "confused most",
    )
    features: bool = setting(
        False,
        "draw the strongest feature maps of the layer for each image, and the network's first "
        "filters",
    )
    units: str | None = setting(
        None,
        "channels of the layer, such as 3,17: the images of the split that excite them most; the "
        "network's first filters are drawn too",
    )
    maximise: bool = setting(
        False, "with units: an image that excites each unit, made by gradient ascent"
    )
    steps: int = setting(
        128, "points between the mean image and the image in integrated gradients", minimum=1
    )
    draws: int = setting(
        3, "networks with weights drawn anew that a map of a layer is compared with", minimum=1
    )
    output: str | None = setting(
        None, "the folder of the pictures; none: explanations/ in the run directory"
    )

    def __post_init__(self) -> None:
        check_all(self, "explain.")
        self.region  # noqa: B018  refuses what is no region
        units = [] if self.units is None else map(whole_number, self.units.split(","))
        if any(unit is None for unit in units):
            raise UsageError(f"--explain.units takes numbers such as 3,17, not {self.units!r}")
        if self.maximise and self.units is None:
            raise UsageError("--explain.maximise needs --explain.units")
        if self.pair not in (None, "auto") and len(str(self.pair).split(",")) != 2:
            raise UsageError(f"--explain.pair takes two classes or auto, not {self.pair!r}")

    @property
    def region(self) -> tuple[float, float, float, float] | None:
        """The box as (top, left, bottom, right), or None."""
        if self.box is None:
            return None
        try:
            top, left, bottom, right = map(float, self.box.split(","))
        except ValueError:
            top, left, bottom, right = 1.0, 1.0, 0.0, 0.0
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise UsageError(
                "--explain.box takes TOP,LEFT,BOTTOM,RIGHT in 0..1, such as 0.25,0.25,0.75,0.75, "
                f"not {self.box!r}"
            )
        return top, left, bottom, right

    @property
    def chosen(self) -> list[str] | None:
        """The methods, in the order given; None: they were not."""
        return None if self.methods is None else self.methods.split(",")


@dataclasses.dataclass(frozen=True)
class Page:
    """What the command `page` shows beside the run.

    Raises:
        UsageError: a value has another form.
    """

    baseline: str | None = setting(
        None,
        "the directory of another run with the same images and classes, such as one of dense "
        "layers, which is shown the same pictures",
    )
    advise: str | None = setting(None, "the directory of an advise, whose results become a section")

    def __post_init__(self) -> None:
        check_all(self, "page.")


@dataclasses.dataclass(frozen=True)
class Trust:
    """What the command `trust` shall promise, on which images it tests it, and what it compares.

    Raises:
        UsageError: a value is outside its range.
    """

    max_error: float = setting(
        0.01,
        "the largest share of wrong answers among those it gives on its own; with --trust.costs "
        "the largest mean cost of an answer",
        above=0,
    )
    confidence: float = setting(
        0.95, "how likely the promise is to hold, over draws of the images", above=0.5, below=1
    )
    coverage: float = setting(
        0.9, "the share of images whose set is to hold the true class", above=0, below=1
    )
    sets: Literal["lac", "raps"] = setting(
        "lac", "lac: the smallest sets; raps: sets whose size says how hard the image is"
    )
    per_class: bool = setting(
        False,
        "promise the error among the images called each class, and the coverage of sets within "
        "each class",
    )
    costs: str | None = setting(
        None,
        "a .csv file of what each confusion costs: the classes in the first row and column, rows "
        "are what it is, columns what is said; none: every error costs 1",
    )
    false_alarms: float = setting(
        0.01,
        "the share of ordinary images that may be called unlike the training images; 0: none is",
        minimum=0,
        maximum=0.5,
    )
    path: str | None = setting(
        None,
        "fresh labelled images (a folder, a table or an .npz file) to tune, certify and report on; "
        "none: what was held out by --dataset.calibration_fraction, else the test split",
    )

    shift: str | None = setting(
        None,
        "how accuracy, calibration and promise fare under shift: on for corruptions made of the "
        "reporting images, and folders of labelled images, separated by commas",
    )
    new: str | None = setting(
        None, "a folder of new images without labels: are they like those of before?"
    )
    members: str | None = setting(
        None, "other run directories, separated by commas, to average this network with"
    )

    def __post_init__(self) -> None:
        check_all(self, "trust.")
