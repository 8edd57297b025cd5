"""The tests that every map goes through, since a map is no proof.

- Weights drawn anew: a map that stays the same does not show what was learned (Adebayo et al. 2018,
  arXiv:1810.03292). Parts of the network are drawn anew from the head down, and the map is compared
  with the one before by the size of Spearman's correlation.
- Another class: a map that is the same for the runner-up explains no decision (Sixt et al. 2020,
  arXiv:1912.09818).
- Cut out (deletion) and put in (insertion): the probability while places are replaced by the mean
  of the training images, the strongest first, beside random orders of the same places (Petsiuk et
  al. 2018, arXiv:1806.07421). Both leave the data that the network knows, which the random orders
  do too.
- Position: the share of the map in the border, the centre and a box, beside that of the area.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.stats
from PIL import Image

from cnn_jax.explain import maps
from cnn_jax.explain.maps import Subject
from cnn_jax.explain.network import Network
from cnn_jax.models import classifier

ORDERS = 10  # random ones that an order of places is compared with
_POINTS = 10  # of a curve of deletion or insertion
SAME = 0.5  # a correlation above this is called the same map

# top, left, bottom, right as shares of height and width.
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Curves:
    """How the probability of a class changes while places are cut out or put in.

    Attributes:
        deletion: float [11], the probability with 0, 10, ..., 100 % of the places cut out.
        insertion: float [11], with as many of them put into the mean image.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_mean(self) -> float:
        """The area under the curve; small where the places that count go first."""
        return float(np.trapezoid(self.deletion) / _POINTS)

    @property
    def insertion_mean(self) -> float:
        """The area under the curve; large where the places that count come first."""
        return float(np.trapezoid(self.insertion) / _POINTS)


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a map in the size of an image, bilinearly, float32 [height, width].

    Args:
        values: float32 [height, width].
        size: height and width of the result.
    """
    if values.shape == tuple(size):
        return values
    picture = Image.fromarray(np.asarray(values, np.float32), mode="F")
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Spearman's correlation of two maps; 0 where one of them is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    found: Any = scipy.stats.spearmanr(one.ravel(), other.ravel())
    return float(found.statistic)


def parts(network: Network) -> list[str]:
    """Returns what can be drawn anew, from the head down: what parameter paths begin with.

    Of a Classifier the head and the stages, or the modules of a backbone without stages; of a
    user's own module its modules.
    """
    model = network.run.assembly.model
    if isinstance(model, classifier.Classifier) and len(model.stage_names) > 1:
        return ["head/", *reversed([f"backbone/{name}/" for name in model.stage_names])]
    depth = 2 if isinstance(model, classifier.Classifier) else 1
    found: dict[str, None] = {}
    for path in network.layers:
        words = path.split("/")
        if words[0] == "head":
            found["head/"] = None
        elif len(words) >= depth:
            found["/".join(words[:depth]) + "/"] = None
    with_parameters = [
        "/".join(str(getattr(key, "key", key)) for key in path) + "/"
        for path, _ in jax.tree_util.tree_leaves_with_path(network.run.variables["params"])
    ]
    last_first = [
        part for part in reversed(found) if any(p.startswith(part) for p in with_parameters)
    ]
    return sorted(last_first, key=lambda part: part != "head/")


def drawn_anew(network: Network, prefixes: tuple[str, ...], seed: int) -> Any:
    """Returns the run's variables, those below some paths as the model draws them at its start.

    Args:
        network: the network.
        prefixes: what the paths begin with; () for all of them.
        seed: of the draw.
    """
    fresh = network.fresh(seed)

    def choose(path: Any, old: jax.Array, new: jax.Array) -> jax.Array:
        name = "/".join(str(getattr(key, "key", key)) for key in path[1:]) + "/"
        return new if not prefixes or name.startswith(prefixes) else old

    return jax.tree_util.tree_map_with_path(choose, network.run.variables, fresh)


def redrawn(
    network: Network, subject: Subject, method: str, values: np.ndarray, steps: int, draws: int
) -> dict[str, float]:
    """Returns {part: size of the correlation of a map with those of redrawn networks}, a mean.

    A key names the last part, from the head down, that is drawn anew with all above it; "all" is
    the whole network. Methods that take many passes have "all" alone, of one draw.

    Args:
        network: the network.
        subject: what is explained.
        method: a key of `maps.MAKERS`.
        values: its map.
        steps: of integrated gradients.
        draws: how many draws the mean is over.
    """
    every = parts(network)
    chosen = {part: tuple(every[: i + 1]) for i, part in enumerate(every[:-1])}
    chosen = {part.rstrip("/"): prefixes for part, prefixes in chosen.items()}
    chosen["all"] = ()
    if method not in maps.OF_LAYER:
        chosen, draws = {"all": ()}, 1
    found = {}
    for part, prefixes in chosen.items():
        sizes = []
        for seed in range(draws):
            variables = drawn_anew(network, prefixes, seed)
            other = maps.MAKERS[method](network, subject, variables, steps)
            sizes.append(abs(correlation(values, other)))
        found[part] = float(np.mean(sizes))
    return found


def places(size: tuple[int, int]) -> np.ndarray:
    """Returns the number of the place that each pixel belongs to, int [height, width].

    Places are about 4 pixels wide and high, or more where there would be more than 14 in a row.
    """
    rows, columns = (np.clip(side // 4, min(side, 4), 14) for side in size)
    row = np.arange(size[0]) * rows // size[0]
    column = np.arange(size[1]) * columns // size[1]
    return row[:, None] * columns + column


def order_of(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the places by the mean of a map in them, the strongest first."""
    where = places(size)
    large = enlarged(values, size)
    means = np.bincount(where.ravel(), large.ravel()) / np.bincount(where.ravel())
    return np.argsort(-means, kind="stable")


