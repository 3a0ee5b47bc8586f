"""The GRU with the reset before the product: kernels, ONNX's model of it, modules, files."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import cast
from sequences import Masks, Stack, bits, calls, check, check_again, draw, named, stacks
from steps import adam, data, run, twins

import fusedrnn as fr
from fusedrnn import _native, cpu, functional, reference

CELL = "gru_reset_before"
T, B, I, H = 5, 3, 4, 6
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="CUDA refuses the cell")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# more units than a tile has, and a tail
WIDE = Stack(CELL, T=7, B=11, I=5, H=77, layers=2, directions=2, lengths=True, resets=True)
ALL_MASKS = Masks("sequence", recurrent=0.4, h=0.2, weight=0.3)


def gru(**options: Any) -> fr.nn.GRU:
    return fr.nn.GRU(I, H, reset_after=False, seed=0, **options)


@KERNELS
@pytest.mark.parity
@settings(max_examples=60)
@given(stack=stacks("gru", [CELL]))
def test_against_the_reference(dtype: Any, precision: str, stack: Stack) -> None:
    check(stack, dtype, precision)


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize(
    "stack",
    [
        Stack(CELL, T=40, B=3, I=5, H=7, dy=False, spread=0.3),  # gradients from states alone
        Stack(CELL, T=9, B=33, I=12, H=65, directions=2, lengths=True, resets=True),
        Stack(CELL, T=3, B=2, I=130, H=129, bias=False),  # sums longer than any vector
        Stack(CELL, T=2, B=5, I=3, H=300),  # both products of more than one chunk
        Stack(CELL, T=2, B=600, I=3, H=5),  # more rows than a chunk of the weight gradients' sums
        Stack(CELL, T=6, B=3, I=4, H=9, layers=2, directions=2, dhn=False),  # through y alone
        replace(WIDE, flow=True, masks=ALL_MASKS, dropout=0.3),
    ],
    ids=str,
)
def test_chosen_sizes(dtype: Any, precision: str, stack: Stack) -> None:
    check(stack, dtype, precision)


@KERNELS
@pytest.mark.parity
@DTYPES
@settings(max_examples=30)
@given(
    stack=stacks("gru", [CELL]),
    masks=st.builds(
        Masks,
        mode=st.sampled_from(["step", "sequence"]),
        recurrent=st.sampled_from([0.0, 0.4]),
        h=st.sampled_from([0.0, 0.3]),
        weight=st.sampled_from([0.0, 0.3]),
    ),
    flow=st.booleans(),
)
def test_masks_and_flow(dtype: Any, stack: Stack, masks: Masks, flow: bool) -> None:
    check(replace(stack, masks=masks, flow=flow), dtype)


@KERNELS
@pytest.mark.parity
@DTYPES
@settings(max_examples=20)
@given(stack=stacks("gru", [CELL]))
def test_again(dtype: Any, stack: Stack) -> None:
    check_again(stack, dtype)


def results(stack: Stack, dtype: Any, precision: str = "ieee") -> dict[str, Any]:
    d = draw(stack)
    x, h0, weights, dy, dhn = cast((d.x, d.h0, d.weights, d.dy, d.dhn), dtype)
    forward, backward = calls(functional, CELL)
    options = d.options
    mask = {"weight_dropout": options.pop("weight_dropout", 0.0), "dropout_key": options["dropout_key"]}
    packed = functional.pack_weights(weights, cell=CELL, precision=precision, **mask)
    y, hn, tape = forward(x, h0, packed, **options)
    return named((y, hn, tape.gates, backward(tape, dy, dhn, flow=True)))


@KERNELS
@pytest.mark.parametrize("masks", [None, ALL_MASKS])
def test_no_plan_and_no_thread_changes_a_bit(dtype: Any, precision: str, masks: Masks | None) -> None:
    stack = replace(WIDE, masks=masks)
    threads = _native.get_num_threads()
    try:
        _native.set_num_threads(1)
        alone = bits(results(stack, dtype, precision))
        _native.set_num_threads(8)
        for plan in ("1x1", "2x1", "1x2", "3x2", "1x3", "1x8", "2x1x3", "2x2x2"):
            _native.force_plan(plan)
            assert bits(results(stack, dtype, precision)) == alone, plan
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


@KERNELS
@pytest.mark.parametrize("precision", ["ieee", "bf16x3"])
def test_threads_and_instruction_sets(precision: str) -> None:
    assert_same_bits(lambda: tuple(results(replace(WIDE, masks=ALL_MASKS), np.float32, precision).values()))


@KERNELS
@DTYPES
@pytest.mark.parametrize("masks", [None, Masks("sequence", recurrent=0.4, h=0.2)])
def test_a_row_does_not_depend_on_its_batch(dtype: Any, masks: Masks | None) -> None:
    stack = replace(WIDE, masks=masks, lengths=False)
    d = draw(stack)
    x, h0, weights, dy, dhn = cast((d.x, d.h0, d.weights, d.dy, d.dhn), dtype)
    forward, backward = calls(functional, CELL)
    options = d.options
    resets = options.pop("resets")
    lengths = np.array([7, 3, 0, 5, 7, 1, 2, 6, 4, 7, 5])

    def part(first: int, last: int) -> list[np.ndarray]:
        rows = slice(first, last)
        more = options | {"lengths": lengths[rows], "resets": np.ascontiguousarray(resets[:, rows])}
        if masks is not None:
            more["first_row"] = first
        cut = [np.ascontiguousarray(a[:, rows]) for a in (x, h0, dy, dhn)]
        y, hn, tape = forward(cut[0], cut[1], weights, **more)
        dx, dh0, _ = backward(tape, cut[2], cut[3])
        return [y, hn, dx, dh0]

    whole = part(0, stack.B)
    for first, last in ((0, 1), (3, 4), (4, 11), (0, 10)):
        for one, every in zip(part(first, last), whole, strict=True):
            assert one.tobytes() == np.ascontiguousarray(every[:, first:last]).tobytes()


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


@KERNELS
@pytest.mark.parametrize("masks", [{}, {"recurrent_dropout": 0.3, "zoneout": 0.2, "weight_dropout": 0.3}])
def test_train_step_has_the_bits_of_the_separate_calls(masks: dict[str, float]) -> None:
    model = fr.nn.Sequential(
        gru(num_layers=2, bidirectional=True, dropout=0.3, **masks), fr.nn.Linear(2 * H, 2, seed=1)
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
    assert all(np.abs(p.grad).max() > 0 for p in model.parameters())


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


def test_in_our_own_files(tmp_path: Path) -> None:
    model = fr.nn.Sequential(gru(num_layers=2, bidirectional=True), fr.nn.Linear(2 * H, 2)).eval()
    fr.io.save(model, tmp_path / "model.safetensors")
    back = fr.io.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(model)
    x = data(T, B, I)
    assert (back(x) == model(x)).all()


@pytest.mark.peer
def test_pytorch_has_no_equal() -> None:
    with pytest.raises(fr.io.UnsupportedError, match=r"GRU\(reset_after=False\) has no equal in PyTorch"):
        fr.io.to_torch(gru())
