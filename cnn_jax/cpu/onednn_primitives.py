"""oneDNN's primitives: how the call with some settings is described, created and run."""

from ctypes import c_float, c_void_p
from typing import Any

import numpy as np

from cnn_jax.cpu import onednn_library as lib
from cnn_jax.cpu.onednn_library import Execution, Library
from cnn_jax.cpu.onednn_settings import Geometry, Kind, Normalization, Products


class Call:
    """One call with its settings: created once, run many times.

    Attributes:
        outside: a memory object for each of XLA's buffers, operands before results; None where
            oneDNN does not read the buffer.
        inside: a memory object for an array in oneDNN's own format, and its bytes; or None.
        executions: the primitives to run, in their order.
    """

    outside: list[c_void_p | None]
    inside: tuple[c_void_p, int] | None = None
    executions: list[Execution]

    def __init__(self, library: Library):
        self._library = library

    def __call__(self, addresses: list[int]) -> None:
        """Computes the results from the operands at these addresses, in the order of `outside`."""
        library = self._library
        for memory, address in zip(self.outside, addresses, strict=True):
            if memory is not None:
                library.point(memory, address)
        if self.inside is not None:
            memory, size = self.inside
            library.point(memory, library.workspace(size))
        for execution in self.executions:
            library.execute(execution)


def create(library: Library, packed: bytes) -> Call:
    """Returns the call with these packed settings.

    Raises:
        RunError: oneDNN cannot compute it.
    """
    kind = np.frombuffer(packed, np.int64, 1)[0]
    if kind == Kind.PRODUCTS:
        return _Products(library, Products.unpack(packed))
    if kind < Kind.NORMALIZE:
        return Convolution(library, Geometry.unpack(packed))
    return _Normalized(library, Normalization.unpack(packed))


_ROLES = {  # of XLA's buffers, in their order
    Kind.RESULT: (lib.X, lib.W, lib.BIAS, lib.Y),
    Kind.IMAGES_GRADIENT: (lib.DY, lib.W, lib.DX),
    Kind.KERNEL_GRADIENT: (lib.X, lib.DY, lib.DW, lib.DBIAS),
}
_TRAINING, _DIRECT, _BACKWARD = 64, 1, 128
_USE_SCALE_AND_SHIFT, _USE_RELU = 2 | 4, 8


