"""Producers and consumers of device arrays made by hand, in place of PyTorch, CuPy and JAX.

Through ctypes, from the text of the standards: https://dmlc.github.io/dlpack/latest/c_api.html and
https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html.
"""

from __future__ import annotations

import ctypes as c
from typing import Any

import fusedrnn as fr
from fusedrnn import _native

PLAIN, VERSIONED = b"dltensor", b"dltensor_versioned"
CODES = {"i": 0, "f": 2, "b": 6}
_alive: list[Any] = []  # what consumers call is never destroyed: it would be in the middle of its own call
_capsule_new = c.pythonapi.PyCapsule_New
_capsule_new.restype, _capsule_new.argtypes = c.py_object, [c.c_void_p, c.c_char_p, c.c_void_p]
_capsule_pointer = c.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
_capsule_name = c.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = c.c_char_p, [c.py_object]
_capsule_rename = c.pythonapi.PyCapsule_SetName
_capsule_rename.argtypes = [c.py_object, c.c_char_p]


class Tensor(c.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", c.c_void_p),
        ("device_type", c.c_int32),
        ("device", c.c_int32),
        ("axes", c.c_int32),
        ("code", c.c_uint8),
        ("bits", c.c_uint8),
        ("lanes", c.c_uint16),
        ("sizes", c.POINTER(c.c_int64)),
        ("strides", c.POINTER(c.c_int64)),
        ("offset", c.c_uint64),
    )


Deleter = c.CFUNCTYPE(None, c.c_void_p)


class Plain(c.Structure):
    """DLManagedTensor."""

    _fields_ = (("tensor", Tensor), ("context", c.c_void_p), ("deleter", Deleter))


class Versioned(c.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", c.c_uint32),
        ("minor", c.c_uint32),
        ("context", c.c_void_p),
        ("deleter", Deleter),
        ("flags", c.c_uint64),
        ("tensor", Tensor),
    )


def consume(capsule: Any) -> Plain | Versioned:
    """Takes the tensor out of a capsule, which is renamed for that; `free` must follow."""
    name = _capsule_name(capsule)
    kind = {PLAIN: Plain, VERSIONED: Versioned}[name]
    managed = kind.from_address(_capsule_pointer(capsule, name))
    names = {PLAIN: b"used_dltensor", VERSIONED: b"used_dltensor_versioned"}
    _capsule_rename(
        capsule, names[name]
    )  # ctypes keeps no reference: the bytes above are constants of this module
    return managed


def free(managed: Plain | Versioned) -> None:
    """What a consumer does when it needs the tensor no more."""
    managed.deleter(c.addressof(managed))


class Producer:
    """An array of another library: the memory of a DeviceArray, shown as that library would.

    Args:
        array: whose memory it is.
        versioned: whether it knows DLPack 1.0.
        **fields: of the DLTensor, in place of the true ones.

    Attributes:
        streams: what `__dlpack__` was asked with.
        deleted: how often a consumer gave it back.
    """

    def __init__(self, array: fr.DeviceArray, versioned: bool = True, flags: int = 0, **fields: Any) -> None:
        self.array = array
        self.versioned = versioned
        self.flags = flags
        self.fields = fields
        self.streams: list[int | None] = []
        self._deleted = [0]

    @property
    def deleted(self) -> int:
        return self._deleted[0]

    def __dlpack_device__(self) -> tuple[int, int]:
        return _native.cuda_info()["memory"], self.fields.get("device", 0)

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        if options and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        self.streams.append(stream)
        kind = Versioned if self.versioned else Plain
        managed = kind()
        if self.versioned:
            managed.major, managed.flags = 1, self.flags
        shape, dtype = self.array.shape, self.array.dtype
        interface = self.array.__cuda_array_interface__
        true = {
            "data": interface["data"][0],
            "device_type": self.__dlpack_device__()[0],
            "device": 0,
            "axes": len(shape),
            "code": CODES[dtype.kind],
            "bits": 8 * dtype.itemsize,
            "lanes": 1,
            "sizes": (c.c_int64 * len(shape))(*shape),
            "strides": None,
            "offset": 0,
        }
        for name, value in (true | self.fields).items():
            setattr(managed.tensor, name, value)

        held, deleted = [self.array], self._deleted  # until it is given back, whoever drops the producer

        def delete(_: int) -> None:
            held.clear()
            deleted[0] += 1

        managed.deleter = Deleter(delete)
        _alive.append((managed, managed.deleter))
        return _capsule_new(c.addressof(managed), VERSIONED if self.versioned else PLAIN, None)


class Interface:
    """An array of another library that offers ``__cuda_array_interface__`` alone."""

    def __init__(self, array: fr.DeviceArray, **fields: Any) -> None:
        self._array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | fields
