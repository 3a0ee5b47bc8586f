"""Activations and their gradients in NumPy, for any float or complex dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.reference import arithmetic

Array = NDArray[Any]


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays."""
    return arithmetic.relu(x)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `relu`; 0 where y is 0."""
    return arithmetic.relu_backward(y, dy)


def tanh(x: Array) -> Array:
    """tanh(x)."""
    y: Array = np.tanh(x)
    return y


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `tanh`."""
    dx: Array = dy * arithmetic.tanh_grad(y)
    return dx


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return arithmetic.sigmoid(x)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `sigmoid`."""
    dx: Array = dy * arithmetic.sigmoid_grad(y)
    return dx


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `softmax`."""
    dx: Array = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    return dx


def log_softmax(x: Array) -> Array:
    """x - log(sum(exp(x))) over the last axis."""
    shifted = x - x.real.max(axis=-1, keepdims=True)
    y: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dx from dy and y = `log_softmax`."""
    dx: Array = dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
    return dx
