"""Binary cross-entropy on logits; masks, reductions and strides are test_mse.py's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import REDUCTIONS, assert_close, assert_loss, shapes, torch_loss

from fusedrnn import functional, losses, reference

pytestmark = pytest.mark.parity


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=shapes,
    reduction=st.sampled_from(REDUCTIONS),
    soft=st.booleans(),
    weights=st.sampled_from(["none", "one", "many"]),
    spread=st.sampled_from([1.0, 20.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_against_reference(
    dtype: Any, shape: tuple[int, ...], reduction: str, soft: bool, weights: str, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pred = (rng.normal(size=shape) * spread).astype(dtype)
    target = (rng.random(shape) if soft else rng.integers(0, 2, shape)).astype(dtype)
    options: dict[str, Any] = {"reduction": reduction, "mask": rng.random(shape) < 0.8}
    if weights != "none":
        options["pos_weight"] = (4 * rng.random(1 if weights == "one" else shape[-1])).astype(dtype)
        if options["pos_weight"].size == 0:
            options["pos_weight"] = None
    ours = functional.binary_cross_entropy(pred, target, **options)
    assert_loss("binary_cross_entropy", ours, pred, target, options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_against_torch(reduction: str) -> None:
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(9, 700)) * 10, rng.random((9, 700))
    function = torch.nn.functional.binary_cross_entropy_with_logits
    theirs = torch_loss(function, pred, target, reduction=reduction)
    assert_close(losses.binary_cross_entropy(pred, target, reduction), theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_positive_targets_against_torch(reduction: str) -> None:
    rng = np.random.default_rng(1)
    pred, target = rng.normal(size=(9, 70)) * 10, rng.random((9, 70))
    function = torch.nn.functional.binary_cross_entropy_with_logits
    for weight in (np.array(3.0), 5 * rng.random(70)):
        theirs = torch_loss(function, pred, target, reduction=reduction, pos_weight=weight)
        assert_close(losses.binary_cross_entropy(pred, target, reduction, pos_weight=weight), theirs)


def test_weights_go_by_the_last_axis_with_any_mask() -> None:
    rng = np.random.default_rng(2)
    pred, target, weight = rng.normal(size=(4, 3, 5)), rng.random((4, 3, 5)), rng.random(5)
    rows = rng.random((4, 3)) < 0.6
    loss, dpred = functional.binary_cross_entropy(pred, target, mask=rows, pos_weight=weight)
    other, dother = functional.binary_cross_entropy(
        pred, target, mask=np.repeat(rows[..., None], 5, -1), pos_weight=weight
    )
    assert loss == other
    assert (dpred == dother).all()
    np.testing.assert_allclose(
        loss, reference.binary_cross_entropy(pred, target, mask=rows, pos_weight=weight)[0], rtol=1e-13
    )


def test_errors_of_weights() -> None:
    pred = np.zeros((2, 3))
    for weight, message in (
        ([1.0, 2.0], r"pos_weight must be of shape \(3,\), it is \(2,\)"),
        (-1.0, "pos_weight must be finite and >= 0, it is -1"),
        (np.ones((2, 3)), r"pos_weight must have one axis, it is \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            functional.binary_cross_entropy(pred, pred, pos_weight=weight)


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
