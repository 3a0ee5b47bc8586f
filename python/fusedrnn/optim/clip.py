"""Gradient clipping by norm and by value, in place; `Optimizer.step` clips on the way, without this pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fusedrnn._core.parameter import Parameter
from fusedrnn.functional.optim import clip_by_global_norm_, clip_by_value_, global_norm
from fusedrnn.optim.segment_table import unique_parameters


def clip_grad_norm_(
    params: Iterable[Parameter] | Parameter, max_norm: float, *, error_if_nonfinite: bool = False
) -> Any:
    """Scales the gradients of all parameters by min(1, max_norm / (norm + 1e-6)) (Pascanu et al. 2013).

    Args:
        params: a parameter or several; one given twice counts once.
        max_norm: >= 0.
        error_if_nonfinite: raise, and change nothing, if the norm is infinite or NaN; on a device this waits
            for it. Otherwise gradients become 0 and NaN, or all NaN, as in PyTorch.

    Returns:
        The norm before: a float, or of parameters on a device a `DeviceArray` without axes: the
        host has not waited for it.

    Raises:
        ValueError: max_norm is negative or NaN, or parameters are on different devices.
        RuntimeError: the norm is not finite and error_if_nonfinite asks for this.
    """
    grads = [p.grad for p in unique_parameters(params)]
    if error_if_nonfinite:
        norm = float(global_norm(grads))
        if not math.isfinite(norm):
            raise RuntimeError(
                f"the gradients' norm is {norm}: nothing was clipped; error_if_nonfinite=False lets it pass"
            )
    return clip_by_global_norm_(grads, max_norm)


def clip_grad_value_(params: Iterable[Parameter] | Parameter, clip_value: float) -> None:
    """Clamps every element of the gradients to [-clip_value, clip_value]; NaN stays.

    Raises:
        ValueError: clip_value is negative or NaN.
    """
    grads = [p.grad for p in unique_parameters(params)]
    if not clip_value >= 0:
        raise ValueError(f"clip_value must be a number >= 0, it is {clip_value}")
    clip_by_value_(grads, clip_value)
