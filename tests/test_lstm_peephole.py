"""The LSTM with peepholes: the kernels against the reference, ONNX's own model of it, modules, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from sequences import CUDA_CELLS, Stack, check, check_again, stacks
from steps import adam, data, run, twins

import fusedrnn as fr
from fusedrnn import cpu, functional, reference

CELL = "lstm_peephole"
T, B, I, H = 5, 3, 4, 6
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="CUDA refuses the cell")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def lstm(**options: Any) -> fr.nn.LSTM:
    return fr.nn.LSTM(I, H, peephole=True, seed=0, **options)


@KERNELS
@pytest.mark.parity
@DTYPES
@settings(max_examples=60)
@given(stack=stacks("lstm", [CELL]))
def test_against_the_reference(dtype: Any, stack: Stack) -> None:
    check(stack, dtype)


@KERNELS
@pytest.mark.parity
@DTYPES
@pytest.mark.parametrize(
    "stack",
    [
        Stack(CELL, T=40, B=3, I=5, H=7, dy=False, spread=0.3),  # gradients from states alone
        Stack(CELL, T=9, B=33, I=12, H=65, directions=2, lengths=True, resets=True),
        Stack(CELL, T=2, B=600, I=3, H=5),  # more rows than a chunk of the weight gradients' sums
        Stack(CELL, T=6, B=3, I=4, H=9, layers=2, directions=2, dy=False, dhn=False),  # through c alone
    ],
    ids=str,
)
def test_chosen_sizes(dtype: Any, stack: Stack) -> None:
    check(stack, dtype)


@KERNELS
@pytest.mark.parity
@DTYPES
@settings(max_examples=20)
@given(stack=stacks("lstm", [CELL]))
def test_again(dtype: Any, stack: Stack) -> None:
    check_again(stack, dtype)


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


def test_train_step_has_the_bits_of_the_separate_calls() -> None:
    model = fr.nn.Sequential(
        lstm(num_layers=2, bidirectional=True, dropout=0.3), fr.nn.Linear(2 * H, 2, seed=1)
    )
    steps = [
        {
            "x": data(T, B, I, seed=s),
            "y": data(T, B, 2, seed=s + 9),
            "lengths": np.array([5, 2, 3]),
            "resets": np.random.default_rng(s).random((T, B)) < 0.3,
        }
        for s in range(3)
    ]
    run(twins(model, adam), "mse", steps)
    assert all(np.abs(p.grad).max() > 0 for name, p in model.named_parameters() if "peephole" in name)


def test_the_module() -> None:
    module = lstm(num_layers=2)
    assert repr(module) == "LSTM(4, 6, num_layers=2, peephole=True)"
    x = data(T, B, I)
    again = pickle.loads(pickle.dumps(module))
    assert again.peephole
    assert (again(x)[0] == module(x)[0]).all()
    with pytest.raises(ValueError, match="missing: weight_peephole_l0"):
        module.load_state_dict(fr.nn.LSTM(I, H, 2).state_dict())
    with pytest.raises(TypeError, match="peephole"):
        fr.nn.LSTM(I, H, peephole="yes")  # type: ignore[arg-type]
    plain = fr.nn.LSTM(I, H)
    del plain.__dict__["peephole"]  # as pickles from before there were any
    assert not pickle.loads(pickle.dumps(plain)).peephole


def test_in_our_own_files(tmp_path: Path) -> None:
    model = fr.nn.Sequential(lstm(num_layers=2, bidirectional=True), fr.nn.Linear(2 * H, 2)).eval()
    fr.io.save(model, tmp_path / "model.safetensors")
    back = fr.io.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(model)
    x = data(T, B, I)
    assert (back(x) == model(x)).all()


@pytest.mark.peer
def test_other_formats_refuse_it_by_name(tmp_path: Path) -> None:
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(peephole=True\) has no equal in PyTorch"):
        fr.io.to_torch(lstm())
    pytest.importorskip("keras", reason="keras is what the rest is about")
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(peephole=True\) has no equal in Keras"):
        fr.io.to_keras(lstm(batch_first=True), tmp_path / "model.keras")


def test_all_other_cells_run_on_a_gpu() -> None:
    assert {CELL, *CUDA_CELLS} == set(reference.cells.CELLS)
