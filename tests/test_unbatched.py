"""One sequence without a batch axis is a batch of one, as in PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import fusedrnn as fr
from fusedrnn import nn

T, I, H = 7, 3, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, I))
LAYERS = [("RNN", {}), ("GRU", {"bidirectional": True}), ("LSTM", {"num_layers": 2, "bidirectional": True})]


def wide(state: Any) -> Any:
    return tuple(h[:, None] for h in state) if isinstance(state, tuple) else state[:, None]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
@pytest.mark.parametrize("resets", [False, True])
def test_as_a_batch_of_one(kind: str, options: dict[str, Any], batch_first: bool, resets: bool) -> None:
    """Results, gradients and states of every input, to the bit."""
    ours, twin = (
        getattr(nn, kind)(I, H, batch_first=batch_first, dtype=np.float64, seed=1, **options) for _ in "ab"
    )
    axis = 0 if batch_first else 1
    stacks = options.get("num_layers", 1) * (2 if "bidirectional" in options else 1)
    state = tuple(RNG.standard_normal((2, stacks, H))) if kind == "LSTM" else RNG.standard_normal((stacks, H))
    cut = np.arange(T) == 3 if resets else None
    y, final = ours(X, state, resets=cut)
    expected, wide_final = twin(
        np.expand_dims(X, axis), wide(state), resets=None if cut is None else np.expand_dims(cut, axis)
    )
    assert np.array_equal(np.expand_dims(y, axis), expected)
    for a, b in zip(np.atleast_2d(final), np.atleast_2d(wide_final), strict=True):
        assert np.array_equal(a, b.reshape(a.shape))
    y[...] = 0  # the caller's
    dy = RNG.standard_normal(y.shape)
    dx, dstate = ours.backward(dy, state)
    wide_dx, wide_dstate = twin.backward(np.expand_dims(dy, axis), wide(state))
    assert np.array_equal(np.expand_dims(dx, axis), wide_dx)
    assert np.array_equal(np.asarray(dstate), np.asarray(wide_dstate)[..., 0, :])
    for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
        assert (p.grad == q.grad).all()


@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_as_torch(kind: str, options: dict[str, Any]) -> None:
    ours = getattr(nn, kind)(I, H, dtype=np.float64, seed=1, **options)
    theirs = getattr(torch.nn, kind)(I, H, dtype=torch.float64, **options)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in ours.state_dict().items()})
    y, final = ours(X)
    expected, their_final = theirs(torch.from_numpy(X))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-12, atol=1e-14)
    pairs = zip(final, their_final, strict=True) if kind == "LSTM" else [(final, their_final)]
    for a, b in pairs:
        np.testing.assert_allclose(a, b.detach(), rtol=1e-12, atol=1e-14)


def test_loops_and_calls_are_told_apart() -> None:
    gru = nn.GRU(I, H, dtype=np.float64, seed=0)
    whole, _ = gru(X)
    gru.backward(np.ones_like(whole))
    expected = [p.grad.copy() for p in gru.parameters()]
    gru.zero_grad()
    h, steps = None, []
    for t in range(T):
        y, h = gru(X[t : t + 1], h)
        steps.append(y)
    assert np.array_equal(np.concatenate(steps), whole)
    dh = None
    for y in reversed(steps):
        _, dh = gru.backward(np.ones_like(y), dh)
    for p, grad in zip(gru.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, grad, rtol=1e-12)
    a, b = gru(X)[0], gru(2 * X)[0]
    with pytest.raises(RuntimeError, match="say which by of="):
        gru.backward(np.ones_like(a))
    gru.backward(np.ones_like(a), of=a)
    gru.backward(np.ones_like(b), of=b)
    gru(X[:, None])  # a batch behind a sequence without one
    with pytest.raises(ValueError, match="dy must"):
        gru.backward(np.ones((T, H)))


@pytest.mark.parametrize("first", ["embedding", "linear", "lstm"])
def test_train_step(first: str) -> None:
    """With the bits of a batch of one, at every call: the native step does not take them for a batch."""
    given: dict[str, Any] = {"dtype": np.float64, "seed": 3}
    head: list[nn.Module] = {
        "embedding": [nn.Embedding(9, I, **given)],
        "linear": [nn.Linear(I, I, **given)],
        "lstm": [],
    }[first]  # fmt: skip
    ours = nn.Sequential(*head, nn.LSTM(I, H, **given), nn.Last(), nn.Linear(H, 2, **given))
    twin = copy.deepcopy(ours)
    a, b = (fr.optim.Adam(m.parameters(), lr=0.1) for m in (ours, twin))
    x = RNG.integers(0, 9, T) if first == "embedding" else X
    target = np.array([1.0, -1.0])
    for step in range(4):
        loss, _ = ours.train_step(x, target, "mse", a)
        expected, _ = twin.train_step(x[:, None].copy(), target[None], "mse", b)
        assert loss == expected
        if step == 2:  # a batch between
            ours.train_step(x[:, None].copy(), target[None], "mse", a)
            twin.train_step(x[:, None].copy(), target[None], "mse", b)
    for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
        assert (p.data == q.data).all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_last(batch_first: bool) -> None:
    last = nn.Last(batch_first)
    assert np.array_equal(last(X), X[-1])
    dx = last.backward(np.ones(I))
    assert dx.shape == X.shape
    assert (dx[-1] == 1).all()
    assert not dx[:-1].any()
    with pytest.raises(ValueError, match="dy must have 1 axes"):
        last.backward(np.ones((1, I)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(X, np.zeros((1, 1, H))), "h0 must have 2 axes where x has no batch axis, it has shape"),
        (lambda m: m(X, lengths=[3]), "lengths must be None where x has no batch axis"),
        (lambda m: m(X, resets=np.zeros((T, 1), bool)), "resets must have 1 axes where x has no batch axis"),
        (lambda m: m(X, np.zeros((2, H))), "h0 must"),
        (
            lambda m: m(X[:, :2].copy()),
            r"x must be \(T, I\) = \(T, 3\), or .* it is \(7, 2\)",
        ),
        (lambda m: m(X[0]), "x must"),
        (lambda m: nn.Sequential(m, nn.Last())(X, lengths=[3]), "lengths must be None"),
        (lambda m: nn.FinalState()(X), r"x must be \(T, B, 2 \* H\)"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(nn.GRU(I, H, dtype=np.float64))
