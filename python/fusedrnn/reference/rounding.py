"""Rounding to the formats that operands of a precision are kept in: to nearest, ties to even."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Format(NamedTuple):
    """A binary floating-point format."""

    digits: int  # of the significand, the hidden one included
    lowest: int  # exponent of the smallest normal number
    largest: float


FORMATS = {
    "tf32": Format(11, -126, (2 - 2.0**-10) * 2.0**127),
    "bf16": Format(8, -126, (2 - 2.0**-7) * 2.0**127),
    "fp16": Format(11, -14, 65504.0),
}
PRECISIONS = ("ieee", *FORMATS)


def spacing(x: Array, precision: str) -> Array:
    """Distance from the format's numbers of the size of x to their neighbours, in x's dtype."""
    form = FORMATS[precision]
    _, exponent = np.frexp(x)  # x = m 2^exponent with m in [1/2, 1)
    distance: Array = np.ldexp(x.dtype.type(1), np.maximum(exponent - 1, form.lowest) - (form.digits - 1))
    return distance


def round_operand(x: Array, precision: str) -> Array:
    """x, in its own dtype, rounded to the format of a precision; beyond its largest number infinity.

    "ieee" rounds nothing and returns x itself.
    """
    if precision == "ieee":
        return x
    step = spacing(x, precision)
    with np.errstate(over="ignore"):
        rounded: Array = np.rint(x / step) * step
        return np.where(np.abs(rounded) > FORMATS[precision].largest, np.copysign(np.inf, x), rounded).astype(
            x.dtype
        )
