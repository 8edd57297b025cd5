"""A bridge to oneDNN, whose kernels PyTorch and TensorFlow use too.

A wheel ships it as a shared object (the extra `onednn`), and two public C interfaces meet here,
both through ctypes, so that nothing has to be compiled: XLA's for foreign functions, in which a
program names a call and XLA comes with its buffers, and oneDNN's own. What is called with it, and
where, is decided in `cnn_jax.cpu`. Images are float32 or, where the processor has instructions for
it, bfloat16; parameters and their gradients are float32 in both.

`runtime.start` switches it on where it is installed; see `--cpu_convolutions`.

Sources: xla/ffi/api/c_api.h, which jaxlib's wheels contain; oneDNN's developer guide, version 3.
"""

import _thread
import ctypes
import enum
import functools
import importlib.metadata
import os
import platform
import sys
import threading
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn_jax.errors import RunError

PACKAGE = "onednn-cpu-gomp"
TARGET = "cnn_jax_onednn"
_LIBRARY = "libdnnl.so.3"

Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]


class Kind(enum.IntEnum):
    """What a call computes.

    Of a convolution y, or the gradient of x, or that of the kernel; batch normalisation, or its
    gradients; products of matrices.
    """

    FORWARD = 0
    IMAGES = 1
    KERNEL = 2
    NORMALIZE = 3
    NORMALIZE_GRADIENT = 4
    PRODUCTS = 5


class Geometry(NamedTuple):
    """All that a call depends on but the numbers in its buffers.

    Attributes:
        kind: what is computed.
        bfloat16: whether images are bfloat16, else float32.
        bias: whether a bias is added, or its gradient computed with that of the kernel.
        relu: whether what is below zero becomes zero then.
        x: `[batch, height, width, in]`.
        kernel: `[height, width, in, out]`.
        y: `[batch, height', width', out]`.
        strides: (vertical, horizontal).
        pads: ((top, bottom), (left, right)) pixels of zeros.
    """

    kind: Kind
    bfloat16: bool
    bias: bool
    relu: bool
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    y: tuple[int, ...]
    strides: Pair
    pads: Pads

    def pack(self) -> np.ndarray:
        """Returns it as int64 [22], the attribute of a call."""
        lengths = (*self.x, *self.kernel, *self.y, *self.strides, *self.pads[0], *self.pads[1])
        return np.array((*self[:4], *lengths), np.int64)

    @classmethod
    def unpack(cls, packed: bytes) -> "Geometry":
        """Returns what `pack` made, from its bytes."""
        n = np.frombuffer(packed, np.int64).tolist()
        x, kernel, y = tuple(n[4:8]), tuple(n[8:12]), tuple(n[12:16])
        strides, pads = (n[16], n[17]), ((n[18], n[19]), (n[20], n[21]))
        return cls(Kind(n[0]), bool(n[1]), bool(n[2]), bool(n[3]), x, kernel, y, strides, pads)


class Normalization(NamedTuple):
    """All that a call of batch normalisation depends on but the numbers in its buffers.

    Attributes:
        kind: NORMALIZE or NORMALIZE_GRADIENT.
        bfloat16: whether images are bfloat16, else float32.
        relu: whether what is below zero becomes zero then.
        epsilon: added to the variance.
        x: `[batch, height, width, channels]`.
    """

    kind: Kind
    bfloat16: bool
    relu: bool
    epsilon: float
    x: tuple[int, ...]

    def pack(self) -> np.ndarray:
        """Returns it as int64 [8], the attribute of a call."""
        bits = np.float64(self.epsilon).view(np.int64)
        return np.array((*self[:3], bits, *self.x), np.int64)

    @classmethod
    def unpack(cls, packed: bytes) -> "Normalization":
        """Returns what `pack` made, from its bytes."""
        n = np.frombuffer(packed, np.int64)
        epsilon = float(n[3:4].view(np.float64)[0])
        return cls(Kind(n[0]), bool(n[1]), bool(n[2]), epsilon, tuple(n[4:].tolist()))


