"""The tolerance rule catches what it must: the rule of tests/parity.py against results spoiled by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import Axes, assert_parity, cast

from fusedrnn import reference
from fusedrnn.reference import stack_call
from fusedrnn.reference.arithmetic import Arithmetic
from fusedrnn.reference.rounding import PRECISIONS, multiply_operands, round_operand

RNG = np.random.default_rng(1)
T, B, I, H = 24, 3, 5, 4
WEIGHTS = {
    "weight_ih_l0": RNG.normal(size=(4 * H, I)),
    "weight_hh_l0": RNG.normal(size=(4 * H, H)) * 0.1,
    "bias_ih_l0": RNG.normal(size=4 * H)
    - np.repeat([0, 4, 0, 0], H),  # closed forget gates: gradients fade fast
    "bias_hh_l0": RNG.normal(size=4 * H),
}
X = RNG.normal(size=(T, B, I))
DHN = RNG.normal(size=(1, B, H))
AXES = {"y": Axes(time=0), "dx": Axes(time=0), "weight_hh_l0": Axes(gate=0, gates=4)}


def results_of(y: NDArray[Any], tape: Any, dhn: NDArray[Any]) -> dict[str, NDArray[Any]]:
    dx, _, dweights = reference.lstm_backward(tape, None, (dhn, None))
    assert dx is not None
    return {"y": y, "dx": dx, "weight_hh_l0": dweights["weight_hh_l0"]}


def lstm(dtype: Any, arithmetic: Arithmetic, precision: str = "ieee") -> dict[str, NDArray[Any]]:
    x, weights, dhn = cast((X, WEIGHTS, DHN), dtype)
    packed = reference.pack_weights(weights, precision=precision)
    y, _, tape = reference.lstm_forward(x, None, packed, arithmetic=arithmetic)
    return results_of(y, tape, dhn)


def plain(dtype: Any) -> dict[str, NDArray[Any]]:
    return lstm(dtype, Arithmetic())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_passes(dtype: Any) -> None:
    assert_parity(plain(dtype), lstm, dtype, AXES)


def test_a_wrong_small_gradient_far_back_is_seen() -> None:
    ours = plain(np.float32)
    assert np.abs(ours["dx"][0]).max() < 1e-8 * np.abs(ours["dx"]).max()  # invisible beside the largest
    ours["dx"][0] *= np.float32(1.001)
    with pytest.raises(AssertionError, match="dx step 0"):
        assert_parity(ours, lstm, np.float32, AXES)


def test_a_wrong_gate_block_is_seen() -> None:
    ours = plain(np.float32)
    block = ours["weight_hh_l0"][H : 2 * H]
    assert np.abs(block).max() < 0.1 * np.abs(ours["weight_hh_l0"]).max()
    block *= np.float32(1 + 1e-5)
    with pytest.raises(AssertionError, match="weight_hh_l0 gate 1"):
        assert_parity(ours, lstm, np.float32, AXES)


def test_two_hundred_roundings_are_too_many() -> None:
    ours = plain(np.float32)
    ours["y"] *= np.float32(1 + 200 * np.finfo(np.float32).eps)
    with pytest.raises(AssertionError, match="y: off by"):
        assert_parity(ours, lstm, np.float32, AXES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_must_match_in_place(value: float) -> None:
    ours = plain(np.float32)
    ours["y"][3, 1, 2] = value
    with pytest.raises(AssertionError, match=r"y\[3, 1, 2\]"):
        assert_parity(ours, lstm, np.float32, AXES)

    def spoiled(dtype: Any, arithmetic: Arithmetic) -> dict[str, NDArray[Any]]:
        results = lstm(dtype, arithmetic)
        results["y"][3, 1, 2] = value
        return results

    assert_parity(ours, spoiled, np.float32, AXES)
    ours["y"][3, 1, 2] = 0.5
    with pytest.raises(AssertionError, match=r"y\[3, 1, 2\]"):
        assert_parity(ours, spoiled, np.float32, AXES)


def test_shapes_and_dtypes_must_match() -> None:
    with pytest.raises(AssertionError, match="dtype"):
        assert_parity(plain(np.float64), lstm, np.float32)
    ours = plain(np.float32)
    ours["y"] = ours["y"][:-1]
    with pytest.raises(AssertionError, match="shape"):
        assert_parity(ours, lstm, np.float32)


def in_precision(precision: str) -> Callable[[Any, Arithmetic], dict[str, NDArray[Any]]]:
    """The reference as `sequences.check` asks it: rounding all operands in float32, inputs in float64."""

    def run(dtype: Any, arithmetic: Arithmetic) -> dict[str, NDArray[Any]]:
        if dtype == np.float32:
            return lstm(dtype, arithmetic, precision)
        x, weights, dhn = cast(cast((X, WEIGHTS, DHN), np.float32), dtype)
        packed = reference.pack_weights(weights, precision=precision)
        packed.precision = "ieee"
        y, _, tape = reference.lstm_forward(round_operand(x, precision), None, packed, arithmetic=arithmetic)
        return results_of(y, tape, dhn)

    return run


NARROW = pytest.mark.parametrize("narrow", [name for name in PRECISIONS if name != "ieee"])


@NARROW
def test_rounding_of_operands_passes(narrow: str) -> None:
    assert_parity(lstm(np.float32, Arithmetic(), narrow), in_precision(narrow), np.float32, AXES)


@pytest.mark.parametrize(
    ("ours", "asked"),
    [("ieee", "tf32"), ("ieee", "bf16"), ("ieee", "fp16"), ("bf16", "tf32"), ("bf16", "fp16"),
     ("tf32", "bf16"), ("fp16", "bf16"), ("fp16", "tf32"), ("tf32", "tf32x3"), ("tf32x3", "tf32"),
     ("ieee", "bf16x3"), ("bf16", "bf16x3"), ("bf16x3", "bf16"), ("bf16x3", "bf16x6"), ("bf16x6", "bf16x3")],
)  # fmt: skip
def test_another_precision_is_seen(ours: str, asked: str) -> None:
    with pytest.raises(AssertionError, match="off by"):
        assert_parity(lstm(np.float32, Arithmetic(), ours), in_precision(asked), np.float32, AXES)


@pytest.mark.parametrize(("three", "one"), [("tf32x3", "tf32"), ("bf16x3", "bf16"), ("bf16x6", "bf16x3")])
@pytest.mark.parametrize("left_out", [0, 1])
def test_a_product_that_is_left_out_is_seen(
    three: str, one: str, left_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def two_of_three(add_product: Any, base: Any, a: Any, b: Any, precision: str) -> Any:
            operands = [a, b]
            operands[left_out] = round_operand(operands[left_out], one)
            return multiply_operands(add_product, base, *operands, precision)

        patched.setattr(stack_call, "multiply_operands", two_of_three)
        ours = lstm(np.float32, Arithmetic(), three)
    with pytest.raises(AssertionError, match="off by"):
        assert_parity(ours, in_precision(three), np.float32, AXES)


@NARROW
@pytest.mark.parametrize(
    ("name", "part", "factor", "match"),
    [
        ("y", slice(None), 1.001, "y: off by"),
        ("weight_hh_l0", slice(H, 2 * H), 1.1, "weight_hh_l0.*: off by"),
        ("dx", 0, 1.1, "dx step 0"),
    ],
)
def test_faults_are_seen_past_the_rounding_of_operands(
    narrow: str, name: str, part: Any, factor: float, match: str
) -> None:
    ours = lstm(np.float32, Arithmetic(), narrow)
    if narrow in ("tf32x3", "bf16x3", "bf16x6"):
        factor = 1 + (factor - 1) / 20
    if narrow == "fp16" and name == "dx":
        assert not ours["dx"][0].any()  # below fp16's smallest number: there is nothing to see
        part = np.flatnonzero(np.abs(ours["dx"]).max(axis=(1, 2)) > 1e-5)[0]
        match = f"dx step {part}"
    ours[name][part] *= np.float32(factor)
    with pytest.raises(AssertionError, match=match):
        assert_parity(ours, in_precision(narrow), np.float32, AXES)
