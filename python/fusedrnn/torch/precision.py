"""Which arithmetic a call computes in."""

from __future__ import annotations

import torch

from fusedrnn import _native

PRECISIONS = _native.cpu_precisions()


def precision_of(chosen: str | None, dtype: torch.dtype, autocast: bool) -> str:
    """The user's choice; for None ieee, but bf16 in a bfloat16 autocast where kernels have it."""
    if chosen is not None:
        return chosen
    narrow = autocast and dtype == torch.float32 and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return "bf16" if narrow and "bf16" in PRECISIONS else "ieee"


def require_on_cpu(precision: str, dtype: torch.dtype) -> None:
    """Raises ValueError where the kernels of the CPU do not have a precision for weights of a dtype."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be None or one of {', '.join(PRECISIONS)}, it is {precision!r}")
    if precision != "ieee" and dtype != torch.float32:
        raise ValueError(f"precision={precision!r} rounds torch.float32, and weights are {dtype}")