class Products(NamedTuple):
    """All that a call of matrix products depends on but the numbers in its buffers.

    Attributes:
        transpose_a: whether a is `[inner, pairs, rows]`; else `[rows, pairs, inner]`.
        transpose_b: whether b is `[columns, pairs, inner]`; else `[inner, pairs, columns]`.
        pairs: of matrices.
        rows: of the results.
        inner: what is summed over.
        columns: of the results.
    """

    transpose_a: bool
    transpose_b: bool
    pairs: int
    rows: int
    inner: int
    columns: int

    def pack(self) -> np.ndarray:
        """Returns it as int64 [7], the attribute of a call."""
        return np.array((Kind.PRODUCTS, *self), np.int64)

    @classmethod
    def unpack(cls, packed: bytes) -> "Products":
        """Returns what `pack` made, from its bytes."""
        n = np.frombuffer(packed, np.int64).tolist()
        return cls(bool(n[1]), bool(n[2]), *n[3:])


def obstacle() -> str | None:
    """Returns why it cannot be used here, or None."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"this is {sys.platform} on {platform.machine()}, not Linux on x86_64"
    if (count := jax.device_count()) > 1:
        return f"there are {count} devices, over which XLA does not divide it"
    try:
        _register()
    except importlib.metadata.PackageNotFoundError:
        return f"{PACKAGE} is not installed; pip install '.[onednn]'"
    except (OSError, RunError) as error:
        return str(error)
    return None


@functools.cache
def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor."""
    images, kernel, pads = (1, 8, 8, 16), (3, 3, 16, 16), ((1, 1), (1, 1))
    for kind in (Kind.FORWARD, Kind.IMAGES, Kind.KERNEL):
        geometry = Geometry(kind, True, False, False, images, kernel, images, (1, 1), pads)
        try:
            _Convolution(_library(), geometry)
        except RunError:
            return False
    return True


def call(
    operands: Sequence[jax.Array],
    results: Sequence[Any],
    settings: "Geometry | Normalization | Products",
) -> list[jax.Array]:
    """Has the library compute; a program with it runs on a CPU only.

    Args:
        operands: as the kind of call has them.
        results: arrays or structures of their shapes and types.
        settings: what is called.
    """
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in results]
    made = jax.ffi.ffi_call(TARGET, shapes, vmap_method="sequential")
    return list(made(*operands, settings=settings.pack()))


# oneDNN's side. Numbers are those of its enumerations; memory is named by its role.

_CPU, _IN_ORDER = 1, 1
_FLOAT32, _BFLOAT16 = 3, 2
_ANY_FORMAT = 1
_RELU = 32
_TRAINING, _DIRECT = 64, 1
_X, _DX, _W, _DW, _Y, _DY, _B, _DB = 1, 129, 33, 161, 17, 145, 41, 169  # of an execution
_MEAN, _VARIANCE, _SCALE, _SHIFT, _DSCALE, _DSHIFT, _MASK = 49, 50, 51, 52, 255, 256, 64
_FROM, _TO = 1, 17
_FORMAT_OF = {_W: 131, _DW: 132, _MASK: 135}  # of a query
_USE_SCALE_AND_SHIFT, _USE_RELU = 2 | 4, 8
_BACKWARD = 128
_MAX_DIMS = 12


class _Argument(ctypes.Structure):
    _fields_ = (("role", c_int), ("memory", c_void_p))


