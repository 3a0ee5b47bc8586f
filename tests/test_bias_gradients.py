"""Gradients of biases sum over every step of every row, and keep their digits.

Weights are zero and every step is reset, so gates are exactly 1/2 and 0, and the gradient of a pre-activation
is dy times a power of two: what a bias gradient is off by is the sum's own error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fusedrnn as fr

T, B, H = 4000, 64, 9
FACTORS = {"lstm": {2: 0.25}, "gru": {2: 0.5}, "rnn": {0: 1.0}}  # of dy in a gate's gradient
MODULES: dict[str, Any] = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}


def units_off(found: NDArray[Any], terms: NDArray[Any]) -> float:
    """The largest distance of float32 sums from those of float64 `terms`, in units in the last place."""
    exact = terms.reshape(-1, terms.shape[-1]).sum(0)
    return float((np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32))).max())


def gradients() -> NDArray[np.float32]:
    """Of one sign: a sum that keeps its digits where all terms are alike keeps them everywhere."""
    return np.random.default_rng(3).uniform(0.5, 1, (T, B, H)).astype(np.float32)


@pytest.mark.parametrize("family", MODULES)
@pytest.mark.parametrize("threads", [1, 2])
def test_recurrent(family: str, threads: int) -> None:
    m = MODULES[family](1, H)
    for p in m.parameters():
        p.data = np.zeros(p.shape, np.float32)
    dy = gradients()
    before = fr.get_num_threads()
    fr.set_num_threads(threads)
    try:
        m(np.zeros((T, B, 1), np.float32), resets=np.ones((T, B), bool))
        m.backward(dy)
    finally:
        fr.set_num_threads(before)
    for gate, factor in FACTORS[family].items():
        found = m.bias_ih_l0.grad[gate * H : (gate + 1) * H]
        assert units_off(found, factor * dy.astype(np.float64)) <= 1


def test_linear() -> None:
    linear = fr.nn.Linear(1, H)
    dy = gradients()
    linear(np.zeros((T, B, 1), np.float32))
    linear.backward(dy)
    assert units_off(linear.bias.grad, dy.astype(np.float64)) <= 1


def test_what_is_not_finite_stays_as_it_is() -> None:
    linear = fr.nn.Linear(1, 3)
    dy = np.ones((70, 3), np.float32)
    dy[5, 0], dy[40, 1], dy[41, 1] = np.inf, np.inf, -np.inf
    linear(np.zeros((70, 1), np.float32))
    linear.backward(dy)
    np.testing.assert_array_equal(linear.bias.grad, np.array([np.inf, np.nan, 70], np.float32))
