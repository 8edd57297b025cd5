"""What is computed beforehand for networks too large for the page: maps, dropout, evidence."""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu
from cnn_jax.evaluation import metrics
from cnn_jax.explain import maps as evidence
from cnn_jax.explain.network import Network, class_evidence
from cnn_jax.models import capture
from cnn_jax.page import dropout, shifts
from cnn_jax.page.pictures import values_of
from cnn_jax.page.steps import Step
from cnn_jax.runs.trained import Run

_PICTURES = 4
_LAYERS = 8
_CHANNELS = 12
_SIDE = 40  # a larger map is shown by every second, third, ... position
_PATCHES = 7  # places of the grey patch along each axis
_PASSES = 50  # with dropout on
_SHIFTS = range(-8, 9, 2)  # pixels to the right


def record(
    run: Run, stored: np.ndarray, span: Sequence[float], steps: Sequence[Step] = ()
) -> dict[str, Any]:
    """Returns what the network makes of some pictures: the first two and the last two.

    That is maps, probabilities, also with dropout on, of shifted pictures and under a grey patch,
    and HiResCAM's maps.

    Args:
        run: the network.
        stored: uint8 pictures `[n, height, width, channels]`.
        span: (low, high), the numbers that 0 and 255 stand for.
        steps: of the network, where it could be traced; they say what a layer costs and sees.
    """
    half = _PICTURES // 2
    chosen = sorted({i % len(stored) for i in range(-half, half)})
    images = values_of(stored[chosen], span, run.data_info.dtype)
    network = Network(run)
    maps = [name for name, shape in network.layers.items() if len(shape) == 3]
    leaf = [n for n in maps if not any(o.startswith(f"{n}/") for o in maps)]
    places = np.unique(np.linspace(0, len(leaf) - 1, min(_LAYERS, len(leaf))).astype(int))
    names = [leaf[i] for i in places]

    def forward(variables: Any, images: Any) -> list[jax.Array]:
        found = capture.outputs(run.assembly.model, variables, run.preprocess(images))
        return [
            found[name][:, :: _every(found[name].shape), :: _every(found[name].shape), :_CHANNELS]
            for name in names
        ]

    kept = jax.jit(forward, compiler_options=cpu.compiler_options())(run.variables, images)
    p, _ = _says(run, images)
    rates = dropout.rates(run.assembly.model, run.variables, run.preprocess(images))
    passes = np.round(_dropped(run, images), 4).tolist() if rates else [[] for _ in images]
    return {
        "dropout": rates,
        "shifts": list(_SHIFTS),
        "recorded": [
            {
                "picture": chosen[i],
                "p": [float(x) for x in p[i]],
                "passes": passes[i],
                "shifted": _shifted(run, images[i], int(p[i].argmax())),
                "occlusion": _occlusion(run, images[i], int(p[i].argmax())),
                "evidence": _evidence(network, images[i], int(p[i].argmax())),
                "layers": [
                    _layer(name, np.asarray(each[i], np.float32), network.layers[name], steps)
                    for name, each in zip(names, kept, strict=True)
                ],
            }
            for i in range(len(images))
        ],
    }


def _every(shape: Sequence[int]) -> int:
    """Returns 2 where every second position of a map [n, height, width, ...] is kept, and so on."""
    return -(-max(shape[1:3]) // _SIDE)


def _says(run: Run, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities and class evidence (logits), each float32 [n, classes]."""
    logits = jnp.asarray(run.logits(images))
    return np.asarray(metrics.probabilities(logits)), np.asarray(class_evidence(logits))


def _dropped(run: Run, images: np.ndarray) -> np.ndarray:
    """Returns probabilities float64 [n, passes, classes] with dropout on."""

    def forward(variables: Any, images: Any, keys: jax.Array) -> jax.Array:
        return dropout.passes(run.assembly.model, variables, run.preprocess(images), keys)

    keys = jax.random.split(jax.random.key(0), _PASSES)
    with cpu.using("plain"):  # what comes behind a dropout is computed for all passes at once
        found = np.asarray(jax.jit(forward)(run.variables, images, keys))
    return found.swapaxes(0, 1).astype(np.float64)


def _evidence(network: Network, image: np.ndarray, label: int) -> dict[str, Any] | None:
    """Returns HiResCAM's map of the last feature map; None where there is none."""
    if network.layer is None:
        return None
    found = np.asarray(evidence.hirescam(network, evidence.Subject(image, label)), np.float64)
    return {
        "layer": network.layer,
        "shape": list(found.shape),
        "values": [float(f"{x:.4g}") for x in found.ravel()],
    }


def _layer(
    name: str, maps: np.ndarray, shape: Sequence[int], steps: Sequence[Step]
) -> dict[str, Any]:
    low, high = float(maps.min()), float(maps.max())
    small = np.round((maps - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    inside = [s for s in steps if s.layer == name or s.layer.startswith(f"{name}/")]
    field = inside[-1].field if inside and inside[-1].shape == tuple(shape) else None
    return {
        "name": name.removeprefix("backbone/"),
        "titles": [step.title for step in inside],
        "parameters": sum(step.parameters for step in inside),
        "macs": sum(step.macs for step in inside),
        "field": None if field is None else dataclasses.asdict(field),
        "every": _every((1, *shape)),
        "shape": list(shape),
        "kept": list(maps.shape),
        "low": low,
        "high": high,
        "data": base64.b64encode(small.tobytes()).decode(),
    }


def _shifted(run: Run, image: np.ndarray, best: int) -> dict[str, Any]:
    """Returns what the network says of a class when the picture moves to the right."""
    p, z = _says(run, np.concatenate([shifts.moved(image[None], dx) for dx in _SHIFTS]))
    return {"p": p[:, best].astype(float).tolist(), "z": z[:, best].astype(float).tolist()}


def _occlusion(run: Run, image: np.ndarray, best: int) -> dict[str, Any]:
    """Returns by how much the surest class falls, for each place of a grey patch.

    Where a network is very sure, its probability hardly moves, and its number (logit) does.
    """
    height, width = image.shape[:2]
    rows = np.linspace(0, height, _PATCHES + 1).astype(int)
    columns = np.linspace(0, width, _PATCHES + 1).astype(int)
    mean = image.reshape(-1, image.shape[-1]).mean(0).astype(image.dtype)
    patched = np.repeat(image[None], _PATCHES**2 + 1, axis=0)  # the last one is whole
    for place, one in enumerate(patched[:-1]):
        r, c = divmod(place, _PATCHES)
        one[rows[r] : rows[r + 1], columns[c] : columns[c + 1]] = mean
    p, z = (each[:, best].astype(float) for each in _says(run, patched))
    return {
        "class": best,
        "side": _PATCHES,
        "least": float(p[:-1].min()),
        "z": float(z[-1]),
        "falls": (z[-1] - z[:-1]).tolist(),
    }
