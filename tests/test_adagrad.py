"""Adagrad."""

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

OPTIONS = [{"lr": 0.1}, {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.01, "eps": 1e-6}]


@pytest.mark.parametrize("clip_norm", [None, 2.0])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fifty_steps_like_torch(options: dict[str, Any], clip_norm: float | None) -> None:
    assert_like_torch(
        lambda p: optim.Adagrad(p, **options),
        lambda p: torch.optim.Adagrad(p, **options),
        {"sum": "sum"},
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
    assert_rule("adagrad_", dtype, count, ["sum"], seed, clip_factor=clip_factor, **options)


def test_same_bits() -> None:
    assert_rule_has_same_bits("adagrad_", ["sum"], lr=0.1, lr_decay=0.1, weight_decay=0.1, clip_factor=0.7)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"step must be an integer in 1\.\.\d+, it is 0"):
        functional.adagrad_(np.zeros(3), np.ones(3), np.zeros(3), lr=0.1, step=0)
    for name in ("lr", "lr_decay", "weight_decay", "eps"):
        for bad in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} must be finite and >= 0, it is {bad}"):
                optim.Adagrad([Parameter(np.zeros(3))], **{name: bad})
