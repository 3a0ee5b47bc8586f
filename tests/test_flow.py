"""Gradient flow: the norms of the gradients of states that backward measures on its way."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import cast
from sequences import Stack, bits, calls, check, draw, run, state_units
from steps import adam, assert_tree, data, labels, regressor, sequences, tagger, twins
from steps import run as run_steps
from test_regularisers import FAMILIES, everything, masked_stacks

import fusedrnn as fr
from fusedrnn import _native, cpu, functional, reference
from fusedrnn._core.cells import CELLS
from fusedrnn._core.weight_names import StackShape

T, B, I, H = 6, 3, 4, 5
STEP = 1e-30  # of the complex steps
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="not on CUDA yet")
MODULES: dict[str, Any] = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}


# ----------------------------------------------------------------------------------------------- what it is
def stack_weights(cell: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Of two layers, as two stacks of one."""
    layers = []
    P = state_units(cell, H)
    for inputs in (I, P):
        shapes = StackShape(1, 1, True).shapes(CELLS[cell].weights, inputs, H, P)
        layers.append({name: rng.normal(size=shape) * 0.5 for name, shape in shapes.items()})
    return layers


def moved_c(tape: Any, weights: dict[str, Any], t: int, step: Any) -> Any:
    """h behind step t of an LSTM whose c is moved there."""
    o, c = tape.gates[0, t, :, 3 * H : 4 * H], tape.cells[0, t] + step
    if "weight_ln_c_l0" in weights:
        c = c - c.mean(axis=1, keepdims=True)
        c = c / np.sqrt((c * c).mean(axis=1, keepdims=True) + 1e-5)
        return o * np.tanh(weights["weight_ln_c_l0"] * c + weights["bias_ln_c_l0"])
    peephole = weights.get("weight_peephole_l0", np.zeros(3 * H))[2 * H :]
    h = 1 / (1 + (1 - o) / o * np.exp(-peephole * step)) * np.tanh(c)
    return h @ weights["weight_hr_l0"].T if "weight_hr_l0" in weights else h


@pytest.mark.parametrize("cell", CELLS)
def test_flow_is_the_gradient_of_what_is_added_to_a_state(cell: str) -> None:
    """By complex steps: the first of two layers goes on from a moved state behind each step."""
    rng = np.random.default_rng(5)
    below, above = stack_weights(cell, rng)
    units = {"h": state_units(cell, H), "c": H}
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, units["h"]))
    forward, backward = calls(reference, cell)
    pair = CELLS[cell].cell_state
    both = below | {name.replace("_l0", "_l1"): a for name, a in above.items()}
    packed: Any = reference.pack_weights(both, cell=cell)
    flow = backward(forward(x, None, packed)[2], dy, flow=True)[-1]

    def loss(t: int, **moved: Any) -> Any:
        """With `moved` behind step t of the first layer."""
        y, state, tape = forward(x[: t + 1], None, below)
        h, c = (a[0] for a in state) if pair else (state[0], None)
        if "c" in moved:
            h, c = moved_c(tape, below, t, moved["c"]), c + moved["c"]
        h = h + moved.get("h", 0)
        after = (h[None], c[None].astype(complex)) if pair else h[None]
        rest, _, _ = forward(x[t + 1 :].astype(complex), after, cast(below, complex))
        out, _, _ = forward(np.concatenate([y[:t], h[None], rest]), None, cast(above, complex))
        return np.sum(dy * out)

    assert flow.keys() == ({"h", "c"} if pair else {"h"})
    for name, norms in flow.items():
        assert norms.shape == (2, 1, T)
        for t in range(T):
            gradient = np.zeros((B, units[name]))
            for place in np.ndindex(gradient.shape):
                step = np.zeros(gradient.shape, complex)
                step[place] = 1j * STEP
                gradient[place] = loss(t, **{name: step}).imag / STEP
            np.testing.assert_allclose(norms[0, 0, t], np.linalg.norm(gradient), rtol=1e-12)


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=25)
@given(data=st.data())
def test_against_the_reference(family: str, dtype: Any, data: Any) -> None:
    check(replace(data.draw(masked_stacks(family)), flow=True), dtype)


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize("precision", ["bf16", "bf16x3", "bf16x6"])
@pytest.mark.parametrize("cell", CELLS)
def test_other_precisions(cell: str, precision: str) -> None:
    check(Stack(cell, T=7, B=9, I=12, H=19, layers=2, directions=2, flow=True), np.float32, precision)


@KERNELS
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_have_the_same_bits_with_and_without(cell: str) -> None:
    plain = bits(run(draw(everything(cell)), np.float32, None))
    with_flow = bits(run(draw(everything(cell, flow=True)), np.float32, None))
    assert plain == {name: with_flow[name] for name in plain}
    assert set(with_flow) - set(plain) == {f"flow of {name}" for name in ("hc" if "lstm" in cell else "h")}


