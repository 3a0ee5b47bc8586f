"""Inputs that training calls keep for backward, safe from what the caller writes to them later."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fusedrnn import _native


class _Unshared(threading.local):
    """The array that a container hands to the next layer, and that no other code can write to."""

    array: Any = None


unshared = _Unshared()
_REUSED_BYTES = 32 << 10  # copies from here on are in memory that a step before has used


def kept(x: Any) -> Any:
    """The array, safe from later writes of the caller's: a copy, but of what only the container knows.

    A copy of a strided array has its axes in the same order in memory, and those that lie without a gap there
    lie without one here: kernels that go by blocks find the same ones, so bits stay the same.
    """
    if unshared.array is x:
        return x
    if not isinstance(x, np.ndarray):
        return x.copy()
    if x.flags.c_contiguous:
        return x.copy() if x.nbytes < _REUSED_BYTES else _native.input_copy(x)
    if x.strides[-1] != x.itemsize or any(s <= 0 and n > 1 for s, n in zip(x.strides, x.shape, strict=True)):
        return x  # which kernels refuse
    strides = [0] * x.ndim
    extent = x.itemsize  # of the axes so far, the fastest first
    end = x.itemsize  # where they end in x, if none has a gap
    for axis in sorted(range(x.ndim), key=lambda a: (x.strides[a], -a)):
        if x.shape[axis] == 1:  # its stride may be anything
            strides[axis] = x.itemsize
            continue
        if x.strides[axis] != end:
            extent += x.itemsize
        strides[axis] = extent if axis != x.ndim - 1 else x.itemsize
        extent = strides[axis] * x.shape[axis]
        end = x.strides[axis] * x.shape[axis]
    copy = np.ndarray(x.shape, x.dtype, _native.host_bytes(max(extent, x.itemsize)), 0, tuple(strides))
    copy[...] = x
    return copy
