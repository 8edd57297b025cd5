"""Writes a traced function of JAX down as a program of plain operations."""

from typing import Any

import numpy as np

from cnn_jax.page import translations
from cnn_jax.page.program import Operand, Program, Scalar

# Equations whose operand is their result.
_SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision"}
# Equations that stand for the equations of a function, and where that is.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


def write(closed: Any, leaves: int) -> Program:
    """Writes a traced function down.

    Args:
        closed: its ClosedJaxpr. The first arguments are the leaves of the variables, the others
            its inputs.
        leaves: the number of leaves.

    Raises:
        UnsupportedError: it has an operation that `engine.js` does not compute.
    """
    program, known = Program(), {}
    variables, inputs = closed.jaxpr.invars[:leaves], closed.jaxpr.invars[leaves:]
    for variable in inputs:
        known[variable] = program.new_value(variable.aval.shape)
        program.inputs.append(known[variable])
    for number, variable in enumerate(variables):
        value = known[variable] = program.new_value(variable.aval.shape)
        program.constants[value] = (number, None)
        program.fixed.add(value)
    _constants(program, known, closed)
    _equations(program, known, closed.jaxpr, "")
    for each in closed.jaxpr.outvars:
        found = _operand(program, known, each)
        if isinstance(found, Scalar):  # a network that always says the same
            found = program.add("broadcast", [found], each.aval.shape, axes=[])
        program.outputs.append(found)
    _keep_needed(program)
    return program


def _constants(program: Program, known: dict[Any, Operand], closed: Any) -> None:
    for variable, array in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        value = known[variable] = program.new_value(np.shape(array))
        program.constants[value] = (None, np.asarray(array, np.float32))
        program.fixed.add(value)


def _equations(program: Program, known: dict[Any, Operand], jaxpr: Any, scope: str) -> None:
    """Writes the equations of a function, and of the functions that it calls."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        own = "/".join(filter(None, [scope, str(equation.source_info.name_stack)]))
        operands = [_operand(program, known, each) for each in equation.invars]
        if name in _SAME:
            known.update(zip(equation.outvars, operands, strict=True))
        elif name in _CALLS:
            inner = equation.params[_CALLS[name]]
            closed = inner if hasattr(inner, "jaxpr") else None
            body = closed.jaxpr if closed else inner
            within: dict[Any, Operand] = dict(zip(body.invars, operands, strict=True))
            if closed:
                _constants(program, within, closed)
            called = equation.params.get("name")
            _equations(program, within, body, f"{own}/{called}" if called else own)
            for outer, result in zip(equation.outvars, body.outvars, strict=True):
                known[outer] = _operand(program, within, result)
        elif not equation.invars:  # such as iota: numbers that are known
            found = equation.primitive.bind(**equation.params)
            value = known[equation.outvars[0]] = program.new_value(found.shape)
            program.constants[value] = (None, np.asarray(found, np.float32))
            program.fixed.add(value)
        else:
            results = translations.translate(program, equation, operands, own)
            known.update(zip(equation.outvars, results, strict=True))


def _operand(program: Program, known: dict[Any, Operand], atom: Any) -> Operand:
    """Returns the value of a variable, or the number that a literal is."""
    if not hasattr(atom, "val"):
        return known[atom]
    if np.ndim(atom.val) == 0:
        return Scalar(float(atom.val))
    value = program.new_value(np.shape(atom.val))
    program.constants[value] = (None, np.asarray(atom.val, np.float32))
    program.fixed.add(value)
    return value


def _keep_needed(program: Program) -> None:
    """Drops operations and constants that no output depends on."""
    needed = set(program.outputs)
    for operation in reversed(program.operations):
        if operation.result in needed:
            needed.update(each for each in operation.operands if isinstance(each, int))
    program.operations = [each for each in program.operations if each.result in needed]
    program.constants = {k: v for k, v in program.constants.items() if k in needed}
