"""Traces a model with shapes only, and finds the module that each equation belongs to.

Nothing is computed or allocated, so a network that would not fit into memory is traced as quickly
as any other.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax import cpu
from cnn_jax.describe.flops import Equation, equations
from cnn_jax.models import own

Shape = tuple[int, ...]

# The named scope around each call of a module, with the number of the call.
_CALL = re.compile(r"cnn_jax_call_(\d+)")


@dataclasses.dataclass
class TracedModule:
    """A module that was called. Shapes are those of one image, without the batch axis.

    Attributes:
        module: the module.
        path: its path in the parameter tree, such as "backbone/conv1"; "" for the model itself.
        input_shape: the shape of the first array among its arguments.
        output_shape: the shape of the first array in its result.
        axes: {name of a parameter of the module itself: its number of axes}.
        products: the matrix products and convolutions of the module itself.
        times: how often it runs: the number of its calls, or of the iterations of scans around it.
        position: a number that sorts modules by when they compute. The place of a module with
            products is after the modules that were called before the first product.
    """

    module: nn.Module
    path: str
    input_shape: Shape
    output_shape: Shape
    axes: dict[str, int]
    position: int
    times: int = 1
    products: list[Equation] = dataclasses.field(default_factory=list)


def trace(
    model: nn.Module, input_shape: Sequence[int], variables: Any = None
) -> tuple[Any, dict[str, TracedModule]]:
    """Traces one image through a model and its auxiliary classifiers.

    Args:
        model: a Classifier, or a user's own module.
        input_shape: (height, width, channels).
        variables: the shapes of the model's variables, where they are known already.

    Returns:
        The shapes of the model's variables, and {path: module that was called}.
    """
    model = own.adapt(model)
    modules: dict[str, TracedModule] = {}
    paths: list[str] = []  # of the calls

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        # Linen's transforms call lambdas of a class that wraps the module.
        if context.method_name in ("setup", "<lambda>") or isinstance(module, own.OwnModule):
            return call(*args, **kwargs)
        number, path = len(paths), "/".join(module.path)
        paths.append(path)
        with jax.named_scope(f"cnn_jax_call_{number}"):
            result = call(*args, **kwargs)
        held = module.variables.get("params", {}).items()
        axes = {name: jnp.ndim(leaf) for name, leaf in held if not isinstance(leaf, Mapping)}
        if path not in modules or number < modules[path].position:
            shapes = _shape((args, kwargs)), _shape(result)
            modules[path] = TracedModule(module, path, *shapes, axes, number)
        return result

    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}
    # Auxiliary classifiers run where a model is initialised, and in training.
    run = flax.core.apply(
        lambda scope, image: model.clone(parent=scope)(image),
        mutable=True,
        flags={"initializing": bool(model.auxiliary)},
    )
    with cpu.using("plain"):
        if variables is None:
            variables = jax.eval_shape(lambda image: model.init(keys, image), image)
        with nn.intercept_methods(record):
            traced = jax.make_jaxpr(lambda v, image: run(v, image, rngs=keys))(variables, image)
    _attribute(traced.jaxpr, modules, paths)
    return variables, modules


def _attribute(jaxpr: Any, modules: dict[str, TracedModule], paths: Sequence[str]) -> None:
    """Gives each module its products, its place and the number of its runs."""
    times: dict[int, int] = {}
    latest = 0
    for equation in equations(jaxpr):
        found = _CALL.findall(equation.scope)
        number = int(found[-1]) if found else 0  # an adapter's own equation; 0 is the model
        times[number] = max(equation.times, times.get(number, 1))
        latest = max(latest, number)
        if equation.flops:
            module = modules[paths[number]]
            if not module.products:
                module.position = latest
            module.products.append(equation)
    runs = collections.Counter[str]()
    for number, count in times.items():
        runs[paths[number]] += count
    for path, count in runs.items():
        modules[path].times = count


def _shape(tree: Any) -> Shape:
    """Returns the shape of the first array of a tree, without its first axis."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    return tuple(shapes[0][1:]) if shapes else ()
