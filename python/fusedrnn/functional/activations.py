"""Activations and their gradients: y of x of any shape, and dx of dy from y alone.

    y = relu(x)
    dx = relu_backward(dy, y)

x and dy are NumPy arrays of float32 or float64; results are new arrays like them. `softmax` and `log_softmax`
go over the last axis. Recurrent layers have their activations within; these are for what stands between other
layers, as the modules of `fusedrnn.nn` do. They are NumPy's work: nothing of them is on a CUDA device.

A wrong type or dtype raises TypeError, a wrong shape ValueError; the message names the argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core import checks
from fusedrnn._core.keywords import hinted

Array = NDArray[Any]


@hinted
def relu(x: Array) -> Array:
    """max(x, 0); NaN stays.

    Args:
        x: any shape; the result is like x.

    Raises:
        TypeError: x is no array of float32 or float64.
    """
    checks.require_float("x", x)
    y: Array = np.asarray(np.maximum(x, x.dtype.type(0)))  # also where there is one number
    return y


def relu_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `relu`; 0 where y is 0.

    Args:
        dy, y: any one shape; the result is like dy.

    Raises:
        TypeError: one is no array of float32 or float64, or they differ; ValueError: their shapes differ.
    """
    _require_like(dy, y)
    return np.where(y == 0, dy.dtype.type(0), dy)


@hinted
def tanh(x: Array) -> Array:
    """tanh(x).

    Args:
        x: any shape; the result is like x.

    Raises:
        TypeError: x is no array of float32 or float64.
    """
    checks.require_float("x", x)
    y: Array = np.asarray(np.tanh(x))
    return y


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `tanh`.

    Args:
        dy, y: any one shape; the result is like dy.

    Raises:
        TypeError: one is no array of float32 or float64, or they differ; ValueError: their shapes differ.
    """
    _require_like(dy, y)
    dx: Array = np.asarray(dy * (1 - y * y))
    return dx


@hinted
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow.

    Args:
        x: any shape; the result is like x.

    Raises:
        TypeError: x is no array of float32 or float64.
    """
    checks.require_float("x", x)
    z = np.exp(-np.abs(x))  # never more than 1
    return np.asarray(np.where(x >= 0, 1 / (1 + z), z / (1 + z)), x.dtype)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `sigmoid`.

    Args:
        dy, y: any one shape; the result is like dy.

    Raises:
        TypeError: one is no array of float32 or float64, or they differ; ValueError: their shapes differ.
    """
    _require_like(dy, y)
    dx: Array = np.asarray(dy * (y * (1 - y)))
    return dx


@hinted
def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) over the last axis.

    Args:
        x: (..., N); the result is like x.

    Raises:
        TypeError: x is no array of float32 or float64; ValueError: it has no last axis with elements.
    """
    e = np.exp(_shifted(x))
    y: Array = e / e.sum(-1, keepdims=True)
    return y


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `softmax`.

    Args:
        dy, y: (..., N), of one shape; the result is like dy.

    Raises:
        TypeError: one is no array of float32 or float64, or they differ; ValueError: their shapes differ, or
            there is no last axis with elements.
    """
    _require_like(dy, y)
    _require_last_axis("y", y)
    dx: Array = y * (dy - (dy * y).sum(-1, keepdims=True))
    return dx


@hinted
def log_softmax(x: Array) -> Array:
    """x - log(sum(exp(x))) over the last axis. For training, `cross_entropy` takes logits.

    Args:
        x: (..., N); the result is like x.

    Raises:
        TypeError: x is no array of float32 or float64; ValueError: it has no last axis with elements.
    """
    shifted = _shifted(x)
    y: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return y


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `log_softmax`.

    Args:
        dy, y: (..., N), of one shape; the result is like dy.

    Raises:
        TypeError: one is no array of float32 or float64, or they differ; ValueError: their shapes differ, or
            there is no last axis with elements.
    """
    _require_like(dy, y)
    _require_last_axis("y", y)
    dx: Array = dy - np.exp(y) * dy.sum(-1, keepdims=True)
    return dx


def _shifted(x: Array) -> Array:
    checks.require_float("x", x)
    _require_last_axis("x", x)
    with np.errstate(over="ignore"):  # -inf is right for a difference that is no number
        shifted: Array = x - x.max(-1, keepdims=True)
    return shifted


def _require_last_axis(name: str, array: Array) -> None:
    """Raises ValueError unless there are elements along a last axis."""
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} must have a last axis with elements, its shape is {array.shape}")


def _require_like(dy: Array, y: Array) -> None:
    """Raises TypeError or ValueError unless dy has the dtype and shape of y."""
    checks.require_float("y", y)
    checks.require_float("dy", dy)
    if dy.dtype != y.dtype:
        raise TypeError(f"dy must be {y.dtype}, it is {dy.dtype}: use dy.astype(np.{y.dtype})")
    if dy.shape != y.shape:
        raise ValueError(f"dy must have shape {y.shape}, it has {dy.shape}")
