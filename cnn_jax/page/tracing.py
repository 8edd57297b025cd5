"""Traces a network, and the gradient of what stands behind its last feature map."""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.core
import jax.extend.core as extended
import jax.numpy as jnp

from cnn_jax import cpu
from cnn_jax.page import dropout, writing
from cnn_jax.page.program import Program, UnsupportedError

# The named scope around each call of a module, with the number of the call.
_CALL = re.compile(r"cnn_jax_page_(\d+)")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that the page computes.

    Attributes:
        forward: image `[1, height, width, channels]`, as it is stored, to `[logits]`.
        gradient: (last feature map, weights of the logits `[1, outputs]`) to the gradient of their
            sum; None where there is no such map, or its gradient cannot be written.
        feature_map: the value of `forward` that is the last feature map; None likewise.
        layers: the path of the module that each scope of `forward` belongs to.
        leaves: the variables, in the order that the programs number them by.
        names: their paths, such as "params/backbone/conv1/kernel".
    """

    forward: Program
    gradient: Program | None
    feature_map: int | None
    layers: list[str]
    leaves: list[jax.Array]
    names: list[str]

    def layer(self, scope: str) -> str:
        """Returns the path of the innermost module of a scope, "" for the network itself."""
        found = _CALL.findall(scope)
        return self.layers[int(found[-1])] if found else ""


def trace(apply: Any, variables: Any, image_shape: tuple[int, ...], dtype: str) -> Network:
    """Traces a network with plain operations.

    Args:
        apply: (variables, images as stored) to logits `[1, outputs]`.
        variables: its variables.
        image_shape: (height, width, channels).
        dtype: of the stored images.

    Raises:
        UnsupportedError: it has an operation that the page does not compute.
    """
    with_paths, tree = jax.tree_util.tree_flatten_with_path(variables)
    leaves = [leaf for _, leaf in with_paths]
    names = ["/".join(str(key.key) for key in path) for path, _ in with_paths]
    layers: list[str] = []

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "setup":
            return call(*args, **kwargs)
        layers.append("/".join(context.module.path))
        with jax.named_scope(f"cnn_jax_page_{len(layers) - 1}"):
            return dropout.marked(context, call(*args, **kwargs))

    def forward(leaves: Any, images: Any) -> Any:
        return apply(jax.tree.unflatten(tree, leaves), images)

    image = jax.ShapeDtypeStruct((1, *image_shape), dtype)
    with cpu.using("plain"), nn.intercept_methods(record):
        closed = jax.make_jaxpr(forward)(leaves, image)
    program = writing.write(closed, len(leaves))
    gradient = feature_map = None
    cut = _cut(closed.jaxpr, len(leaves))
    if cut is not None:
        place, variable = cut
        feature_map = _value_at(closed, len(leaves), program, place)
        try:
            gradient = writing.write(_gradient(closed, len(leaves), place, variable), len(leaves))
        except UnsupportedError:  # the network runs all the same
            feature_map = None
    return Network(program, gradient, feature_map, layers, leaves, names)


def _cut(jaxpr: Any, leaves: int) -> tuple[int, Any] | None:
    """Returns (number of equations before, variable) of the last feature map.

    Nothing that comes after it depends on the image but through it. A map has height and width,
    more than one position, and real numbers.
    """
    depends, last_use = set(jaxpr.invars[leaves:]), {}
    for number, equation in enumerate(jaxpr.eqns):
        inputs = [each for each in equation.invars if isinstance(each, extended.Var)]
        for each in inputs:
            last_use[each] = number
        if any(each in depends for each in inputs):
            depends.update(equation.outvars)
    for each in jaxpr.outvars:
        last_use[each] = len(jaxpr.eqns)
    found, alive = None, set(jaxpr.invars[leaves:])
    for number, equation in enumerate(jaxpr.eqns):
        alive |= {each for each in equation.outvars if each in depends and each in last_use}
        alive = {each for each in alive if last_use[each] > number}
        if len(alive) != 1:
            continue
        (only,) = alive
        shape = only.aval.shape
        is_map = len(shape) == 4 and shape[1] * shape[2] > 1
        if is_map and jnp.issubdtype(only.aval.dtype, jnp.floating):
            found = (number + 1, only)
    return found


def _value_at(closed: Any, leaves: int, program: Program, place: int) -> int | None:
    """Returns the value of `program` that is the result of the first `place` equations.

    The equations are written in order, so it is the last value of a program of those alone.
    """
    jaxpr = closed.jaxpr
    variable = _cut(jaxpr, leaves)
    assert variable is not None
    part = jaxpr.replace(
        eqns=jaxpr.eqns[:place],
        outvars=[variable[1]],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    whole = extended.ClosedJaxpr(part, closed.consts)  # pyright: ignore[reportPrivateImportUsage]
    found = writing.write(whole, leaves).outputs[0]
    return found if found in {each.result for each in program.operations} else None


def _gradient(closed: Any, leaves: int, place: int, feature_map: Any) -> Any:
    """Returns the ClosedJaxpr of (leaves, map, weights of logits) to the gradient of the map."""
    jaxpr = closed.jaxpr
    depends, kept = set(jaxpr.invars[leaves:]), []
    for number, equation in enumerate(jaxpr.eqns):
        is_data = any(e in depends for e in equation.invars if isinstance(e, extended.Var))
        if is_data:
            depends.update(equation.outvars)
        if not is_data or number >= place:
            kept.append(equation)
    inputs = [*jaxpr.invars[:leaves], feature_map]
    tail = jaxpr.replace(eqns=kept, invars=inputs, debug_info=jaxpr.debug_info.with_unknown_names())

    def gradient(leaves: Any, given: Any, weights: Any) -> Any:
        def logits(given: Any) -> Any:
            return jax.core.eval_jaxpr(tail, closed.consts, *leaves, given)[0]

        found, back = jax.vjp(logits, given)
        return back(weights.astype(found.dtype))[0]

    structs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in inputs]
    weights = jax.ShapeDtypeStruct(jaxpr.outvars[0].aval.shape, jnp.float32)
    return jax.make_jaxpr(gradient)(structs[:leaves], structs[leaves], weights)
