"""A trained network as the functions that explanations are made of, each compiled once.

z is the evidence for a class: its logit, or with `against` the difference of two logits. Softmax
is not differentiated, since its gradient mixes in the other classes. Of a network with one logit
for two classes, z is that logit for the second class and its negative for the first.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu, text
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import metrics
from cnn_jax.models import capture
from cnn_jax.runs.trained import Run

BATCH = 32  # images in one call of a compiled function
_ANEW = 0x0A4E57  # folded into seeds, so that no draw is the one that a run began with


class Network:
    """The functions of a run that explanations are made of.

    Args:
        run: the trained network.
        layer: the module whose output is the feature map, by its path or by the name of a stage;
            None: the last feature map with a height or width above 1, if there is one.

    Attributes:
        layers: {path: shape} of all modules that are called once, without the batch.
        layer: the path of the feature map's module; None where the network has none.
        shape: (height, width, channels) of an image.
        mean: float32 [channels], the mean of the training images, as images are stored.

    Raises:
        UsageError: there is no such layer, its output is no feature map, or an image of the run may
            have several findings.
    """

    def __init__(self, run: Run, layer: str | None = None):
        if run.data_info.multilabel:
            raise UsageError(
                "explain asks why an image has one class rather than another, and this run has "
                "several findings in one image"
            )
        self.run = run
        self.shape = run.data_info.image_shape
        unit = 255 if run.data_info.dtype == "uint8" else 1
        self.mean = np.asarray(run.data_info.mean, np.float32) * unit
        image = jax.ShapeDtypeStruct((1, *self.shape), run.assembly.image_dtype)
        x = jax.eval_shape(run.preprocess, image)
        known = capture.called_once(run.assembly.model, run.variables, x)
        self.layers = {path: shape[1:] for path, shape in known.items()}
        self.layer = self._chosen(layer)

    def _chosen(self, layer: str | None) -> str | None:
        maps = [path for path, shape in self.layers.items() if len(shape) == 3]
        if layer is None:
            large = [path for path in maps if max(self.layers[path][:2]) > 1]
            return large[-1] if large else None
        stages = [f"backbone/{name}" for name in self.run.assembly.model.stage_names]
        path = f"backbone/{layer}" if f"backbone/{layer}" in stages else layer
        if path not in maps:
            tip = text.did_you_mean(layer, maps)
            why = "is no feature map" if path in self.layers else "is no layer"
            raise UsageError(f"{layer} {why}{tip}; the feature maps are {', '.join(maps)}")
        return path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        return self.run.class_names

    def preprocess(self, images: np.ndarray) -> jax.Array:
        """Returns stored images [n, height, width, channels] as the model takes them."""
        return self.run.preprocess(images)

    def blank(self) -> np.ndarray:
        """Returns the mean of the training images as one image, as the model takes it."""
        image = np.broadcast_to(self.mean, self.shape)[None]
        whole = np.round(image).astype(np.uint8)
        stored = whole if self.run.data_info.dtype == "uint8" else image
        return np.asarray(self.preprocess(stored))[0]

    def fresh(self, seed: int) -> Any:
        """Returns variables as the model draws them at its start."""
        image = jnp.zeros((1, *self.shape), self.run.assembly.image_dtype)
        key = jax.random.fold_in(jax.random.key(seed), _ANEW)
        return self._initial(key, self.run.preprocess(image))

    @functools.cached_property
    def _initial(self) -> Any:
        def draw(key: jax.Array, x: jax.Array) -> Any:
            model, known = self.run.assembly.model, self.run.variables
            with cpu.using("plain"):  # the values are the same, and sooner compiled
                found: Any = model.init(key, x)
            return {name: found.get(name, known[name]) for name in known}

        return _jit(draw)

    def probabilities(self, images: np.ndarray, variables: Any = None) -> np.ndarray:
        """Returns class probabilities float32 [n, classes] of stored images."""
        variables = self.run.variables if variables is None else variables
        found = []
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            filled = _filled(part)
            found.append(np.asarray(self._probabilities(variables, filled))[: len(part)])
        return np.concatenate(found)

    def evidence(self, x: Any, label: int, against: int | None, variables: Any = None) -> float:
        """Returns z of one preprocessed image."""
        variables = self.run.variables if variables is None else variables
        logits = np.asarray(self._logits(variables, jnp.asarray(x)[None]))[0]
        per_class = np.asarray(class_evidence(logits))
        return float(per_class[label] - (0 if against is None else per_class[against]))

    def at_layer(
        self, x: Any, label: int, against: int | None, variables: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the feature map and the gradient of z by it, float32 [height, width, channels].

        Args:
            x: one preprocessed image.
            label: the class.
            against: another class, or None.
            variables: the variables; None: those of the run.
        """
        variables = self.run.variables if variables is None else variables
        two = (jnp.asarray(label), jnp.asarray(-1 if against is None else against))
        found = self._at_layer(variables, jnp.asarray(x)[None], *two)
        activation, gradient = (np.asarray(each, np.float32)[0] for each in found)
        return activation, gradient

    def gradients(
        self, x: Any, label: int, against: int | None, variables: Any = None
    ) -> np.ndarray:
        """Returns the gradient of z by each of up to BATCH preprocessed images, float32 like x."""
        variables = self.run.variables if variables is None else variables
        two = (jnp.asarray(label), jnp.asarray(-1 if against is None else against))
        found = self._gradients(variables, jnp.asarray(_filled(np.asarray(x))), *two)
        return np.asarray(found, np.float32)[: len(x)]

    @functools.cached_property
    def _probabilities(self) -> Any:
        def forward(variables: Any, images: jax.Array) -> jax.Array:
            logits: Any = self.run.assembly.model.apply(variables, self.run.preprocess(images))
            return metrics.probabilities(logits)

        return _jit(forward)

    @functools.cached_property
    def _logits(self) -> Any:
        return _jit(lambda variables, x: self.run.assembly.model.apply(variables, x))

    @functools.cached_property
    def _at_layer(self) -> Any:
        path = self.layer
        if path is None:
            raise UsageError(
                "this network has no feature map, which hirescam and gradcam are of; the methods "
                "occlusion, ig and smoothgrad need none"
            )
        shape = (1, *self.layers[path])

        def forward(variables: Any, x: jax.Array, label: jax.Array, against: jax.Array) -> Any:
            def evidence(added: jax.Array) -> tuple[jax.Array, jax.Array]:
                model = self.run.assembly.model
                logits, activation = capture.disturbed(model, variables, x, path, added)
                return jnp.sum(_difference(logits, label, against)), activation

            gradient, activation = jax.grad(evidence, has_aux=True)(jnp.zeros(shape, jnp.float32))
            return activation, gradient

        return _jit(forward)

    @functools.cached_property
    def _gradients(self) -> Any:
        def forward(variables: Any, x: jax.Array, label: jax.Array, against: jax.Array) -> Any:
            def evidence(x: jax.Array) -> jax.Array:
                logits: Any = self.run.assembly.model.apply(variables, x)
                return jnp.sum(_difference(logits, label, against))

            return jax.grad(evidence)(x)

        return _jit(forward)


def class_evidence(logits: Any) -> Any:
    """Returns the evidence for each class, [..., classes], of logits [..., outputs]."""
    if logits.shape[-1] == 1:
        return jnp.concatenate([-logits, logits], axis=-1)
    return logits


def _difference(logits: jax.Array, label: jax.Array, against: jax.Array) -> jax.Array:
    """Returns z of each image; `against` is -1 where there is no other class."""
    each = class_evidence(logits).astype(jnp.float32)
    other = jnp.where(against < 0, 0.0, jnp.take(each, jnp.maximum(against, 0), axis=-1))
    return jnp.take(each, label, axis=-1) - other


def _filled(images: np.ndarray) -> np.ndarray:
    """Returns images filled up with zeros to one of two sizes of a batch."""
    size = 1 if len(images) == 1 else BATCH
    fill = np.zeros((size - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, fill])


def _jit(function: Any) -> Any:
    return jax.jit(function, compiler_options=cpu.compiler_options())
