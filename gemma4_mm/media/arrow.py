"""Pixels of an object that speaks the Arrow C data interface, seen where they lie. No Arrow library is needed for it.

Source: https://arrow.apache.org/docs/format/CDataInterface.html and PyCapsuleInterface.html.
"""

import ctypes
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ArrowExporter(Protocol):
    """What Pillow's images are since 11.2."""

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return capsules of a schema and of an array; ValueError where the memory is in several pieces."""
        ...


class _Array(ctypes.Structure):
    """`struct ArrowArray`."""


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]


class _Exported:
    """Memory for numpy, kept by its capsule for as long as an array refers to it."""

    def __init__(self, capsule: object, *, address: int, n_bytes: int) -> None:
        self._capsule = capsule
        self.__array_interface__ = {"shape": (n_bytes,), "typestr": "|u1", "data": (address, True), "version": 3}


def view_pixels(image: ArrowExporter, *, n_pixels: int, pixel_bytes: int) -> NDArray[np.uint8]:
    """View an array of fixed-size lists of uint8, one list a pixel.

    Returns:
        Uint8 `(n_pixels, pixel_bytes)`, read-only; it keeps the pixels in memory.

    Raises:
        ValueError: the pixels are not in one piece, or not so many.
    """
    _, capsule = image.__arrow_c_array__()
    array: Any = _Array.from_address(_pointer(capsule, b"arrow_array"))
    n_values = array.children[0].contents.length if array.n_children == 1 else 0
    if array.length != n_pixels or n_values != n_pixels * pixel_bytes or array.offset:
        raise ValueError(f"{array.length} pixels of {n_values} values were exported, not {n_pixels} of {pixel_bytes}")
    values = array.children[0].contents.buffers[1]
    exported = _Exported(capsule, address=values, n_bytes=n_pixels * pixel_bytes)
    return np.asarray(exported).reshape(n_pixels, pixel_bytes)


def _pointer(capsule: object, name: bytes) -> int:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address: int = get_pointer(capsule, name)
    return address