class Convolution(Call):
    """A convolution or one of its gradients; oneDNN chooses the format of the kernel.

    Where that is not ours, a copy from our format to oneDNN's, or back, is one more execution.
    """

    def __init__(self, library: Library, geometry: Geometry):
        super().__init__(library)
        kind, half = geometry.kind, geometry.bfloat16
        x = library.description(geometry.x, "NHWC", half)
        y = library.description(geometry.y, "NHWC", half)
        ours = self._kernel(geometry, False)
        bias = library.description(geometry.kernel[-1:], "O", False) if geometry.bias else None
        description = self._describe(geometry, x, y, bias)
        role = lib.DW if kind == Kind.KERNEL_GRADIENT else lib.W
        theirs = library.expected(description, role)
        arrays = {lib.X: x, lib.DX: x, lib.Y: y, lib.DY: y, lib.BIAS: bias, lib.DBIAS: bias}
        arrays[role] = theirs
        roles = [one for one in _ROLES[kind] if arrays[one] is not None]
        memories = [library.memory(arrays[one]) for one in roles]
        self.executions = [(library.primitive(description), lib.arguments(roles, memories))]
        self.outside = [*memories]
        if not library.same(theirs, ours):
            place = roles.index(role)
            inside = memories[place]
            self.inside = inside, library.size(theirs)
            self.outside[place] = outside = library.memory(ours)
            if kind == Kind.KERNEL_GRADIENT:
                self.executions.append(library.reorder(theirs, inside, ours, outside))
            else:
                self.executions.insert(0, library.reorder(ours, outside, theirs, inside))

    def _kernel(self, geometry: Geometry, bfloat16: bool, plain: bool = True) -> c_void_p:
        """Returns the description of the kernel, with an axis more where there are groups."""
        shape, order, groups = geometry.kernel, "HWIO", geometry.groups
        if groups > 1:
            shape, order = (*shape[:3], groups, shape[3] // groups), "HWIGO"
        return self._library.description(shape, order, bfloat16, plain)

    def _describe(
        self, geometry: Geometry, x: c_void_p, y: c_void_p, bias: c_void_p | None
    ) -> c_void_p:
        """Returns oneDNN's description of the primitive."""
        library, (top, bottom), (left, right) = self._library, *geometry.pads
        kernel = self._kernel(geometry, geometry.bfloat16, plain=False)
        window = (
            *(lib.lengths(geometry.strides), lib.lengths((0, 0))),
            *(lib.lengths((top, left)), lib.lengths((bottom, right))),
        )
        attributes = library.with_relu(geometry.relu)
        added = bias if geometry.kind == Kind.RESULT else None
        forward = library.new(
            "convolution_forward_primitive_desc_create",
            *(library.engine, _TRAINING, _DIRECT, x, kernel, added, y, *window, attributes),
        )
        if geometry.kind == Kind.RESULT:
            return forward
        if geometry.kind == Kind.IMAGES_GRADIENT:  # oneDNN wants the forward call as a hint
            return library.new(
                "convolution_backward_data_primitive_desc_create",
                *(library.engine, _DIRECT, x, kernel, y, *window, forward, None),
            )
        kernel = self._kernel(geometry, False, plain=False)
        return library.new(
            "convolution_backward_weights_primitive_desc_create",
            *(library.engine, _DIRECT, x, kernel, bias, y, *window, forward, None),
        )


def describe_normalization(library: Library, settings: Normalization) -> c_void_p:
    """Returns oneDNN's description of a normalisation; of a gradient, that of its forward call."""
    x = library.description(settings.x, "NHWC", settings.bfloat16)
    return library.new(
        "batch_normalization_forward_primitive_desc_create",
        *(library.engine, _TRAINING, x, x, *_epsilon_and_flags(settings), None),
    )


def _epsilon_and_flags(settings: Normalization) -> tuple[Any, int]:
    flags = _USE_SCALE_AND_SHIFT | (_USE_RELU if settings.relu else 0)
    return c_float(settings.epsilon), flags


class _Normalized(Call):
    """Batch normalisation or its gradients."""

    def __init__(self, library: Library, settings: Normalization):
        super().__init__(library)
        x = library.description(settings.x, "NHWC", settings.bfloat16)
        channels = library.description(settings.x[-1:], "O", False)
        description = forward = describe_normalization(library, settings)
        buffers: list[Any] = [(lib.X, x), (lib.SCALE, channels)]
        results = [(lib.Y, x), (lib.MEAN, channels), (lib.VARIANCE, channels)]
        mask = [(lib.MASK, library.expected(forward, lib.MASK))] if settings.relu else []
        if settings.kind == Kind.NORMALIZE:
            buffers += [(lib.SHIFT, channels), *results, *mask]
        else:
            description = library.new(
                "batch_normalization_backward_primitive_desc_create",
                *(library.engine, _BACKWARD, x, x, x, *_epsilon_and_flags(settings)),
                *(forward, None),
            )
            buffers += [None, (lib.DY, x), *results[1:], *mask]  # it does not read the shift
            buffers += [(lib.DX, x), (lib.DSCALE, channels), (lib.DSHIFT, channels)]
        self.outside = [one and library.memory(one[1]) for one in buffers]
        roles = [buffer[0] for buffer in buffers if buffer]
        given = lib.arguments(roles, [memory for memory in self.outside if memory is not None])
        self.executions = [(library.primitive(description), given)]


class _Products(Call):
    """Matrix products."""

    def __init__(self, library: Library, settings: Products):
        super().__init__(library)
        _, _, pairs, rows, inner, columns = settings

        def matrices(height: int, width: int, transposed: bool = False) -> c_void_p:
            """Returns the description of `[pairs, height, width]`, pairs in the middle."""
            sizes = lib.lengths((pairs, height, width))
            steps = (height, 1, pairs * height) if transposed else (width, pairs * width, 1)
            kind, strides = lib.FLOAT32, lib.lengths(steps)
            return library.new("memory_desc_create_with_strides", 3, sizes, kind, strides)

        a = matrices(rows, inner, settings.transpose_a)
        b = matrices(inner, columns, settings.transpose_b)
        y = matrices(rows, columns)
        description = library.new(
            "matmul_primitive_desc_create", library.engine, a, b, None, y, None
        )
        memories = [library.memory(one) for one in (a, b, y)]
        given = lib.arguments((lib.X, lib.W, lib.Y), memories)
        self.outside, self.executions = [*memories], [(library.primitive(description), given)]
