"""Parameters with requires_grad = False: no gradient, no update, no share in norms; and clipping by value."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import fusedrnn as fr
from fusedrnn import nn, optim

RULES: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
}
T, B, I = 6, 3, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, I))
Y = RNG.standard_normal((B, 2))


def model(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    given: dict[str, Any] = {"dtype": np.float64, "seed": rng}
    return nn.Sequential(
        nn.Linear(I, 5, **given), nn.LayerNorm(5, dtype=np.float64), nn.LSTM(5, 4, 2, **given), nn.Last(),
        nn.Linear(4, 2, **given),
    )  # fmt: skip


def values(module: nn.Module) -> dict[str, Any]:
    return {name: p.numpy() for name, p in module.named_parameters()}


FROZEN = {
    "one weight": ["2.weight_hh_l1"],
    "a bias": ["0.bias"],
    "a layer": ["0.weight", "0.bias"],
    "a norm": ["1.weight", "1.bias"],
    "all but the head": [n for n in values(model()) if not n.startswith("4.")],
    "the head": ["4.weight", "4.bias"],
}


def freeze(module: nn.Module, names: list[str]) -> None:
    for name, p in module.named_parameters():
        p.requires_grad = name not in names


@pytest.mark.parametrize("frozen", FROZEN)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("whole", [False, True], ids=["separate calls", "train_step"])
def test_as_if_the_optimizer_did_not_have_it(frozen: str, rule: str, whole: bool) -> None:
    """The others get the bits they get where the frozen ones are trained by nobody."""
    names = FROZEN[frozen]
    ours, twin = model(), model()
    freeze(ours, names)
    left = [p for name, p in twin.named_parameters() if name not in names]
    a, b = RULES[rule](ours.parameters()), RULES[rule](left)
    start = values(ours)
    for _ in range(4):
        if whole:
            loss, norm = ours.train_step(X, Y, "mse", a, 0.5)
        else:
            loss, dy = fr.losses.mse(ours(X), Y)
            ours.zero_grad()
            ours.backward(dy)
            norm = a.step(clip_norm=0.5)
        expected, dy = fr.losses.mse(twin(X), Y)
        twin.zero_grad()
        twin.backward(dy)
        assert (loss, norm) == (expected, b.step(clip_norm=0.5))
    theirs = values(twin)
    for name, p in ours.named_parameters():
        assert (p.numpy() == theirs[name]).all()
        assert (p.numpy() == start[name]).all() == (name in names)
        assert (p.grad == 0).all() == (name in names)
        assert (p in a.state) == (name not in names)


def test_backward_does_not_touch_the_gradient() -> None:
    layers: list[tuple[nn.Module, Any]] = [
        (nn.Linear(I, 3, dtype=np.float64), X),
        (nn.LayerNorm(I, dtype=np.float64), X),
        (nn.Embedding(5, 3, dtype=np.float64), np.array([[0, 4], [1, 1]])),
        (nn.GRU(I, 3, 2, bidirectional=True, dtype=np.float64), X),
        (nn.GRU(I, 3, reset_after=False, dtype=np.float64), X),
        (nn.LSTM(I, 3, peephole=True, dtype=np.float64), X),
        (nn.LSTM(I, 3, layer_norm=True, dtype=np.float64), X),
    ]
    for layer, x in layers:
        plain = copy.deepcopy(layer)
        for p in layer.parameters():
            p.grad = np.full(p.shape, 7.0)
        assert layer.requires_grad_(False) is layer
        results = []
        for module in (layer, plain):
            y = module(x)
            y = y[0] if isinstance(y, tuple) else y
            results.append(module.backward(np.ones_like(y)))
        for ours, theirs in zip(*(r if isinstance(r, tuple) else (r,) for r in results), strict=True):
            for a, b in zip(np.atleast_1d(ours), np.atleast_1d(theirs), strict=True):
                assert a is b is None or np.array_equal(a, b)
        assert all((p.grad == 7).all() for p in layer.parameters())
        assert any(p.grad.any() for p in plain.parameters())


def test_train_step_ends_where_nothing_is_left_to_train() -> None:
    """The layers below the head are not gone through: one of a user's own there is not called."""
    ours = model()
    freeze(ours, FROZEN["all but the head"])
    optimizer = RULES["sgd"](ours.parameters())
    called: list[str] = []
    for name, layer in zip("01234", ours, strict=True):
        backward = type(layer).backward
        layer.__class__ = type(type(layer).__name__, (type(layer),), {
            "__module__": type(layer).__module__,
            "backward": lambda self, *a, name=name, backward=backward, **k: (
                called.append(name), backward(self, *a, **k))[1],
        })  # fmt: skip
        type(layer).backward.__module__ = "fusedrnn.nn"
    ours.train_step(X, Y, "mse", optimizer)
    assert called == ["4"]
    ours(X)
    ours.backward(np.ones((B, 2)), need_dx=True)
    assert called == ["4", *"43210"]


