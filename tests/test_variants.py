"""What every cell that CUDA refuses must do as plain ones do: kernels, bits, training steps, modules, files.

What a cell has of its own is in `test_lstm_peephole.py`, `test_lstm_projected.py`, `test_lstm_layer_norm.py`
and `test_gru_reset_before.py`.
"""

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
from parity import cast
from sequences import CUDA_CELLS, Masks, Stack, bits, calls, check, check_again, draw, run, stacks
from steps import adam, data, twins
from steps import run as run_steps
from variants import VARIANTS

import fusedrnn as fr
from fusedrnn import _native, cpu, functional
from fusedrnn._core.cells import CELLS as FACTS

T, B, I, H = 5, 3, 4, 6
CELLS = pytest.mark.parametrize("cell", [cell for cell in VARIANTS if cell not in CUDA_CELLS])
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="CUDA refuses the cells")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# more units than a tile has, and a tail
WIDE = Stack("", T=7, B=11, I=5, H=77, layers=2, directions=2, lengths=True, resets=True)
MASKS = {"recurrent_dropout": 0.3, "zoneout": 0.2, "weight_dropout": 0.3}


def module(cell: str, *args: Any, **options: Any) -> Any:
    kind, own = VARIANTS[cell]
    return getattr(fr.nn, kind)(I, H, *args, **{"seed": 0, **own, **options})


def all_masks(cell: str) -> Masks:
    return Masks("sequence", 0.4, 0.3 * FACTS[cell].cell_state, 0.2, 0.3)


# ------------------------------------------------------------------------------------------- the kernels
@KERNELS
@CELLS
@pytest.mark.parity
@settings(max_examples=10)
@given(case=st.data())
def test_against_the_reference(dtype: Any, precision: str, cell: str, case: st.DataObject) -> None:
    check(case.draw(stacks(FACTS[cell].family, [cell])), dtype, precision)


@KERNELS
@CELLS
@DTYPES
@pytest.mark.parity
@pytest.mark.parametrize(
    "stack",
    [
        Stack("", T=40, B=3, I=5, H=7, dy=False, spread=0.3),  # gradients from states alone
        Stack("", T=9, B=33, I=12, H=130, directions=2, lengths=True, resets=True),
        Stack("", T=3, B=2, I=130, H=129, bias=False),  # sums longer than any vector
        Stack("", T=2, B=5, I=3, H=300),  # products of more than one chunk
        Stack("", T=2, B=600, I=3, H=5),  # more rows than a chunk of the weight gradients' sums
        Stack("", T=6, B=3, I=4, H=9, layers=2, directions=2, dy=False, dhn=False),  # through c alone
        Stack("", T=6, B=3, I=4, H=9, layers=2, directions=2, dhn=False),  # through y alone
    ],
    ids=str,
)
def test_chosen_sizes(dtype: Any, cell: str, stack: Stack) -> None:
    check(replace(stack, cell=cell), dtype)


@KERNELS
@CELLS
@pytest.mark.parity
def test_all_options_at_once(dtype: Any, precision: str, cell: str) -> None:
    stack = replace(WIDE, cell=cell, masks=all_masks(cell), flow=True, dropout=0.3)
    check(replace(stack, B=5, H=37), dtype, precision)


@KERNELS
@CELLS
@pytest.mark.parity
@DTYPES
@settings(max_examples=10)
@given(case=st.data())
def test_again(dtype: Any, cell: str, case: st.DataObject) -> None:
    check_again(case.draw(stacks(FACTS[cell].family, [cell])), dtype)


# ------------------------------------------------------------------------------------------------- bits
@KERNELS
@CELLS
@DTYPES
@pytest.mark.parametrize("masked", [False, True])
def test_no_plan_and_no_thread_changes_a_bit(dtype: Any, cell: str, masked: bool) -> None:
    """More unit groups than there are panels of h, too; rows that unit groups do not divide."""
    given = draw(replace(WIDE, cell=cell, masks=all_masks(cell) if masked else None, flow=True))
    threads = _native.get_num_threads()
    try:
        _native.set_num_threads(1)
        alone = bits(run(given, dtype, None))
        _native.set_num_threads(8)
        for plan in ("1x1", "2x1", "3x2", "1x3", "1x7", "2x2x2"):
            _native.force_plan(plan)
            assert bits(run(given, dtype, None)) == alone, plan
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


@KERNELS
@CELLS
@pytest.mark.parametrize("precision", ["ieee", "bf16x3"])
def test_threads_and_instruction_sets(cell: str, precision: str) -> None:
    given = draw(replace(WIDE, cell=cell, masks=all_masks(cell)))
    assert_same_bits(lambda: tuple(run(given, np.float32, None, precision).values()))


