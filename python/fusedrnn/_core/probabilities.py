"""Checks of numbers, which the reference makes as well: they need nothing built."""

from __future__ import annotations

import math
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


def integer(name: str, value: Any, least: int = 0, most: int | float = 2**63 - 1) -> int:
    """`value` as an int in a range."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int, it is {type(value).__name__}")
    if not least <= int(value) <= most:
        was = value if abs(int(value)) < 2**80 else f"of {int(value).bit_length()} bits"
        any_that_fits = most == 2**63 - 1 and int(value) < least
        must = f"at least {least}" if any_that_fits else f"in {least}..{most}"
        raise ValueError(f"{name} must be {must}, it is {was}")
    return int(value)


def clip_factor(value: Any) -> float:
    """What gradients are scaled by, as a float."""
    number = real("clip_factor", value)
    if not (number >= 0 and math.isfinite(number)):
        raise ValueError(f"clip_factor must be finite and >= 0, it is {value}")
    return number


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
