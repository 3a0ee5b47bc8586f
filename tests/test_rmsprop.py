"""RMSprop: plain, with momentum, centred."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers import assert_like_torch, assert_rule, assert_rule_has_same_bits

from fusedrnn import functional, optim, reference
from fusedrnn._core.parameter import Parameter

pytestmark = pytest.mark.parity

OPTIONS: list[dict[str, Any]] = [
    {"lr": 0.01},
    {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-6},
    {"lr": 0.01, "centered": True, "alpha": 0.9},
    {"lr": 0.01, "centered": True, "momentum": 0.5},
]


def states(options: dict[str, Any]) -> list[str]:
    names = ["square_avg"] + ["momentum_buffer"] * ("momentum" in options)
    return names + ["grad_avg", "grad_var"] * ("centered" in options)


@pytest.mark.parametrize("clip_norm", [None, 2.0])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fifty_steps_like_torch(options: dict[str, Any], clip_norm: float | None) -> None:
    assert_like_torch(
        lambda p: optim.RMSprop(p, **options),
        lambda p: torch.optim.RMSprop(p, **options),
        {name: name for name in states(options) if name != "grad_var"},
        clip_norm,
        own_states={"grad_var"} & set(states(options)),
    )


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    count=st.sampled_from([0, 1, 7, 16, 33, 100]),
    options=st.sampled_from(OPTIONS),
    clip_factor=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_against_reference(
    dtype: Any, count: int, options: dict[str, Any], clip_factor: float | None, seed: int
) -> None:
    rest = {name: value for name, value in options.items() if name != "centered"}
    assert_rule("rmsprop_", dtype, count, states(options), seed, clip_factor=clip_factor, **rest)


@pytest.mark.parametrize("module", [functional, reference])
def test_variance_lost_to_rounding_counts_as_zero(module: Any) -> None:
    p, square_avg, grad_avg = np.zeros(1), np.array([0.25]), np.array([0.5 + 1e-9])
    module.rmsprop_(p, np.array([0.5]), square_avg, None, grad_avg, lr=1.0, alpha=0.999, eps=0.5)
    np.testing.assert_allclose(p, [-1.0], rtol=1e-9)
    module.rmsprop_(p, np.array([np.nan]), square_avg, None, grad_avg, lr=1.0)
    assert np.isnan(p).all()


@pytest.mark.parametrize("alpha", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("module", [functional, reference])
def test_the_variance_of_gradients_that_vary_little(module: Any, alpha: float) -> None:
    """2,000 steps, where the difference of float32 means has no digit left: float64's, to a few digits."""
    noise = np.random.default_rng(0).normal(size=(2000, 50))
    gradients = (1 + 3e-4 * noise).astype(np.float32)
    found = []
    for dtype in (np.float32, np.float64):
        arrays = [np.zeros(50, dtype) for _ in range(4)]
        moved, largest = np.zeros(50, dtype), 0.0
        for g in gradients.astype(dtype):
            before = moved.copy()
            p, s, m, v = (moved, *arrays[1:])
            module.rmsprop_(p, g, s, None, m, v, lr=1e-3, alpha=alpha)
            largest = max(largest, float(np.abs(p - before)[-1]))
        found.append((moved, v, largest))
    (p, v, step), (p64, v64, step64) = found
    np.testing.assert_allclose(v, v64, rtol=1e-3)
    np.testing.assert_allclose(p, p64, rtol=1e-3)
    np.testing.assert_allclose(step, step64, rtol=1e-2)


def test_a_state_of_pytorch_goes_on_here_and_ours_there() -> None:
    options = {"lr": 0.01, "centered": True, "alpha": 0.9}
    rng = np.random.default_rng(3)
    start, before, after = rng.normal(size=7), *rng.normal(size=(2, 5, 7))
    tensor = torch.from_numpy(start.copy()).requires_grad_()
    theirs = torch.optim.RMSprop([tensor], **options)
    for g in before:
        tensor.grad = torch.from_numpy(g)
        theirs.step()
    p = Parameter(tensor.detach().numpy().copy())
    ours = optim.RMSprop([p], **options)
    saved = ours.state_dict()
    entry = theirs.state_dict()["state"][0]
    saved["state"] = {
        0: {k: v.numpy() for k, v in entry.items() if k != "step"} | {"step": int(entry["step"])}
    }
    ours.load_state_dict(saved)
    other = torch.from_numpy(p.data.copy()).requires_grad_()
    again = torch.optim.RMSprop([other], **options)
    again.load_state_dict(
        {
            "state": {0: {k: torch.as_tensor(v) for k, v in ours.state_dict()["state"][0].items()}},
            "param_groups": again.state_dict()["param_groups"],
        }
    )
    for g in after:
        for t, rule in ((tensor, theirs), (other, again)):
            t.grad = torch.from_numpy(g)
            rule.step()
        p.grad = g
        ours.step()
    np.testing.assert_allclose(p.data, tensor.detach(), rtol=1e-13)
    np.testing.assert_allclose(other.detach(), tensor.detach(), rtol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("module", [functional, reference])
def test_the_mean_forgets_what_alpha_says(module: Any, alpha: float) -> None:
    p, s, m, v = np.zeros((4, 1), np.float32)
    for g in (1e3, 1e-6):
        module.rmsprop_(p, np.array([g], np.float32), s, None, m, v, lr=0.0, alpha=alpha)
    np.testing.assert_allclose(m, [alpha * (1 - alpha) * 1e3 + (1 - alpha) * 1e-6], rtol=1e-6)


def test_same_bits() -> None:
    assert_rule_has_same_bits(
        "rmsprop_",
        ["square_avg", "momentum_buffer", "grad_avg", "grad_var"],
        lr=0.1,
        momentum=0.9,
        clip_factor=0.7,
    )


def test_errors() -> None:
    for name in ("lr", "eps", "weight_decay", "momentum"):
        for bad in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} must be finite and >= 0, it is {bad}"):
                optim.RMSprop([Parameter(np.zeros(3))], **{name: bad})
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\), it is 1.0"):
        optim.RMSprop([Parameter(np.zeros(3))], alpha=1.0)


@pytest.mark.parametrize("stale", [False, True])
def test_a_variance_that_another_program_carried_along(stale: bool) -> None:
    """It is kept where it fits the two means, and derived anew where they have moved without it."""
    p = Parameter(np.zeros(50, np.float32))
    optimizer = optim.RMSprop([p], centered=True)
    rng = np.random.default_rng(0)
    for _ in range(30):
        p.grad[:] = 1 + 3e-4 * rng.standard_normal(50)
        optimizer.step()
    saved = optimizer.state_dict()
    entry = saved["state"][0]
    before = entry["grad_var"].copy()
    if stale:  # as PyTorch would: it keeps what it does not know
        for _ in range(30):
            g = rng.standard_normal(50).astype(np.float32)
            entry["square_avg"] += 0.01 * (g * g - entry["square_avg"])
            entry["grad_avg"] += 0.01 * (g - entry["grad_avg"])
    optimizer.load_state_dict(saved)
    p.grad[:] = entry["grad_avg"]  # leaves the mean, and alpha of the variance
    optimizer.step()
    found = optimizer.state_dict()["state"][0]["grad_var"]
    wanted = entry["square_avg"] - entry["grad_avg"] ** 2 if stale else before
    np.testing.assert_allclose(found, 0.99 * wanted, rtol=1e-4)
