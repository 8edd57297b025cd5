"""The settings of the commands `advise` and `sweep`, which are no part of an Experiment."""

import dataclasses
from typing import Literal

from cnn_jax.errors import UsageError
from cnn_jax.settings import check_value, fields, setting
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
        for path, field in fields(Advise, "advise."):
            check_value(path, field, getattr(self, field.name))
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
    prune: Literal["none", "median", "asha"] = setting(
        "none",
        "stop a combination early by the validation accuracy of its first seed; median: below the "
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
        for path, field in fields(Sweep, "sweep."):
            check_value(path, field, getattr(self, field.name))
        if self.resources is not None and self.launcher == "local":
            raise UsageError(
                "--sweep.resources has no effect on this machine's own processes; leave it out or "
                "give --sweep.launcher=slurm or ray"
            )
