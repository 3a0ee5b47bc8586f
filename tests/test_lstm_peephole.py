"""The LSTM with peepholes: ONNX's own model of it, weights. More in `test_variants.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from steps import data

import fusedrnn as fr
from fusedrnn import functional, reference

CELL = "lstm_peephole"
T, B, I, H = 5, 3, 4, 6


def lstm(**options: Any) -> fr.nn.LSTM:
    return fr.nn.LSTM(I, H, peephole=True, seed=0, **options)


@pytest.mark.peer
@pytest.mark.parametrize("functions", [functional, reference])
def test_against_the_model_of_onnx(functions: Any) -> None:
    """With which ONNX makes its node test ``lstm_with_peepholes``; its P is i o f, ours i f o."""
    node = pytest.importorskip("onnx.backend.test.case.node.lstm", reason="onnx, of the extra io, has it")
    rng = np.random.default_rng(1)
    x, h0, c0 = rng.normal(size=(T, B, I)), rng.normal(size=(1, B, H)), rng.normal(size=(1, B, H))
    W, R, bias, P = (rng.normal(size=s) for s in ((4 * H, I), (4 * H, H), (8 * H,), (3 * H,)))
    helper = node.LSTMHelper(X=x, W=W[None], R=R[None], B=bias[None], P=P[None], initial_h=h0, initial_c=c0)
    expected, last, *_ = helper.step()

    def ours(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
        return np.concatenate([np.split(array, len(order))[k] for k in order])

    gates = (0, 2, 3, 1)  # of i o f c
    weights = {
        "weight_ih_l0": ours(W, gates),
        "weight_hh_l0": ours(R, gates),
        "bias_ih_l0": ours(bias[: 4 * H], gates),
        "bias_hh_l0": ours(bias[4 * H :], gates),
        "weight_peephole_l0": ours(P, (0, 2, 1)),
    }
    y, (hn, _), _ = functions.lstm_forward(x, (h0, c0), weights)
    np.testing.assert_allclose(y, expected[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(hn, last.reshape(hn.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("functions", [functional, reference])
def test_peepholes_of_zero_are_none(functions: Any) -> None:
    module = fr.nn.LSTM(I, H, 2, bidirectional=True, dtype=np.float64, seed=0)
    weights = module.state_dict()
    zero = {f"weight_peephole_l{k}{d}": np.zeros(3 * H) for k in (0, 1) for d in ("", "_reverse")}
    x, dy = data(T, B, I, dtype=np.float64), data(T, B, 2 * H, seed=1, dtype=np.float64)
    y, (_, cn), tape = functions.lstm_forward(x, None, weights | zero)
    plain = functions.lstm_forward(x, None, weights)
    np.testing.assert_allclose(y, plain[0], rtol=1e-14)
    np.testing.assert_allclose(cn, plain[1][1], rtol=1e-14)
    grads = functions.lstm_backward(tape, dy)[2]
    for name, right in functions.lstm_backward(plain[2], dy)[2].items():
        np.testing.assert_allclose(grads[name], right, rtol=1e-12, atol=1e-14)
    assert all(np.abs(grads[name]).max() > 0 for name in zero)


def test_weights_tell_that_there_are_peepholes() -> None:
    module = lstm()
    x, weights = data(T, B, I), module.state_dict()
    assert list(weights) == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_peephole_l0",
    ]  # fmt: skip
    y, _ = module(x)
    for packed in (weights, functional.pack_weights(weights), functional.pack_weights(weights, cell=CELL)):
        assert (functional.lstm_forward(x, None, packed)[0] == y).all()
    assert (reference.lstm_forward(x, None, reference.pack_weights(weights))[0].shape) == y.shape
    with pytest.raises(ValueError, match="weight_peephole_l0"):
        functional.lstm_forward(x, None, weights | {"weight_peephole_l0": np.zeros(2 * H, np.float32)})
    with pytest.raises(ValueError, match="'weight_peephole_l0_reverse' is missing"):
        functional.lstm_forward(
            x, None, fr.nn.LSTM(I, H, bidirectional=True).state_dict() | {"weight_peephole_l0": y}
        )
    with pytest.raises(ValueError, match="gru"):
        functional.gru_forward(x, None, functional.pack_weights(weights))