@KERNELS
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_bits_for_all_threads_and_instruction_sets(cell: str) -> None:
    given = draw(everything(cell, H=75, flow=True))
    assert_same_bits(lambda: tuple(run(given, np.float64, None).values()))


@KERNELS
@pytest.mark.parametrize("plan", ["2x1", "1x2", "3x1", "1x3", "2x2", "2x1x1", "2x2x2"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh"])
def test_every_plan_gives_the_same_bits(cell: str, plan: str) -> None:
    given, threads = draw(everything(cell, flow=True)), _native.get_num_threads()
    try:
        _native.set_num_threads(8)
        results = []
        for which in ("1x1", plan):
            _native.force_plan(which)
            results.append(bits(run(given, np.float64, None)))
        assert results[0] == results[1]
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


@pytest.mark.parametrize("functions", [functional, reference])
def test_rows_past_their_length_count_as_zero(functions: Any) -> None:
    rng = np.random.default_rng(6)
    (weights, _), x, dy = stack_weights("gru", rng), rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))
    _, _, tape = functions.gru_forward(x, None, weights, lengths=np.array([4, 0, 2]))
    flow = functions.gru_backward(tape, dy, flow=True)[-1]["h"][0, 0]
    parts = []
    for b, length in ((0, 4), (2, 2)):
        _, _, tape = functions.gru_forward(x[:length, b : b + 1].copy(), None, weights)
        part = functions.gru_backward(tape, dy[:length, b : b + 1].copy(), flow=True)[-1]["h"][0, 0]
        parts.append(np.pad(part, (0, T - length)))
    np.testing.assert_allclose(flow, np.hypot(*parts), rtol=1e-13)
    assert (flow[:4] > 0).all()
    assert (flow[4:] == 0).all()


