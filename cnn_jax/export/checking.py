"""Compares an exported network with the run that it was made of, on images of the run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnn_jax import cpu
from cnn_jax.errors import RunError, UserError
from cnn_jax.runs.trained import Run

_MOST = {True: 1000, False: 200}  # images, of small ones and of others
_SMALL = 64 * 64
_RANDOM = 64
# The largest difference of probabilities, and of logits as a share of the largest one.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}
_DIFFER = 0.005  # the share of answers and sets that 32 bits may turn, where a number is at a limit

Compute = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Checked:
    """How far an exported network is from its run.

    Attributes:
        images: how many were compared.
        source: which they are, in words.
        by: who computed the exported network.
        differences: the largest difference by output: of `logits` as a share of the largest; of
            `answers` and `sets` the share of images on which they differ.
        tolerance: the largest that passes.
    """

    images: int
    source: str
    by: str
    differences: dict[str, float]
    tolerance: float

    @property
    def largest(self) -> float:
        """The largest difference of a probability, where there are any, else of what there is."""
        return self.differences.get("probabilities", max(self.differences.values()))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON, for other people: why images cannot be had is not.

        That names places.
        """
        return dataclasses.asdict(self) | {"source": self.source.partition(":")[0]}


def images_of(run: Run, most: int | None = None) -> tuple[np.ndarray, str]:
    """Returns images to compare on, as stored, at most so many, and which they are.

    They are validation images of the run, spread over the split; random pixels where these cannot
    be had.
    """
    shape = run.data_info.image_shape
    most = most or _MOST[shape[0] * shape[1] <= _SMALL]
    try:
        split = run.split("validation")
    except (UserError, OSError) as error:
        rng = np.random.default_rng(0)
        if run.data_info.dtype == "uint8":
            made = rng.integers(0, 256, (_RANDOM, *shape), np.uint8)
        else:
            mean, std = (np.asarray(x) for x in (run.data_info.mean, run.data_info.std))
            made = (mean + std * rng.standard_normal((_RANDOM, *shape))).astype(np.float32)
        return made, f"random pixels, because the run's images cannot be had: {error}"
    places = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).astype(int))
    return np.asarray(split.images[places]), "validation images"


def check(
    run: Run,
    compute: Compute,
    by: str,
    precision: str,
    *,
    most: int | None = None,
    logits_alone: bool = False,
) -> Checked:
    """Compares an exported network with its run.

    Args:
        run: the run.
        compute: computes the exported network: images as stored to outputs by name, as those of
            `program`.
        by: who computes it, in words.
        precision: what it computes in.
        most: images to compare, at most; None: as many as their size allows.
        logits_alone: whether it gives logits of one view and nothing else.

    Raises:
        RunError: it says something else than the run.
    """
    images, source = images_of(run, most)
    expected = _said(run, images, logits_alone)
    found = compute(images)
    differences = {}
    for name, theirs in found.items():
        if name not in expected:
            continue
        ours = expected[name]
        if np.shape(theirs) != ours.shape:
            raise RunError(f"{by} gives {name} of shape {np.shape(theirs)}, not {ours.shape}")
        if ours.dtype == bool:
            same = (ours == theirs).reshape(len(ours), -1).all(axis=1)
            differences[name] = float(1 - same.mean())
            continue
        scale = float(np.abs(ours).max()) if name == "logits" else 1.0
        apart = np.abs(np.asarray(theirs, np.float64) - ours).max() / max(scale, 1e-30)
        differences[name] = float(apart)
    own = run.experiment.train.precision
    tolerance = max(TOLERANCES[own], TOLERANCES[precision])
    made = Checked(len(images), source, by, differences, tolerance)
    limits = {"logits": tolerance, "probabilities": tolerance}
    if run.trusted is not None:  # p-values are counts of images, of which rounding may turn two
        held = len(run.trusted.judge.held_out)
        limits["p_values"] = max(_DIFFER, 2.5 / (1 + held), tolerance)
    for name, value in differences.items():
        limit = limits.get(name, max(_DIFFER, 1.5 / len(images), tolerance))
        if not value <= limit:  # also where it is no number
            raise RunError(
                f"the exported network says something else than the run: {name} differ by "
                f"{value:.3g} on {len(images)} {source}, and {limit:g} is the most; nothing was "
                "written"
            )
    return made


def _said(run: Run, images: np.ndarray, logits_alone: bool) -> dict[str, np.ndarray]:
    """Returns what the run says, in the convolutions of XLA: Winograd's would add its rounding."""
    with cpu.using("xla"):
        if logits_alone:
            return {"logits": np.asarray(run.logits(images), np.float64)}
        said = run.predict(images)
        expected = {"probabilities": np.asarray(said.probabilities, np.float64)}
        if run.trusted is None or run.trusted.views == "one":
            expected["logits"] = np.asarray(run.logits(images), np.float64)
    if said.set is not None and said.answers is not None and said.p_value is not None:
        names = run.class_names
        sets = [[name in own for name in names] for own in said.set]
        expected |= {"answers": said.answers, "p_values": said.p_value, "sets": np.array(sets)}
    return expected
