"""Checks of probabilities, which the reference makes as well: they need nothing built."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np


def real(name: str, value: Any) -> float:
    """`value` as a float."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu":
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, it is {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number of float64, it is of {len(str(value))} digits") from None


def probability(name: str, value: Any) -> float:
    """`value` as a float in [0, 1]."""
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be between 0 and 1, it is {value}")
    return number


def zoneout(value: Any, cell_state: bool) -> tuple[float, float]:
    """The probabilities that c and h keep their values, from one for both or a pair (c, h).

    Of a cell without a cell state it is a number, that of h; c's is 0.
    """
    if not isinstance(value, (tuple, list)):
        p = probability("zoneout", value)
        return (p if cell_state else 0.0), p
    if not cell_state:
        raise TypeError(f"zoneout must be a number, for the cell has no state but h: it is {value!r}")
    if len(value) != 2:
        raise TypeError(f"zoneout must be a number or a pair (c, h), it is {value!r}")
    return probability("zoneout of c", value[0]), probability("zoneout of h", value[1])


def dropout_mode(value: Any) -> bool:
    """Whether dropout between layers has one mask a sequence: of "step" and "sequence"."""
    if not isinstance(value, str) or value not in ("step", "sequence"):
        raise ValueError(f"dropout_mode must be 'step' or 'sequence', it is {value!r}")
    return value == "sequence"