def test_norms_below_and_above_what_float32_has() -> None:
    """Squares of float32 are added in double precision."""
    x = np.zeros((2, 1, 1), np.float32)
    weights = {"weight_ih_l0": np.zeros((2, 1), np.float32), "weight_hh_l0": np.zeros((2, 2), np.float32)}
    _, _, tape = functional.rnn_forward(x, None, weights)
    dy = np.array([[[3e-30, 4e-30]], [[3e30, 4e30]]], np.float32)
    flow = functional.rnn_backward(tape, dy, flow=True)[-1]
    np.testing.assert_allclose(flow["h"][0, 0], [5e-30, 5e30], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- modules
@pytest.mark.parametrize("family", MODULES)
def test_a_module_keeps_what_the_function_returns(family: str) -> None:
    m = MODULES[family](I, H, num_layers=2, bidirectional=True, batch_first=True, seed=5)
    x, dy = data(B, T, I), data(B, T, 2 * H, seed=1)
    assert m.flow is None
    m(x)
    m.backward(dy)
    assert m.flow is None
    m.backward(dy, flow=True)
    forward, backward = (getattr(functional, f"{family}_{way}") for way in ("forward", "backward"))
    expected = backward(forward(x, None, m.state_dict(), batch_first=True)[2], dy, flow=True)[-1]
    assert_tree(m.flow, expected)
    assert {a.shape for a in m.flow.values()} == {(2, 2, T)}
    assert {a.dtype for a in m.flow.values()} == {np.dtype(np.float64)}
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert twin.flow is None


def test_one_sequence_without_a_batch() -> None:
    m = fr.nn.GRU(I, H, seed=0)
    m(data(T, I))
    m.backward(data(T, H, seed=1), flow=True)
    alone = m.flow
    m(data(T, I)[:, None])
    m.backward(data(T, H, seed=1)[:, None], flow=True)
    assert_tree(alone, m.flow)


def test_a_sequential_passes_it_on() -> None:
    inner = fr.nn.Sequential(fr.nn.GRU(H, H, seed=1), fr.nn.Dropout(0.5, seed=0))
    model = fr.nn.Sequential(fr.nn.LSTM(I, H, seed=0), inner, fr.nn.Last(), fr.nn.Linear(H, 2, seed=2))
    assert model.flow is None
    model.backward(model(data(T, B, I)), flow=True)
    (lstm, [gru]) = model.flow
    assert lstm.keys() == {"h", "c"}
    assert gru.keys() == {"h"}
    assert model[0].flow is lstm
    first = lstm
    model.backward(model(data(T, B, I, seed=9)))
    assert model[0].flow is first  # of the newest backward that was asked for it


@pytest.mark.parametrize("train", [False, True])
def test_a_layer_in_two_places(train: bool) -> None:
    """Each place has its own flow, that of two equal layers."""
    layer = fr.nn.LSTM(I, I, seed=0)
    twice = fr.nn.Sequential(layer, layer)
    apart = fr.nn.Sequential(layer, fr.nn.LSTM(I, I, seed=0))
    for model in (twice, apart):
        if train:
            optimizer = fr.optim.SGD(model.parameters(), lr=0.0)
            for _ in range(3):
                model.train_step(data(T, B, I), data(T, B, I, seed=1), "mse", optimizer, flow=True)
        else:
            model(data(T, B, I))
            model.backward(data(T, B, I, seed=1), flow=True)
    assert_tree(twice.flow, apart.flow)


def test_a_backward_of_the_users_own_measures_nothing() -> None:
    class Own(fr.nn.LSTM):
        def backward(self, dy: Any, dstate: Any = None, **options: Any) -> Any:
            return super().backward(dy, dstate, **options)

    class Chain(fr.nn.Sequential):
        def backward(self, dy: Any, **options: Any) -> Any:
            return super().backward(dy, **options)

    model = fr.nn.Sequential(Own(I, H, seed=0))
    model(data(T, B, I))
    with pytest.raises(ValueError, match="flow must be False with a Own"):
        model.backward(data(T, B, H), flow=True)
    chain = Chain(fr.nn.LSTM(I, H, seed=0))
    with pytest.raises(ValueError, match="flow must be False with a Chain"):
        chain.train_step(
            data(T, B, I), data(T, B, H), "mse", fr.optim.SGD(chain.parameters(), lr=0.1), flow=True
        )


def test_a_user_may_have_another_flow() -> None:
    class Model(fr.nn.Sequential):
        def __init__(self) -> None:
            super().__init__(fr.nn.LSTM(I, H, seed=0))
            self.flow = fr.nn.Linear(2, 2)

    assert isinstance(Model().flow, fr.nn.Linear)


@pytest.mark.parametrize("train", [False, True])
def test_none_of_layers_that_backward_does_not_come_to(train: bool) -> None:
    def frozen_first() -> Any:
        model = fr.nn.Sequential(fr.nn.LSTM(I, H, seed=0), fr.nn.GRU(H, H, seed=1), fr.nn.Last())
        model(data(T, B, I))
        model.backward(data(B, H), flow=True)
        model[0].requires_grad_(False)
        return model, adam(model.parameters())

    model, optimizer = frozen_first()
    for _ in range(3):
        if train:
            model.train_step(data(T, B, I), data(B, H), "mse", optimizer, flow=True)
        else:
            model(data(T, B, I))
            model.backward(data(B, H), flow=True, need_dx=False)
        assert model.flow[0] is None
        assert model.flow[1]["h"].shape == (1, 1, T)


@pytest.mark.parametrize("make", [regressor, tagger])
def test_a_training_step(make: Any) -> None:
    """Native steps with and without, in turn: the same flow, and all else, as the separate calls."""
    pair = twins(make(), adam)
    several = sequences(8, clip=1.0) if make is regressor else labels(8)
    (model, _), (twin, _) = pair
    for i, step in enumerate(several):
        flow = i % 3 != 1
        run_steps(pair, "mse" if make is regressor else "cross_entropy", [step | {"flow": flow}])
        assert_tree(model.flow, twin.flow)
        assert model.flow[0]["h"].shape == (1, 1, T)
    assert len(model._compiled) == 1


@KERNELS
def test_a_native_step_that_measures_allocates_no_more_than_its_results() -> None:
    model = regressor()
    optimizer = adam(model.parameters())

    def step(flow: bool) -> int:
        before = _native.host_allocations()
        model.train_step(data(T, B, 3), data(B, 2), "mse", optimizer, flow=flow)
        return _native.host_allocations() - before

    counts = [step(flow) for flow in (False, False, True, False, True, True)]
    assert counts[-1] == counts[-2] <= counts[1] + 2


# ----------------------------------------------------------------------------------------------------- errors
def test_what_has_no_flow_says_so() -> None:
    m = fr.nn.GRU(I, H, seed=0)
    m(data(T, B, I))
    with pytest.raises(TypeError, match="flow must be True or False, it is 1"):
        m.backward(data(T, B, H), flow=1)  # type: ignore[arg-type]
    model = fr.nn.Sequential(fr.nn.Linear(I, 2, seed=0))
    model(data(B, I))
    without = "flow must be False, it is True: no layer of this Sequential itself is recurrent"
    with pytest.raises(ValueError, match=without):
        model.backward(data(B, 2), flow=True)
    with pytest.raises(ValueError, match=without):
        model.train_step(data(B, I), data(B, 2), "mse", adam(model.parameters()), flow=True)
