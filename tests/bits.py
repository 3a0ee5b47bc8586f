"""The same bits from every instruction set, number of threads and repeat; on a device from every repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fusedrnn
from fusedrnn import _native

Array = NDArray[Any]
THREADS = (1, 2, 3, 4)


def ways() -> Iterator[str]:
    """Sets every backend and number of threads in turn, twice; restores both at the end.

    Where a device is running that is what repeats: the emulator schedules its threads differently each time.
    """
    backend, threads = _native.backend(), fusedrnn.get_num_threads()
    if backend not in _native.available_backends():
        for repeat in ("first", "second", "third"):
            yield f"{backend}, {repeat} run"
        return
    try:
        for name in _native.available_backends():
            _native.set_backend(name)
            for n in THREADS:
                fusedrnn.set_num_threads(n)
                for repeat in ("first", "second"):
                    yield f"{name}, {n} threads, {repeat} run"
    finally:
        _native.set_backend(backend)
        fusedrnn.set_num_threads(threads)


def assert_same_bits(run: Callable[[], Any]) -> None:
    """run() returns scalars and arrays, nested in tuples; what is NaN must be NaN in the same places."""
    first: list[Array] | None = None
    for way in ways():
        results = list(_taken(run()))
        if first is None:
            first = results
            continue
        for i, (a, b) in enumerate(zip(first, results, strict=True)):
            same = a.shape == b.shape and a.dtype == b.dtype and pattern(a) == pattern(b)
            assert same, f"result {i} differs in: {way}"


def _taken(results: Any) -> Iterator[Array]:
    """Copies of the results, which are then spoilt: the next run may be given their memory."""
    if isinstance(results, (tuple, list)):
        for result in results:
            yield from _taken(result)
    else:
        yield np.array(results)
        if isinstance(results, np.ndarray):
            results.fill(-1)


def pattern(array: Array) -> bytes:
    """The bytes of an array, all NaN alike."""
    if np.issubdtype(array.dtype, np.floating):
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.tobytes()
