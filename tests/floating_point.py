"""Reads and writes the processor's floating-point control register from Python (x86-64 Linux), for tests."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

SUPPORTED = os.uname().machine == "x86_64"

DEFAULT = 0x1F80  # round to nearest, all exceptions masked, denormals kept
FLUSH = 0x8040  # results and operands that are denormal become zero (FTZ, DAZ)
ROUND_UP = 0x4000

_CODE = b"\x0f\xae\x17\xc3\x0f\xae\x1f\xc3"  # ldmxcsr [rdi]; ret; stmxcsr [rdi]; ret


class Control:
    """The MXCSR register of the calling thread."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        function = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))
        self._load, self._store = function(start), function(start + 4)

    def read(self) -> int:
        value = ctypes.c_uint32()
        self._store(ctypes.byref(value))
        return value.value

    def write(self, value: int) -> None:
        self._load(ctypes.byref(ctypes.c_uint32(value)))

    @contextmanager
    def set_to(self, value: int) -> Iterator[None]:
        before = self.read()
        self.write(value)
        try:
            yield
        finally:
            self.write(before)
