"""Optimizer updates, norm and clipping, in place on arrays, by PyTorch 2.13's rules.

param, grad and the states of an update have one shape and one dtype, float32 or float64, and are contiguous;
param and states are written. States start as zeros, ``step`` counts from 1. The gradient is scaled by
``clip_factor``, finite and >= 0, first (None: not), then weight_decay times the parameter is added to it
(decoupled: the parameter shrinks instead).

All arrays may be on a CUDA device instead: `DeviceArray`s, or those of PyTorch, CuPy or JAX, which are not
copied. Norms are then `DeviceArray`s without axes in float64, for which ``float`` waits; clip_factor may be
one, too.

A wrong dtype raises TypeError, a wrong shape, stride or value ValueError; the message names the argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array
from fusedrnn.functional.rules import RULES, check_scalars

Array = NDArray[Any]


def check_betas(betas: Sequence[float]) -> tuple[float, float]:
    """Adam's two coefficients, each in [0, 1); ValueError otherwise."""
    if not isinstance(betas, (tuple, list)):
        raise TypeError(f"betas must be two numbers in [0, 1), they are of type {type(betas).__name__}")
    if len(betas) != 2 or not all(math.isfinite(b) and 0 <= b < 1 for b in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), they are {tuple(betas)}")
    return float(betas[0]), float(betas[1])


def check_nesterov(nesterov: bool, momentum: float) -> None:
    """ValueError where Nesterov's momentum has none to work with."""
    if nesterov and momentum == 0:
        raise ValueError("nesterov must be False where momentum is 0, it is True")


def _step(
    kind: str,
    param: Array,
    grad: Array,
    states: list[Array | None],
    clip_factor: Any,
    step: int = 1,
    **scalars: float,
) -> None:
    rule = RULES[kind]
    check_scalars(kind, scalars)
    for (name, by), kept, state in zip(rule.states.items(), rule.kept(scalars), states, strict=True):
        if by is not None and (kept is None) != (state is None):
            must, was = ("None" if absent else "an array" for absent in (kept is None, state is None))
            raise ValueError(f"{name} must be {must} with {by} {scalars[by]}, it is {was}")
    piece = as_device_array(param), as_device_array(grad), [as_device_array(state) for state in states]
    numbers = {name: float(value) for name, value in scalars.items()}
    _native.optimizer_step(_native.Segments(kind, [piece]), numbers, step, as_device_array(clip_factor))


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
    """Gradient descent: p' = p - lr g.

    With momentum (Polyak 1964) v' = momentum v + g, p' = p - lr v'; Nesterov: p' = p - lr (g + momentum v').
    """
    check_nesterov(nesterov, momentum)
    _step(
        "sgd", param, grad, [momentum_buffer], clip_factor,
        lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay,
    )  # fmt: skip


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
    _step(
        "adagrad", param, grad, [sum], clip_factor, step,
        lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
    )  # fmt: skip


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

    With grad_avg it is centred (Graves 2013): v' loses the square of the running mean of g, and never falls
    below 0 by rounding. With momentum the fraction is summed up as in `sgd_`.
    """
    _step(
        "rmsprop", param, grad, [square_avg, momentum_buffer, grad_avg], clip_factor,
        lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay,
        centered=grad_avg is not None,
    )  # fmt: skip


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
    c = 1 - b^step, or 1 without bias_correction. Decoupled weight decay first shrinks p by 1 - lr
    weight_decay. With max_exp_avg_sq it is AMSGrad (Reddi et al. 2018): the largest v' so far stands for v'.
    """
    beta1, beta2 = check_betas(betas)
    _step(
        "adamw" if decoupled else "adam", param, grad, [exp_avg, exp_avg_sq, max_exp_avg_sq],
        clip_factor, step,
        lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
        bias_correction=bias_correction, amsgrad=max_exp_avg_sq is not None,
    )  # fmt: skip


def global_norm(arrays: Sequence[Array]) -> Any:
    """Square root of the sum of all squares, summed in float64; 0.0 of nothing."""
    return _native.global_norm([as_device_array(a) for a in arrays])


def clip_by_global_norm_(arrays: Sequence[Array], max_norm: float) -> Any:
    """Scales all arrays by min(1, max_norm / (norm + 1e-6)), returns the norm before; NaN makes all NaN."""
    return _native.clip_by_global_norm([as_device_array(a) for a in arrays], max_norm)


def clip_by_value_(arrays: Sequence[Array], limit: float) -> None:
    """Clamps every element to [-limit, limit]; NaN stays."""
    _native.clip_by_value([as_device_array(a) for a in arrays], limit)
