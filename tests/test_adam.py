"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers import assert_like_torch, assert_rule, assert_rule_has_same_bits

from fusedrnn import functional, optim
from fusedrnn._core.parameter import Parameter

pytestmark = pytest.mark.parity

OPTIONS: list[dict[str, Any]] = [
    {"lr": 0.01},
    {"lr": 0.01, "weight_decay": 0.1},
    {"lr": 0.003, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.01},
]
STATES = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
AMSGRAD = {**STATES, "max_exp_avg_sq": "max_exp_avg_sq"}


@pytest.mark.parametrize("clip_norm", [None, 2.0])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_fifty_steps_like_torch(
    name: str, amsgrad: bool, options: dict[str, Any], clip_norm: float | None
) -> None:
    assert_like_torch(
        lambda p: getattr(optim, name)(p, **options, amsgrad=amsgrad),
        lambda p: getattr(torch.optim, name)(p, **options, amsgrad=amsgrad),
        AMSGRAD if amsgrad else STATES,
        clip_norm,
    )


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_defaults_are_those_of_torch(name: str) -> None:
    assert_like_torch(getattr(optim, name), getattr(torch.optim, name), STATES)


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    count=st.sampled_from([0, 1, 7, 16, 33, 100]),
    options=st.sampled_from(OPTIONS),
    bias_correction=st.booleans(),
    amsgrad=st.booleans(),
    decoupled=st.booleans(),
    clip_factor=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_against_reference(
    dtype: Any,
    count: int,
    options: dict[str, Any],
    bias_correction: bool,
    amsgrad: bool,
    decoupled: bool,
    clip_factor: float | None,
    seed: int,
) -> None:
    more = {"bias_correction": bias_correction, "decoupled": decoupled, "clip_factor": clip_factor}
    assert_rule("adam_", dtype, count, list(AMSGRAD if amsgrad else STATES), seed, **options, **more)


def test_amsgrad_keeps_the_largest_square() -> None:
    """By hand: after gradients 2 and 0, v' = 0.25 * 2, x' = 0.5 * 4 of beta2 1/2."""
    p, m, v, x = np.zeros((4, 1))
    for step, g in enumerate((2.0, 0.0), start=1):
        functional.adam_(
            p, np.array([g]), m, v, x, lr=0.0, step=step, betas=(0.5, 0.5), bias_correction=False
        )
    assert (v[0], x[0]) == (1.0, 2.0)
    functional.adam_(p, np.array([np.nan]), m, v, x, lr=0.0, step=3)
    assert np.isnan(x).all()


def test_first_step_without_bias_correction() -> None:
    """By hand: m = 0.1 g, v = 0.001 g^2, p = -lr 0.1 g / (sqrt(0.001) g)."""
    p = Parameter(np.zeros(1))
    p.grad = np.array([2.0])
    optim.Adam([p], lr=1.0, eps=0.0, bias_correction=False).step()
    np.testing.assert_allclose(p.data, [-0.1 / np.sqrt(0.001)], rtol=1e-13)


def test_many_steps_are_still_corrected_right() -> None:
    """beta^step of a large step, against its logarithm."""
    p, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
    functional.adam_(p, np.ones(1), m, v, lr=1.0, step=2000, betas=(0.9, 0.999), eps=0.0)
    expected = -0.1 / -np.expm1(2000 * np.log(0.9)) / np.sqrt(0.001 / -np.expm1(2000 * np.log(0.999)))
    np.testing.assert_allclose(p, [expected], rtol=1e-12)


@pytest.mark.parametrize("decoupled", [False, True])
def test_same_bits(decoupled: bool) -> None:
    assert_rule_has_same_bits(
        "adam_", list(AMSGRAD), lr=0.1, weight_decay=0.1, decoupled=decoupled, clip_factor=0.7
    )


def test_errors() -> None:
    for name in ("lr", "eps", "weight_decay"):
        for bad in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} must be finite and >= 0, it is {bad}"):
                optim.Adam([Parameter(np.zeros(3))], **{name: bad})
    for betas in ((1.0, 0.9), (0.9, -0.1), (np.nan, 0.5), (0.9,)):
        with pytest.raises(ValueError, match="betas must be two numbers"):
            optim.AdamW([Parameter(np.zeros(3))], betas=betas)
    with pytest.raises(TypeError, match="lr must be a number, it is of type str"):
        optim.Adam([Parameter(np.zeros(3))], lr="0.1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"step must be an integer in 1\.\.\d+, it is 0"):
        functional.adam_(np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3), lr=0.1, step=0)
    with pytest.raises(ValueError, match=r"grad must be of shape \(3,\), it is \(4,\)"):
        functional.adam_(np.zeros(3), np.ones(4), np.zeros(3), np.zeros(3), lr=0.1, step=1)
    shared = np.zeros(3)
    with pytest.raises(ValueError, match="param must not share memory with exp_avg"):
        functional.adam_(shared, np.ones(3), shared, np.zeros(3), lr=0.1, step=1)
