"""Losses, each with its gradient in the same pass.

All take ``(pred, target, reduction="mean", mask=None, ignore_index=None)``, some an option more, and return
``(loss, dpred)``.

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

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array, asarray

Array = NDArray[Any]
LossSpec = _native.LossSpec


def as_weights(name: str, value: Any) -> Array | None:
    """A loss's weights in float64, of one axis: numbers, a sequence or an array of them, wherever it is."""
    if value is None:
        return None
    try:
        array = np.asarray(asarray(value, "cpu"))
    except ValueError:  # a list of lists of unequal length, say
        raise TypeError(f"{name} must be numbers, it is a {type(value).__name__} of other things") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be numbers, it is {array.dtype}")
    if name == "pos_weight" and array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, it is {array.shape}")
    return np.array(array, np.float64)


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
    label_smoothing: float = 0.0,
    weight: Any = None,
) -> tuple[Any, Array]:
    """Softmax cross-entropy of logits pred (..., classes).

    target is int64 (...), a class in [0, classes) wherever the entry counts: the loss is -log
    softmax(pred)[target]. Or it holds probabilities of pred's shape and dtype: the loss is -sum(target log
    softmax(pred)); the rows of target need not sum to 1, and ignore_index must be None.

    label_smoothing, in [0, 1] (Szegedy et al. 2016), moves that share of the target to all classes alike: t_k
    becomes (1 - label_smoothing) t_k + label_smoothing / classes. weight has a number >= 0 for each class,
    which its terms of the loss are multiplied by; the mean over classes as target then divides by the sum of
    the targets' weights, not by their number. Both are PyTorch's. Where that sum is 0 nothing counts, and
    loss and gradient are 0, as they are where a mask leaves nothing; PyTorch divides 0 by 0 there.

    Raises:
        ValueError: a class is out of range; the message says which and where. Or an option is.
    """
    spec = LossSpec("cross_entropy", reduction, ignore_index, label_smoothing, as_weights("weight", weight))
    return evaluate(spec, pred, target, mask)


def binary_cross_entropy(
    pred: Array,
    target: Array,
    reduction: str = "mean",
    mask: Array | None = None,
    ignore_index: int | None = None,
    pos_weight: Any = None,
) -> tuple[Any, Array]:
    """Binary cross-entropy of logits, log(1 + exp(pred)) - target pred; target has pred's shape and dtype.

    pos_weight, a number or one for each place of the last axis, multiplies the loss of a positive target, as
    PyTorch's does: pos_weight target log(1 + exp(-pred)) + (1 - target) log(1 + exp(pred)). A mean divides by
    the number of entries all the same.
    """
    weight = as_weights("pos_weight", pos_weight)
    return evaluate(
        LossSpec("binary_cross_entropy", reduction, ignore_index, weight=weight), pred, target, mask
    )
