"""Linear, embedding, layer norm, dropout and last-step layers as functions.

Arrays are float32 or float64, all of one dtype; the last axis has unit stride, the others any positive
stride. They are NumPy arrays, or all of them arrays on a CUDA device (`DeviceArray`s, or those of PyTorch,
CuPy or JAX, which are not copied); results are where the arguments are. Ids and lengths on a device are
looked at there, and the answer is waited for. A wrong dtype raises TypeError, a wrong shape, stride or value
ValueError; the message names the argument.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array, zeros
from fusedrnn._core.keywords import hinted

Array = NDArray[Any]


def linear_forward(x: Array, weight: Array, bias: Array | None = None, *, precision: str = "ieee") -> Array:
    """y = x W^T + b.

    Args:
        x: (..., in).
        weight: (out, in), contiguous.
        bias: (out,), or None for none.
        precision: what x and weight are rounded to for their product: "ieee" (nothing), or for float32 on the
            CPU "bf16", "bf16x3" or "bf16x6".

    Returns:
        y (..., out), of x's dtype.

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape or stride is, or precision is unknown; RuntimeError:
            precision is not that of arrays of this dtype, or device.
    """
    checks.text("precision", precision)
    return _native.linear_forward(
        as_device_array(x), as_device_array(weight), as_device_array(bias), precision
    )


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    bias: bool = True,
    need_dx: bool = True,
    precision: str = "ieee",
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `linear_forward`.

    Args:
        dy: (..., out), gradient of y.
        x, weight: as given to forward.
        bias: whether there was one.
        need_dx: False skips dx.
        precision: as in `linear_forward`, of dy as well; dbias sums dy as it is.

    Returns:
        dx like x (None without need_dx), dweight (out, in), dbias (out,) (None without bias).

    Raises:
        ValueError, RuntimeError: as `linear_forward`.
    """
    dy, x, weight = as_device_array(dy), as_device_array(x), as_device_array(weight)
    checks.text("precision", precision)
    checks.require_array("x", x)
    checks.require_axes("weight", weight, 2)
    dweight = zeros(weight.shape, weight.dtype, weight)
    dbias = zeros(weight.shape[:1], weight.dtype, weight) if checks.flag("bias", bias) else None
    dx = _native.linear_backward(dy, x, weight, dweight, dbias, need_dx, precision)
    return dx, dweight, dbias


def embedding_forward(ids: Array, weight: Array) -> Array:
    """Rows of a table by their index.

    Args:
        ids: int64, any shape, each in [0, rows).
        weight: (rows, width), contiguous.

    Returns:
        y ``(*ids.shape, width)``.

    Raises:
        ValueError: an id is out of range; the message says which.
    """
    return _native.embedding_forward(as_device_array(ids), as_device_array(weight))


def embedding_backward(dy: Array, ids: Array, num_embeddings: int) -> Array:
    """Gradient of the table: rows of dy ``(*ids.shape, width)``, added up by id in the order of ids.

    Returns:
        dweight (num_embeddings, width).

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape or stride is, or an id is out of range.
    """
    dy = as_device_array(dy)
    checks.require_axes("dy", dy, 1)
    rows = checks.integer("num_embeddings", num_embeddings)
    dweight: Array = zeros((rows, dy.shape[-1]), dy.dtype, dy)
    _native.embedding_backward(dy, as_device_array(ids), dweight)
    return dweight


def layer_norm_forward(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Layer normalisation over the last axis (Ba, Kiros & Hinton 2016).

    y = (x - mean) / sqrt(variance + eps) * weight + bias, the variance divided by the width. Computed in
    float64, each result rounded once.

    Args:
        x: (..., width), width >= 1.
        weight: (width,), or None for ones.
        bias: (width,), or None for zeros.
        eps: >= 0.

    Returns:
        y like x, mean in float64 and rstd = 1 / sqrt(variance + eps) in x's dtype, both (...), for backward.

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape, stride or value is. The message names the argument.
    """
    return _native.layer_norm_forward(as_device_array(x), as_device_array(weight), as_device_array(bias), eps)


def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm_forward`, from its mean and rstd.

    Returns:
        dx like x, dweight (width,), dbias (width,).

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape, stride or value is. The message names the argument.
    """
    dy, x, weight, mean, rstd = map(as_device_array, (dy, x, weight, mean, rstd))
    checks.require_array("x", x)
    dweight, dbias = zeros(x.shape[-1:], x.dtype, x), zeros(x.shape[-1:], x.dtype, x)
    dx = _native.layer_norm_backward(dy, x, weight, mean, rstd, dweight, dbias)
    return dx, dweight, dbias


@hinted
def dropout(x: Array, p: float, key: int, stream: int = 0) -> Array:
    """x / (1 - p) where an element is kept, exactly 0 where it is dropped (Srivastava et al. 2014).

    The mask is a function of key, stream and an element's flat index (Philox4x32-10), so that the backward
    pass is this very function of dy.

    Args:
        x: any shape.
        p: probability of dropping an element, 0..1.
        key: 64 bits.
        stream: 32 bits; masks of different streams under one key are independent.

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape, stride or value is. The message names the argument.
    """
    return _native.dropout(as_device_array(x), p, key, stream)


def last_forward(x: Array, lengths: Array | None = None, batch_first: bool = False) -> Array:
    """Each row of a sequence at its last step.

    Args:
        x: (T, B, N), or (B, T, N) with batch_first. Not read at and past a row's length.
        lengths: int64 (B,), 0..T; None: T each.

    Returns:
        y (B, N), 0 where the length is 0.

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape, stride or value is. The message names the argument.
    """
    return _native.last_forward(as_device_array(x), as_device_array(lengths), batch_first)


def last_backward(dy: Array, T: int, lengths: Array | None = None, batch_first: bool = False) -> Array:
    """Gradient of `last_forward`: dy (B, N) -> dx (T, B, N), or (B, T, N) with batch_first.

    dx is 0 but at each row's last step.

    Raises:
        TypeError: a dtype is wrong; ValueError: a shape, stride or value is. The message names the argument.
    """
    return _native.last_backward(as_device_array(dy), T, as_device_array(lengths), batch_first)
