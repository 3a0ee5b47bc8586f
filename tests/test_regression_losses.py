"""Absolute errors, Huber's loss, its smooth form, and the likelihood of log-probabilities."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import REDUCTIONS, assert_close, assert_loss, shapes, torch_loss

import fusedrnn as fr
from fusedrnn import functional, losses

pytestmark = pytest.mark.parity

F = torch.nn.functional
CASES: list[tuple[str, dict[str, float], Any]] = [
    ("l1", {}, F.l1_loss),
    ("huber", {}, F.huber_loss),
    ("huber", {"delta": 0.3}, F.huber_loss),
    ("smooth_l1", {}, F.smooth_l1_loss),
    ("smooth_l1", {"beta": 0.3}, F.smooth_l1_loss),
    ("smooth_l1", {"beta": 0.0}, F.smooth_l1_loss),
]
IDS = [f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)]
cases = pytest.mark.parametrize(("name", "options", "theirs"), CASES, ids=IDS)


@cases
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_against_torch(name: str, options: dict[str, float], theirs: Any, reduction: str) -> None:
    """Also where the error is 0, the threshold itself, or infinite."""
    pred, target = np.random.default_rng(0).normal(size=(2, 9, 7, 300))
    pred[0, 0, :4] = target[0, 0, :4] + [0, 0.3, -0.3, 1]
    ours = getattr(losses, name)(pred, target, reduction, **options)
    assert_close(ours, torch_loss(theirs, pred, target, reduction=reduction, **options))
    if reduction == "none":
        pred[0, 1] = np.inf
        pred[0, 2] = -np.inf
        (value, dpred), (expected, dexpected) = (
            getattr(losses, name)(pred, target, reduction, **options),
            torch_loss(theirs, pred, target, reduction=reduction, **options),
        )
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(dpred, dexpected, rtol=1e-12, atol=1e-15)


@cases
@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=shapes,
    reduction=st.sampled_from(REDUCTIONS),
    mask=st.sampled_from(["none", "elements", "rows"]),
    ignore=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30)
def test_against_reference(
    name: str,
    options: dict[str, float],
    theirs: Any,
    dtype: Any,
    shape: tuple[int, ...],
    reduction: str,
    mask: str,
    ignore: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    pred = rng.normal(size=shape).astype(dtype)
    target = np.round(rng.normal(size=shape) * 2).astype(dtype)
    masks = {
        "none": None,
        "elements": rng.random(shape) < 0.6,
        "rows": np.asarray(rng.random(shape[:-1]) < 0.6),
    }
    given_options = {"reduction": reduction, "mask": masks[mask], "ignore_index": 1 if ignore else None}
    given_options |= options
    assert_loss(name, getattr(functional, name)(pred, target, **given_options), pred, target, given_options)


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=shapes,
    classes=st.sampled_from([1, 3, 16, 37]),
    reduction=st.sampled_from(REDUCTIONS),
    masked=st.booleans(),
    ignore=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_nll_against_reference(
    dtype: Any,
    shape: tuple[int, ...],
    classes: int,
    reduction: str,
    masked: bool,
    ignore: bool,
    weighted: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    pred = -rng.exponential(size=(*shape, classes)).astype(dtype)
    options = {
        "reduction": reduction,
        "mask": np.asarray(rng.random(shape) < 0.6) if masked else None,
        "ignore_index": 0 if ignore else None,
        "weight": rng.random(classes) if weighted else None,
    }
    target = rng.integers(0, classes, shape)
    assert_loss("nll", functional.nll(pred, target, **options), pred, target, options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nll_against_torch(reduction: str, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    logits, target = rng.normal(size=(40, 7)), rng.integers(0, 7, 40)
    pred = np.asarray(F.log_softmax(torch.from_numpy(logits), -1))
    weight = rng.random(7) if weighted else None
    options: dict[str, Any] = {"reduction": reduction, "ignore_index": 3}
    ours = losses.nll(pred, target, weight=weight, **options)
    assert_close(ours, torch_loss(F.nll_loss, pred, target, weight=weight, **options))
    whole, _ = losses.cross_entropy(logits, target, weight=weight, **options)
    np.testing.assert_allclose(ours[0], whole, rtol=1e-12)
    pred[target != 0, 0] = -np.inf  # of no part in the loss
    assert np.array_equal(losses.nll(pred, target, weight=weight, **options)[0], ours[0])


def test_what_is_no_number_stays() -> None:
    for name in ("l1", "huber", "smooth_l1"):
        value, dpred = getattr(losses, name)(np.array([np.nan, 1.0]), np.zeros(2), "none")
        assert np.isnan(value).tolist() == [True, False]
        assert np.isnan(dpred).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thresholds_that_a_dtype_cannot_hold(dtype: Any) -> None:
    """They are the nearest ones it can: near nothing the loss is l1, far beyond all errors a parabola."""
    pred, target = np.array([0.0, 1.5, -3.0], dtype), np.zeros(3, dtype)
    value, dpred = losses.smooth_l1(pred, target, "none", beta=1e-320)
    assert value.tolist() == [0, 1.5, 3]
    assert dpred.tolist() == [0, 1, -1]
    value, dpred = losses.huber(pred, target, "none", delta=1e300)
    assert value.tolist() == [0, 1.125, 4.5]
    assert (dpred == pred).all()


@pytest.mark.parametrize("name", ["l1", "huber", "smooth_l1", "nll"])
def test_same_bits(name: str) -> None:
    rng = np.random.default_rng(3)
    pred, target = rng.normal(size=(2, 130, 600)).astype(np.float32)
    if name == "nll":
        target, mask = rng.integers(0, 600, 130), rng.random(130) < 0.9
    else:
        mask = rng.random((130, 600)) < 0.9
    assert_same_bits(lambda: [getattr(functional, name)(pred, target, r, mask) for r in REDUCTIONS])


def test_objects() -> None:
    pred, target = np.random.default_rng(4).normal(size=(2, 6, 3))
    pairs: list[tuple[losses.Loss, Any]] = [
        (losses.L1(), losses.l1(pred, target)),
        (losses.Huber(0.5), losses.huber(pred, target, delta=0.5)),
        (losses.SmoothL1(0.5, reduction="sum"), losses.smooth_l1(pred, target, "sum", beta=0.5)),
        (losses.SmoothL1(0), losses.l1(pred, target)),
    ]
    for loss, expected in pairs:
        value, dpred = loss(pred, target)
        assert value == expected[0]
        assert (dpred == expected[1]).all()
        assert pickle.loads(pickle.dumps(loss)) == loss
    classes = np.array([0, 1, 2, 0, 1, 2])
    weighted = losses.nll(pred, classes, weight=[1.0, 2.0, 3.0])
    assert losses.NLL([1.0, 2.0, 3.0])(pred, classes)[0] == weighted[0]
    assert losses.Huber(0.5) != losses.Huber(0.6)
    assert losses.SmoothL1(0) == losses.L1()
    assert repr(losses.Huber(0.5)) == "Huber(delta=0.5, ignore_index=None, reduction='mean')"
    assert repr(losses.SmoothL1(0.5).spec) == "LossSpec('smooth_l1', reduction='mean', beta=0.5)"


@pytest.mark.parametrize(
    "loss", ["l1", "huber", losses.Huber(0.2), losses.SmoothL1(0.2), "nll", losses.NLL([1.0, 2.0])], ids=str
)
def test_train_step_is_the_separate_calls(loss: Any) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((5, 3, 4), dtype=np.float32)
    by_class = loss == "nll" or isinstance(loss, losses.NLL)
    y = rng.integers(0, 2, (5, 3)) if by_class else rng.standard_normal((5, 3, 2), dtype=np.float32)
    function = getattr(losses, loss) if isinstance(loss, str) else loss
    model, twin = (fr.nn.Sequential(fr.nn.GRU(4, 5, seed=0), fr.nn.Linear(5, 2, seed=1)) for _ in range(2))
    ours, theirs = (fr.optim.Adam(m.parameters()) for m in (model, twin))
    for _ in range(3):
        value, _ = model.train_step(x, y, loss, ours)
        expected, dpred = function(twin(x), y)
        twin.zero_grad()
        twin.backward(dpred)
        theirs.step()
        assert value == expected
    assert all((a == twin.state_dict()[name]).all() for name, a in model.state_dict().items())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, t: losses.huber(p, t, delta=0), ValueError, "delta must be finite and greater than 0"),
        (lambda p, t: losses.huber(p, t, delta=-1), ValueError, "delta must be finite and greater than 0"),
        (
            lambda p, t: losses.huber(p, t, delta=np.inf),
            ValueError,
            "delta must be finite and greater than 0",
        ),
        (lambda p, t: losses.huber(p, t, delta="1"), TypeError, "delta must be a number, it is str"),
        (lambda p, t: losses.huber(p, t, delta=None), TypeError, "delta must be a number, it is NoneType"),
        (lambda p, t: losses.smooth_l1(p, t, beta=-1.0), ValueError, r"beta must be .*, it is -1\.0"),
        (lambda p, t: losses.SmoothL1(np.nan), ValueError, r"beta must be .*, it is nan"),
        (lambda p, t: losses.l1(p, t[:1]), ValueError, r"target must be of shape \(2, 3\)"),
        (lambda p, t: losses.nll(p, t), TypeError, "target must be of integers"),
        (lambda p, t: losses.nll(p, np.array([0, 3])), ValueError, r"target must be in \[0, 3\)"),
        (
            lambda p, t: losses.nll(p, np.array([0, 1]), weight=[1.0]),
            ValueError,
            r"weight must be of shape \(3,\)",
        ),
        (
            lambda p, t: losses.LossSpec("nll", label_smoothing=0.1),
            ValueError,
            "label_smoothing must be 0 with 'nll'",
        ),
        (lambda p, t: losses.LossSpec("mse", threshold=0.1), ValueError, "threshold must be None with 'mse'"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3)), np.zeros((2, 3)))


def test_what_losses_have_in_common_is_no_loss() -> None:
    with pytest.raises(TypeError, match="make one of them"):
        losses.Loss()


def test_targets_that_int64_does_not_hold_are_refused() -> None:
    pred = np.log(np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="the largest is 18446744073709551615"):
        losses.nll(pred, np.array([2**64 - 1, 0], np.uint64), ignore_index=-1)
