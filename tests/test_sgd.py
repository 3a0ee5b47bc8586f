"""SGD: plain, momentum, Nesterov."""

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

OPTIONS = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.01},
    {"lr": 0.01, "momentum": 0.9},
    {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
]


@pytest.mark.parametrize("clip_norm", [None, 2.0])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fifty_steps_like_torch(options: dict[str, Any], clip_norm: float | None) -> None:
    states = {"momentum_buffer": "momentum_buffer"} if "momentum" in options else {}
    assert_like_torch(
        lambda p: optim.SGD(p, **options), lambda p: torch.optim.SGD(p, **options), states, clip_norm
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
    states = ["momentum_buffer"] if "momentum" in options else []
    assert_rule("sgd_", dtype, count, states, seed, clip_factor=clip_factor, **options)


@pytest.mark.parametrize("step", [1, 2])
def test_the_first_step_is_not_dampened(step: int) -> None:
    for module in (functional, reference):
        p, buffer = np.zeros(3), np.full(3, 2.0)
        module.sgd_(p, np.ones(3), buffer, lr=1.0, momentum=0.5, dampening=0.25, step=step)
        assert (buffer == (2.0 if step == 1 else 1.75)).all()


def test_old_states_are_not_dampened() -> None:
    """Files of before the option mean none."""
    new, old = (optim.SGD([Parameter(np.ones(3))], momentum=0.5) for _ in range(2))
    state = old.state_dict()
    del state["param_groups"][0]["dampening"]
    new.load_state_dict(state)
    assert new.param_groups[0]["dampening"] == 0


def test_same_bits() -> None:
    assert_rule_has_same_bits(
        "sgd_", ["momentum_buffer"], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, clip_factor=0.7
    )


def test_errors() -> None:
    p = np.zeros(3)
    with pytest.raises(ValueError, match=r"momentum_buffer must be an array with momentum 0\.9, it is None"):
        functional.sgd_(p, np.ones(3), lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"momentum_buffer must be None with momentum 0\.0, it is an array"):
        functional.sgd_(p, np.ones(3), np.zeros(3), lr=0.1)
    with pytest.raises(ValueError, match="nesterov must be False where momentum is 0"):
        functional.sgd_(p, np.ones(3), lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match="nesterov must be False where momentum is 0"):
        optim.SGD([Parameter(p)], nesterov=True)
    with pytest.raises(ValueError, match="nesterov must be False where dampening is not 0"):
        optim.SGD([Parameter(p)], momentum=0.9, dampening=0.1, nesterov=True)
    with pytest.raises(ValueError, match="step must be given with dampening"):
        functional.sgd_(p, np.ones(3), np.zeros(3), lr=0.1, momentum=0.9, dampening=0.1)
    for name in ("lr", "momentum", "dampening", "weight_decay"):
        for bad in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} must be finite and >= 0, it is {bad}"):
                optim.SGD([Parameter(p)], **{name: bad})
    assert not p.any()
