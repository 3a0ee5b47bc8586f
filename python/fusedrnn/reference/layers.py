"""Linear, embedding, layer norm, dropout and last-step layers in NumPy, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.reference.arithmetic import NUMPY, Arithmetic
from fusedrnn.reference.philox import drop
from fusedrnn.reference.rounding import multiply_operands

Array = NDArray[Any]


def linear_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    precision: str = "ieee",
    arithmetic: Arithmetic = NUMPY,
) -> Array:
    """y = x W^T + b: x (..., in), weight (out, in), bias (out,) -> y (..., out)."""
    rows = x.reshape(-1, weight.shape[1])
    y = _product(rows, weight.T, precision, arithmetic).reshape(*x.shape[:-1], len(weight))
    if bias is not None:
        y += bias
    return y


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    bias: bool = True,
    need_dx: bool = True,
    precision: str = "ieee",
    arithmetic: Arithmetic = NUMPY,
) -> tuple[Array | None, Array, Array | None]:
    """dx shaped like x (None without need_dx), dweight (out, in), dbias (out,) or None."""
    dy_rows, x_rows = dy.reshape(-1, weight.shape[0]), x.reshape(-1, weight.shape[1])
    dx = _product(dy_rows, weight, precision, arithmetic).reshape(x.shape) if need_dx else None
    dweight = _product(dy_rows.T, x_rows, precision, arithmetic)
    return dx, dweight, dy_rows.sum(axis=0) if bias else None


def _product(a: Array, b: Array, precision: str, arithmetic: Arithmetic) -> Array:
    """a b of operands rounded as a precision rounds them."""
    zero = np.zeros((len(a), b.shape[1]), a.dtype)
    a, b = arithmetic.operand(a, precision), arithmetic.operand(b, precision)
    return multiply_operands(arithmetic.add_product, zero, a, b, precision)


def embedding_forward(ids: Array, weight: Array) -> Array:
    """Rows of weight (rows, width) by ids of any shape -> (*ids.shape, width).

    Raises:
        ValueError: an id is outside [0, rows).
    """
    if ((ids < 0) | (ids >= len(weight))).any():
        raise ValueError(f"ids must be in [0, {len(weight)}), they span [{ids.min()}, {ids.max()}]")
    return weight[ids]


def embedding_backward(dy: Array, ids: Array, num_embeddings: int) -> Array:
    """dweight (num_embeddings, width): the rows of dy added where they came from."""
    dweight = np.zeros((num_embeddings, dy.shape[-1]), dy.dtype)
    np.add.at(dweight, ids, dy)
    return dweight


def layer_norm_forward(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Normalises the last axis (Ba et al. 2016, variance over n) -> y, mean and 1 / sqrt(variance + eps).

    The two statistics have the shape of x without its last axis; mean is float64 for float32, too.
    """
    mean = x.mean(axis=-1, dtype=np.result_type(x, np.float64))
    centred = (x - mean[..., None]).astype(x.dtype)
    rstd = 1 / np.sqrt((centred * centred).mean(axis=-1) + x.dtype.type(eps))
    y = centred * rstd[..., None]
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean, rstd


def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """dx, dweight (width,), dbias (width,); weight None stands for ones."""
    normalised = (x - mean[..., None]).astype(x.dtype) * rstd[..., None]
    leading = tuple(range(x.ndim - 1))
    dn = dy if weight is None else dy * weight
    projected = (
        dn - dn.mean(axis=-1, keepdims=True) - normalised * (dn * normalised).mean(axis=-1, keepdims=True)
    )
    return projected * rstd[..., None], (dy * normalised).sum(axis=leading), dy.sum(axis=leading)


def dropout(x: Array, p: float, key: int, stream: int = 0) -> Array:
    """x / (1 - p) where the mask of (key, stream) keeps an element, else 0; its own backward."""
    return drop(x, p, key, stream)


def last_forward(x: Array, lengths: Array | None = None, batch_first: bool = False) -> Array:
    """x (T, B, N), or (B, T, N) with batch_first -> y (B, N): rows at their last step, 0 without one."""
    x = x.swapaxes(0, 1) if batch_first else x
    T, B, N = x.shape
    lengths = np.full(B, T) if lengths is None else lengths
    y = np.zeros((B, N), x.dtype)
    rows = np.flatnonzero(lengths > 0)
    y[rows] = x[lengths[rows] - 1, rows]
    return y


def last_backward(dy: Array, T: int, lengths: Array | None = None, batch_first: bool = False) -> Array:
    """dx (T, B, N), or (B, T, N) with batch_first: dy at each row's last step, 0 elsewhere."""
    B, N = dy.shape
    lengths = np.full(B, T) if lengths is None else lengths
    dx = np.zeros((T, B, N), dy.dtype)
    rows = np.flatnonzero(lengths > 0)
    dx[lengths[rows] - 1, rows] = dy[rows]
    return np.ascontiguousarray(dx.swapaxes(0, 1)) if batch_first else dx