def test_thawed_again_and_frozen_between_steps() -> None:
    ours, twin = model(), model()
    a, b = RULES["sgd"](ours.parameters()), RULES["sgd"](twin.parameters())
    for step in range(6):
        names = FROZEN["a layer"] if step % 2 else []
        freeze(ours, names)
        before = values(ours)
        ours.train_step(X, Y, "mse", a)
        assert all((ours.state_dict()[n] == before[n]).all() for n in names)
        if step == 0:
            twin.train_step(X, Y, "mse", b)
            assert all((v == values(twin)[n]).all() for n, v in values(ours).items())
        else:
            assert not (ours.state_dict()["4.bias"] == before["4.bias"]).all()
    assert a.param_groups[0]["step"] == 6


def test_one_that_the_optimizer_does_not_have() -> None:
    """The native step notices that it is frozen, though no update is another."""
    ours = model()
    optimizer = RULES["sgd"](ours[4].parameters())
    for step in range(6):
        ours[0].weight.requires_grad = step < 3
        ours.train_step(X, Y, "mse", optimizer)
        assert ours[0].weight.grad.any() == (step < 3)


def test_a_group_of_frozen_ones_makes_no_step() -> None:
    """So that one that is trained later begins as PyTorch has it begin."""
    ours = model()
    head, rest = list(ours[4].parameters()), [p for i in range(3) for p in ours[i].parameters()]
    optimizer = optim.Adam([{"params": head}, {"params": rest}], lr=0.1)
    for p in rest:
        p.requires_grad = False
    for _ in range(3):
        ours.train_step(X, Y, "mse", optimizer)
    assert [group["step"] for group in optimizer.param_groups] == [3, 0]
    ours.requires_grad_(True)
    before = rest[0].numpy()
    ours.train_step(X, Y, "mse", optimizer)
    assert [group["step"] for group in optimizer.param_groups] == [4, 1]
    np.testing.assert_allclose(np.abs(rest[0].data - before), 0.1, rtol=1e-3)  # Adam's first step is lr
    ours.requires_grad_(False)
    assert optimizer.step(clip_norm=1.0) == 0.0
    assert optimizer.step() is None
    ours.train_step(X, Y, "mse", optimizer)
    assert [group["step"] for group in optimizer.param_groups] == [4, 1]


def test_clipping_passes_over_it() -> None:
    p, q = nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(2))
    q.requires_grad = False
    for norm_type in (1, 2, math.inf):
        p.grad, q.grad = np.array([3.0, 4.0]), np.array([1e9, 1e9])
        optim.clip_grad_norm_([p, q], 1.0, norm_type)
        assert (q.grad == 1e9).all()
        assert (p.grad < 1).all()
    p.grad = np.array([3.0, -4.0])
    optim.clip_grad_value_([p, q], 2.0)
    assert p.grad.tolist() == [2, -2]
    assert (q.grad == 1e9).all()


