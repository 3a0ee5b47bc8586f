"""The GRU with the reset before the product: ONNX's model, masks, weights. More in `test_variants.py`."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from steps import data

import fusedrnn as fr
from fusedrnn import functional, reference

CELL = "gru_reset_before"
T, B, I, H = 5, 3, 4, 6


def gru(**options: Any) -> fr.nn.GRU:
    return fr.nn.GRU(I, H, reset_after=False, seed=0, **options)


@pytest.mark.peer
@pytest.mark.parametrize("functions", [functional, reference])
def test_against_the_model_of_onnx(functions: Any) -> None:
    """With which ONNX makes its node tests of GRU; its gates are z r h."""
    node = pytest.importorskip("onnx.backend.test.case.node.gru", reason="onnx, of the extra io, has it")
    rng = np.random.default_rng(1)
    x, h0 = rng.normal(size=(T, B, I)), rng.normal(size=(1, B, H))
    W, R, bias = (rng.normal(size=s) for s in ((3 * H, I), (3 * H, H), (6 * H,)))
    helper = node.GRUHelper(X=x, W=W[None], R=R[None], B=bias[None], initial_h=h0)
    expected, last = helper.step()

    def ours(array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(array, 3)[k] for k in (1, 0, 2)])

    weights = {
        "weight_ih_l0": ours(W),
        "weight_hh_l0": ours(R),
        "bias_ih_l0": ours(bias[: 3 * H]),
        "bias_hh_l0": ours(bias[3 * H :]),
    }
    y, hn, _ = functions.gru_forward(x, h0, weights, reset_after=False)
    np.testing.assert_allclose(y, expected[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(hn, last.reshape(hn.shape), rtol=1e-12, atol=1e-12)
    after = functions.gru_forward(x, h0, weights)[0]
    assert np.abs(after - y).max() > 1e-2


@pytest.mark.parametrize("functions", [functional, reference])
def test_recurrent_dropout_masks_h_before_all_products(functions: Any) -> None:
    """As Keras does: what is left of h goes into r, z and r h; the path z h has it whole."""
    weights = fr.nn.GRU(I, H, reset_after=False, dtype=np.float64, seed=1).state_dict()
    x, h0 = data(1, B, I, dtype=np.float64), data(1, B, H, seed=1, dtype=np.float64)
    options = {"recurrent_dropout": 0.5, "dropout_key": 3, "reset_after": False}
    y, _, _ = functions.gru_forward(x, h0, weights, **options)
    factors = reference.masks.Masks(3, True, 0.0, False, 0.5, 0.0, 0.0, 0).factors(
        0, np.arange(B), H, np.dtype(np.float64)
    )
    assert set(np.unique(factors)) == {0, 2}
    seen = h0[0] * factors

    def gate(k: int, state: np.ndarray) -> np.ndarray:
        rows = slice(k * H, (k + 1) * H)
        part: np.ndarray = x[0] @ weights["weight_ih_l0"][rows].T + state @ weights["weight_hh_l0"][rows].T
        return part + weights["bias_ih_l0"][rows] + weights["bias_hh_l0"][rows]

    r, z = (1 / (1 + np.exp(-gate(k, seen))) for k in (0, 1))
    n = np.tanh(gate(2, r * seen))
    np.testing.assert_allclose(y[0], (1 - z) * n + z * h0[0], rtol=1e-12)


def test_weights_must_be_packed_for_it() -> None:
    module = gru()
    x, weights = data(T, B, I), module.state_dict()
    assert list(weights) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    y, _ = module(x)
    for packed in (weights, functional.pack_weights(weights, cell=CELL)):
        assert (functional.gru_forward(x, None, packed, reset_after=False)[0] == y).all()
    with pytest.raises(ValueError, match="weights must be packed for gru_reset_before, as pack_weights does"):
        functional.gru_forward(x, None, functional.pack_weights(weights), reset_after=False)
    with pytest.raises(ValueError, match=r"weights must be packed for gru, .*packed for gru_reset_before"):
        functional.gru_forward(x, None, functional.pack_weights(weights, cell=CELL))
    with pytest.raises(TypeError, match="reset_after must be True or False, it is 0"):
        functional.gru_forward(x, None, weights, reset_after=0)  # type: ignore[arg-type]


def test_the_module() -> None:
    module = gru(num_layers=2)
    assert repr(module) == "GRU(4, 6, num_layers=2, reset_after=False)"
    x = data(T, B, I)
    again = pickle.loads(pickle.dumps(module))
    assert not again.reset_after
    assert (again(x)[0] == module(x)[0]).all()
    after = fr.nn.GRU(I, H, 2, seed=0)
    after.load_state_dict(module.state_dict())
    assert (after(x)[0] != module(x)[0]).any()
    with pytest.raises(TypeError, match="reset_after must be True or False, it is 'no'"):
        fr.nn.GRU(I, H, reset_after="no")  # type: ignore[arg-type]
    plain = fr.nn.GRU(I, H)
    del plain.__dict__["reset_after"]  # as pickles from before there was a choice
    assert pickle.loads(pickle.dumps(plain)).reset_after
