"""Losses with their gradients in NumPy: mean squares, softmax cross-entropy, binary cross-entropy on logits.

An entry counts when mask (None: everywhere) says so and its target is not ignore_index. Entries are
elements, and a mask may lack the last axis; for `cross_entropy` they are rows of the class axis. reduction
"mean" divides by the number of entries that count (0 and zero gradients if none does), "sum" does not,
"none" returns a loss an entry and the gradient of their sum. The loss has pred's dtype, so that complex
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
    counts = _counts(pred.shape, mask, rows_too=True)
    if ignore_index is not None:
        counts = counts & (target != ignore_index)
    error = pred - target
    return _reduce(error * error, 2 * error, counts, reduction)


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
    loss = -(target * log_softmax).sum(axis=-1)
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
    loss = against * np.where(positive, pred, -pred) + (pro + contra) * np.log1p(exp)
    large, small = 1 / (1 + exp), exp / (1 + exp)
    slope = contra * np.where(positive, large, small) - pro * np.where(positive, small, large)
    return _reduce(loss, slope, counts, reduction)
