"""The reference's rounding to narrow formats, against NumPy's float16 and against arithmetic on bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fusedrnn import reference
from fusedrnn.reference.arithmetic import add_product, sequential
from fusedrnn.reference.rounding import PARTS, multiply_operands, round_operand, spacing, split

Array = NDArray[Any]
DROPPED = {"bf16": 16, "tf32": 13, "tf32x3": 1}  # low bits of a float32


def samples() -> Array:
    """float32 of all sizes: drawn bits, ties and their neighbours in each format, and what is special."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    ties = [
        (drawn >> np.uint32(n) << np.uint32(n) | np.uint32(1 << (n - 1))) + np.uint32(d) - np.uint32(1)
        for n in (1, 7, 13, 16)
        for d in range(3)
    ]
    near_fp16 = rng.uniform(-70000, 70000, 50_000).astype(np.float32)
    tiny = (rng.integers(-4000, 4000, 50_000) / 2.0**26).astype(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.9, 65520, -65520], np.float32)
    x = np.concatenate(
        [drawn.view(np.float32), *(t.view(np.float32) for t in ties), near_fp16, tiny, special]
    )
    return np.where(np.isnan(x), np.float32(np.nan), x)  # quiet ones: a signalling NaN is an error of its own


def by_bits(x: Array, precision: str) -> Array:
    dropped = np.uint64(DROPPED[precision])
    bits = x.view(np.uint32).astype(np.uint64)
    odd = bits >> dropped & np.uint64(1)
    bits = (bits + (np.uint64(1) << (dropped - np.uint64(1))) - np.uint64(1) + odd) >> dropped << dropped
    return np.where(np.isnan(x), x, bits.astype(np.uint32).view(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fp16_is_numpys(dtype: Any) -> None:
    x = samples().astype(dtype)
    with np.errstate(all="ignore"):
        expected = x.astype(np.float16).astype(dtype)
    ours = round_operand(x, "fp16")
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(np.signbit(ours[~np.isnan(x)]), np.signbit(x[~np.isnan(x)]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(DROPPED))
def test_the_others_drop_low_bits(name: str, dtype: Any) -> None:
    x = samples()
    np.testing.assert_array_equal(round_operand(x.astype(dtype), name), by_bits(x, name))


def test_a_tie_of_float64_is_decided_once() -> None:
    just_above = np.array([1 + 2.0**-8 + 2.0**-40])  # float32 would make a tie of it, and the tie goes down
    assert round_operand(just_above, "bf16") == 1 + 2.0**-7
    assert round_operand(just_above.astype(np.float32), "bf16") == 1


@pytest.mark.parametrize(
    ("whole", "part", "parts"), [("tf32x3", "tf32", 2), ("bf16x3", "bf16", 2), ("bf16x6", "bf16", 3)]
)
def test_an_operand_is_the_sum_of_its_parts(whole: str, part: str, parts: int) -> None:
    x = samples()
    with np.errstate(all="ignore"):
        x = round_operand(x[np.isfinite(x) & (np.abs(x) < 2.0**127) & (np.abs(x) > 2.0**-100)], whole)
        found = split(x, part, parts)
    np.testing.assert_array_equal(sum(found[::-1]), x)
    for one in found:
        np.testing.assert_array_equal(round_operand(one, part), one)


def test_two_bf16_are_17_digits_and_three_are_float32() -> None:
    x = samples()
    x = x[np.isfinite(x) & (np.abs(x) < 2.0**127) & (np.abs(x) > 2.0**-100)]
    off = np.abs(round_operand(x, "bf16x3").astype(float) / x - 1)
    assert 2.0**-18 < off.max() <= 2.0**-17
    np.testing.assert_array_equal(round_operand(x, "bf16x6"), x)


def test_what_has_no_finite_first_part_is_not_a_number() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 3.4e38], np.float32)
    for precision in PARTS:
        assert np.isnan(round_operand(x, precision)).all()


def test_products_of_tf32x3_leave_out_that_of_small_halves() -> None:
    rng = np.random.default_rng(0)
    a, b = (round_operand(rng.normal(size=n).astype(np.float32), "tf32x3") for n in ((40, 1), (1, 40)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    product = multiply_operands(add_product, np.zeros((40, 40)), a.astype(float), b.astype(float), "tf32x3")
    off = np.abs(product / exact - 1)
    assert 2.0**-26 < off.max() <= 2.0**-22
    small = [(x - round_operand(x, "tf32")).astype(float) for x in (a, b)]
    np.testing.assert_allclose(exact - product, small[0] @ small[1], atol=2.0**-50)


@pytest.mark.parametrize(("precision", "bound"), [("bf16x3", 2.0**-16), ("bf16x6", 2.0**-23)])
def test_products_of_bf16_leave_out_those_of_small_parts(precision: str, bound: float) -> None:
    rng = np.random.default_rng(0)
    a, b = (round_operand(rng.normal(size=n).astype(np.float32), precision) for n in ((40, 1), (1, 40)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    product = multiply_operands(add_product, np.zeros((40, 40)), a.astype(float), b.astype(float), precision)
    off = np.abs(product / exact - 1)
    assert bound / 16 < off.max() <= bound
    count = PARTS[precision]
    parts = [split(x.astype(float), "bf16", count) for x in (a, b)]
    missing = sum(parts[0][i] @ parts[1][j] for i in range(count) for j in range(count) if i + j >= count)
    np.testing.assert_allclose(exact - product, missing, atol=2.0**-50)


def test_ieee_is_the_array_itself() -> None:
    x = samples()
    assert round_operand(x, "ieee") is x


def test_a_nudged_operand_is_near_and_of_the_format() -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    x[:10] = 0
    runs = [sequential(seed).operand(x, "bf16") for seed in range(8)]
    for run in runs:
        np.testing.assert_array_equal(run, round_operand(run, "bf16"))
        assert (np.abs(run - x) <= 1.5 * spacing(x, "bf16")).all()
        assert (run[:10] == 0).all()
    assert (np.ptp(runs, axis=0)[10:] > 0).mean() > 0.9


def test_products_read_rounded_operands_and_nothing_else_is_rounded() -> None:
    rng = np.random.default_rng(0)
    weights = {"weight_ih_l0": rng.normal(size=(12, 5)), "weight_hh_l0": rng.normal(size=(12, 4))}
    weights |= {"bias_ih_l0": rng.normal(size=12), "bias_hh_l0": rng.normal(size=12)}
    x, h0 = rng.normal(size=(1, 3, 5)), rng.normal(size=(1, 3, 4))
    _, _, tape = reference.gru_forward(x, h0, reference.pack_weights(weights, precision="bf16"))
    assert tape is not None

    def narrow(a: Array) -> Array:
        return round_operand(a, "bf16")

    x_part = narrow(x[0]) @ narrow(weights["weight_ih_l0"]).T + weights["bias_ih_l0"]
    h_part = narrow(h0[0]) @ narrow(weights["weight_hh_l0"]).T + weights["bias_hh_l0"]
    h, _, _ = tape.call.cell.forward(x_part, h_part, h0[0, 0, :0], h0[0], h0[0])
    np.testing.assert_allclose(tape.new_states[0, 0], h, rtol=1e-12)
    # one row of one step: its bias gradient is the rounded gradient of pre-activations itself
    one = reference.gru_forward(x[:, :1], h0[:, :1], reference.pack_weights(weights, precision="bf16"))[2]
    _, _, single = reference.gru_backward(one, np.ones((1, 1, 4)))
    for name in ("bias_ih_l0", "bias_hh_l0"):
        np.testing.assert_array_equal(single[name], narrow(single[name]))
    outer = single["bias_ih_l0"][:, None] * narrow(x[0, 0])
    np.testing.assert_allclose(single["weight_ih_l0"], outer, rtol=1e-12)


def test_an_unknown_precision() -> None:
    weights = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}
    with pytest.raises(ValueError, match=r"precision must be one of 'ieee', .*, it is 'float8'"):
        reference.pack_weights(weights, precision="float8")
