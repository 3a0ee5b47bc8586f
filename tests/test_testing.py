"""`fr.testing.gradcheck`: right gradients pass, wrong ones are named, and nothing is left changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn.testing import gradcheck

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3, 5))


class Doubled(nn.Module):
    """A module of a user's own, wrong by `factor`."""

    def __init__(self, factor: float = 1.0) -> None:
        self.linear = nn.Linear(5, 2, dtype=np.float64, seed=0)
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return 2 * self.linear(x)

    def backward(self, dy: Any) -> Any:
        return self.linear.backward(2 * self.factor * dy)


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(5, 4, 2, bidirectional=True, dropout=0.3, dtype=np.float64, seed=1),
        nn.GRU(5, 4, dtype=np.float64, seed=1),
        nn.LayerNorm(5, dtype=np.float64),
        nn.Sequential(nn.Linear(5, 6, dtype=np.float64, seed=0), nn.Tanh(), nn.Dropout(0.4, seed=3)),
        Doubled(),
    ],
)
def test_right_gradients_pass_and_nothing_is_changed(module: nn.Module) -> None:
    before = module.state_dict(), module.random_state(), [p.grad.copy() for p in module.parameters()]
    x = X.copy()
    assert gradcheck(module, x)
    for one, other in zip(before[0].values(), module.state_dict().values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert module.random_state() == before[1]
    for one, p in zip(before[2], module.parameters(), strict=True):
        np.testing.assert_array_equal(one, p.grad)
    assert module.training
    np.testing.assert_array_equal(x, X)


def test_float32_and_ids() -> None:
    assert gradcheck(nn.GRU(5, 4, seed=1), X.astype(np.float32))
    assert gradcheck(nn.Embedding(7, 3, dtype=np.float64, seed=0), np.array([[1, 6], [0, 1]]))


@pytest.mark.parametrize("factor", [1.001, -1.0, 0.0, float("nan")])
def test_a_wrong_gradient_is_named(factor: float) -> None:
    with pytest.raises(AssertionError, match="the gradient of the first input at"):
        gradcheck(Doubled(factor), X)


def test_a_wrong_gradient_of_a_parameter_is_named() -> None:
    class Wrong(Doubled):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.linear.bias.grad[1] *= 1.01
            return dx

    with pytest.raises(AssertionError, match=r"the gradient of linear.bias at \(1,\) is"):
        gradcheck(Wrong(), X)


def test_functions_by_complex_step_and_by_differences() -> None:
    assert gradcheck(lambda x: ((x**3).sum(), 3 * x**2), X)
    with pytest.raises(AssertionError, match="of input 0"):  # only a complex step sees so little
        gradcheck(lambda x: ((x**3).sum(), 3 * x**2 * (1 + 1e-9)), X, rtol=1e-12, atol=1e-12)
    target = RNG.standard_normal(X.shape)
    assert gradcheck(lambda x: fr.losses.mse(x, target), X)
    assert gradcheck(lambda a, b: ((a * b).sum(), (b, a)), [X, target])
    with pytest.raises(AssertionError, match="of input 1"):
        gradcheck(lambda a, b: ((a * b).sum(), (b, b)), [X, target])
    with pytest.raises(AssertionError, match="has shape"):
        gradcheck(lambda a: (a.sum(), np.ones(3)), X)
    with pytest.raises(TypeError, match="inputs must start with an array of float32 or float64"):
        gradcheck(lambda a: (a, a), np.arange(3))
