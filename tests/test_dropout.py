"""Dropout: the counter-based mask, its scale, bits."""

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
    shape=st.lists(st.sampled_from([0, 1, 3, 7, 64, 100]), max_size=2),
    p=st.sampled_from([0.0, 1e-9, 0.1, 0.5, 0.9, 1.0]),
    key=st.integers(0, 2**64 - 1),
    stream=st.sampled_from([0, 1, 2**32 - 1]),
)
@settings(max_examples=60)
def test_same_elements_as_the_reference(
    dtype: Any, shape: list[int], p: float, key: int, stream: int
) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    assert (functional.dropout(x, p, key, stream) == reference.dropout(x, p, key, stream)).all()


def test_share_and_scale() -> None:
    y = functional.dropout(np.ones(1_000_000, np.float32), 0.25, key=9)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.002


def test_dropped_is_zero_whatever_was_there() -> None:
    x = np.full(1000, np.nan)
    kept = functional.dropout(np.ones(1000), 0.5, key=3) != 0
    y = functional.dropout(x, 0.5, key=3)
    assert (y[~kept] == 0).all()
    assert np.isnan(y[kept]).all()


def test_strided_rows_take_the_mask_of_their_flat_index() -> None:
    x = np.random.default_rng(1).normal(size=(9, 8, 50))[::2, 1:, :33]
    expected = functional.dropout(np.ascontiguousarray(x), 0.4, key=5)
    assert (functional.dropout(x, 0.4, key=5) == expected).all()


@pytest.mark.parametrize(
    ("argument", "value"), [("p", -0.1), ("p", 1.1), ("p", np.nan), ("key", -1), ("stream", 2**32)]
)
def test_errors(argument: str, value: Any) -> None:
    arguments = {"p": 0.5, "key": 0, "stream": 0, argument: value}
    with pytest.raises(ValueError, match=f"{argument} must be"):
        functional.dropout(np.zeros(3), **arguments)


def test_same_bits() -> None:
    x = np.random.default_rng(2).normal(size=70001).astype(np.float32)
    assert_same_bits(lambda: functional.dropout(x, 0.3, key=2**63 + 5, stream=2))
