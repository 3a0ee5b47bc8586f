"""The LSTM whose h is projected: the kernels against the reference, PyTorch's numbers, modules, files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from hypothesis import given, settings
from parity import cast
from projection_oracles import FILE
from sequences import Masks, Stack, bits, check, check_again, draw, run, stacks
from steps import adam, data, twins
from steps import run as run_steps

import fusedrnn as fr
from fusedrnn import _native, cpu, functional, reference

CELL = "lstm_projected"
T, B, I, H, P = 5, 3, 4, 6, 2
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="CUDA refuses the cell")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CASES = json.loads(FILE.read_text())["cases"]


def lstm(**options: Any) -> fr.nn.LSTM:
    return fr.nn.LSTM(I, H, **{"proj_size": P, "seed": 0} | options)


# ---------------------------------------------------------------------------------------------- numbers
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
        Stack(CELL, T=9, B=33, I=12, H=130, directions=2, lengths=True, resets=True),
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
@KERNELS
@pytest.mark.parametrize("plan", ["2x1", "1x2", "1x3", "1x7", "2x2", "2x1x1", "2x2x2"])
def test_every_plan_gives_the_same_bits(plan: str) -> None:
    """More unit groups than there are panels of h, too."""
    masks = Masks("sequence", 0.4, 0.3, 0.2, 0.3)
    given = draw(
        Stack(CELL, 30, 9, 6, 75, 2, 2, lengths=True, resets=True, dropout=0.3, masks=masks, flow=True)
    )
    threads = _native.get_num_threads()
    try:
        _native.set_num_threads(8)
        results = []
        for which in ("1x1", plan):
            _native.force_plan(which)
            results.append(bits(run(given, np.float32, None)))
        assert results[0] == results[1]
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


@KERNELS
@DTYPES
def test_the_same_bits_for_all_threads_and_instruction_sets(dtype: Any) -> None:
    given = draw(Stack(CELL, 20, 17, 6, 75, 2, 2, lengths=True, resets=True))
    assert_same_bits(lambda: tuple(run(given, dtype, None).values()))


@KERNELS
@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_a_row_has_the_bits_that_it_has_alone(precision: str) -> None:
    given = draw(Stack(CELL, 12, 9, 6, 75, 2, 2, resets=True))
    x, h0, c0, weights, dy = cast((given.x, given.h0, given.c0, given.weights, given.dy), np.float32)
    packed = functional.pack_weights(weights, precision=precision)

    def rows(first: int, last: int) -> dict[str, Any]:
        part = slice(first, last)
        state = (h0[:, part], c0[:, part])
        y, final, tape = functional.lstm_forward(x[:, part], state, packed, resets=given.resets[:, part])
        dx, dstate, _ = functional.lstm_backward(tape, dy[:, part])
        return dict(enumerate((y, *final, dx, *dstate)))

    whole = rows(0, 9)
    for first, last in ((0, 1), (4, 9), (8, 9)):
        for name, part in rows(first, last).items():
            assert part.tobytes() == whole[name][:, first:last].tobytes(), name


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


def test_train_step_has_the_bits_of_the_separate_calls() -> None:
    model = fr.nn.Sequential(
        lstm(num_layers=2, bidirectional=True, dropout=0.3, zoneout=(0.2, 0.1), weight_dropout=0.2),
        fr.nn.Linear(2 * P, 2, seed=1),
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
    run_steps(twins(model, adam), "mse", steps)
    assert all(np.abs(p.grad).max() > 0 for name, p in model.named_parameters() if "_hr_" in name)


def test_states_go_from_step_to_step() -> None:
    model = fr.nn.Sequential(lstm(), fr.nn.Linear(P, 2, seed=1))
    optimizer, state = fr.optim.SGD(model.parameters(), lr=0.1), None
    for s in range(3):
        *_, state = model.train_step(
            data(T, B, I, seed=s), data(T, B, 2, seed=s + 9), "mse", optimizer, state=state, return_state=True
        )
        assert [a.shape for a in state[0]] == [(1, B, P), (1, B, H)]


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


@pytest.mark.parametrize("init", ["torch", "keras", "glorot", "orthogonal", ("chrono", 9)])
def test_initial_weights(init: Any) -> None:
    weights = fr.nn.LSTM(30, 20, proj_size=10, seed=0, init=init).state_dict()
    bound = 1 / np.sqrt(20) if init == "torch" or isinstance(init, tuple) else np.sqrt(6 / 30)
    assert 0.9 * bound < np.abs(weights["weight_hr_l0"]).max() <= bound


def test_in_our_own_files(tmp_path: Path) -> None:
    model = fr.nn.Sequential(lstm(num_layers=2, bidirectional=True), fr.nn.Linear(2 * P, 2)).eval()
    fr.io.save(model, tmp_path / "model.safetensors")
    back = fr.io.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(model)
    x = data(T, B, I)
    assert (back(x) == model(x)).all()


@pytest.mark.peer
def test_other_formats_refuse_it_by_name(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is what this is about")
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(proj_size=2\) has no equal in ONNX"):
        fr.io.to_onnx(lstm(), tmp_path / "model.onnx")
    pytest.importorskip("keras", reason="keras is what the rest is about")
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(proj_size=2\) has no equal in Keras"):
        fr.io.to_keras(lstm(batch_first=True), tmp_path / "model.keras")


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
