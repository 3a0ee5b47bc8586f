"""The tolerance rule catches what it must: the rule of tests/parity.py against results spoiled by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import Axes, assert_parity, cast

from fusedrnn import reference
from fusedrnn.reference.arithmetic import Arithmetic

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


def lstm(dtype: Any, arithmetic: Arithmetic) -> dict[str, NDArray[Any]]:
    x, weights, dhn = cast((X, WEIGHTS, DHN), dtype)
    y, _, tape = reference.lstm_forward(x, None, weights, arithmetic=arithmetic)
    assert tape is not None
    dx, _, dweights = reference.lstm_backward(tape, None, (dhn, None))
    assert dx is not None
    return {"y": y, "dx": dx, "weight_hh_l0": dweights["weight_hh_l0"]}


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