def curves(network: Network, subject: Subject, order: np.ndarray) -> Curves:
    """Returns the curves of deletion and insertion of an order of places."""
    image = subject.image
    where = places(image.shape[:2])
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    ranks = rank[where][..., None]
    blank = np.broadcast_to(maps.fill(network, image.dtype), image.shape)
    pictures = []
    for point in range(_POINTS + 1):
        chosen = ranks < round(len(order) * point / _POINTS)
        pictures += [np.where(chosen, blank, image), np.where(chosen, image, blank)]
    p = network.probabilities(np.stack(pictures))[:, subject.label]
    return Curves(p[0::2], p[1::2])


def random_curves(network: Network, subject: Subject) -> list[Curves]:
    """Returns the curves of random orders, always the same ones."""
    count = int(places(subject.image.shape[:2]).max()) + 1
    generator = np.random.default_rng(0)
    return [curves(network, subject, generator.permutation(count)) for _ in range(ORDERS)]


def shares(values: np.ndarray, size: tuple[int, int], box: Box | None) -> dict[str, list[float]]:
    """Returns {region: [share of the map, share of the area]}; the map counts by its size.

    Args:
        values: the map.
        size: height and width of the image.
        box: a region that was asked for.

    Returns:
        "border" (the outer tenth on each side), "centre" (the inner half of height and width), and
        "box" where there is one. The share of a map that is 0 everywhere is that of the area.
    """
    strength = np.abs(enlarged(values, size)).astype(np.float64)
    row = (np.arange(size[0]) + 0.5)[:, None] / size[0]
    column = (np.arange(size[1]) + 0.5)[None] / size[1]

    def inside(top: float, left: float, bottom: float, right: float) -> np.ndarray:
        return (row >= top) & (row <= bottom) & (column >= left) & (column <= right)

    regions = {"border": ~inside(0.1, 0.1, 0.9, 0.9), "centre": inside(0.25, 0.25, 0.75, 0.75)}
    if box is not None:
        regions["box"] = inside(*box)
    total = strength.sum()
    return {
        name: [
            float(strength[where].sum() / total) if total else float(where.mean()),
            float(where.mean()),
        ]
        for name, where in regions.items()
    }
