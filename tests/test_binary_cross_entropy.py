"""Binary cross-entropy on logits; masks, reductions and strides are test_mse.py's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import REDUCTIONS, assert_close, assert_loss, shapes, torch_loss

from fusedrnn import functional, losses

pytestmark = pytest.mark.parity


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=shapes,
    reduction=st.sampled_from(REDUCTIONS),
    soft=st.booleans(),
    spread=st.sampled_from([1.0, 20.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_against_reference(
    dtype: Any, shape: tuple[int, ...], reduction: str, soft: bool, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pred = (rng.normal(size=shape) * spread).astype(dtype)
    target = (rng.random(shape) if soft else rng.integers(0, 2, shape)).astype(dtype)
    options = {"reduction": reduction, "mask": rng.random(shape) < 0.8, "ignore_index": None}
    ours = functional.binary_cross_entropy(pred, target, **options)
    assert_loss("binary_cross_entropy", ours, pred, target, options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_against_torch(reduction: str) -> None:
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(9, 700)) * 10, rng.random((9, 700))
    function = torch.nn.functional.binary_cross_entropy_with_logits
    theirs = torch_loss(function, pred, target, reduction=reduction)
    assert_close(losses.binary_cross_entropy(pred, target, reduction), theirs)


def test_confident_logits_keep_their_gradient() -> None:
    """Right or wrong, far out on either side: no overflow, no cancellation near 1."""
    pred = np.array([40.0, -40.0, 40.0, -40.0, 1e4, -1e4], np.float32)
    target = np.array([1, 0, 0, 1, 0, 1], np.float32)
    loss, dpred = functional.binary_cross_entropy(pred, target, "none")
    small = np.exp(-40.0)
    np.testing.assert_allclose(loss, [small, small, 40, 40, 1e4, 1e4], rtol=1e-6)
    np.testing.assert_allclose(dpred, [-small, small, 1, -1, 1, -1], rtol=1e-6)


def test_nan_stays() -> None:
    loss, dpred = functional.binary_cross_entropy(np.array([np.nan, 0.0]), np.array([1.0, 1.0]), "none")
    assert np.isnan([loss[0], dpred[0]]).all()
    np.testing.assert_allclose([loss[1], dpred[1]], [np.log(2), -0.5])