class _Library:
    """The shared object with an engine and a stream of calls, one of which runs at a time."""

    def __init__(self, path: str):
        # Its threads spin between two calls; not for long, as XLA's want the cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        self._library = ctypes.CDLL(path)
        self._library.dnnl_primitive_desc_query_md.restype = c_void_p
        self._library.dnnl_memory_desc_get_size.restype = c_size_t
        self.engine = self.new("engine_create", _CPU, c_size_t(0))
        self.stream = self.new("stream_create", self.engine, _IN_ORDER)
        self._workspace = np.empty(0, np.uint8)
        self.lock = threading.Lock()

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function that returns a status.

        Raises:
            RunError: it has a status that is not success.
        """
        if status := getattr(self._library, f"dnnl_{name}")(*arguments):
            reason = {1: "out of memory", 3: "not implemented here"}.get(status, status)
            raise RunError(f"oneDNN's {name}: {reason}")

    def new(self, name: str, *arguments: Any) -> c_void_p:
        """Returns what a function makes whose first argument takes it."""
        made = c_void_p()
        self.call(name, byref(made), *arguments)
        return made

    def description(
        self, shape: tuple[int, ...], order: str, bfloat16: bool, plain: bool = True
    ) -> c_void_p:
        """Returns the description of an array with axes in `order`, in oneDNN's in NCHW or OIHW.

        Args:
            shape: of the array.
            order: NHWC, HWIO or O.
            bfloat16: its type, else float32.
            plain: False leaves it to oneDNN how it lies in memory.
        """
        theirs = "NCHW" if "N" in order else "OIHW"
        axes = [order.index(axis) for axis in theirs if axis in order]
        kind = _BFLOAT16 if bfloat16 else _FLOAT32
        lengths = _numbers(shape[axis] for axis in axes)
        if not plain:
            return self.new("memory_desc_create_with_tag", len(shape), lengths, kind, _ANY_FORMAT)
        steps = np.cumprod((1, *shape[:0:-1]))[::-1].tolist()
        return self.new(
            "memory_desc_create_with_strides",
            *(len(shape), lengths, kind, _numbers(steps[i] for i in axes)),
        )

    def same(self, one: c_void_p, other: c_void_p) -> bool:
        """Whether two descriptions are the same."""
        return bool(self._library.dnnl_memory_desc_equal(one, other))

    def chosen(self, primitive: c_void_p, role: int) -> c_void_p:
        """Returns how a primitive wants the memory of a role."""
        found = self._library.dnnl_primitive_desc_query_md(primitive, _FORMAT_OF[role], 0)
        return c_void_p(found)

    def attributes(self, relu: bool) -> c_void_p | None:
        """Returns the attributes of a call that a ReLU follows, or none."""
        if not relu:
            return None
        after = self.new("post_ops_create")
        self.call("post_ops_append_eltwise", after, _RELU, c_float(0), c_float(0))
        attributes = self.new("primitive_attr_create")
        self.call("primitive_attr_set_post_ops", attributes, after)
        return attributes

    def reorder(self, one: c_void_p, source: c_void_p, other: c_void_p, target: c_void_p) -> Any:
        """Returns the execution that copies from one format to another."""
        made = self.new("reorder_primitive_desc_create", one, self.engine, other, self.engine, None)
        arguments = (_Argument * 2)((_FROM, source), (_TO, target))
        return self.new("primitive_create", made), arguments

    def memory(self, description: c_void_p) -> c_void_p:
        """Returns an object for memory that is still to be named."""
        return self.new("memory_create", description, self.engine, None)

    def size(self, description: c_void_p) -> int:
        """Returns its bytes."""
        return self._library.dnnl_memory_desc_get_size(description)

    def workspace(self, size: int) -> int:
        """Returns the address of so many bytes, valid until the next call."""
        if self._workspace.size < size + 64:
            self._workspace = np.empty(size + 64, np.uint8)
        return -(-self._workspace.ctypes.data // 64) * 64

    def execute(self, primitive: c_void_p, arguments: Any) -> None:
        """Runs a primitive."""
        self.call("primitive_execute", primitive, self.stream, len(arguments), arguments)

    def point(self, memory: c_void_p, address: int | None) -> None:
        """Names the place of a memory."""
        self.call("memory_set_data_handle", memory, c_void_p(address))


def _numbers(values: Any) -> Any:
    return (c_int64 * _MAX_DIMS)(*values)


_ROLES = {
    Kind.FORWARD: (_X, _W, _B, _Y),
    Kind.IMAGES: (_DY, _W, _DX),
    Kind.KERNEL: (_X, _DY, _DW, _DB),
}


class _Call:
    """One call with one attribute, made once and run many times.

    Attributes:
        outside: what XLA's buffers are, in their order: operands, then results; None is not used.
        inside: memory of the library's own in one of its formats, and its bytes, or None.
        executions: primitives and their arguments, in their order.
    """

    outside: list[c_void_p | None]
    inside: tuple[c_void_p, int] | None = None
    executions: list[Any]

    def __init__(self, library: _Library):
        self._library = library

    def __call__(self, addresses: list[int]) -> None:
        """Computes from and to the buffers at these addresses."""
        library = self._library
        for memory, address in zip(self.outside, addresses, strict=True):
            if memory is not None:
                library.point(memory, address)
        if self.inside is not None:
            memory, size = self.inside
            library.point(memory, library.workspace(size))
        for primitive, arguments in self.executions:
            library.execute(primitive, arguments)


class _Convolution(_Call):
    """The call of a `Geometry`."""

    def __init__(self, library: _Library, geometry: Geometry):
        super().__init__(library)
        kind, half = geometry.kind, geometry.bfloat16
        x = library.description(geometry.x, "NHWC", half)
        y = library.description(geometry.y, "NHWC", half)
        plain = library.description(geometry.kernel, "HWIO", False)
        bias = library.description(geometry.kernel[-1:], "O", False) if geometry.bias else None
        made = self._describe(geometry, x, y, bias)
        role = _DW if kind == Kind.KERNEL else _W
        chosen = library.chosen(made, role)
        places = {_X: x, _DX: x, _Y: y, _DY: y, role: chosen, _B: bias, _DB: bias}
        roles = [one for one in _ROLES[kind] if places[one] is not None]
        memories = [library.memory(places[one]) for one in roles]
        arguments = (_Argument * len(roles))(*zip(roles, memories, strict=True))
        self.executions = [(library.new("primitive_create", made), arguments)]
        self.outside = [*memories]
        if not library.same(chosen, plain):
            place = roles.index(role)
            inside = memories[place]
            self.inside = inside, library.size(chosen)
            self.outside[place] = outside = library.memory(plain)
            if kind == Kind.KERNEL:
                self.executions.append(library.reorder(chosen, inside, plain, outside))
            else:
                self.executions.insert(0, library.reorder(plain, outside, chosen, inside))

    def _describe(
        self, geometry: Geometry, x: c_void_p, y: c_void_p, bias: c_void_p | None
    ) -> c_void_p:
        """Returns oneDNN's description of the call; it chooses the format of the kernel."""
        library, (top, bottom), (left, right) = self._library, *geometry.pads
        kernel = library.description(geometry.kernel, "HWIO", geometry.bfloat16, plain=False)
        window = (
            *(_numbers(geometry.strides), _numbers((0, 0))),
            *(_numbers((top, left)), _numbers((bottom, right))),
        )
        attributes = library.attributes(geometry.relu)
        added = bias if geometry.kind == Kind.FORWARD else None
        forward = library.new(
            "convolution_forward_primitive_desc_create",
            *(library.engine, _TRAINING, _DIRECT, x, kernel, added, y, *window, attributes),
        )
        if geometry.kind == Kind.FORWARD:
            return forward
        if geometry.kind == Kind.IMAGES:  # of which the forward call is a hint
            return library.new(
                "convolution_backward_data_primitive_desc_create",
                *(library.engine, _DIRECT, x, kernel, y, *window, forward, None),
            )
        kernel = library.description(geometry.kernel, "HWIO", False, plain=False)
        return library.new(
            "convolution_backward_weights_primitive_desc_create",
            *(library.engine, _DIRECT, x, kernel, bias, y, *window, forward, None),
        )


