"""What a GPU's kernels for layers, losses and optimizers promise beyond parity, at sizes around their blocks.

Operations that add nothing up, or add in the order that backend.hpp gives, have the CPU's bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fusedrnn import _native, cpu, functional

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(cpu.isa() not in ("cuda", "simt"), reason="about the kernels of a GPU"),
]

Array = NDArray[Any]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def assert_bits_of_the_cpu(run: Callable[[], list[Array]]) -> None:
    """run() allocates what it returns, and returns the same bytes on the device and on the CPU."""
    device, ours = _native.backend(), run()
    _native.set_backend(_native.available_backends()[-1])
    try:
        theirs = run()
    finally:
        _native.set_backend(device)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), f"result {i}"


@DTYPES
@pytest.mark.parametrize("count", [3, 1023, 1024, 1029])
def test_dropout(dtype: Any, count: int) -> None:
    x = np.random.default_rng(0).normal(size=count + 1).astype(dtype)
    strided = np.random.default_rng(1).normal(size=(5, count, 3)).astype(dtype)[:, ::2]
    assert_bits_of_the_cpu(
        lambda: [functional.dropout(a, 0.3, key=2**63 + 1, stream=7) for a in (x[:count], x[1:], strided)]
    )


@DTYPES
@pytest.mark.parametrize(
    ("count", "rows", "width"), [(3000, 1, 130), (1025, 5, 3), (2500, 2300, 131), (4000, 1057, 1)]
)
def test_gradient_of_an_embedding(dtype: Any, count: int, rows: int, width: int) -> None:
    """Each sum is one chain over the ids in order, whatever a block has to look for and to list."""
    rng = np.random.default_rng(count)
    ids = rng.integers(0, rows, (5, count // 5 + 3))[:, 3:]
    dy = (rng.normal(size=(*ids.shape, width + 2)) * 10.0 ** rng.integers(-3, 4, (*ids.shape, 1))).astype(
        dtype
    )
    start = rng.normal(size=(rows, width)).astype(dtype)

    def run() -> list[Array]:
        dweight = start.copy()
        _native.embedding_backward(dy[..., :width], ids, dweight)
        return [dweight]

    assert_bits_of_the_cpu(run)