@KERNELS
@CELLS
@pytest.mark.parametrize("masked", [False, True])
def test_a_row_does_not_depend_on_its_batch(dtype: Any, precision: str, cell: str, masked: bool) -> None:
    masks = Masks("sequence", recurrent=0.4, h=0.2) if masked else None
    d = draw(replace(WIDE, cell=cell, masks=masks, lengths=False))
    pair = FACTS[cell].cell_state
    x, dy, weights = cast((d.x, d.dy, d.weights), dtype)
    states, dstates = cast(((d.h0, d.c0)[: 1 + pair], (d.dhn, d.dcn)[: 1 + pair]), dtype)
    packed = functional.pack_weights(weights, cell=cell, precision=precision)
    forward, backward = calls(functional, cell)
    options = d.options
    resets = options.pop("resets")
    lengths = np.array([7, 3, 0, 5, 7, 1, 2, 6, 4, 7, 5])

    def part(first: int, last: int) -> list[Any]:
        rows = slice(first, last)

        def cut(a: Any) -> Any:
            return np.ascontiguousarray(a[:, rows])

        def state(given: Any) -> Any:
            return tuple(map(cut, given)) if pair else cut(given[0])

        more = options | {"lengths": lengths[rows], "resets": cut(resets)}
        if masked:
            more["first_row"] = first
        y, final, tape = forward(cut(x), state(states), packed, **more)
        dx, dstart, _ = backward(tape, cut(dy), state(dstates))
        return [y, dx, *(final if pair else (final,)), *(dstart if pair else (dstart,))]

    whole = part(0, WIDE.B)
    for first, last in ((0, 1), (3, 4), (4, 11), (0, 10)):
        for one, every in zip(part(first, last), whole, strict=True):
            assert one.tobytes() == np.ascontiguousarray(every[:, first:last]).tobytes()


@KERNELS
@CELLS
@pytest.mark.parametrize("masks", [{}, MASKS], ids=["plain", "masks"])
def test_train_step_has_the_bits_of_the_separate_calls(cell: str, masks: dict[str, float]) -> None:
    model = fr.nn.Sequential(
        module(cell, num_layers=2, bidirectional=True, dropout=0.3, **masks),
        fr.nn.Linear(2 * VARIANTS[cell].units(H), 2, seed=1),
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
    assert all(np.abs(p.grad).max() > 0 for p in model.parameters())


# ------------------------------------------------------------------------------------------- the module
@CELLS
def test_the_module(cell: str) -> None:
    m = module(cell, num_layers=2)
    kind, ((name, value), *_) = VARIANTS[cell].kind, VARIANTS[cell].options.items()
    default = 0 if name == "proj_size" else not value
    assert repr(m) == f"{kind}(4, 6, num_layers=2, {name}={value})"
    x = data(T, B, I)
    y, _ = m(x)
    for again in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert getattr(again, name) == value
        assert (again(x)[0] == y).all()
    assert (m(x[:, 0])[0] == m(x[:, :1])[0][:, 0]).all()  # without a batch
    first = module(cell, num_layers=2, batch_first=True)
    first.load_state_dict(m.state_dict())
    assert (first(x.swapaxes(0, 1).copy())[0] == y.swapaxes(0, 1)).all()
    plain = getattr(fr.nn, kind)(I, H, 2)
    if set(plain.state_dict()) != set(m.state_dict()):
        with pytest.raises(ValueError, match="missing: weight_"):
            m.load_state_dict(plain.state_dict())
    with pytest.raises(TypeError, match=f"{name} must be "):
        module(cell, **{name: "yes"})
    with pytest.raises(AttributeError, match=f"{name} is fixed when"):
        setattr(m, name, default)
    del plain.__dict__[name]  # as pickles from before there was such an option
    assert getattr(pickle.loads(pickle.dumps(plain)), name) == default


def test_one_of_them_at_a_time() -> None:
    for options, message in (
        ({"peephole": True, "layer_norm": True}, "peephole must be False with layer_norm=True, it is True"),
        ({"layer_norm": True, "proj_size": 2}, "proj_size must be 0 with layer_norm=True, it is 2"),
        ({"peephole": True, "proj_size": 2}, "proj_size must be 0 with peephole=True, it is 2"),
    ):
        with pytest.raises(ValueError, match=f"{message}: use one of the two"):
            fr.nn.LSTM(I, H, **options)


@CELLS
def test_in_our_own_files(cell: str, tmp_path: Path) -> None:
    layer = module(cell, num_layers=2, bidirectional=True)
    model = fr.nn.Sequential(layer, fr.nn.Linear(2 * VARIANTS[cell].units(H), 2)).eval()
    fr.io.save(model, tmp_path / "model.safetensors")
    back = fr.io.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(model)
    x = data(T, B, I)
    assert (back(x) == model(x)).all()


# Formats that have no such cell.
REFUSED = {
    "lstm_peephole": ("PyTorch", "Keras"),
    "lstm_projected": ("ONNX", "Keras"),
    "lstm_layer_norm": ("PyTorch", "ONNX", "Keras"),
    "gru_reset_before": ("PyTorch",),
}
NEEDS = {"PyTorch": "torch", "ONNX": "onnx", "Keras": "keras"}


@pytest.mark.peer
@pytest.mark.parametrize(("cell", "other"), [(c, other) for c, others in REFUSED.items() for other in others])
def test_other_formats_refuse_it_by_name(cell: str, other: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[other], reason=f"{NEEDS[other]}, of the extra io, is what it is about")
    m = module(cell, batch_first=other == "Keras")
    write = {
        "PyTorch": lambda: fr.io.to_torch(m),
        "ONNX": lambda: fr.io.to_onnx(m, tmp_path / "model.onnx"),
        "Keras": lambda: fr.io.to_keras(m, tmp_path / "model.keras"),
    }
    ((name, value),) = VARIANTS[cell].options.items()
    with pytest.raises(
        fr.io.UnsupportedError, match=rf"{type(m).__name__}\({name}={value}\) has no equal in {other}"
    ):
        write[other]()


def test_all_other_cells_run_on_a_gpu() -> None:
    assert {*REFUSED, *CUDA_CELLS} == set(VARIANTS)
