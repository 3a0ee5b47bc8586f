"""Losses, each with its gradient in the same pass.

All take ``(pred, target, reduction="mean", mask=None, ignore_index=None)`` and return ``(loss, dpred)``.

pred is float32 or float64 with any leading axes, unit stride in the last. An entry is an element for `mse`
and `binary_cross_entropy`, a row of the class axis (the last) for `cross_entropy`.

mask is bool and True where an entry counts. It has the shape of the entries; for `mse` and
`binary_cross_entropy` it may also lack the last axis, and then speaks for whole rows: a mask (T, B) for pred
(T, B, N). Nothing else broadcasts. Entries whose target equals ignore_index do not count either. What does
not count is never read into a result, may be NaN, and has gradient 0.

reduction: "mean" divides the sum by the number of entries that count (loss and gradient are 0 if there are
none); "sum" does not; "none" returns an array of the entries' losses, 0 where they do not count, and the
gradient of their sum. Otherwise loss is a Python float, summed in float64. dpred has the shape and dtype of
pred.

pred, target and mask may also be arrays on a CUDA device, all of them: `DeviceArray`s, or those of PyTorch,
CuPy or JAX, which are not copied. dpred is on the device then, and so is the loss, a `DeviceArray` without
axes in float64; ``float(loss)`` waits for it. Classes are looked at there, and the answer is waited for.

A wrong dtype raises TypeError, a wrong shape, stride or value ValueError; the message names the argument.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array

Array = NDArray[Any]
LossSpec = _native.LossSpec


def evaluate(spec: LossSpec, pred: Array, target: Array, mask: Array | None = None) -> tuple[Any, Array]:
    """The loss that `spec` says, with its options, as the functions below return it."""
    return _native.loss(spec, as_device_array(pred), as_device_array(target), as_device_array(mask))


def mse(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[Any, Array]:
    """Squared error (pred - target)^2; target has pred's shape and dtype."""
    return evaluate(LossSpec("mse", reduction, ignore_index), pred, target, mask)


def cross_entropy(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[Any, Array]:
    """Softmax cross-entropy of logits pred (..., classes).

    target is int64 (...), a class in [0, classes) wherever the entry counts: the loss is -log
    softmax(pred)[target]. Or it holds probabilities of pred's shape and dtype: the loss is -sum(target log
    softmax(pred)); the rows of target need not sum to 1, and ignore_index must be None.

    Raises:
        ValueError: a class is out of range; the message says which and where.
    """
    return evaluate(LossSpec("cross_entropy", reduction, ignore_index), pred, target, mask)


def binary_cross_entropy(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[Any, Array]:
    """Binary cross-entropy of logits, log(1 + exp(pred)) - target pred; target has pred's shape and dtype."""
    return evaluate(LossSpec("binary_cross_entropy", reduction, ignore_index), pred, target, mask)
