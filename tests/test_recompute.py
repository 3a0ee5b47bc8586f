"""Recomputation: a tape of states every so many steps, and the same bits of every gradient."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from steps import I as INPUTS
from steps import adam, assert_tree, data, sequences, twins
from steps import run as run_steps
from variants import VARIANTS

import fusedrnn as fr
from fusedrnn import _native, cpu
from fusedrnn._core.cells import CELLS

T, B, I, H = 50, 40, 5, 19  # 6 steps of 40 rows are a chunk, of which pieces are made
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="not on CUDA yet")
MASKS = {"dropout": 0.3, "recurrent_dropout": 0.4, "zoneout": 0.2, "weight_dropout": 0.3}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers": {"num_layers": 3, "bias": False},
    "masks": {"num_layers": 2, **MASKS},
    "masks of sequences": {"num_layers": 2, "dropout": 0.3, "dropout_mode": "sequence", "zoneout": 0.1},
    "weight dropout": {"num_layers": 2, "weight_dropout": 0.5, "batch_first": True},
    "batch first": {"batch_first": True},
    "float64": {"dtype": np.float64, "recurrent_dropout": 0.3},
    "bf16": {"precision": "bf16"},
}


def module(cell: str, recompute: int | str = 0, **options: Any) -> Any:
    kind, own = VARIANTS[cell]
    return getattr(fr.nn, kind)(I, H, seed=3, recompute=recompute, **own, **options)


def one_pass(m: Any, steps: int = T, flow: bool = True, **inputs: Any) -> dict[str, Any]:
    """Everything that forward and backward give, from states and to gradients that hold something."""
    rng = np.random.default_rng(8)
    lead = (B, steps) if m.batch_first else (steps, B)
    pair = CELLS[m._cell].cell_state

    def states() -> Any:
        units = (m.proj_size or H, H)
        drawn = [rng.standard_normal((m.num_layers, B, n)).astype(m.dtype) for n in units]
        return tuple(drawn) if pair else drawn[0]

    x, dy = (rng.standard_normal((*lead, n)).astype(m.dtype) for n in (I, m.proj_size or H))
    for p in m.parameters():
        p.grad[...] = 0.5
    y, final = m(x, states(), **inputs)
    dx, dstate = m.backward(dy, states(), flow=flow)
    grads = {name: p.grad.copy() for name, p in m.named_parameters()}
    return {"y": y, "final": final, "dx": dx, "dstate": dstate, "flow": m.flow, **grads}


def rows(batch_first: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(9)
    resets = rng.random((T, B)) < 0.1
    lengths = rng.integers(0, T + 1, B)
    lengths[:3] = 0, T, 12  # 12: the end of a piece
    return {"lengths": lengths, "resets": resets.T.copy() if batch_first else resets}


@KERNELS
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cell", VARIANTS)
def test_the_same_bits(cell: str, option: str) -> None:
    options = OPTIONS[option]
    for inputs in ({}, rows(options.get("batch_first", False))):
        expected = one_pass(module(cell, **options), **inputs)
        for recompute in (1, 13, "auto"):
            assert_tree(one_pass(module(cell, recompute, **options), **inputs), expected)


@KERNELS
@pytest.mark.parametrize("recompute", [1, 6, 7, 48, 49, 50, 51, 10**6, "auto"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_all_lengths_of_pieces(cell: str, recompute: int | str) -> None:
    for steps in (1, 6, 48, T):
        assert_tree(one_pass(module(cell, recompute), steps), one_pass(module(cell), steps))


@KERNELS
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before"])
def test_threads_and_instruction_sets(cell: str) -> None:
    def run() -> Any:
        result = one_pass(module(cell, 6, num_layers=2, **MASKS), **rows())
        result["flow"] = tuple(result["flow"].values())
        return tuple(result.values())

    assert_same_bits(run)


@KERNELS
@pytest.mark.parametrize("plan", ["2x1", "1x2", "3x2"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh"])
def test_every_plan(cell: str, plan: str) -> None:
    threads = _native.get_num_threads()
    try:
        _native.set_num_threads(8)
        expected = one_pass(module(cell, num_layers=2, **MASKS), **rows())
        _native.force_plan(plan)
        assert_tree(one_pass(module(cell, 6, num_layers=2, **MASKS), **rows()), expected)
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


def test_backward_may_be_called_again_and_eval_is_as_without() -> None:
    m = module("lstm", 6)
    x, dy = data(T, B, I), data(T, B, H, seed=1)
    m(x)
    first = m.backward(dy)
    assert_tree(m.backward(dy), first)
    assert_tree(m.eval()(x), module("lstm").eval()(x))


@KERNELS
@pytest.mark.parametrize("option", ["plain", "layers", "masks"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh"])
def test_a_training_step(cell: str, option: str) -> None:
    """Native steps have the bits of the separate calls, and of a model that keeps all steps."""

    def model(recompute: int | str) -> fr.nn.Sequential:
        kind, own = VARIANTS[cell]
        made = getattr(fr.nn, kind)(INPUTS, H, seed=3, recompute=recompute, **own, **OPTIONS[option])
        return fr.nn.Sequential(made, fr.nn.Last(), fr.nn.Linear(H, 2, seed=1))

    steps = [{"x": data(T, B, INPUTS, seed=s), "y": data(B, 2, seed=s + 50), "clip": 1.0} for s in range(3)]
    pair = twins(model(6), adam)
    run_steps(pair, "mse", steps)
    plain = twins(model(0), adam)
    run_steps(plain, "mse", steps)
    assert_tree(pair[0][0].state_dict(), plain[0][0].state_dict())


def test_a_short_sequence_in_a_training_step() -> None:
    model = fr.nn.Sequential(fr.nn.GRU(INPUTS, H, seed=0, recompute="auto"), fr.nn.Last(), fr.nn.Linear(H, 2))
    run_steps(twins(model, adam), "mse", sequences())


@KERNELS
def test_the_tape_holds_the_states_between_pieces() -> None:
    for cell, states in (("lstm", 2), ("gru", 1)):
        m, whole = module(cell, "auto", num_layers=2), module(cell, num_layers=2)
        for part in (m, whole):
            part(data(1024, B, I))
        pieces = -(-1024 // 36)  # 32, the root, in whole chunks of 6
        lines = m.tape.nbytes - 4 * 2 * B * H * states * (pieces - 1)
        assert 0 <= lines < 64
        assert m.tape.nbytes < whole.tape.nbytes / 50
        with pytest.raises(RuntimeError, match="with recompute a tape has neither cells nor gates"):
            _ = m.tape.gates
        with pytest.raises(RuntimeError, match="with recompute a tape has neither cells nor gates"):
            _ = m.tape.cells if cell == "lstm" else m.tape.gates


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recompute": -1}, ValueError, r"recompute must be in 0\.\.2147483648, it is -1"),
        ({"recompute": 1.5}, TypeError, "recompute must be an int, it is float"),
        ({"recompute": True}, TypeError, "recompute must be an int, it is bool"),
        ({"recompute": "all"}, ValueError, "recompute must be a number of steps or 'auto', it is 'all'"),
        (
            {"recompute": 4, "bidirectional": True},
            ValueError,
            "recompute must be 0 with bidirectional=True, it is 4: each direction starts where the other",
        ),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fr.nn.LSTM(I, H, **options)


def test_options_of_a_call_that_has_two_directions() -> None:
    weights = [p.data for p in fr.nn.GRU(I, H, bidirectional=True).parameters()]
    packed = _native.pack_weights(1, 2, True, weights, cell="gru")
    with pytest.raises(ValueError, match="recompute must be 0 with two directions"):
        _native.sequence_forward(
            "gru", packed, data(T, B, I), None, None, _native.SequenceOptions(recompute=3)
        )


def test_it_is_shown_and_copied_and_not_of_a_file(tmp_path: Path) -> None:
    m = fr.nn.LSTM(3, 8, recompute="auto")
    assert repr(m) == "LSTM(3, 8, recompute='auto')"
    assert pickle.loads(pickle.dumps(m)).recompute == "auto"
    fr.io.save(m, tmp_path / "model.safetensors")
    assert fr.io.load(tmp_path / "model.safetensors").recompute == 0
    older = m.__getstate__()
    del older["recompute"]
    assert fr.nn.LSTM.__new__(fr.nn.LSTM).recompute == 0
