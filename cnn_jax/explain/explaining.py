"""Explains images: maps, each with its tests, as values."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cnn_jax.data import Split
from cnn_jax.errors import UsageError
from cnn_jax.evaluation.predictions import Images, image_batches
from cnn_jax.explain import checks, maps
from cnn_jax.explain.checks import Box, Curves
from cnn_jax.explain.maps import Subject
from cnn_jax.explain.network import Network
from cnn_jax.runs.trained import Run
from cnn_jax.text import did_you_mean

_NEARLY_THE_SAME = 0.9  # of a correlation with the map of another class


@dataclasses.dataclass(frozen=True)
class Map:
    """A map with the tests that it went through; see `checks`.

    Attributes:
        method: a key of `maps.MAKERS`.
        layer: the module whose feature map it is of, or None.
        values: float32 [height, width], of the feature map or of the image.
        redrawn: {part: correlation with the maps of networks with weights drawn anew}.
        other_class: the correlation with the map of the second most probable class, or None.
        total: the sum of the map; None where a sum has no meaning.
        expected: what it would be if the map accounted for everything: z, or for integrated
            gradients z less that of the mean image; None likewise.
        curves: of deletion and insertion.
        regions: {region: [share of the map, share of the area]}.
        failures: {test: a sentence} of what this map failed.
    """

    method: str
    layer: str | None
    values: np.ndarray
    redrawn: dict[str, float]
    other_class: float | None
    total: float | None
    expected: float | None
    curves: Curves
    regions: dict[str, list[float]]
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def rest(self) -> float | None:
        """What the map does not account for, in logits; None where a sum has no meaning."""
        if self.total is None or self.expected is None:
            return None
        return self.expected - self.total


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why the network says what it says of one image.

    Attributes:
        name: of the image, such as its path.
        image: as the network takes it, [height, width, channels].
        label: the class that is explained.
        against: the class that it is compared with, or None.
        true: the true class where it is known, or None.
        probabilities: float32 [classes].
        evidence: z of the class, in logits.
        class_names: the names of the classes.
        maps: {method: its map}.
        chance: the curves of random orders of places.
    """

    name: str
    image: np.ndarray
    label: int
    against: int | None
    true: int | None
    probabilities: np.ndarray
    evidence: float
    class_names: tuple[str, ...]
    maps: dict[str, Map]
    chance: list[Curves]

    def __repr__(self) -> str:
        p = self.probabilities[self.label]
        return f"<Explanation of {self.class_name} {p:.3f} by {', '.join(self.maps)}>"

    @property
    def class_name(self) -> str:
        """The name of the class that is explained."""
        return self.class_names[self.label]


