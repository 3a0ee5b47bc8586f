"""Recurrent dropout, zoneout, weight dropout and dropout of sequences: kernels, masks, modules, steps."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from sequences import Masks, Stack, calls, check, check_again, draw, named, run, stacks
from steps import I as INPUTS
from steps import adam, data, sequences, twins
from steps import run as run_steps

import fusedrnn as fr
from fusedrnn import _native, cpu, functional, reference
from fusedrnn._core.cells import CELLS
from fusedrnn.reference.philox import kept_rows

T, B, I, H = 6, 5, 4, 7
KEY = 2**63 + 11
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="not on CUDA yet")
FAMILIES = sorted({cell.family for cell in CELLS.values()})
PROBABILITY = st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0])
ALL = {"dropout": 0.3, "dropout_mode": "sequence", "recurrent_dropout": 0.4, "weight_dropout": 0.2}
MODULES: dict[str, Any] = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}


@st.composite
def masked_stacks(draw: Any, family: str) -> Stack:
    stack = draw(stacks(family, list(CELLS)))
    cell_state = CELLS[stack.cell].cell_state
    masks = Masks(
        mode=draw(st.sampled_from(["step", "sequence"])),
        recurrent=draw(PROBABILITY),
        c=draw(PROBABILITY) if cell_state else 0.0,
        h=draw(PROBABILITY),
        weight=draw(PROBABILITY),
        first_row=draw(st.sampled_from([0, 0, 3, 2**29])),
    )
    return replace(stack, masks=masks)


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=25)
@given(data=st.data())
def test_against_the_reference(family: str, dtype: Any, data: Any) -> None:
    check(data.draw(masked_stacks(family)), dtype)


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize("precision", ["bf16", "bf16x3", "bf16x6"])
@pytest.mark.parametrize("cell", CELLS)
def test_other_precisions(cell: str, precision: str) -> None:
    masks = Masks("sequence", recurrent=0.4, c=0.3 * CELLS[cell].cell_state, h=0.2, weight=0.5)
    check(
        Stack(cell, T=7, B=9, I=12, H=19, layers=2, directions=2, dropout=0.3, masks=masks),
        np.float32,
        precision,
    )


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize("cell", CELLS)
def test_chosen_sizes(cell: str) -> None:
    masks = Masks(recurrent=0.4, c=0.3 * CELLS[cell].cell_state, h=0.2, weight=0.3)
    for stack in (
        Stack(cell, T=40, B=3, I=5, H=7, dy=False, spread=0.3, masks=masks),  # gradients from states alone
        Stack(cell, T=9, B=33, I=12, H=65, directions=2, lengths=True, resets=True, masks=masks),
        Stack(
            cell, T=2, B=600, I=3, H=5, masks=masks
        ),  # more rows than a chunk of the weight gradients' sums
    ):
        check(stack, np.float64)


@KERNELS
@pytest.mark.parity
@settings(max_examples=20)
@given(stack=st.sampled_from(FAMILIES).flatmap(masked_stacks))
def test_again(stack: Stack) -> None:
    check_again(stack, np.float32)


def everything(cell: str, layers: int = 2, directions: int = 2, **sizes: Any) -> Stack:
    masks = Masks("sequence", 0.4, 0.3 * CELLS[cell].cell_state, 0.2, 0.3)
    options = {"T": 40, "B": 17, "I": 6, "H": 37, "lengths": True, "resets": True} | sizes
    return Stack(cell, layers=layers, directions=directions, dropout=0.3, masks=masks, **options)


@KERNELS
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_bits_for_all_threads_and_instruction_sets(cell: str) -> None:
    given = draw(everything(cell))
    assert_same_bits(lambda: tuple(run(given, np.float32, None).values()))


@KERNELS
@pytest.mark.parametrize("plan", ["2x1", "1x2", "3x1", "1x3", "2x2", "2x1x1", "2x2x2"])
@pytest.mark.parametrize("cell", ["lstm", "lstm_layer_norm", "gru", "gru_reset_before", "rnn_tanh"])
def test_every_plan_gives_the_same_bits(cell: str, plan: str) -> None:
    given, threads = draw(everything(cell)), _native.get_num_threads()
    try:
        _native.set_num_threads(8)
        results = []
        for which in ("1x1", plan):
            _native.force_plan(which)
            results.append({name: a.tobytes() for name, a in run(given, np.float32, None).items()})
        assert results[0] == results[1]
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


@KERNELS
@pytest.mark.parametrize("functions", [functional, reference])
@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_may_be_split(cell: str, functions: Any) -> None:
    """Row b of a batch equals that row in a part of the batch that begins with first_row."""
    stack = everything(cell, T=T, lengths=False, resets=False, state=False)
    given = draw(stack)
    forward, backward = calls(functions, cell)
    x, dy, weights = given.x, given.dy, given.weights

    def rows(first: int, last: int) -> dict[str, bytes]:
        options = given.options | {"first_row": first}
        y, final, tape = forward(x[:, first:last].copy(), None, weights, **options)
        dx, dstate, _ = backward(tape, dy[:, first:last].copy())
        return named((y, final, dx, dstate))

    whole = rows(0, stack.B)
    for first, last in ((0, 4), (4, 5), (9, stack.B)):
        for name, part in rows(first, last).items():
            expected = whole[name][:, first:last]
            if functions is functional:
                assert part.tobytes() == expected.tobytes(), name
            else:
                np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-13)


# ------------------------------------------------------------------------------------ what the masks mean
def lstm_weights(rng: np.random.Generator) -> dict[str, Any]:
    shapes = {
        "weight_ih_l0": (4 * H, I),
        "weight_hh_l0": (4 * H, H),
        "bias_ih_l0": 4 * H,
        "bias_hh_l0": 4 * H,
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("functions", [functional, reference])
def test_recurrent_dropout_is_on_h_before_the_product(functions: Any) -> None:
    """Step by step with R diag(mask) for each row, from the words that the documentation names."""
    rng = np.random.default_rng(0)
    weights, x, h0 = lstm_weights(rng), rng.normal(size=(T, B, I)), rng.normal(size=(1, B, H))
    y, (hn, cn), _ = functions.lstm_forward(
        x, (h0, None), weights, recurrent_dropout=0.4, dropout_key=KEY, first_row=3
    )
    mask = kept_rows(np.arange(3, 3 + B), H, 0.4, KEY, 1 << 24) / 0.6
    assert 0 < (mask == 0).mean() < 1
    for b in range(B):
        own = weights | {"weight_hh_l0": weights["weight_hh_l0"] * mask[b]}
        alone, (h, c), _ = functions.lstm_forward(
            x[:, b : b + 1].copy(), (h0[:, b : b + 1].copy(), None), own
        )
        np.testing.assert_allclose(y[:, b], alone[:, 0], rtol=1e-12)
        np.testing.assert_allclose(hn[:, b], h[:, 0], rtol=1e-12)
        np.testing.assert_allclose(cn[:, b], c[:, 0], rtol=1e-12)


@pytest.mark.parametrize("functions", [functional, reference])
@pytest.mark.parametrize("train", [True, False])
def test_zoneout_keeps_states(functions: Any, train: bool) -> None:
    rng = np.random.default_rng(1)
    weights, x = lstm_weights(rng), rng.normal(size=(T, B, I))
    p_c, p_h = 0.5, 0.25
    y, (_, cn), _ = functions.lstm_forward(x, None, weights, zoneout=(p_c, p_h), dropout_key=KEY, train=train)
    h, c = np.zeros((1, B, H)), np.zeros((1, B, H))
    rows = np.arange(B)
    for t in range(T):
        _, (new_h, new_c), _ = functions.lstm_forward(x[t : t + 1], (h, c), weights)
        keep_h, keep_c = 1 - p_h, 1 - p_c
        if train:
            keep_h = kept_rows(rows, H, p_h, KEY, 2 << 24, t).astype(float)
            keep_c = kept_rows(rows, H, p_c, KEY, 3 << 24, t).astype(float)
        h, c = keep_h * new_h + (1 - keep_h) * h, keep_c * new_c + (1 - keep_c) * c
        np.testing.assert_allclose(y[t], h[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(cn, c, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("functions", [functional, reference])
def test_weight_dropout_is_dropout_of_weight_hh(functions: Any) -> None:
    rng = np.random.default_rng(2)
    weights, x, dy = lstm_weights(rng), rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))
    left = reference.dropout(weights["weight_hh_l0"], 0.3, KEY, 4 << 24)
    y, _, tape = functions.lstm_forward(x, None, weights, weight_dropout=0.3, dropout_key=KEY)
    dx, _, grads = functions.lstm_backward(tape, dy)
    expected, _, tape = functions.lstm_forward(x, None, weights | {"weight_hh_l0": left})
    expected_dx, _, expected_grads = functions.lstm_backward(tape, dy)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, expected_dx)
    masked = reference.dropout(expected_grads.pop("weight_hh_l0"), 0.3, KEY, 4 << 24)
    np.testing.assert_allclose(grads["weight_hh_l0"], masked, rtol=1e-12)
    for name, grad in expected_grads.items():
        np.testing.assert_array_equal(grads[name], grad)
    packed = functions.pack_weights(weights, weight_dropout=0.3, dropout_key=KEY)
    np.testing.assert_array_equal(functions.lstm_forward(x, None, packed)[0], y)
    with pytest.raises(
        ValueError, match=r"weight_dropout must be 0 with packed weights, it is 0\.3: give it to pack"
    ):
        functions.lstm_forward(x, None, packed, weight_dropout=0.3)


@pytest.mark.parametrize("functions", [functional, reference])
def test_dropout_of_sequences_is_the_same_at_all_steps(functions: Any) -> None:
    rng = np.random.default_rng(3)
    one, two = lstm_weights(rng), lstm_weights(rng) | {"weight_ih_l0": rng.normal(size=(4 * H, H))}
    stack = one | {name.replace("_l0", "_l1"): a for name, a in two.items()}
    x = rng.normal(size=(T, B, I))
    y, _, _ = functions.lstm_forward(x, None, stack, dropout=0.4, dropout_mode="sequence", dropout_key=KEY)
    mask = kept_rows(np.arange(B), H, 0.4, KEY, 1) / 0.6
    between, _, _ = functions.lstm_forward(x, None, one)
    np.testing.assert_allclose(
        y, functions.lstm_forward(between * mask, None, two)[0], rtol=1e-11, atol=1e-14
    )


def test_masks_of_uses_directions_steps_and_rows_differ() -> None:
    streams = [use << 24 | index for use in range(5) for index in (0, 1)]
    masks = {
        kept_rows(np.array([b]), 64, 0.5, KEY, s, t).tobytes()
        for s in streams
        for t in (0, 1)
        for b in (0, 1)
    }
    assert len(masks) == 40
    kept = kept_rows(np.arange(100), 1000, 0.25, KEY, 1 << 24)
    assert abs(kept.mean() - 0.75) < 0.01


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("functions", [functional, reference])
def test_zoneout_of_nothing_and_of_everything(functions: Any, p: float) -> None:
    rng = np.random.default_rng(4)
    weights, x = lstm_weights(rng), rng.normal(size=(T, B, I))
    state = rng.normal(size=(1, B, H)), rng.normal(size=(1, B, H))
    y, final, _ = functions.lstm_forward(x, state, weights, zoneout=p)
    if p == 0:
        np.testing.assert_array_equal(y, functions.lstm_forward(x, state, weights)[0])
    else:
        np.testing.assert_array_equal(y, np.broadcast_to(state[0], y.shape))
        np.testing.assert_array_equal(final, state)


# ---------------------------------------------------------------------------------------------------- modules
def module(family: str, zoneout: Any = 0.3, **options: Any) -> Any:
    given = {"num_layers": 2, "bidirectional": True, "zoneout": zoneout, **ALL} | options
    return MODULES[family](I, H, seed=5, **given)


@pytest.mark.parametrize("family", MODULES)
def test_a_module_computes_what_the_functions_do(family: str) -> None:
    m = module(family, dtype=np.float64)
    x, dy = data(T, B, I, dtype=np.float64), data(T, B, 2 * H, seed=1, dtype=np.float64)
    key = m.random_state()["dropout_key"]
    forward, backward = (getattr(functional, f"{family}_{way}") for way in ("forward", "backward"))
    for call in range(2):
        m.zero_grad()
        y = m(x)[0]
        dx = m.backward(dy)[0]
        expected, _, tape = forward(x, None, m.state_dict(), zoneout=0.3, dropout_key=key + call, **ALL)
        expected_dx, _, grads = backward(tape, dy)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(dx, expected_dx)
        for name, p in m.named_parameters():
            np.testing.assert_array_equal(p.grad, grads[name])
    m.eval()
    y = m(x)[0]
    np.testing.assert_array_equal(y, m(x)[0])
    np.testing.assert_array_equal(y, forward(x, None, m.state_dict(), zoneout=0.3, train=False, **ALL)[0])
    assert m.random_state()["dropout_key"] == key + 2
    assert not set(m.state_dict()) - {name for name, _ in m.named_parameters()}


@pytest.mark.parametrize("family", MODULES)
def test_gradients_of_a_module(family: str) -> None:
    m = module(family, dtype=np.float64)
    assert fr.testing.gradcheck(m, data(4, 2, I, dtype=np.float64))


def test_copies_and_the_random_state() -> None:
    m = module("lstm", zoneout=(0.2, 0.1))
    x = data(T, B, I)
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        np.testing.assert_array_equal(twin(x)[0], copy.deepcopy(m)(x)[0])
    state = m.random_state()
    y = m(x)[0]
    assert (m(x)[0] != y).any()
    m.load_random_state(state)
    np.testing.assert_array_equal(m(x)[0], y)


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout"])
def test_each_alone_draws_a_new_mask_at_each_call(option: str) -> None:
    m = fr.nn.GRU(I, H, seed=0, **{option: 0.5})
    x = data(T, B, I)
    first, second = m(x)[0], m(x)[0]
    assert (first != second).any()
    assert set(m.random_state()) == {"dropout_key"}


@pytest.mark.parametrize("family", MODULES)
@pytest.mark.parametrize(
    "option", [{}, {"recurrent_dropout": 0.4}, {"zoneout": 0.3}, {"weight_dropout": 0.3}]
)
def test_a_training_step(family: str, option: dict[str, Any]) -> None:
    options = option or {"num_layers": 2, "bidirectional": True, "zoneout": 0.3, **ALL}
    made = MODULES[family](INPUTS, H, seed=5, **options)
    width = 2 * H if made.bidirectional else H
    model = fr.nn.Sequential(made, fr.nn.Last(), fr.nn.Linear(width, 2, seed=1))
    run_steps(twins(model, adam), "mse", sequences(4, clip=1.0))


@pytest.mark.parametrize("zoneout", [0.3, (0.2, 0.1)])
def test_files_keep_them(tmp_path: Path, zoneout: Any) -> None:
    m = module("lstm", zoneout=zoneout)
    fr.io.save(m, tmp_path / "model.safetensors")
    back = fr.io.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(m)
    assert back.zoneout == m.zoneout
    np.testing.assert_array_equal(back(data(T, B, I))[0], m(data(T, B, I))[0])
    torch = pytest.importorskip("torch")
    assert torch
    with pytest.raises(fr.io.UnsupportedError, match=r"has no equal in"):
        fr.io.to_torch(m)


def test_they_are_shown() -> None:
    m = fr.nn.LSTM(3, 5, recurrent_dropout=0.25, zoneout=(0.1, 0.05), weight_dropout=0.5, seed=0)
    assert repr(m) == "LSTM(3, 5, recurrent_dropout=0.25, zoneout=(0.1, 0.05), weight_dropout=0.5)"
    assert "zoneout=0.1" in repr(fr.nn.GRU(3, 5, zoneout=0.1, seed=0))
    assert "dropout_mode='sequence'" in repr(fr.nn.RNN(3, 5, 2, dropout=0.1, dropout_mode="sequence", seed=0))
    assert "weight_dropout=0.5" in m.summary()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recurrent_dropout": 1.5}, ValueError, "recurrent_dropout must be between 0 and 1, it is 1.5"),
        ({"weight_dropout": "much"}, TypeError, "weight_dropout must be a number, it is str"),
        ({"zoneout": -0.1}, ValueError, "zoneout must be between 0 and 1, it is -0.1"),
        ({"zoneout": (0.1, 0.2)}, TypeError, "zoneout must be a number, for the cell has no state but h"),
        ({"dropout_mode": "row"}, ValueError, "dropout_mode must be 'step' or 'sequence', it is 'row'"),
    ],
)
def test_wrong_values(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fr.nn.GRU(3, 2, **options)
    rng = np.random.default_rng(0)
    weights = {k: rng.normal(size=(6, *((n,) if n else ()))) for k, n in WEIGHTS.items()}
    with pytest.raises(error, match=message.split(" must")[0]):
        functional.gru_forward(np.zeros((4, 1, 3)), None, weights, **options)


WEIGHTS = {"weight_ih_l0": 3, "weight_hh_l0": 2, "bias_ih_l0": 0, "bias_hh_l0": 0}


def test_wrong_pairs() -> None:
    with pytest.raises(TypeError, match=r"zoneout must be a number or a pair \(c, h\), it is \(0.1,\)"):
        fr.nn.LSTM(3, 2, zoneout=(0.1,))
    with pytest.raises(ValueError, match="zoneout of c must be between 0 and 1, it is 2"):
        fr.nn.LSTM(3, 2, zoneout=(2, 0))


@pytest.mark.parametrize("option", [*ALL, "zoneout"])
def test_they_are_not_on_cuda_yet(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if option == "dropout":
        return
    monkeypatch.setattr("fusedrnn.nn.recurrent.resolve_device", lambda device: device)
    monkeypatch.setattr("fusedrnn.nn.recurrent.check_precision", lambda *a: "ieee")
    monkeypatch.setattr("fusedrnn.nn.recurrent.check_algo", lambda *a: "auto")
    value = ALL.get(option, 0.3)
    with pytest.raises(ValueError, match=f"{option} must be .* on a CUDA device, it is .*not on CUDA yet"):
        fr.nn.GRU(3, 2, device="cuda", **{option: value})
