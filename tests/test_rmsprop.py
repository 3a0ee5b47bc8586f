"""RMSprop: plain, with momentum, centred."""

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
    {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-6},
    {"lr": 0.01, "centered": True, "alpha": 0.9},
    {"lr": 0.01, "centered": True, "momentum": 0.5},
]


def states(options: dict[str, Any]) -> list[str]:
    names = ["square_avg"] + ["momentum_buffer"] * ("momentum" in options)
    return names + ["grad_avg"] * ("centered" in options)


@pytest.mark.parametrize("clip_norm", [None, 2.0])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fifty_steps_like_torch(options: dict[str, Any], clip_norm: float | None) -> None:
    assert_like_torch(
        lambda p: optim.RMSprop(p, **options),
        lambda p: torch.optim.RMSprop(p, **options),
        {name: name for name in states(options)},
        clip_norm,
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
    if "centered" in options:  # drawn states would have a negative variance
        rest["alpha"] = 0.1
    assert_rule("rmsprop_", dtype, count, states(options), seed, clip_factor=clip_factor, **rest)


def test_variance_lost_to_rounding_counts_as_zero() -> None:
    p, square_avg, grad_avg = np.zeros(1), np.array([0.25]), np.array([0.5 + 1e-9])
    functional.rmsprop_(p, np.array([0.5]), square_avg, None, grad_avg, lr=1.0, alpha=0.999, eps=0.5)
    assert p.tolist() == [-1.0]
    functional.rmsprop_(p, np.array([np.nan]), square_avg, None, grad_avg, lr=1.0)
    assert np.isnan(p).all()


def test_same_bits() -> None:
    assert_rule_has_same_bits(
        "rmsprop_", ["square_avg", "momentum_buffer", "grad_avg"], lr=0.1, momentum=0.9, clip_factor=0.7
    )


def test_errors() -> None:
    for name in ("lr", "eps", "weight_decay", "momentum"):
        for bad in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} must be finite and >= 0, it is {bad}"):
                optim.RMSprop([Parameter(np.zeros(3))], **{name: bad})
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\), it is 1.0"):
        optim.RMSprop([Parameter(np.zeros(3))], alpha=1.0)