def explain(
    network: Network,
    images: np.ndarray,
    names: Sequence[str],
    *,
    methods: Sequence[str] | None = None,
    label: str | int | None = None,
    against: str | None = None,
    true: Sequence[int] | None = None,
    box: Box | None = None,
    steps: int = 128,
    draws: int = 3,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[Explanation]:
    """Explains images one by one.

    Args:
        network: the network.
        images: as its data are stored, [n, height, width, channels].
        names: what each image is called.
        methods: keys of `maps.MAKERS`; None: hirescam where there is a feature map, occlusion, ig.
        label: the class to explain, by name or index; None: the most probable one.
        against: a class to compare it with: why this and not that.
        true: the true classes, where they are known.
        box: (top, left, bottom, right) in 0..1, a region whose share of each map is wanted.
        steps: points of integrated gradients.
        draws: of weights, for methods that take one pass.
        progress: wraps the loop over images.

    Raises:
        UsageError: there is no such method or class, or the network has no feature map.
    """
    if methods is None:
        methods = ("hirescam", "occlusion", "ig")[0 if network.layer else 1 :]
    for method in methods:
        if method not in maps.MAKERS:
            tip = did_you_mean(method, list(maps.METHODS))
            known = ", ".join(maps.METHODS)
            raise UsageError(f"there is no method {method!r}{tip}; there are {known}")
    chosen = None if label is None else find_class(network, label)
    other = None if against is None else find_class(network, against)
    if other is not None and other == chosen:
        name = network.class_names[other]
        raise UsageError(f"{name} is both the class that is explained and the one against it")
    probabilities = network.probabilities(images)
    found = []
    for i in progress(range(len(images))):
        order = np.argsort(-probabilities[i], kind="stable")
        target = int(order[0]) if chosen is None else chosen
        rival = other if other != target else None
        subject = Subject(images[i], target, rival)
        second = None
        if rival is None and len(order) > 2:
            second = int(order[1] if order[0] == target else order[0])
        x = network.preprocess(images[i : i + 1])[0]
        evidence = network.evidence(x, target, rival)
        chance = checks.random_curves(network, subject)
        made = {
            method: _checked(network, subject, method, evidence, second, chance, box, steps, draws)
            for method in dict.fromkeys(methods)
        }
        found.append(
            Explanation(
                str(names[i]),
                images[i],
                target,
                rival,
                None if true is None else int(true[i]),
                probabilities[i],
                evidence,
                network.class_names,
                made,
                chance,
            )
        )
    return found


def explain_images(
    run: Run, images: Images, *, layer: str | None = None, **how: Any
) -> list[Explanation]:
    """Explains what a trained network says of images.

        for one in cnn_jax.explain_images(run, ["cat.jpg"], against="dog"):
            one.maps["hirescam"].values, one.maps["hirescam"].failures

    Args:
        run: the trained network.
        images: as `run.predict` takes them.
        layer: the feature map of hirescam and gradcam, a stage or the path of a module; None: the
            last one.
        **how: as `explain` takes it: methods, label, against, true, box, steps, draws.

    Raises:
        UsageError: there is no such layer, method or class, or the images are not like the run's.
        RunError: a file cannot be read as an image.
    """
    most = run.experiment.dataset.max_megapixels
    parts = [part[:n] for part, n in image_batches(images, run.data_info, most)]
    stored = np.concatenate(parts)
    names = [str(i) for i in range(len(stored))]
    if isinstance(images, str | os.PathLike):
        names = [os.fspath(images)]
    elif isinstance(images, Split):
        names = list(images.ids)
    elif isinstance(images, Sequence) and all(isinstance(i, str | os.PathLike) for i in images):
        names = [os.fspath(path) for path in images]
    return explain(Network(run, layer), stored, names, **how)


def find_class(network: Network, name: str | int) -> int:
    """Returns the index of a class.

    Raises:
        UsageError: there is no such class.
    """
    names = network.class_names
    if isinstance(name, int) and 0 <= name < len(names):
        return name
    if name not in names:
        tip = did_you_mean(str(name), list(names))
        some = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise UsageError(f"there is no class {name!r}{tip}; the classes are {some}")
    return names.index(str(name))


def _checked(
    network: Network,
    subject: Subject,
    method: str,
    evidence: float,
    second: int | None,
    chance: list[Curves],
    box: Box | None,
    steps: int,
    draws: int,
) -> Map:
    """Returns a map of a subject with its tests; the arguments are as in `explain`."""
    values = maps.MAKERS[method](network, subject, None, steps)
    total = expected = other_class = None
    if method in ("hirescam", "ig"):
        total, expected = float(values.sum(dtype=np.float64)), evidence
        if method == "ig":
            expected -= network.evidence(network.blank(), subject.label, subject.against)
    if second is not None and method not in ("occlusion", "smoothgrad"):
        rival = dataclasses.replace(subject, label=second)
        other_class = checks.correlation(values, maps.MAKERS[method](network, rival, None, steps))
    size = subject.image.shape[:2]
    made = Map(
        method=method,
        layer=network.layer if method in maps.OF_LAYER else None,
        values=np.asarray(values, np.float32),
        redrawn=checks.redrawn(network, subject, method, values, steps, draws),
        other_class=other_class,
        total=total,
        expected=expected,
        curves=checks.curves(network, subject, checks.order_of(values, size)),
        regions=checks.shares(values, size, box),
    )
    failures = _failures(made, chance, "" if second is None else network.class_names[second])
    return dataclasses.replace(made, failures=failures)


def _failures(made: Map, chance: list[Curves], second: str) -> dict[str, str]:
    """Returns {test: a sentence} of what a map failed."""
    if np.ptp(made.values) == 0:
        return {"flat": "it is the same everywhere"}
    found = {}
    same = made.redrawn["all"]
    if same > checks.SAME:
        found["redrawn"] = (
            f"it stays much the same with weights drawn anew (correlation {same:.2f}): it shows "
            "the image, not what was learned"
        )
    if made.other_class is not None and made.other_class > _NEARLY_THE_SAME:
        found["class"] = (
            f"it is nearly the same for {second} (correlation {made.other_class:.2f}): it does not "
            "tell these two apart"
        )
    if made.curves.deletion_mean >= np.median([curves.deletion_mean for curves in chance]):
        found["deletion"] = "cutting out what it marks changes no more than cutting out by chance"
    if made.curves.insertion_mean <= np.median([curves.insertion_mean for curves in chance]):
        found["insertion"] = "what it marks tells the network no more than places by chance"
    if made.rest is not None and abs(made.rest) > 0.5 * abs(made.expected or 0.0):
        found["sum"] = f"it accounts for {made.total:.2f} of {made.expected:.2f} logits alone"
    return found
