"""Gradient clipping by norm and by value, in place; `Optimizer.step` clips on the way, without this pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fusedrnn._core import checks
from fusedrnn._core.keywords import hinted
from fusedrnn._core.parameter import Parameter
from fusedrnn.functional.optim import clip_by_global_norm_, clip_by_value_, global_norm
from fusedrnn.optim.segment_table import unique_parameters


@hinted
def clip_grad_norm_(
    params: Iterable[Parameter] | Parameter,
    max_norm: float,
    norm_type: float = 2.0,
    *,
    error_if_nonfinite: bool = False,
) -> Any:
    """Scales the gradients of all parameters by min(1, max_norm / (norm + 1e-6)) (Pascanu et al. 2013).

    Args:
        params: a parameter or several; one given twice counts once, a frozen one not at all.
        max_norm: >= 0.
        norm_type: 2, or of parameters on the CPU 1 (the sum of magnitudes) or `math.inf` (the largest).
        error_if_nonfinite: raise, and change nothing, if the norm is infinite or NaN; on a device this waits
            for it. Otherwise gradients become 0 and NaN, or all NaN, as in PyTorch.

    Returns:
        The norm before: a float, or of parameters on a device a `DeviceArray` without axes: the
        host has not waited for it.

    Raises:
        ValueError: max_norm is negative or NaN, norm_type is another, or parameters are on different devices.
        RuntimeError: the norm is not finite and error_if_nonfinite asks for this.
    """
    own = [p for p in unique_parameters(params) if p.requires_grad]
    grads = [p.grad for p in own]
    kind = checks.real("norm_type", norm_type)
    if kind != 2 and (kind not in (1, math.inf) or any(p.device != "cpu" for p in own)):
        raise ValueError(f"norm_type must be 2, or on the CPU 1 or math.inf, it is {norm_type}")
    if kind != 2:
        return _clip_by(kind, grads, max_norm, checks.flag("error_if_nonfinite", error_if_nonfinite))
    if checks.flag("error_if_nonfinite", error_if_nonfinite):
        norm = float(global_norm(grads))
        if not math.isfinite(norm):
            raise RuntimeError(
                f"the gradients' norm is {norm}: nothing was clipped; error_if_nonfinite=False lets it pass"
            )
    return clip_by_global_norm_(grads, max_norm)


def _clip_by(kind: float, grads: list[Any], max_norm: float, error_if_nonfinite: bool) -> float:
    """The same by the sum or the largest of magnitudes, in float64."""
    most = checks.real("max_norm", max_norm)
    if not most >= 0:
        raise ValueError(f"max_norm must be a number >= 0, it is {max_norm}")
    wide = [np.abs(grad, dtype=np.float64) for grad in grads if grad.size]
    norm = float(sum(a.sum() for a in wide) if kind == 1 else np.max([a.max() for a in wide], initial=0.0))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the gradients' norm is {norm}: nothing was clipped; error_if_nonfinite=False lets it pass"
        )
    factor = np.minimum(1.0, most / (norm + 1e-6))  # NaN makes all NaN
    for grad in grads:
        np.multiply(grad, factor, out=grad, casting="same_kind")
    return norm


@hinted
def clip_grad_value_(params: Iterable[Parameter] | Parameter, clip_value: float) -> None:
    """Clamps every element of the gradients to [-clip_value, clip_value]; NaN stays.

    Raises:
        ValueError: clip_value is negative or NaN.
    """
    grads = [p.grad for p in unique_parameters(params) if p.requires_grad]
    if not checks.real("clip_value", clip_value) >= 0:
        raise ValueError(f"clip_value must be a number >= 0, it is {clip_value}")
    clip_by_value_(grads, clip_value)
