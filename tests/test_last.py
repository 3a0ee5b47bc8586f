"""The state at each row's last step, and its gradient."""

from __future__ import annotations

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
    sizes=st.tuples(st.integers(0, 6), st.integers(0, 5), st.sampled_from([0, 1, 3, 17])),
    lengths=st.booleans(),
    batch_first=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_against_reference(
    dtype: Any, sizes: tuple[int, int, int], lengths: bool, batch_first: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    T, B, N = sizes
    x = rng.normal(size=(B, T, N) if batch_first else (T, B, N)).astype(dtype)
    dy = rng.normal(size=(B, N + 2)).astype(dtype)[:, :N]
    valid = rng.integers(0, T + 1, size=B) if lengths or T == 0 else None
    y = functional.last_forward(x, valid, batch_first)
    assert y.tobytes() == reference.last_forward(x, valid, batch_first).tobytes()
    dx = functional.last_backward(dy, T, valid, batch_first)
    assert dx.tobytes() == reference.last_backward(dy, T, valid, batch_first).tobytes()


def test_padding_is_never_read() -> None:
    x = np.arange(24.0).reshape(4, 2, 3)
    lengths = np.array([2, 0])
    x[2:, 0] = x[:, 1] = np.nan
    assert functional.last_forward(x, lengths).tolist() == [[6.0, 7.0, 8.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bad", [-1, 5])
def test_bad_length_is_named(bad: int) -> None:
    with pytest.raises(ValueError, match=f"lengths must be between 0 and T = 4, it is {bad} at index 1"):
        functional.last_forward(np.zeros((4, 2, 3)), np.array([4, bad]))


def test_same_bits() -> None:
    rng = np.random.default_rng(0)
    dy, lengths = rng.normal(size=(64, 90)), rng.integers(0, 51, size=64)
    assert_same_bits(lambda: functional.last_backward(dy, 50, lengths))
