"""Squared error; and what it shares with the other elementwise loss: masks, reductions, strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import REDUCTIONS, assert_close, assert_loss, shapes, torch_loss

from fusedrnn import functional, losses

pytestmark = pytest.mark.parity

NAMES = ("mse", "binary_cross_entropy")


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=shapes,
    reduction=st.sampled_from(REDUCTIONS),
    mask=st.sampled_from(["none", "elements", "rows"]),
    ignore=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_against_reference(
    dtype: Any, shape: tuple[int, ...], reduction: str, mask: str, ignore: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pred = rng.normal(size=shape).astype(dtype)
    target = np.round(rng.normal(size=shape) * 2).astype(dtype)
    masks = {
        "none": None,
        "elements": rng.random(shape) < 0.6,
        "rows": np.asarray(rng.random(shape[:-1]) < 0.6),
    }
    options = {"reduction": reduction, "mask": masks[mask], "ignore_index": 1 if ignore else None}
    assert_loss("mse", functional.mse(pred, target, **options), pred, target, options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_against_torch(reduction: str) -> None:
    pred, target = np.random.default_rng(0).normal(size=(2, 9, 7, 300))
    theirs = torch_loss(torch.nn.functional.mse_loss, pred, target, reduction=reduction)
    assert_close(losses.mse(pred, target, reduction), theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("rows", [False, True], ids=["elements", "rows"])
def test_what_does_not_count_is_never_read(name: str, reduction: str, rows: bool) -> None:
    """The same as the loss of the entries that count alone, and exactly 0 elsewhere, though NaN is there."""
    rng = np.random.default_rng(1)
    pred, target = rng.normal(size=(2, 50, 30))
    mask = rng.random(50) < 0.5 if rows else rng.random((50, 30)) < 0.5
    everywhere = np.broadcast_to(mask[:, None], pred.shape) if rows else mask
    function = getattr(functional, name)
    loss, dpred = function(
        np.where(everywhere, pred, np.nan), np.where(everywhere, target, np.inf), reduction, mask
    )
    alone, dalone = function(pred[everywhere], target[everywhere], reduction)
    assert (dpred[~everywhere] == 0).all()
    np.testing.assert_allclose(dpred[everywhere], dalone, rtol=1e-14)
    if reduction == "none":
        assert (loss[~everywhere] == 0).all()
        loss = loss[everywhere]
    np.testing.assert_allclose(loss, alone, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_targets_do_not_count(name: str) -> None:
    pred = np.array([0.3, np.nan, 0.5])
    target = np.array([0.0, -100.0, 1.0])
    loss, dpred = getattr(functional, name)(pred, target, ignore_index=-100)
    alone, dalone = getattr(functional, name)(pred[[0, 2]], target[[0, 2]])
    assert loss == alone
    assert dpred.tolist() == [dalone[0], 0.0, dalone[1]]


@pytest.mark.parametrize("name", [*NAMES, "cross_entropy"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nothing_counts(name: str, reduction: str) -> None:
    pred = np.full((3, 4), np.nan)
    target = np.zeros(3, np.int64) if name == "cross_entropy" else np.zeros((3, 4))
    loss, dpred = getattr(functional, name)(pred, target, reduction, np.zeros(3, bool))
    assert loss == 0
    assert (dpred == 0).all()
    loss, dpred = getattr(functional, name)(pred[:0], target[:0], reduction)
    assert loss == 0
    assert dpred.shape == (0, 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_strides_change_nothing(name: str, reduction: str) -> None:
    rng = np.random.default_rng(2)
    pred = rng.normal(size=(40, 30, 20)).swapaxes(0, 1)[:, ::2, 1:18]
    target = rng.random((30, 20, 18))[..., :17]
    mask = (rng.random((30, 2, 20)) < 0.7)[:, 1]
    function = getattr(functional, name)
    loss, dpred = function(pred, target, reduction, mask)
    plain, dplain = function(*(np.ascontiguousarray(a) for a in (pred, target)), reduction, mask.copy())
    assert np.array_equal(loss, plain)
    assert np.array_equal(dpred, dplain)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": np.zeros((2, 4))}, ValueError, r"target must be of shape \(2, 3\), it is \(2, 4\)"),
        ({"target": np.zeros((2, 3), np.float32)}, TypeError, "target must be float64, it is float32"),
        ({"pred": np.zeros((2, 3), int)}, TypeError, "pred must be float32 or float64, it is int64"),
        ({"mask": np.ones(3, bool)}, ValueError, r"mask must be of shape \(2, 3\), with or without"),
        ({"mask": np.ones((2, 3))}, TypeError, "mask must be bool"),
        ({"reduction": "average"}, ValueError, "reduction must be 'mean', 'sum' or 'none', it is 'average'"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer"),
    ],
)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"pred": np.zeros((2, 3)), "target": np.zeros((2, 3)), **changes}
    with pytest.raises(error, match=message):
        functional.mse(**arguments)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_same_bits(name: str, masked: bool) -> None:
    rng = np.random.default_rng(3)
    pred, target = rng.normal(size=(2, 130, 600)).astype(np.float32)
    mask = rng.random((130, 600)) < 0.9 if masked else None
    assert_same_bits(lambda: [getattr(functional, name)(pred, target, r, mask) for r in REDUCTIONS])
