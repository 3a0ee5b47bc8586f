"""Derives the polynomial coefficients of exp.hpp and log.hpp: `python minimax.py` (needs mpmath) prints them.

Lawson's iteration (weighted least squares whose weights grow where the error is large) on Chebyshev
points, in 50 digits, gives a near-minimax fit of the relative error. Coefficients are then rounded to the
format one by one, lowest power first, the others being fitted again after each, so that each absorbs the
rounding of those before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

mp.mp.dps = 50
Real = Any  # mpmath ships no type stubs


def round_to(x: Real, bits: int) -> Real:
    """x rounded to a significand of so many bits."""
    mantissa, exponent = mp.frexp(x)
    return mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), exponent - bits)


def hexfloat(x: Real, bits: int) -> str:
    return float(x).hex() + ("f" if bits == 24 else "")


def fit(
    f: Callable[[Real], Real], weight: Callable[[Real], Real], degree: int, low: Real, high: Real,
    fixed: dict[int, Real],
) -> tuple[dict[int, Real], Real]:  # fmt: skip
    """Coefficients c[i] that make max |weight * (f - sum c[i] x^i)| small, some given; and that maximum."""
    count = 8 * (degree + 2)
    nodes = [mp.cos(mp.pi * (mp.mpf(j) + 0.5) / count) for j in range(count)]
    xs = [(low + high) / 2 + (high - low) / 2 * node for node in nodes]
    free = [i for i in range(degree + 1) if i not in fixed]
    ws = [weight(x) for x in xs]
    ys = [(f(x) - sum(c * x**i for i, c in fixed.items())) * w for x, w in zip(xs, ws, strict=True)]
    rows = [[x**i * w for i in free] for x, w in zip(xs, ws, strict=True)]
    lawson = [mp.mpf(1) / count] * count
    best: tuple[dict[int, Real], Real] = ({}, mp.inf)
    for _ in range(40 if free else 1):
        found: list[Real] = []
        if free:
            normal = mp.matrix(len(free))
            right = mp.matrix(len(free), 1)
            for row, y, q in zip(rows, ys, lawson, strict=True):
                for a in range(len(free)):
                    right[a] += q * row[a] * y
                    for b in range(len(free)):
                        normal[a, b] += q * row[a] * row[b]
            found = list(mp.lu_solve(normal, right))
        errors = [
            abs(y - sum(c * v for c, v in zip(found, row, strict=True)))
            for row, y in zip(rows, ys, strict=True)
        ]
        if max(errors) < best[1]:
            best = (dict(fixed) | dict(zip(free, found, strict=True)), max(errors))
        lawson = [q * e for q, e in zip(lawson, errors, strict=True)]
        total = sum(lawson)
        lawson = [q / total for q in lawson]
    return best


def derive(
    name: str, f: Callable[[Real], Real], weight: Callable[[Real], Real], degree: int, low: Real, high: Real,
    bits: int, fixed: dict[int, Real] | None = None,
) -> None:  # fmt: skip
    """Prints rounded coefficients, highest power first as Horner's rule wants them, and the error reached."""
    fixed = dict(fixed or {})
    for i in range(degree + 1):
        if i not in fixed:
            coefficients, _ = fit(f, weight, degree, low, high, fixed)
            fixed[i] = round_to(coefficients[i], bits)
    _, error = fit(f, weight, degree, low, high, fixed)
    print(f"{name}: relative error {mp.nstr(mp.ldexp(error, bits), 3)} * 2^-{bits}")
    print("  " + ", ".join(hexfloat(fixed[i], bits) for i in range(degree, -1, -1)))


def constant(name: str, x: Real, bits: int) -> None:
    """Prints x as a sum of two numbers of the format."""
    head = round_to(x, bits)
    print(f"{name}: {hexfloat(head, bits)} + {hexfloat(round_to(x - head, bits), bits)}")


def tanh_tail(z: Real) -> Real:
    """(tanh(x) - x) / x^3 of z = x^2."""
    x = mp.sqrt(z)
    return (mp.tanh(x) - x) / x**3


def atanh_tail(z: Real) -> Real:
    """2 (atanh(s) - s) / s^3 of z = s^2."""
    s = mp.sqrt(z)
    return 2 * (mp.atanh(s) - s) / s**3


def main() -> None:
    half = (
        mp.log(2) / 2 * (1 + mp.mpf(2) ** -16)
    )  # the argument is reduced to this range, give or take rounding
    for bits, degree in ((24, 5), (53, 10)):
        constant("log2(e)", 1 / mp.log(2), bits)
        constant("ln(2)", mp.log(2), bits)
        derive("(e^r - 1) / r", lambda r: mp.expm1(r) / r, lambda r: r / mp.exp(r), degree, -half, half, bits,
               {0: mp.mpf(1)})  # fmt: skip
    low, high = mp.mpf(2) ** -40, mp.mpf("0.625") ** 2
    derive("tanh", tanh_tail, lambda z: mp.sqrt(z) ** 3 / mp.tanh(mp.sqrt(z)), 4, low, high, 24)
    for bits, degree in ((24, 3), (53, 9)):
        derive("atanh", atanh_tail, lambda z: mp.sqrt(z) ** 3 / mp.atanh(mp.sqrt(z)) / 2, degree, low,
               mp.mpf(1) / 9, bits)  # fmt: skip


if __name__ == "__main__":
    main()