def test_copies_keep_it_and_states_have_none() -> None:
    ours = model()
    freeze(ours, ["0.bias"])
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert [n for n, p in twin.named_parameters() if not p.requires_grad] == ["0.bias"]
    fresh = model(1)
    fresh.load_state_dict(ours.state_dict())
    assert all(p.requires_grad for p in fresh.parameters())
    assert "requires_grad=False" in repr(ours[0].bias)
    optimizer = RULES["adam"](ours.parameters())
    ours.train_step(X, Y, "mse", optimizer)
    again = pickle.loads(pickle.dumps((ours, optimizer)))
    again[0].train_step(X, Y, "mse", again[1])
    ours.train_step(X, Y, "mse", optimizer)
    assert all((v == values(again[0])[n]).all() for n, v in values(ours).items())


def test_errors() -> None:
    p = nn.Parameter(np.zeros(2))
    for bad in (None, 0, "no"):
        with pytest.raises(TypeError, match="requires_grad must be True or False, it is"):
            p.requires_grad = bad  # type: ignore[assignment]
    assert p.requires_grad_(False) is p
    assert fr.testing.gradcheck(model().requires_grad_(False), X)


# ------------------------------------------------------------------------------------------------- clip_value
@pytest.mark.parametrize("whole", [False, True], ids=["step", "train_step"])
def test_clip_value_is_torchs(whole: bool) -> None:
    ours, twin = model(), model()
    a, b = RULES["sgd"](ours.parameters()), RULES["sgd"](twin.parameters())
    for _ in range(4):
        if whole:
            loss, norm = ours.train_step(X, Y, "mse", a, clip_value=0.01)
            assert norm is None
        else:
            loss, dy = fr.losses.mse(ours(X), Y)
            ours.zero_grad()
            ours.backward(dy)
            a.step(clip_value=0.01)
        expected, dy = fr.losses.mse(twin(X), Y)
        twin.zero_grad()
        twin.backward(dy)
        tensors = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in twin.parameters()]
        for p, t in zip(twin.parameters(), tensors, strict=True):
            t.grad = torch.from_numpy(p.grad)
        torch.nn.utils.clip_grad_value_(tensors, 0.01)
        b.step()
        assert loss == expected
        for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
            assert (p.grad == q.grad).all()
            assert (p.data == q.data).all()
    assert max(np.abs(p.grad).max() for p in ours.parameters()) == 0.01


def test_clip_value_with_other_options() -> None:
    p = nn.Parameter(np.zeros(3))
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = np.array([math.inf, -3.0, 0.5])
    optimizer.step(clip_value=2.0, skip_nonfinite=True)  # infinite ones are finite by then
    assert p.data.tolist() == [-2, 2, -0.5]
    p.grad = np.array([math.nan, 1.0, 1.0])
    optimizer.step(clip_value=2.0, skip_nonfinite=True)
    assert p.data.tolist() == [-2, 2, -0.5]
    for bad, error in ((-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="clip_value must be None or"):
            optimizer.step(clip_value=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clip_value must be None with clip_norm, it is 1"):
        optimizer.step(clip_norm=1.0, clip_value=1.0)
    with pytest.raises(TypeError, match="skip_nonfinite must be True or False"):
        optimizer.step(skip_nonfinite="yes")  # type: ignore[arg-type]
    ours = model()
    optimizer = RULES["sgd"](ours.parameters())
    for _ in range(3):  # the native step knows it, too
        with pytest.raises(ValueError, match="clip_value must be None with clip_norm"):
            ours.train_step(X, Y, "mse", optimizer, 1.0, clip_value=1.0)
        with pytest.raises(TypeError, match="skip_nonfinite must be True or False"):
            ours.train_step(X, Y, "mse", optimizer, skip_nonfinite="yes")  # type: ignore[arg-type]
        ours.train_step(X, Y, "mse", optimizer, clip_value=1.0)
