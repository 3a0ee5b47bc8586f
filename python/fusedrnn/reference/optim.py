"""Optimizer updates, norm and clipping in NumPy, in place, by PyTorch 2.13's rules.

Every update scales the gradient by clip_factor first (None: not), then adds weight_decay times the parameter
to it (AdamW: shrinks the parameter instead). States start as zeros. ``step`` counts from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _gradient(param: Array, grad: Array, weight_decay: float, clip_factor: float | None) -> Array:
    if clip_factor is not None:
        grad = grad * param.dtype.type(clip_factor)
    return grad + param.dtype.type(weight_decay) * param if weight_decay else grad


def sgd_(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    clip_factor: float | None = None,
) -> None:
    """Gradient descent; with momentum (Polyak 1964) v' = momentum v + g, p' = p - lr v'.

    Nesterov (1983): p' = p - lr (g + momentum v').
    """
    scalar = param.dtype.type
    g = _gradient(param, grad, weight_decay, clip_factor)
    if momentum_buffer is not None:
        momentum_buffer[...] = scalar(momentum) * momentum_buffer + g
        g = g + scalar(momentum) * momentum_buffer if nesterov else momentum_buffer
    param -= scalar(lr) * g


def adagrad_(
    param: Array,
    grad: Array,
    sum: Array,
    *,
    lr: float,
    step: int,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    clip_factor: float | None = None,
) -> None:
    """Adagrad (Duchi et al. 2011).

    s' = s + g^2, p' = p - lr / (1 + (step - 1) lr_decay) g / (sqrt(s') + eps).
    """
    scalar = param.dtype.type
    g = _gradient(param, grad, weight_decay, clip_factor)
    sum += g * g
    param -= scalar(lr / (1 + (step - 1) * lr_decay)) * g / (np.sqrt(sum) + scalar(eps))


def rmsprop_(
    param: Array,
    grad: Array,
    square_avg: Array,
    momentum_buffer: Array | None = None,
    grad_avg: Array | None = None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip_factor: float | None = None,
) -> None:
    """RMSprop (Hinton 2012): v' = alpha v + (1 - alpha) g^2, p' = p - lr g / (sqrt(v') + eps).

    With grad_avg it is centred (Graves 2013): v' loses the square of the running mean of g. With
    momentum_buffer the fraction is summed up as in `sgd_`.
    """
    scalar = param.dtype.type
    g = _gradient(param, grad, weight_decay, clip_factor)
    square_avg[...] = scalar(alpha) * square_avg + scalar(1 - alpha) * g * g
    variance = square_avg
    if grad_avg is not None:
        grad_avg += scalar(1 - alpha) * (g - grad_avg)
        variance = square_avg - grad_avg * grad_avg
        variance[variance.real < 0] = 0  # by rounding only
    update = g / (np.sqrt(variance) + scalar(eps))
    if momentum_buffer is not None:
        momentum_buffer[...] = scalar(momentum) * momentum_buffer + update
        update = momentum_buffer
    param -= scalar(lr) * update


def adam_(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None = None,
    *,
    lr: float,
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
    decoupled: bool = False,
    clip_factor: float | None = None,
) -> None:
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) if decoupled.

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, p' = p - lr m' / c1 / (sqrt(v' / c2) + eps) with
    c = 1 - b^step, or 1 without bias_correction. AMSGrad (Reddi et al. 2018) with max_exp_avg_sq: the
    largest v' so far stands for v'.
    """
    scalar = param.dtype.type
    beta1, beta2 = betas
    g = _gradient(param, grad, 0.0 if decoupled else weight_decay, clip_factor)
    if decoupled:
        param *= scalar(1 - lr * weight_decay)
    exp_avg += scalar(1 - beta1) * (g - exp_avg)
    exp_avg_sq[...] = scalar(beta2) * exp_avg_sq + scalar(1 - beta2) * g * g
    c1, c2 = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1.0, 1.0)
    square = exp_avg_sq
    if max_exp_avg_sq is not None:
        square = max_exp_avg_sq
        square[...] = np.maximum(square, exp_avg_sq)
    param -= scalar(lr / c1) * exp_avg / (np.sqrt(square) / scalar(c2**0.5) + scalar(eps))


def global_norm(arrays: Sequence[Array]) -> Any:
    """Square root of the sum of all squares, in double (or wider where an array is); 0.0 of nothing."""
    total = sum(((a.astype(np.result_type(a, np.float64)) ** 2).sum() for a in arrays), np.float64(0))
    return np.sqrt(total)


def clip_by_global_norm_(arrays: Sequence[Array], max_norm: float) -> Any:
    """Scales all arrays by min(1, max_norm / (norm + 1e-6)), returns the old norm; NaN makes all NaN."""
    norm = global_norm(arrays)
    factor = np.minimum(1, max_norm / (norm + 1e-6))
    for array in arrays:
        array *= array.dtype.type(factor)
    return norm


def clip_by_value_(arrays: Sequence[Array], limit: float) -> None:
    """Clamps every element to [-limit, limit]; NaN stays."""
    for array in arrays:
        np.clip(array, -limit, limit, out=array)
