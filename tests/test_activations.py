"""Activations and the head of final states, against PyTorch and by central differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn.testing import gradcheck

X = np.random.default_rng(0).standard_normal((3, 4, 5)) * 3
PAIRS: list[tuple[Any, Any]] = [
    (nn.ReLU(), torch.nn.ReLU()),
    (nn.Tanh(), torch.nn.Tanh()),
    (nn.Sigmoid(), torch.nn.Sigmoid()),
    (nn.Softmax(dim=-1), torch.nn.Softmax(-1)),
    (nn.LogSoftmax(), torch.nn.LogSoftmax(-1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: type(pair[0]).__name__)
def test_like_torch(pair: Any, dtype: Any) -> None:
    ours, theirs = pair
    x = X.astype(dtype)
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    expected = theirs(tensor)
    dy = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    expected.backward(torch.from_numpy(dy))
    y = ours(x)
    y_then = y.copy()
    y[...] = 7  # the caller's to write to
    dx = ours.backward(dy)
    assert y.dtype == dx.dtype == dtype
    eps = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(y_then, expected.detach(), rtol=eps, atol=eps * 30)
    np.testing.assert_allclose(dx, tensor.grad, rtol=eps, atol=eps * 30)


@pytest.mark.parametrize("module", [pair[0] for pair in PAIRS], ids=lambda module: type(module).__name__)
def test_gradients_and_extremes(module: Any) -> None:
    gradcheck(module, X)
    x = np.array([[1000.0, -1000.0, 0.0], [1e308, -1e308, 1.0]])
    with np.errstate(over="raise", invalid="raise"):
        assert not np.isnan(module(x)).any()
    for wrong in (X.astype(int), X.tolist(), np.ma.masked_array(X), X.astype(np.float16)):
        with pytest.raises(TypeError, match="x must be"):
            module(wrong)
    module(X)
    with pytest.raises(ValueError, match="dy must have shape"):
        module.backward(X[1:])
    with pytest.raises(TypeError, match="dy must be float64"):
        module.backward(X.astype(np.float32))


def test_relu_of_what_is_not_finite() -> None:
    y = nn.ReLU()(np.array([np.inf, -np.inf, np.nan, -0.0]))
    np.testing.assert_array_equal(y, [np.inf, 0, np.nan, 0])


def test_in_a_sequential() -> None:
    model = nn.Sequential(nn.Linear(5, 6, seed=0), nn.ReLU(), nn.Linear(6, 2, seed=1))
    optimizer = fr.optim.Adam(model.parameters(), lr=0.05)
    x, y = X[0].astype(np.float32), X[1, :, :2].astype(np.float32)
    losses = [model.train_step(x, y, "mse", optimizer)[0] for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("batch_first", [False, True])
def test_final_states_of_both_directions(batch_first: bool) -> None:
    gru = nn.GRU(5, 3, bidirectional=True, batch_first=batch_first, seed=0)
    x = np.ascontiguousarray(X.swapaxes(0, 1) if batch_first else X).astype(np.float32)
    lengths = np.array([3, 1, 2, 3])
    y, hn = gru(x, lengths=lengths)
    head = nn.FinalState(batch_first)
    np.testing.assert_array_equal(head(y, lengths), np.concatenate([hn[-2], hn[-1]], 1))
    np.testing.assert_array_equal(head(y, [3, 0, 2, 3])[1], 0)
    gradcheck(head, [y.astype(float), lengths])
    model = nn.Sequential(gru, head, nn.Linear(6, 2, seed=1))
    optimizer = fr.optim.SGD(model.parameters())
    model.train_step(x, np.zeros((4, 2), np.float32), "mse", optimizer, lengths=lengths)
    with pytest.raises(ValueError, match="lengths must be"):
        head(y, [4, 1, 2, 3])
    with pytest.raises(ValueError, match="x must be"):
        head(y[..., :5].copy())


# ------------------------------------------------------------------------------------------------- functions
@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softmax", "log_softmax"])
def test_functions_are_torchs_and_the_references(name: str) -> None:
    x, dy = np.random.default_rng(0).standard_normal((2, 4, 6, 5)) * 3
    forward, backward = getattr(fr.functional, name), getattr(fr.functional, f"{name}_backward")
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    options = {"dim": -1} if "softmax" in name else {}
    expected = getattr(torch, name)(leaf, **options)
    expected.backward(torch.from_numpy(dy))
    y = forward(x)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-13)
    np.testing.assert_allclose(backward(dy, y), leaf.grad, rtol=1e-12, atol=1e-14)
    mirrored = getattr(fr.reference, name)(x)
    np.testing.assert_allclose(y, mirrored, rtol=1e-13)
    given = getattr(fr.reference, f"{name}_backward")(dy, mirrored)
    np.testing.assert_allclose(backward(dy, y), given, rtol=1e-12, atol=1e-14)
    along = np.random.default_rng(1).standard_normal(x.shape)
    step = getattr(fr.reference, name)(x + 1e-100j * along).imag / 1e-100  # exactly
    np.testing.assert_allclose((step * dy).sum(), (given * along).sum(), rtol=1e-12)
    for bad, error, message in (
        ("x", TypeError, "must be a NumPy array, it is of type str"),
        (None, TypeError, "must be a NumPy array, it is of type NoneType"),
        (np.ones(3, int), TypeError, "must be float32 or float64, it is int64"),
    ):
        with pytest.raises(error, match=f"x {message}"):
            forward(bad)
        with pytest.raises(error, match=f"dy {message}"):
            backward(bad, y)
    with pytest.raises(ValueError, match="dy must have shape"):
        backward(dy[0], y)


# ------------------------------------------------------------------------------------ what PyTorch users try
@pytest.mark.parametrize("norm_type", [1, 2.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm_by_other_norms(norm_type: float, max_norm: float) -> None:
    grads = [np.random.default_rng(i).standard_normal((3, 2 + i)) for i in range(3)]
    ours = [nn.Parameter(np.zeros_like(g)) for g in grads]
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads]
    for p, t, g in zip(ours, theirs, grads, strict=True):
        p.grad = g
        t.grad = torch.from_numpy(g.copy())
    norm = fr.optim.clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(norm, float(expected), rtol=1e-14)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad, t.grad, rtol=1e-14)
    for bad in (0, 3, -1, math.nan):
        with pytest.raises(ValueError, match="norm_type must be 2"):
            fr.optim.clip_grad_norm_(ours, 1.0, bad)


@pytest.mark.parametrize("option", ["foreach", "fused", "maximize", "capturable", "differentiable"])
@pytest.mark.parametrize(
    "rule", [fr.optim.SGD, fr.optim.Adam, fr.optim.AdamW, fr.optim.RMSprop, fr.optim.Adagrad]
)
def test_options_of_torch_that_are_not_needed_say_so(rule: Any, option: str) -> None:
    with pytest.raises(TypeError, match=f"{rule.__name__} has no option '{option}': "):
        rule(nn.Linear(2, 2).parameters(), **{option: True})


def test_options_of_torch_that_layers_have_not_say_so() -> None:
    with pytest.raises(TypeError, match=r"GRU has no option 'proj_size': .*Linear"):
        nn.GRU(2, 3, proj_size=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="ReLU has no option 'inplace'"):
        nn.ReLU(inplace=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_number_alone_has_no_last_axis(name: str) -> None:
    one = np.array(1, np.float32)
    with pytest.raises(ValueError, match=r"x must have a last axis with elements, its shape is \(\)"):
        getattr(fr.functional, name)(one)
    with pytest.raises(ValueError, match=r"y must have a last axis with elements, its shape is \(\)"):
        getattr(fr.functional, f"{name}_backward")(one, one)


def test_a_module_is_frozen_by_its_parameters() -> None:
    module = fr.nn.Linear(2, 3)
    with pytest.raises(AttributeError, match=r"requires_grad_\(False\) freezes"):
        module.requires_grad = False
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("flag", [True, np.True_])
def test_a_flag_is_no_class(flag: object) -> None:
    scores, classes = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(TypeError, match="ignore_index must be an integer"):
        fr.functional.nll(scores, classes, ignore_index=flag)


def test_a_zero_gradient_is_a_gradient() -> None:
    """Momentum and decay act where no backward has been; what is written to p.grad counts."""
    p = nn.Parameter(np.ones(2))
    optimizer = fr.optim.SGD([p], lr=0.5, momentum=0.5, weight_decay=0.1)
    optimizer.step()
    np.testing.assert_allclose(p.data, 0.95)
    p.grad[...] = 1
    optimizer.step()
    np.testing.assert_allclose(p.data, 0.95 - 0.5 * (0.5 * 0.1 + 1 + 0.095))


class Keeps(nn.Module):
    """A layer of a user's own that overwrites the array it has returned before."""

    def __init__(self) -> None:
        self.kept: Any = None

    def forward(self, x: Any) -> Any:
        if self.kept is None:
            self.kept = np.empty_like(x)
        self.kept[...] = x
        return self.kept

    def backward(self, dy: Any) -> Any:
        return dy


def test_what_a_users_layer_returns_from_within_is_copied() -> None:
    linear = nn.Linear(5, 2, dtype=np.float64, seed=0)
    inner = nn.Sequential(Keeps())
    model = nn.Sequential(inner, linear)
    x = X[0].copy()
    y = model(x)
    inner[0](0 * x)
    model.backward(np.ones_like(y), of=y)
    np.testing.assert_allclose(linear.weight.grad, np.tile(x.sum(0), (2, 1)))
