"""oneDNN's C interface, in ctypes: the loaded library, descriptions of arrays, executions.

Source: oneDNN's developer guide, version 3. Numbers are those of its enumerations.
"""

import ctypes
import os
import threading
from collections.abc import Iterable
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

from cnn_jax.errors import RunError

# Roles of an array in an execution.
X, DX, W, DW, Y, DY, BIAS, DBIAS = 1, 129, 33, 161, 17, 145, 41, 169
MEAN, VARIANCE, SCALE, SHIFT, DSCALE, DSHIFT, MASK = 49, 50, 51, 52, 255, 256, 64
_SOURCE, _TARGET = 1, 17

_CPU, _IN_ORDER = 1, 1
FLOAT32, BFLOAT16 = 3, 2
_ANY_FORMAT = 1
_RELU = 32
_QUERY = {W: 131, DW: 132, MASK: 135}  # asks for the format of a role's array
_MAX_DIMS = 12


class _Argument(ctypes.Structure):
    _fields_ = (("role", c_int), ("memory", c_void_p))


Execution = tuple[c_void_p, Any]  # a primitive and its arguments


def lengths(values: Iterable[int]) -> Any:
    """Returns oneDNN's array of lengths, strides or pads."""
    return (c_int64 * _MAX_DIMS)(*values)


def arguments(roles: Iterable[int], memories: Iterable[c_void_p]) -> Any:
    """Returns the arguments of an execution: a memory object for each role."""
    pairs = list(zip(roles, memories, strict=True))
    return (_Argument * len(pairs))(*pairs)


class Library:
    """The shared object, with an engine and a stream that runs one primitive at a time.

    Attributes:
        engine: oneDNN's engine for this CPU.
        lock: hold it while primitives are created or run.
    """

    def __init__(self, path: str):
        # Its threads spin after a call, in case another follows. Briefly, since XLA's threads need
        # the cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        self._library = ctypes.CDLL(path)
        self._library.dnnl_primitive_desc_query_md.restype = c_void_p
        self._library.dnnl_memory_desc_get_size.restype = c_size_t
        self.engine = self.new("engine_create", _CPU, c_size_t(0))
        self._stream = self.new("stream_create", self.engine, _IN_ORDER)
        self._workspace = np.empty(0, np.uint8)
        self.lock = threading.Lock()

    def call(self, name: str, *arguments: Any) -> None:
        """Calls one of the library's functions.

        Raises:
            RunError: its status is not success.
        """
        if status := getattr(self._library, f"dnnl_{name}")(*arguments):
            reason = {1: "out of memory", 3: "not implemented here"}.get(status, status)
            raise RunError(f"oneDNN's {name}: {reason}")

    def new(self, name: str, *arguments: Any) -> c_void_p:
        """Calls a function whose first argument receives an object; returns the object."""
        created = c_void_p()
        self.call(name, byref(created), *arguments)
        return created

    def description(
        self, shape: tuple[int, ...], order: str, bfloat16: bool, plain: bool = True
    ) -> c_void_p:
        """Returns oneDNN's description of an array, whose axes it counts as NCHW or (G)OIHW.

        Args:
            shape: the array's shape.
            order: the array's axes: NHWC, HWIO, HWIGO with groups, or O.
            bfloat16: whether the array is bfloat16, else float32.
            plain: whether it lies in memory in the order of its axes; False leaves the format to
                oneDNN.
        """
        theirs = "NCHW" if "N" in order else "GOIHW"
        axes = [order.index(axis) for axis in theirs if axis in order]
        kind = BFLOAT16 if bfloat16 else FLOAT32
        sizes = lengths(shape[axis] for axis in axes)
        if not plain:
            return self.new("memory_desc_create_with_tag", len(shape), sizes, kind, _ANY_FORMAT)
        steps = np.cumprod((1, *shape[:0:-1]))[::-1].tolist()
        strides = lengths(steps[axis] for axis in axes)
        return self.new("memory_desc_create_with_strides", len(shape), sizes, kind, strides)

    def same(self, one: c_void_p, other: c_void_p) -> bool:
        """Whether two descriptions are equal."""
        return bool(self._library.dnnl_memory_desc_equal(one, other))

    def expected(self, description: c_void_p, role: int) -> c_void_p:
        """Returns the description of the array that a primitive expects in a role."""
        answer = self._library.dnnl_primitive_desc_query_md(description, _QUERY[role], 0)
        return c_void_p(answer)

    def size(self, description: c_void_p) -> int:
        """Returns the bytes of an array."""
        return self._library.dnnl_memory_desc_get_size(description)

    def with_relu(self, relu: bool) -> c_void_p | None:
        """Returns the attributes of a primitive: a ReLU of its result, or None."""
        if not relu:
            return None
        after = self.new("post_ops_create")
        self.call("post_ops_append_eltwise", after, _RELU, c_float(0), c_float(0))
        attributes = self.new("primitive_attr_create")
        self.call("primitive_attr_set_post_ops", attributes, after)
        return attributes

    def reorder(
        self, one: c_void_p, source: c_void_p, other: c_void_p, target: c_void_p
    ) -> Execution:
        """Returns the execution that copies source, in format one, to target, in the other."""
        created = self.new(
            "reorder_primitive_desc_create", one, self.engine, other, self.engine, None
        )
        return self.primitive(created), arguments((_SOURCE, _TARGET), (source, target))

    def primitive(self, description: c_void_p) -> c_void_p:
        """Returns the primitive of a description, compiled by oneDNN."""
        return self.new("primitive_create", description)

    def memory(self, description: c_void_p) -> c_void_p:
        """Returns a memory object, without an address yet."""
        return self.new("memory_create", description, self.engine, None)

    def point(self, memory: c_void_p, address: int | None) -> None:
        """Gives a memory object its address."""
        self.call("memory_set_data_handle", memory, c_void_p(address))

    def workspace(self, size: int) -> int:
        """Returns the address of `size` bytes, aligned to 64, valid until the next call."""
        if self._workspace.size < size + 64:
            self._workspace = np.empty(size + 64, np.uint8)
        return -(-self._workspace.ctypes.data // 64) * 64

    def execute(self, execution: Execution) -> None:
        """Runs a primitive to its end."""
        primitive, given = execution
        self.call("primitive_execute", primitive, self._stream, len(given), given)
