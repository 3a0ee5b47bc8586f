"""Softmax cross-entropy with classes and with probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import example, given, settings
from hypothesis import strategies as st
from losses import REDUCTIONS, assert_close, assert_loss, torch_loss

from fusedrnn import functional, losses

pytestmark = pytest.mark.parity


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    leading=st.lists(st.sampled_from([0, 1, 2, 5, 17, 40]), max_size=2),
    classes=st.sampled_from([1, 2, 3, 8, 16, 17, 100]),
    probabilities=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
    masked=st.booleans(),
    ignore=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    weighted=st.booleans(),
    spread=st.sampled_from([1.0, 10.0]),
    seed=st.integers(0, 2**32 - 1),
)
@example(
    dtype=np.float32,
    leading=[9],
    classes=2500,
    probabilities=False,
    reduction="mean",
    masked=True,
    ignore=False,
    smoothing=0.1,
    weighted=True,
    spread=1.0,
    seed=0,
)  # a row for each block of a GPU
@example(
    dtype=np.float64,
    leading=[9],
    classes=2500,
    probabilities=True,
    reduction="sum",
    masked=True,
    ignore=False,
    smoothing=0.1,
    weighted=True,
    spread=1.0,
    seed=0,
)  # a row for each block of a GPU
@settings(max_examples=120)
def test_against_reference(
    dtype: Any,
    leading: list[int],
    classes: int,
    probabilities: bool,
    reduction: str,
    masked: bool,
    ignore: bool,
    smoothing: float,
    weighted: bool,
    spread: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    pred = (rng.normal(size=(*leading, classes)) * spread).astype(dtype)
    target = rng.random(pred.shape).astype(dtype) if probabilities else rng.integers(0, classes, leading)
    options = {
        "reduction": reduction,
        "mask": np.asarray(rng.random(leading) < 0.7) if masked else None,
        "ignore_index": 0 if ignore and not probabilities else None,
        "label_smoothing": smoothing,
        "weight": (rng.integers(0, 4, classes) / 4).astype(dtype) if weighted else None,
    }
    ours = functional.cross_entropy(pred, target, **options)
    assert_loss("cross_entropy", ours, pred, target, options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_against_torch(reduction: str, spread: float) -> None:
    rng = np.random.default_rng(0)
    pred = rng.normal(size=(70, 50)) * spread
    classes, probabilities = rng.integers(0, 50, 70), rng.random((70, 50))
    function = torch.nn.functional.cross_entropy
    for target in (classes, probabilities):
        theirs = torch_loss(function, pred, target, reduction=reduction)
        assert_close(losses.cross_entropy(pred, target, reduction), theirs)
    theirs = torch_loss(function, pred, classes, reduction=reduction, ignore_index=3)
    assert_close(losses.cross_entropy(pred, classes, reduction, ignore_index=3), theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_options_against_torch(reduction: str, smoothing: float, weighted: bool) -> None:
    """A mean divides by the weights of classes that count, but by the number of rows of probabilities."""
    rng = np.random.default_rng(4)
    pred, classes = rng.normal(size=(70, 50)), rng.integers(0, 50, 70)
    options: dict[str, Any] = {"label_smoothing": smoothing, "reduction": reduction}
    if weighted:
        options["weight"] = rng.random(50) * (rng.random(50) < 0.8)
    function = torch.nn.functional.cross_entropy
    for target in (classes, rng.dirichlet(np.ones(50), 70)):
        theirs = torch_loss(function, pred, target, **options)
        assert_close(losses.cross_entropy(pred, target, **options), theirs)
    theirs = torch_loss(function, pred, classes, ignore_index=3, **options)
    assert_close(losses.cross_entropy(pred, classes, ignore_index=3, **options), theirs)


def test_weights_may_be_given_in_many_ways() -> None:
    pred, classes, weight = np.random.default_rng(5).normal(size=(6, 3)), np.arange(6) % 3, [1, 0.5, 2]
    one, _ = functional.cross_entropy(pred, classes, weight=weight)
    for same in (tuple(weight), np.array(weight), np.array(weight, np.float32), torch.tensor(weight)):
        assert functional.cross_entropy(pred, classes, weight=same)[0] == one
    whole = functional.cross_entropy(pred, classes, weight=np.ones(3, int))
    plain = functional.cross_entropy(pred, classes)
    assert whole[0] == plain[0]
    assert (whole[1] == plain[1]).all()


def test_no_weight_at_all_is_no_loss() -> None:
    loss, dpred = functional.cross_entropy(np.ones((2, 3)), np.array([0, 0]), weight=[0, 1, 1])
    assert loss == 0
    assert (dpred == 0).all()


def test_large_logits_neither_overflow_nor_cancel() -> None:
    pred = np.array([[1e4, 0, -1e4], [0, 20, 0]], np.float32)
    loss, dpred = functional.cross_entropy(pred, np.array([2, 1]), "none")
    small = 2 * np.exp(-20.0)
    np.testing.assert_allclose(loss, [2e4, small], rtol=1e-6)
    np.testing.assert_allclose(dpred, [[1, 0, -1], [small / 2, -small, small / 2]], rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("probabilities", [False, True])
def test_what_does_not_count_is_never_read(reduction: str, probabilities: bool) -> None:
    """NaN logits, and targets that are no classes, do no harm where mask or ignore_index says so."""
    rng = np.random.default_rng(1)
    pred, mask = rng.normal(size=(90, 20)), rng.random(90) < 0.5
    classes = rng.integers(0, 20, 90)
    target = rng.random((90, 20)) if probabilities else classes
    spoilt = pred.copy(), target.copy()
    spoilt[0][~mask] = np.nan
    spoilt[1][~mask] = np.nan if probabilities else -100
    loss, dpred = functional.cross_entropy(*spoilt, reduction, mask)
    alone, dalone = functional.cross_entropy(pred[mask], target[mask], reduction)
    assert (dpred[~mask] == 0).all()
    np.testing.assert_allclose(dpred[mask], dalone, rtol=1e-14)
    np.testing.assert_allclose(loss[mask] if reduction == "none" else loss, alone, rtol=1e-13)
    if reduction == "none":
        assert (loss[~mask] == 0).all()
    if not probabilities:
        ignoring = functional.cross_entropy(*spoilt, reduction, ignore_index=-100)
        assert np.array_equal(ignoring[0], loss)
        assert np.array_equal(ignoring[1], dpred)


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_unknown_class_is_named(bad: int) -> None:
    target = np.array([[0, 3], [1, bad]])
    with pytest.raises(
        ValueError, match=rf"target must be in \[0, 4\) where it counts, it is {bad} at flat index 3"
    ):
        functional.cross_entropy(np.zeros((2, 2, 4)), target)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": np.zeros(3, int)}, ValueError, r"target must be of shape \(2,\), it is \(3,\)"),
        ({"target": np.zeros(2, np.int32)}, TypeError, "target must be int64, it is int32"),
        ({"target": np.zeros((2, 3), np.float32)}, TypeError, "target must be float64, it is float32"),
        ({"target": np.zeros((2, 4))}, ValueError, r"target must be of shape \(2, 3\)"),
        ({"mask": np.ones((2, 3), bool)}, ValueError, r"mask must be of shape \(2,\), it is \(2, 3\)"),
        ({"target": np.ones((2, 3)), "ignore_index": 1}, ValueError, "ignore_index must be None"),
        ({"pred": np.zeros((2, 0))}, ValueError, "pred must be of at least one class"),
        ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be in \[0.0, 1.0\]"),
        ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0.0, 1.0\]"),
        ({"label_smoothing": "a"}, TypeError, "label_smoothing must be"),
        ({"weight": [1, 2]}, ValueError, r"weight must be of shape \(3,\), it is \(2,\)"),
        ({"weight": [1, -2, 0]}, ValueError, "weight must be finite and >= 0, it is -2"),
        ({"weight": [1, np.nan, 0]}, ValueError, "weight must be finite and >= 0, it is nan"),
        ({"weight": [[1, 2, 3]]}, ValueError, r"weight must have one axis, it is \(1, 3\)"),
        ({"weight": 2.0}, ValueError, r"weight must have one axis, it is \(\)"),
        ({"weight": ["a", "b", "c"]}, TypeError, "weight must be numbers"),
    ],
)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"pred": np.zeros((2, 3)), "target": np.zeros(2, int), **changes}
    with pytest.raises(error, match=message):
        functional.cross_entropy(**arguments)


def test_strides_change_nothing() -> None:
    rng = np.random.default_rng(2)
    pred = rng.normal(size=(40, 30, 20)).swapaxes(0, 1)[:, ::2, 1:18]
    target = rng.integers(0, 17, (30, 25))[:, :20]
    plain = functional.cross_entropy(np.ascontiguousarray(pred), target.copy())
    strided = functional.cross_entropy(pred, target)
    assert strided[0] == plain[0]
    assert (strided[1] == plain[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("probabilities", [False, True])
def test_same_bits(dtype: Any, probabilities: bool) -> None:
    rng = np.random.default_rng(3)
    pred = rng.normal(size=(500, 70)).astype(dtype)
    target = rng.random((500, 70)).astype(dtype) if probabilities else rng.integers(0, 70, 500)
    mask = rng.random(500) < 0.9
    weight = rng.random(70)
    assert_same_bits(
        lambda: [
            functional.cross_entropy(pred, target, r, mask, label_smoothing=smoothing, weight=w)
            for r in REDUCTIONS
            for smoothing in (0, 0.1)
            for w in (None, weight)
        ]
    )
