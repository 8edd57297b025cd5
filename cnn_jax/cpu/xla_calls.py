"""XLA's interface for foreign functions, in ctypes: Python functions that XLA's programs call.

A program names a target; XLA calls the handler registered for it with a frame, which holds the
addresses of the operands and results and one attribute, an array of int64. The structures below are
those of the interface as far as they are read here. The interface is public and in C, so that
nothing has to be compiled; one call takes 13 microseconds.

Source: xla/ffi/api/c_api.h, which jaxlib's wheels contain.
"""

import _thread
import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any

import jax

_VERSION = (0, 3)  # of the interface that these structures describe
_METADATA_EXTENSION = 1
_INTERNAL = 13  # an error code


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


def register(target: str, answer: Callable[[bytes, list[int]], None]) -> Any:
    """Registers the function that answers the calls of a target in programs for a CPU.

    An exception that the function raises becomes the error of the program.

    Args:
        target: the name of the target.
        answer: takes the bytes of the call's attribute, and the addresses of its operands and then
            of its results; fills the results before it returns.

    Returns:
        The handler. XLA holds only its address: keep it as long as programs may run.
    """

    def handle(pointer: Any) -> int | None:
        frame = pointer.contents
        if frame.extension and frame.extension.contents.base.type == _METADATA_EXTENSION:
            version = frame.extension.contents.metadata.contents.version
            version.major, version.minor = _VERSION
            return None
        try:
            attribute = frame.attributes.items[0].contents
            addresses = [
                buffers.items[i][0].data
                for buffers in (frame.operands, frame.results)
                for i in range(buffers.size)
            ]
            answer(ctypes.string_at(attribute.data, 8 * attribute.size), addresses)
        except BaseException as error:  # an exception must not leave through C
            if isinstance(error, KeyboardInterrupt):
                _thread.interrupt_main()  # raises it again when the program has ended
            message = f"{type(error).__name__}: {error}".encode()
            failure = _Failure(ctypes.sizeof(_Failure), None, message, _INTERNAL)
            return frame.api.contents.create_failure(byref(failure))
        return None

    handler = _HANDLER(handle)
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler), platform="cpu")
    return handler
