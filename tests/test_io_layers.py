"""The layers that models of other libraries bring along: values, and gradients by complex steps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from io_models import H, I, assert_agrees, draw_input, masked

import fusedrnn as fr
from fusedrnn import io, nn

STEP = 2.0**-100  # of the complex step, whose error is its square


def gradient(function: Any, x: Any, dy: Any) -> Any:
    """d (dy . function(x)) / dx by complex steps."""
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        z = x.astype(complex)
        z[i] += 1j * STEP
        out[i] = (dy * function(z).imag).sum() / STEP
    return out


def formula(name: str, z: Any) -> Any:
    if name == "relu":
        return np.where(z.real > 0, z, 0)
    if name == "tanh":
        return np.tanh(z)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-z))
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", io.Activation.FUNCTIONS)
def test_activation(name: str) -> None:
    layer = io.Activation(name)
    rng = np.random.default_rng(0)
    x, dy = rng.normal(0, 2, (3, 4)), rng.normal(size=(3, 4))
    y = layer(x)
    dx = layer.backward(dy)
    assert np.abs(y - formula(name, x + 0j).real).max() <= 4 * np.finfo(float).eps
    right = gradient(lambda z: formula(name, z), x, dy)
    assert np.abs(dx - right).max() <= 8 * np.finfo(float).eps * np.abs(right).max()
    assert layer(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", io.Activation.FUNCTIONS)
def test_activation_at_extremes(name: str) -> None:
    with np.errstate(all="raise", under="ignore"):
        y = io.Activation(name)(np.array([[-1e4, 0.0, 1e4]], np.float32))
    right = {"relu": [0, 0, 1e4], "tanh": [-1, 0, 1], "sigmoid": [0, 0.5, 1], "softmax": [0, 0, 1]}[name]
    assert y.tolist() == [pytest.approx(right)]
    assert np.isnan(io.Activation(name)(np.array([np.nan]))).all()


@pytest.mark.parametrize("lengths", [None, [5, 2, 0]], ids=["whole", "lengths"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_ends_are_the_final_states(batch_first: bool, lengths: list[int] | None) -> None:
    gru = nn.GRU(I, H, bidirectional=True, batch_first=batch_first, dtype=np.float64, seed=0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, I) if batch_first else (5, 3, I))
    counts = None if lengths is None else np.array(lengths)
    ends = io.Ends(batch_first)
    y, hn = gru(x, lengths=counts)
    picked = ends(y, lengths=counts)
    assert (picked == np.concatenate(list(hn), 1)).all()
    dy = rng.normal(size=picked.shape)
    right = np.zeros_like(y)  # of a function that is linear: its values at unit vectors
    for i in np.ndindex(y.shape):
        unit = np.zeros_like(y)
        unit[i] = 1
        right[i] = (dy * io.Ends(batch_first)(unit, lengths=counts)).sum()
    assert (ends.backward(dy) == right).all()


@pytest.mark.parametrize("name", masked())
def test_masked_is_each_row_without_its_padding(name: str) -> None:
    model = masked()[name]
    x = draw_input(model)
    assert_agrees(model, x, model(x))


@pytest.mark.parametrize("fill", ["previous", "zero"])
@pytest.mark.parametrize("padding", ["none", "right", "anywhere"])
def test_gradients_through_a_mask(fill: str, padding: str) -> None:
    """Against the same layers on each row without its padding, whose gradients other tests hold."""
    body = nn.Sequential(nn.Linear(I, I, dtype=np.float64, seed=1),
                         nn.GRU(I, H, batch_first=True, dtype=np.float64, seed=2))  # fmt: skip
    model = io.Masked(*copy.deepcopy(body), value=-1.0, fill=fill)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, I))
    if padding == "right":
        x[0, 3:] = x[1, 1:] = -1
    if padding == "anywhere":
        x[0, :2] = x[1, [1, 3]] = x[2] = -1
    y = model(x)
    dy = rng.normal(size=y.shape)
    dx = model.backward(dy)
    right_dx = np.zeros_like(x)
    body.zero_grad()
    for b in range(3):
        steps = [t for t in range(5) if (x[b, t] != -1).any()]
        if not steps:
            assert (y[b] == 0).all()
            continue
        short = body(x[b : b + 1, steps])
        moved = np.zeros_like(short)
        for t in range(5):
            before = [i for i, s in enumerate(steps) if s <= t]
            if before and (fill == "previous" or t in steps):
                assert (y[b, t] == short[0, before[-1]]).all()
                moved[0, before[-1]] += dy[b, t]
            else:
                assert (y[b, t] == 0).all()
        right_dx[b, steps] = body.backward(moved)[0]
    assert np.abs(dx - right_dx).max() <= 16 * np.finfo(float).eps * np.abs(right_dx).max()
    for ours, right in zip(model.parameters(), body.parameters(), strict=True):
        assert np.abs(ours.grad - right.grad).max() <= 64 * np.finfo(float).eps * np.abs(right.grad).max()


def test_masked_in_training_and_copies() -> None:
    model = masked()["masked ids"].train()
    x = draw_input(model)
    optimizer = fr.optim.Adam(model.parameters(), lr=0.05)
    target = np.ones((4, 2), np.float32)
    losses = [model.train_step(x, target, "mse", optimizer)[0] for _ in range(30)]
    assert losses[-1] < losses[0] / 5
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (twin(x) == model(x)).all()


def test_what_the_layers_refuse() -> None:
    with pytest.raises(ValueError, match="function must be one of 'relu'"):
        io.Activation("gelu")
    with pytest.raises(ValueError, match="fill must be one of 'previous', 'zero', it is 'ones'"):
        io.Masked(nn.Embedding(3, 2), fill="ones")
    with pytest.raises(ValueError, match="batch_first must be True in all layers"):
        io.Masked(nn.Embedding(3, 2), nn.GRU(2, 2))
    model = masked()["masked ids"]
    with pytest.raises(ValueError, match="lengths and resets must be None"):
        model(draw_input(model), lengths=np.array([1, 2, 3, 4]))
    with pytest.raises(RuntimeError, match=r"Masked\.backward has no tape"):
        masked()["masked steps, ends"].backward(np.zeros((4, 10), np.float32))
    with pytest.raises(ValueError, match=r"lengths must be \(1,\) numbers between 0 and T = 5"):
        io.Ends(True)(np.zeros((1, 5, 2)), lengths=np.array([6]))
    with pytest.raises(TypeError, match="batch_first must be True or False, it is 'no'"):
        io.Ends("no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x must be a NumPy array, it is list"):
        io.Activation("relu")([1.0])


LAYERS: dict[str, Any] = {
    **{name: lambda n=name: io.Activation(n) for name in io.Activation.FUNCTIONS},
    "Ends": io.Ends,
    "Masked": lambda: io.Masked(nn.GRU(6, 4, batch_first=True, dtype=np.float64, seed=0)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_another_shape_or_type_are_refused(name: str) -> None:
    """They were cut, broadcast, or taken as they are."""
    layer, x = LAYERS[name](), np.random.default_rng(0).normal(size=(5, 3, 6))
    x[0, :2] = 0  # padding of Masked
    y = layer(x)
    for dy in (y[..., :1], np.concatenate([y, y]), np.concatenate([y, y], -1), np.float64(1)):
        with pytest.raises((TypeError, ValueError), match="dy must "):
            layer.backward(dy)
    for dy in (y.astype(int), np.ma.masked_array(y), y.tolist()):
        with pytest.raises(TypeError, match="dy must "):
            layer.backward(dy)
    layer.backward(y)
