"""Rounding to the formats that operands of a precision are kept in: to nearest, ties to even."""

from __future__ import annotations

from collections.abc import Callable
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
    "tf32x3": Format(23, -126, (2 - 2.0**-22) * 2.0**127),  # what two tf32 add up to
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


def multiply_operands(
    add_product: Callable[[Array, Array, Array], Array], base: Array, a: Array, b: Array, precision: str
) -> Array:
    """base + a b of operands in the format of a precision, as that multiplies them.

    For "tf32x3" that is a sum of three products of tf32: each operand is the sum of a big one and a small
    one, and the product of both small ones is left out.
    """
    if precision != "tf32x3":
        return add_product(base, a, b)
    with np.errstate(invalid="ignore"):  # infinities have no halves: NaN
        big_a, big_b = round_operand(a, "tf32"), round_operand(b, "tf32")
        small_a, small_b = a - big_a, b - big_b
    return add_product(
        base, np.concatenate([small_a, big_a, big_a], axis=1), np.concatenate([big_b, small_b, big_b])
    )
