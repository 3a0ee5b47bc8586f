"""Work of another library on the device's streams, in place of PyTorch and CuPy (tests/simt/users.cpp)."""

from __future__ import annotations

import ctypes as c
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fusedrnn import _native

EMULATED = _native.cuda_info()["memory"] == 12
_library = c.CDLL(str(_native.cuda_info()["path"])) if EMULATED else None


def _call(name: str, *arguments: Any) -> None:
    """A function of the library. RuntimeError with its words where it fails."""
    assert _library is not None
    if getattr(_library, name)(*arguments) != 0:
        _library.user_failure.restype = c.c_char_p
        raise RuntimeError(_library.user_failure().decode())


def address(array: Any) -> int:
    """Where its first element is."""
    return int(array.__cuda_array_interface__["data"][0])


def add(stream: int, source: int, target: int, by: float, count: int) -> None:
    """Numbers at `source` plus `by`, to `target`: a kernel of theirs, float32."""
    _call(
        "user_add",
        c.c_void_p(stream),
        c.c_void_p(source),
        c.c_void_p(target),
        c.c_float(by),
        c.c_int64(count),
    )


def fault(stream: int) -> None:
    """A kernel of theirs that fails."""
    _call("user_fault", c.c_void_p(stream))


def pending(stream: int) -> int:
    """How many pieces of work are still in the stream."""
    assert _library is not None
    _library.user_pending.restype = c.c_int64
    return int(_library.user_pending(c.c_void_p(stream)))


def pooled() -> int:
    """Bytes that were freed and that the process keeps for arrays to come."""
    assert _library is not None
    _library.fusedrnn_simt_pooled.restype = c.c_int64
    return int(_library.fusedrnn_simt_pooled())


def synchronize(stream: int) -> None:
    """Waits for the stream."""
    _call("user_synchronize", c.c_void_p(stream))


def wait(stream: int, other: int) -> None:
    """`stream` waits for what is in `other`."""
    _call("user_wait", c.c_void_p(stream), c.c_void_p(other))


def counts() -> tuple[int, int]:
    """How often memory was made, and how often the host has waited."""
    assert _library is not None
    made = (c.c_uint64 * 2)()
    _library.fusedrnn_simt_counts(made)
    return made[0], made[1]


class Graph:
    """A graph of theirs, to be run again and again."""

    def __init__(self, handle: c.c_void_p) -> None:
        self._handle = handle

    def launch(self, stream: int) -> None:
        """Puts it into the stream."""
        _call("fusedrnn_simt_launch", self._handle, c.c_void_p(stream))

    def free(self) -> None:
        """It will not be launched again."""
        _call("fusedrnn_simt_graph_free", self._handle)


@contextmanager
def captured(stream: int, into: list[Graph]) -> Iterator[None]:
    """Captures the stream; the graph is put into the list."""
    _call("fusedrnn_simt_capture", c.c_void_p(stream))
    handle = c.c_void_p()
    try:
        yield
    finally:
        _call("fusedrnn_simt_capture_end", c.c_void_p(stream), c.byref(handle))
    into.append(Graph(handle))
