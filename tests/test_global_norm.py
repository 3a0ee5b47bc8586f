"""The norm of all gradients together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedrnn import functional, reference

pytestmark = pytest.mark.parity


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shapes=st.lists(st.lists(st.sampled_from([0, 1, 3, 16, 17, 64, 100]), max_size=2).map(tuple), max_size=5),
    long=st.sampled_from([0, 4095, 4096, 4097, 9000]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_against_reference(dtype: Any, shapes: list[tuple[int, ...]], long: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=s)).astype(dtype) for s in [*shapes, (long,)]]
    np.testing.assert_allclose(functional.global_norm(arrays), reference.global_norm(arrays), rtol=1e-14)


@pytest.mark.parametrize("at", [0, 15, 4095, 4096, 8191, 8192, 9998])
def test_every_element_is_in_it(at: int) -> None:
    for dtype in (np.float32, np.float64):
        a, b = np.zeros(9999, dtype), np.zeros((5, 7), dtype)
        a[at] = 3
        b[4, 6] = 4
        assert functional.global_norm([a, b]) == 5.0


def test_nothing_has_norm_zero() -> None:
    assert functional.global_norm([]) == 0.0
    assert functional.global_norm([np.zeros((0, 3)), np.zeros(0, np.float32)]) == 0.0


def test_float32_does_not_overflow_and_dtypes_mix() -> None:
    large = np.full(4, 1e30, np.float32)
    np.testing.assert_allclose(functional.global_norm([large]), 2 * float(np.float32(1e30)), rtol=1e-15)
    mixed = [np.full(9, 1.0, np.float32), np.full(16, 1.0)]
    assert functional.global_norm(mixed) == 5.0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_not_finite(bad: float) -> None:
    norm = functional.global_norm([np.ones(5000), np.array([1.0, bad])])
    assert norm == bad or (math.isnan(norm) and math.isnan(bad))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"arrays\[0\] must be C-contiguous"):
        functional.global_norm([np.zeros((4, 6))[:, :3]])
    with pytest.raises(TypeError, match=r"arrays\[0\] must be float32 or float64, it is int64"):
        functional.global_norm([np.zeros(3, int)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=n).astype(dtype) for n in (1, 4097, 120000, 17, 150001)]
    others = [
        a[::-1].copy() for a in arrays
    ]  # so that no run finds its sums in memory left by the one before
    assert_same_bits(lambda: (functional.global_norm(arrays), functional.global_norm(others)))
