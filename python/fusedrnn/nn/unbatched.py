"""Sequences without a batch axis, as PyTorch takes them: a batch of one within, none outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def is_unbatched(x: Any) -> bool:
    """Whether x (T, features) is one sequence.

    Raises:
        ValueError: it is, and on a CUDA device, where there is no view with another axis.
    """
    if getattr(x, "ndim", 3) != 2:
        return False
    if not isinstance(x, np.ndarray):
        raise ValueError(
            f"x must be of three axes on a CUDA device, it is {x.shape}: give a batch of one row"
        )
    return True


def require_no_lengths(lengths: Any) -> None:
    """ValueError for lengths of a sequence that is not in a batch."""
    if lengths is not None:
        raise ValueError("lengths must be None where x has no batch axis: use x[:length]")


def batched(name: str, array: Any, axes: int, axis: int = 1) -> Any:
    """The array, of so many axes, with one for a batch of one; None stays.

    Raises:
        TypeError: it is no NumPy array; ValueError: it has another number of axes.
    """
    if array is None:
        return None
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, it is {type(array).__name__}")
    if array.ndim != axes:
        raise ValueError(
            f"{name} must have {axes} axes where x has no batch axis, it has shape {array.shape}"
        )
    return np.expand_dims(array, axis)


def without_batch(array: Any, axis: int = 1) -> Any:
    """The array of a batch of one without that axis, which shares its memory; None stays."""
    if array is None:
        return None
    return array[0] if axis == 0 else array[:, 0]