class _Normalized(_Call):
    """The call of a `Normalization`."""

    def __init__(self, library: _Library, settings: Normalization):
        super().__init__(library)
        x = library.description(settings.x, "NHWC", settings.bfloat16)
        channels = library.description(settings.x[-1:], "O", False)
        made = forward = self.describe(library, settings)
        outside: list[Any] = [(_X, x), (_SCALE, channels)]
        results = [(_Y, x), (_MEAN, channels), (_VARIANCE, channels)]
        mask = [(_MASK, library.chosen(forward, _MASK))] if settings.relu else []
        if settings.kind == Kind.NORMALIZE:
            outside += [(_SHIFT, channels), *results, *mask]
        else:
            made = library.new(
                "batch_normalization_backward_primitive_desc_create",
                *(library.engine, _BACKWARD, x, x, x, *_normalization(settings), forward, None),
            )
            outside += [None, (_DY, x), *results[1:], *mask]  # it does without the shift
            outside += [(_DX, x), (_DSCALE, channels), (_DSHIFT, channels)]
        self.outside = [one and library.memory(one[1]) for one in outside]
        pairs = [(a[0], memory) for a, memory in zip(outside, self.outside, strict=True) if a]
        arguments = (_Argument * len(pairs))(*pairs)
        self.executions = [(library.new("primitive_create", made), arguments)]

    @staticmethod
    def describe(library: _Library, settings: Normalization) -> c_void_p:
        """Returns oneDNN's description of the call, of a gradient that of its forward call."""
        x = library.description(settings.x, "NHWC", settings.bfloat16)
        return library.new(
            "batch_normalization_forward_primitive_desc_create",
            *(library.engine, _TRAINING, x, x, *_normalization(settings), None),
        )


