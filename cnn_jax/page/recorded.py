"""What is computed beforehand for networks too large for the page: maps, dropout, evidence."""

import base64
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu
from cnn_jax.explain import maps as evidence
from cnn_jax.explain.network import Network
from cnn_jax.models import capture
from cnn_jax.page import dropout
from cnn_jax.page.pictures import values_of
from cnn_jax.runs.trained import Run

_PICTURES = 3
_LAYERS = 8
_CHANNELS = 12
_SIDE = 40  # a larger map is shown by every second, third, ... position
_PATCHES = 7  # places of the grey patch along each axis
_PASSES = 50  # with dropout on


def record(run: Run, stored: np.ndarray, span: Sequence[float]) -> dict[str, Any]:
    """Returns what the network makes of the first pictures.

    That is maps, probabilities, also with dropout on, occlusion maps and HiResCAM's maps.

    Args:
        run: the network.
        stored: uint8 pictures `[n, height, width, channels]`.
        span: (low, high), the numbers that 0 and 255 stand for.
    """
    images = values_of(stored[:_PICTURES], span, run.data_info.dtype)
    network = Network(run)
    maps = [name for name, shape in network.layers.items() if len(shape) == 3]
    leaf = [n for n in maps if not any(o.startswith(f"{n}/") for o in maps)]
    places = np.unique(np.linspace(0, len(leaf) - 1, min(_LAYERS, len(leaf))).astype(int))
    names = [leaf[i] for i in places]

    def forward(variables: Any, images: Any) -> list[jax.Array]:
        found = capture.outputs(run.assembly.model, variables, run.preprocess(images))
        steps = [-(-max(found[name].shape[1:3]) // _SIDE) for name in names]
        return [
            found[name][:, ::step, ::step, :_CHANNELS].astype(jnp.float32)
            for name, step in zip(names, steps, strict=True)
        ]

    kept = jax.jit(forward, compiler_options=cpu.compiler_options())(run.variables, images)
    p = network.probabilities(images)
    rates = dropout.rates(run.assembly.model, run.variables, run.preprocess(images))
    passes = np.round(_dropped(run, images), 4).tolist() if rates else [[] for _ in images]
    return {
        "dropout": rates,
        "recorded": [
            {
                "p": [float(x) for x in p[i]],
                "passes": passes[i],
                "occlusion": _occlusion(network, images[i], p[i]),
                "evidence": _evidence(network, images[i], int(p[i].argmax())),
                "layers": [
                    _layer(name, np.asarray(each[i]), network.layers[name])
                    for name, each in zip(names, kept, strict=True)
                ],
            }
            for i in range(len(images))
        ],
    }


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


def _layer(name: str, maps: np.ndarray, shape: Sequence[int]) -> dict[str, Any]:
    low, high = float(maps.min()), float(maps.max())
    small = np.round((maps - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return {
        "name": name,
        "shape": list(shape),
        "kept": list(maps.shape),
        "low": low,
        "high": high,
        "data": base64.b64encode(small.tobytes()).decode(),
    }


def _occlusion(network: Network, image: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    """Returns by how much the surest class's probability falls, for each place of a grey patch."""
    best = int(p.argmax())
    height, width = image.shape[:2]
    rows = np.linspace(0, height, _PATCHES + 1).astype(int)
    columns = np.linspace(0, width, _PATCHES + 1).astype(int)
    mean = image.reshape(-1, image.shape[-1]).mean(0).astype(image.dtype)
    patched = np.repeat(image[None], _PATCHES**2, axis=0)
    for place, one in enumerate(patched):
        r, c = divmod(place, _PATCHES)
        one[rows[r] : rows[r + 1], columns[c] : columns[c + 1]] = mean
    falls = p[best] - network.probabilities(patched)[:, best]
    return {"class": best, "side": _PATCHES, "falls": [float(fall) for fall in falls]}
