"""Losses with their gradients in NumPy.

An entry counts when mask (None: everywhere) says so and its target is not ignore_index. Entries are
elements, and a mask may lack the last axis; for `cross_entropy` and `nll` they are rows of the class axis.
reduction "mean" divides by the number of entries that count (0 and zero gradients if none does), "sum" does
not, "none" returns a loss an entry and the gradient of their sum. The loss has pred's dtype, so that complex
numbers and long doubles go through.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _reduce(
    loss: Array, dpred: Array, counts: Array, reduction: str, weights: Array | None = None
) -> tuple[Any, Array]:
    """Losses per entry and their gradients -> reduced; what does not count is made 0, whatever it holds.

    A mean divides by the sum of the weights of entries that count, 1 each if there are none.
    """
    zero = loss.dtype.type(0)
    loss = np.where(counts, loss, zero)
    dpred = np.where(counts.reshape(counts.shape + (1,) * (dpred.ndim - loss.ndim)), dpred, zero)
    if reduction == "none":
        return loss, dpred
    if reduction == "sum":
        return loss.sum(), dpred
    if reduction == "mean":
        total = np.count_nonzero(counts) if weights is None else weights[counts].sum()
        n = loss.dtype.type(total if total != 0 else 1)
        return loss.sum() / n, dpred / n
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', it is {reduction!r}")


def _counts(shape: tuple[int, ...], mask: Array | None, rows_too: bool) -> Array:
    """Which entries a mask lets count; with rows_too it may lack the last axis."""
    if mask is None:
        return np.ones(shape, bool)
    if mask.dtype != bool:
        raise TypeError(f"mask must be bool, it is {mask.dtype}")
    if rows_too and mask.ndim == len(shape) - 1 and mask.shape == shape[:-1]:
        return np.repeat(mask[..., None], shape[-1], axis=-1)
    if mask.shape != shape:
        raise ValueError(f"mask must have shape {shape}, it has {mask.shape}")
    return mask


def mse(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[Any, Array]:
    """(pred - target)^2, both of any one shape -> loss, dpred."""
    e, _, counts = _errors(pred, target, mask, ignore_index)
    return _reduce(e * e, 2 * e, counts, reduction)


def l1(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[Any, Array]:
    """abs(pred - target), both of any one shape -> loss, dpred; the gradient is 0 where both are equal."""
    e, sign, counts = _errors(pred, target, mask, ignore_index)
    return _reduce(sign * e, sign, counts, reduction)


def huber(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
    delta: float = 1.0,
) -> tuple[Any, Array]:
    """e^2 / 2 of errors e of at most delta, delta (abs(e) - delta / 2) of larger ones -> loss, dpred."""
    e, sign, counts = _errors(pred, target, mask, ignore_index)
    limit = pred.dtype.type(delta)
    near = np.where((sign * e).real > limit.real, limit, sign * e)
    return _reduce(near * (sign * e - near / 2), sign * near, counts, reduction)


def smooth_l1(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
    beta: float = 1.0,
) -> tuple[Any, Array]:
    """`huber` with delta = beta, divided by beta; with beta 0 `l1` -> loss, dpred."""
    if beta == 0:
        return l1(pred, target, reduction, mask, ignore_index)
    e, sign, counts = _errors(pred, target, mask, ignore_index)
    limit = pred.dtype.type(beta)
    near = np.where((sign * e).real > limit.real, limit, sign * e)
    return _reduce(near / limit * (sign * e - near / 2), sign * near / limit, counts, reduction)


def _errors(
    pred: Array, target: Array, mask: Array | None, ignore_index: int | None
) -> tuple[Array, Array, Array]:
    """pred - target, its sign, and which entries count."""
    counts = _counts(pred.shape, mask, rows_too=True)
    if ignore_index is not None:
        counts = counts & (target != ignore_index)
    e = pred - target
    return e, np.sign(e.real).astype(pred.dtype), counts


def nll(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
    weight: Any = None,
) -> tuple[Any, Array]:
    """-weight[target] pred[target] of log-probabilities pred (..., C) and classes, int (...) -> loss, dpred.

    A mean divides by the sum of the weights of the targets.

    Raises:
        ValueError: a class that counts is outside [0, C).
    """
    counts = _counts(pred.shape[:-1], mask, rows_too=False)
    if ignore_index is not None:
        counts = counts & (target != ignore_index)
    if ((target < 0) | (target >= pred.shape[-1]))[counts].any():
        raise ValueError(f"target must be in [0, {pred.shape[-1]})")
    classes = np.where(counts, target, 0)  # those that do not count may be anything
    weights = np.ones(pred.shape[-1]) if weight is None else np.asarray(weight)
    share = np.eye(pred.shape[-1], dtype=pred.dtype)[classes] * weights.astype(pred.dtype)[classes][..., None]
    loss = -(share * np.where(share == 0, 0, pred)).sum(axis=-1)
    divisor = None if weight is None else weights.astype(pred.dtype)[classes]
    return _reduce(loss, -share, counts, reduction, divisor)


def cross_entropy(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    weight: Any = None,
) -> tuple[Any, Array]:
    """-log softmax(pred)[target] for logits pred (..., C) -> loss, dpred.

    target holds classes, int (...), or probabilities of pred's shape and dtype, for which it is
    -sum(target * log softmax(pred)) and ignore_index has no meaning.

    With u = (1 - label_smoothing) target + label_smoothing / C, a class being a one among zeros, it is
    -sum(weight u log softmax(pred)). A mean over classes divides by the sum of their weights.

    Raises:
        ValueError: a class that counts is outside [0, C), or ignore_index comes with probabilities.
    """
    counts = _counts(pred.shape[:-1], mask, rows_too=False)
    scalar, divisor = pred.dtype.type, None
    weights = None if weight is None else np.asarray(weight).astype(pred.dtype)
    if np.issubdtype(target.dtype, np.integer):
        if ignore_index is not None:
            counts = counts & (target != ignore_index)
        if ((target < 0) | (target >= pred.shape[-1]))[counts].any():
            raise ValueError(f"target must be in [0, {pred.shape[-1]})")
        # classes that do not count may be anything; any valid one will do in their place
        classes = np.where(counts, target, 0)
        target = np.eye(pred.shape[-1], dtype=pred.dtype)[classes]
        divisor = None if weights is None else weights[classes]
    elif ignore_index is not None:
        raise ValueError("ignore_index has no meaning with target probabilities; use mask")
    if label_smoothing:
        target = scalar(1 - label_smoothing) * target + scalar(label_smoothing / pred.shape[-1])
    if weights is not None:
        target = target * weights
    highest = pred.real.max(axis=-1, keepdims=True)  # a constant shift, so its derivative does not matter
    exps = np.exp(pred - highest)
    total = exps.sum(axis=-1, keepdims=True)
    log_softmax = pred - highest - np.log(total)
    loss = -(target * np.where(target == 0, 0, log_softmax)).sum(axis=-1)  # 0 log 0 is 0
    return _reduce(
        loss, exps / total * target.sum(axis=-1, keepdims=True) - target, counts, reduction, divisor
    )


def binary_cross_entropy(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
    pos_weight: Any = None,
) -> tuple[Any, Array]:
    """log(1 + exp(pred)) - target pred for logits pred and targets of any one shape -> loss, dpred.

    pos_weight, a number or one for each place of the last axis, multiplies what a positive target costs.
    """
    counts = _counts(pred.shape, mask, rows_too=True)
    if ignore_index is not None:
        counts = counts & (target != ignore_index)
    positive = pred.real > 0
    exp = np.exp(np.where(positive, -pred, pred))  # at most 1
    pro, contra = target, 1 - target
    if pos_weight is not None:
        pro = np.asarray(pos_weight).astype(pred.dtype) * target
    against = np.where(positive, contra, pro)
    far = np.where(against == 0, 0, np.where(positive, pred, -pred))  # 0 times infinity is 0
    loss = against * far + (pro + contra) * np.log1p(exp)
    large, small = 1 / (1 + exp), exp / (1 + exp)
    slope = contra * np.where(positive, large, small) - pro * np.where(positive, small, large)
    return _reduce(loss, slope, counts, reduction)
