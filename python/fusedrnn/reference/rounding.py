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
    "bf16x3": Format(17, -126, (2 - 2.0**-16) * 2.0**127),  # what two bf16 add up to
    "bf16x6": Format(24, -126, (2 - 2.0**-23) * 2.0**127),  # three of them: float32 itself
    "fp16": Format(11, -14, 65504.0),
}
PRECISIONS = ("ieee", *FORMATS)
PARTS = {"bf16x3": 2, "bf16x6": 3}  # how many bf16 an operand is the sum of


def spacing(x: Array, precision: str) -> Array:
    """Distance from the format's numbers of the size of x to their neighbours, in x's dtype."""
    form = FORMATS[precision]
    _, exponent = np.frexp(x)  # x = m 2^exponent with m in [1/2, 1)
    distance: Array = np.ldexp(x.dtype.type(1), np.maximum(exponent - 1, form.lowest) - (form.digits - 1))
    return distance


def round_operand(x: Array, precision: str) -> Array:
    """x, in its own dtype, rounded to the format of a precision; beyond its largest number infinity.

    For "bf16x3" and "bf16x6" that is the sum of the parts; what has no finite first part is NaN there.
    "ieee" rounds nothing and returns x itself.
    """
    if precision == "ieee":
        return x
    if precision in PARTS:
        with np.errstate(invalid="ignore"):  # infinities have no parts: NaN
            total: Array = sum(split(x, "bf16", PARTS[precision]), start=np.zeros_like(x))
        return total
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
    one, and the product of both small ones is left out. For "bf16x3" and "bf16x6" an operand is the sum of
    two or three bf16, and those pairs of parts are multiplied that are as large as the product of the first
    and the last.
    """
    with np.errstate(invalid="ignore"):  # infinities have no parts: NaN
        if precision == "tf32x3":
            (big_a, small_a), (big_b, small_b) = split(a, "tf32", 2), split(b, "tf32", 2)
            left, right = [small_a, big_a, big_a], [big_b, small_b, big_b]
        elif precision in PARTS:
            parts = PARTS[precision]
            of_a, of_b = split(a, "bf16", parts), split(b, "bf16", parts)
            pairs = [(i, j) for j in range(parts) for i in range(parts - j)]
            left, right = [of_a[i] for i, _ in pairs], [of_b[j] for _, j in pairs]
        else:
            return add_product(base, a, b)
    return add_product(base, np.concatenate(left, axis=1), np.concatenate(right))


def split(x: Array, precision: str, parts: int) -> list[Array]:
    """x as so many numbers of a precision's format: each is what those before it leave, rounded."""
    found: list[Array] = []
    for _ in range(parts):
        found.append(round_operand(x, precision))
        x = x - found[-1]
    return found