class _Products(_Call):
    """The call of a `Products`."""

    def __init__(self, library: _Library, settings: Products):
        super().__init__(library)
        _, _, pairs, rows, inner, columns = settings

        def matrices(height: int, width: int, transposed: bool = False) -> c_void_p:
            """Returns the description of `[pairs, height, width]`, pairs in the middle."""
            lengths = _numbers((pairs, height, width))
            steps = (height, 1, pairs * height) if transposed else (width, pairs * width, 1)
            kind, strides = _FLOAT32, _numbers(steps)
            return library.new("memory_desc_create_with_strides", 3, lengths, kind, strides)

        a = matrices(rows, inner, settings.transpose_a)
        b = matrices(inner, columns, settings.transpose_b)
        y = matrices(rows, columns)
        made = library.new("matmul_primitive_desc_create", library.engine, a, b, None, y, None)
        self.outside = [library.memory(one) for one in (a, b, y)]
        arguments = (_Argument * 3)(*zip((_X, _W, _Y), self.outside, strict=True))
        self.executions = [(library.new("primitive_create", made), arguments)]


def _normalization(settings: Normalization) -> tuple[Any, int]:
    """Returns the epsilon and the flags of a call."""
    flags = _USE_SCALE_AND_SHIFT | (_USE_RELU if settings.relu else 0)
    return c_float(settings.epsilon), flags


@functools.cache
def workspace_size(settings: Normalization) -> int:
    """Returns the bytes in which a normalisation notes for its gradient what the ReLU let pass."""
    library = _library()
    forward = _Normalized.describe(library, settings)
    return library.size(library.chosen(forward, _MASK))


# XLA's side: the structures of its interface, as far as they are read here.


class _Extension(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("type", c_int), ("next", c_void_p))


