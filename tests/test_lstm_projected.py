"""The LSTM whose h is projected: PyTorch's numbers and modules, weights. More in `test_variants.py`."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from projection_oracles import FILE
from steps import data

import fusedrnn as fr
from fusedrnn import _native, functional, reference

CELL = "lstm_projected"
T, B, I, H, P = 5, 3, 4, 6, 2
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CASES = json.loads(FILE.read_text())["cases"]


def lstm(**options: Any) -> fr.nn.LSTM:
    return fr.nn.LSTM(I, H, **{"proj_size": P, "seed": 0} | options)


# ---------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("functions", [functional, reference])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_numbers_of_torch(case: dict[str, Any], functions: Any) -> None:
    arrays = {name: np.array(a) for name, a in case.items() if name not in ("name", "lengths", "weights")}
    weights = {name: arrays[name] for name in case["weights"]}
    lengths = None if case["lengths"] is None else np.array(case["lengths"])
    state = arrays["h0"], arrays["c0"]
    y, (hn, cn), tape = functions.lstm_forward(arrays["x"], state, weights, lengths=lengths)
    dx, (dh0, dc0), grads = functions.lstm_backward(tape, arrays["dy"], (arrays["dhn"], arrays["dcn"]))
    found = {"y": y, "hn": hn, "cn": cn, "grad x": dx, "grad h0": dh0, "grad c0": dc0}
    for name, a in (found | {f"grad {name}": g for name, g in grads.items()}).items():
        np.testing.assert_allclose(a, arrays[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("functions", [functional, reference])
def test_a_projection_that_selects_is_an_lstm_of_which_some_units_are_seen(functions: Any) -> None:
    plain = fr.nn.LSTM(I, H, dtype=np.float64, seed=0).state_dict()
    select = np.eye(P, H)
    projected = plain | {"weight_hh_l0": plain["weight_hh_l0"][:, :P].copy(), "weight_hr_l0": select}
    plain["weight_hh_l0"] = projected["weight_hh_l0"] @ select
    x, dy = data(T, B, I, dtype=np.float64), data(T, B, P, seed=1, dtype=np.float64)
    y, (hn, cn), tape = functions.lstm_forward(x, None, projected)
    whole, (_, cells), whole_tape = functions.lstm_forward(x, None, plain)
    np.testing.assert_allclose(y, whole[..., :P], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(hn[0], y[-1])
    np.testing.assert_allclose(cn, cells, rtol=1e-13)
    dx, _, _ = functions.lstm_backward(tape, dy)
    theirs, _, _ = functions.lstm_backward(whole_tape, dy @ select)
    np.testing.assert_allclose(dx, theirs, rtol=1e-12, atol=1e-14)


# ------------------------------------------------------------------------------------------------- bits


# ---------------------------------------------------------------------------------------------- modules
def test_weights_tell_that_h_is_projected() -> None:
    module = lstm()
    x, weights = data(T, B, I), module.state_dict()
    assert {name: w.shape for name, w in weights.items()} == {
        "weight_ih_l0": (4 * H, I), "weight_hh_l0": (4 * H, P), "bias_ih_l0": (4 * H,),
        "bias_hh_l0": (4 * H,), "weight_hr_l0": (P, H),
    }  # fmt: skip
    y, (hn, cn) = module(x)
    assert (y.shape, hn.shape, cn.shape) == ((T, B, P), (1, B, P), (1, B, H))
    for packed in (weights, functional.pack_weights(weights), functional.pack_weights(weights, cell=CELL)):
        assert (functional.lstm_forward(x, None, packed)[0] == y).all()
    assert (reference.lstm_forward(x, None, reference.pack_weights(weights))[0].shape) == y.shape
    with pytest.raises(ValueError, match=r"weight_hr_l0 must be \(P, H\) = \(2, 6\)"):
        functional.lstm_forward(x, None, weights | {"weight_hr_l0": np.zeros((P, H + 1), np.float32)})
    with pytest.raises(ValueError, match="'weight_hr_l0_reverse' is missing"):
        functional.lstm_forward(
            x, None, fr.nn.LSTM(I, H, bidirectional=True).state_dict() | {"weight_hr_l0": y}
        )
    square = {
        "weight_hh_l0": np.zeros((4 * H, H), np.float32),
        "weight_hr_l0": np.zeros((H, H), np.float32),
    }
    for functions in (functional, reference):
        with pytest.raises(ValueError, match=r"proj_size must be .* less than hidden_size, 6, it is 6"):
            functions.lstm_forward(x, None, weights | square)
    with pytest.raises(ValueError, match="'weight_hr_l0' is no weight"):
        functional.lstm_forward(x, None, weights | {"weight_peephole_l0": np.zeros(3 * H, np.float32)})
    with pytest.raises(ValueError, match="h0"):
        functional.lstm_forward(x, (np.zeros((1, B, H), np.float32), None), weights)
    with pytest.raises(ValueError, match="gru"):
        functional.gru_forward(x, None, functional.pack_weights(weights))


def test_a_plan_is_of_a_cell_that_projects() -> None:
    sizes = {"num_layers": 1, "num_directions": 1, "T": T, "B": B, "I": I, "H": H, "threads": 1}
    assert _native.sequence_plan(CELL, "float32", **sizes, proj_size=P)
    for cell, size, must in (
        ("lstm", P, "0: lstm projects"),
        (CELL, H, "at least 1 and less than"),
    ):
        with pytest.raises(ValueError, match=f"proj_size must be {must}"):
            _native.sequence_plan(cell, "float32", **sizes, proj_size=size)


def test_the_module() -> None:
    module = lstm(num_layers=2)
    assert repr(module) == "LSTM(4, 6, num_layers=2, proj_size=2)"
    x = data(T, B, I)
    again = pickle.loads(pickle.dumps(module))
    assert again.proj_size == P
    assert (again(x)[0] == module(x)[0]).all()
    assert module(x[:, 0])[0].shape == (T, P)
    with pytest.raises(ValueError, match="missing: weight_hr_l0"):
        module.load_state_dict(fr.nn.LSTM(I, H, 2).state_dict())
    for wrong, error, message in (
        (-1, ValueError, "proj_size must be at least 0, it is -1"),
        (H, ValueError, "proj_size must be less than hidden_size, 6, it is 6"),
        (2.0, TypeError, "proj_size must be an int, it is float"),
    ):
        with pytest.raises(error, match=message):
            lstm(proj_size=wrong)
    with pytest.raises(ValueError, match="proj_size must be 0 with peephole=True, it is 2"):
        lstm(peephole=True)
    plain = fr.nn.LSTM(I, H)
    del plain.__dict__["proj_size"]  # as pickles from before there were any
    assert pickle.loads(pickle.dumps(plain)).proj_size == 0


# ---------------------------------------------------------------------------------------------- PyTorch
@pytest.mark.peer
@DTYPES
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 2), (3, 1)])
def test_modules_of_torch_and_ours(dtype: Any, layers: int, directions: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(I, 33, layers, proj_size=17, bidirectional=directions == 2)
    theirs = theirs.to(torch.float64 if dtype is np.float64 else torch.float32)
    x = torch.randn(T, B, I, dtype=theirs.weight_ih_l0.dtype)
    with torch.no_grad():
        expected, (hn, cn) = theirs(x)
    for source in (theirs, theirs.state_dict()):
        ours = fr.io.from_torch(source)
        assert ours.proj_size == 17
        found = ours(x.numpy())
        for a, b in zip((found[0], *found[1]), (expected, hn, cn), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        back = fr.io.to_torch(ours)
        assert (back.proj_size, list(back.state_dict())) == (17, list(theirs.state_dict()))
        for name, w in back.state_dict().items():
            assert torch.equal(w, theirs.state_dict()[name])