class _Version(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("extension", c_void_p), ("major", c_int), ("minor", c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("version", _Version), ("traits", c_uint32))


class _MetadataExtension(ctypes.Structure):
    _fields_ = (("base", _Extension), ("metadata", POINTER(_Metadata)))


class _Buffer(ctypes.Structure):
    _fields_ = (
        *(("size", c_size_t), ("extension", c_void_p), ("type", c_int)),
        *(("data", c_void_p), ("rank", c_int64), ("shape", POINTER(c_int64))),
    )


class _Array(ctypes.Structure):
    _fields_ = (("type", c_int), ("size", c_size_t), ("data", c_void_p))


class _Buffers(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", c_void_p), ("size", c_int64)),
        *(("types", c_void_p), ("items", POINTER(POINTER(_Buffer)))),
    )


class _Attributes(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", c_void_p), ("size", c_int64)),
        *(("types", c_void_p), ("names", c_void_p), ("items", POINTER(POINTER(_Array)))),
    )


class _Failure(ctypes.Structure):
    _fields_ = (
        *(("size", c_size_t), ("extension", c_void_p)),
        *(("message", c_char_p), ("code", c_int)),
    )


_CREATE_FAILURE = ctypes.CFUNCTYPE(c_void_p, POINTER(_Failure))


class _Api(ctypes.Structure):
    _fields_ = (
        *(("size", c_size_t), ("extension", c_void_p), ("version", _Version)),
        *(("internal", c_void_p), ("create_failure", _CREATE_FAILURE)),
    )


class _Frame(ctypes.Structure):
    _fields_ = (
        *(("size", c_size_t), ("extension", POINTER(_MetadataExtension))),
        *(("api", POINTER(_Api)), ("context", c_void_p), ("stage", c_int)),
        *(("operands", _Buffers), ("results", _Buffers), ("attributes", _Attributes)),
    )


_HANDLER = ctypes.CFUNCTYPE(c_void_p, POINTER(_Frame))
_METADATA, _INTERNAL = 1, 13
_API = (0, 3)  # the version of the interface that these structures are of


@functools.cache
def _library() -> _Library:
    files = importlib.metadata.files(PACKAGE) or []
    found = [str(file.locate()) for file in files if file.name == _LIBRARY]
    if not found:
        raise RunError(f"{PACKAGE} is installed without its {_LIBRARY}; install it again")
    return _Library(found[0])


def _make_call(library: _Library, packed: bytes) -> _Call:
    """Returns what answers the calls with this attribute."""
    kind = np.frombuffer(packed, np.int64, 1)[0]
    if kind == Kind.PRODUCTS:
        return _Products(library, Products.unpack(packed))
    if kind < Kind.NORMALIZE:
        return _Convolution(library, Geometry.unpack(packed))
    return _Normalized(library, Normalization.unpack(packed))


@functools.cache
def _register() -> Any:
    """Tells XLA who answers the calls; what is returned has to be kept."""
    library = _library()
    calls: dict[bytes, _Call] = {}

    def handle(pointer: Any) -> int | None:
        frame = pointer.contents
        if frame.extension and frame.extension.contents.base.type == _METADATA:
            version = frame.extension.contents.metadata.contents.version
            version.major, version.minor = _API
            return None
        try:
            array = frame.attributes.items[0].contents
            packed = ctypes.string_at(array.data, 8 * array.size)
            addresses = [
                buffers.items[i][0].data
                for buffers in (frame.operands, frame.results)
                for i in range(buffers.size)
            ]
            with library.lock:
                call = calls.get(packed)
                if call is None:
                    call = calls[packed] = _make_call(library, packed)
                call(addresses)
        except BaseException as error:  # must not leave through C
            if isinstance(error, KeyboardInterrupt):
                _thread.interrupt_main()  # once more, when the program has ended
            message = f"{type(error).__name__}: {error}".encode()
            failure = _Failure(ctypes.sizeof(_Failure), None, message, _INTERNAL)
            return frame.api.contents.create_failure(byref(failure))
        return None

    handler = _HANDLER(handle)
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(handler), platform="cpu")
    return handler
