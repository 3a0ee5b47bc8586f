"""`_native.Stack`: calls over the caller's memory have the bits of the others, and blocks of known size."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parity import cast
from sequences import CELLS, Data, Stack, bits, draw, run, stacks

from fusedrnn import _native

Array = NDArray[Any]
# Plans that threads allow, "" for the one that the backend chooses.
PLANS = ("", "1x1", "2x1", "1x2", "2x1x1")


@contextmanager
def plan(text: str) -> Any:
    """Calls within it take that plan."""
    threads = _native.get_num_threads()
    _native.set_num_threads(2)
    _native.force_plan(text)
    try:
        yield
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


def native(stack: Stack, dtype: Any) -> _native.Stack:
    """The native description."""
    s = stack
    projected = s.P if CELLS[s.cell].projects else 0
    return _native.Stack(
        s.cell, s.layers, s.directions, s.bias, s.I, s.H, np.dtype(dtype).name, proj_size=projected
    )


def block_for(described: _native.Stack, rows: int) -> Array:
    """A block by the formula."""
    _, fixed, each = described.block_bytes
    return _native.host_bytes(fixed + rows * each)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """What a result is to be written to."""
    return np.full(shape, np.nan, dtype)


def run_into(data: Data, dtype: Any) -> dict[str, Array]:
    """Forward and backward over memory made here; every result by the name that `sequences.run` gives it."""
    s = data.stack
    x, h0, c0, weights, dy, dhn, dcn = cast(
        (data.x, data.h0, data.c0, data.weights, data.dy, data.dhn, data.dcn), dtype
    )
    described = native(s, dtype)
    assert described.names == list(weights)
    pair = CELLS[s.cell].cell_state
    state, cell_state = ((s.layers * s.directions, s.B, n) for n in (s.P, s.H))
    lead = x.shape[:2]
    options = _native.SequenceOptions(
        data.options["lengths"],
        data.options["resets"],
        s.batch_first,
        s.dropout,
        data.options["dropout_key"],
    )
    block = block_for(described, s.T * s.B)
    y, hn = empty((*lead, s.directions * s.P), dtype), empty(state, dtype)
    cn = empty(cell_state, dtype) if pair else None
    described.forward_into(list(weights.values()), block, x, h0, c0, y, hn, cn, options)
    dx = empty(x.shape, dtype) if s.need_dx else None
    dh0 = empty(state, dtype)
    dc0 = empty(cell_state, dtype) if pair else None
    dweights = [empty(w.shape, dtype) for w in weights.values()]
    copied = _native.host_bytes(block.size)
    copied[:] = block  # a copy of the bytes is as good
    described.backward_into(copied, x, h0, c0, dy, dhn, dcn, dx, dh0, dc0, dweights, options)
    results = {"y": y, "hn": hn, "cn": cn, "dx": dx, "dh0": dh0, "dc0": dc0}
    results |= {f"d{name}": g for name, g in zip(weights, dweights, strict=True)}
    return {name: a for name, a in results.items() if a is not None}


@pytest.mark.hypothesis
@pytest.mark.parametrize("family", ["lstm", "gru", "rnn"])
@settings(max_examples=80)
@given(case=st.data())
def test_same_bits_as_other_calls(family: str, case: st.DataObject) -> None:
    stack = replace(case.draw(stacks(family)), into=False, strided=False)
    dtype = case.draw(st.sampled_from([np.float32, np.float64]))
    data = draw(stack)
    theirs = run(data, dtype, None)
    for name in ("cells", "gates"):
        theirs.pop(name, None)
    with plan(case.draw(st.sampled_from(PLANS))):
        assert bits(run_into(data, dtype)) == bits(theirs)


def needed(described: _native.Stack, stack: Stack, dtype: Any) -> int:
    """How many bytes forward asks for, read off its complaint about none."""
    lead = (stack.T, stack.B)
    state, cell_state = ((stack.layers * stack.directions, stack.B, n) for n in (stack.P, stack.H))
    weights = [np.zeros(w.shape, dtype) for w in draw(replace(stack, T=0, B=0)).weights.values()]
    cn = empty(cell_state, dtype) if CELLS[stack.cell].cell_state else None
    options = _native.SequenceOptions(dropout=stack.dropout)
    with pytest.raises(ValueError, match="block must be of") as error:
        described.forward_into(
            weights,
            _native.host_bytes(0),
            empty((*lead, stack.I), dtype),
            None,
            None,
            empty((*lead, stack.directions * stack.P), dtype),
            empty(state, dtype),
            cn,
            options,
        )
    return int(re.search(r"of (\d+) bytes", str(error.value))[1])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_block_size_is_the_formula(cell: str, dtype: Any) -> None:
    """For every plan, cell and option, up to the rounding of each piece to a line."""
    for text, layers, directions, hidden in product(PLANS, (1, 3), (1, 2), (1, 5, 16, 33)):
        if hidden == 1 and CELLS[cell].projects:
            continue
        for steps, rows, dropout in ((0, 3, 0.0), (1, 1, 0.0), (3, 5, 0.5), (7, 2, 0.0), (64, 9, 0.5)):
            stack = Stack(cell, steps, rows, 3, hidden, layers, directions, dropout=dropout)
            described = native(stack, dtype)
            packed, fixed, each = described.block_bytes
            with plan(text):
                asked = needed(described, stack, dtype)
            formula = fixed + steps * rows * each
            assert packed <= asked <= formula
            assert formula - asked <= 4 * 64 * layers * directions


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize("directions", [1, 2])
def test_packed_as_padded(cell: str, text: str, directions: int) -> None:
    """Rows of each step one after another, as PackedSequence has them: the bits of a padded batch."""
    dtype = np.float32
    stack = Stack(cell, 6, 5, 4, 17, layers=3, directions=directions, lengths=True, dropout=0.3, seed=3)
    data = draw(stack)
    lengths = np.array([6, 4, 4, 2, 1])
    batch_sizes = np.array([(lengths > t).sum() for t in range(stack.T)])
    valid = np.arange(stack.T)[:, None] < lengths
    data.x[...] = np.where(valid[..., None], np.nan_to_num(data.x), np.nan)
    data.dy[...] = np.where(valid[..., None], np.nan_to_num(data.dy), np.nan)
    with plan(text):
        padded = run_into(replace(data, lengths=lengths), dtype)
        x, h0, c0, weights, dy, dhn, dcn = cast(
            (data.x[valid], data.h0, data.c0, data.weights, data.dy[valid], data.dhn, data.dcn), dtype
        )
        described = native(stack, dtype)
        options = _native.SequenceOptions(dropout=stack.dropout, dropout_key=data.options["dropout_key"])
        block = block_for(described, len(x))
        state, pair = h0.shape, CELLS[cell].cell_state
        found = {"y": empty((len(x), directions * stack.P), dtype), "hn": empty(state, dtype)}
        if pair:
            found["cn"] = empty(c0.shape, dtype)
        described.forward_into(
            list(weights.values()),
            block,
            x,
            h0,
            c0,
            found["y"],
            found["hn"],
            found.get("cn"),
            options,
            batch_sizes,
        )
        found |= {"dx": empty(x.shape, dtype), "dh0": empty(state, dtype)}
        if pair:
            found["dc0"] = empty(c0.shape, dtype)
        dweights = {f"d{name}": empty(w.shape, dtype) for name, w in weights.items()}
        described.backward_into(
            block,
            x,
            h0,
            c0,
            dy,
            dhn,
            dcn,
            found["dx"],
            found["dh0"],
            found.get("dc0"),
            list(dweights.values()),
            options,
            batch_sizes,
        )
    expected = {name: a[valid] if name in ("y", "dx") else a for name, a in padded.items()}
    assert bits(found | dweights) == bits(expected)


def test_inference_finds_packed_weights() -> None:
    data = draw(Stack("gru", 4, 3, 5, 7, state=False))
    x, weights = cast((data.x, data.weights), np.float32)
    described = native(data.stack, np.float32)
    options = _native.SequenceOptions(train=False)
    packed = _native.host_bytes(described.block_bytes[0])
    described.pack(list(weights.values()), packed)
    results = []
    for own in (None, list(weights.values())):
        y, hn = empty((4, 3, 7), np.float32), empty((1, 3, 7), np.float32)
        block = packed.view()
        block.flags.writeable = own is not None  # else it is only read
        described.forward_into(own, block, x, None, None, y, hn, None, options)
        results.append(bits({"y": y, "hn": hn}))
    assert results[0] == results[1]


def arguments() -> dict[str, Any]:
    """A call of forward that works."""
    data = draw(Stack("lstm", 4, 3, 5, 7))
    x, h0, c0, weights = cast((data.x, data.h0, data.c0, data.weights), np.float32)
    described = native(data.stack, np.float32)
    return {
        "weights": list(weights.values()),
        "block": block_for(described, 12),
        "x": x,
        "h0": h0,
        "c0": c0,
        "y": empty((4, 3, 7), np.float32),
        "hn": empty((1, 3, 7), np.float32),
        "cn": empty((1, 3, 7), np.float32),
        "options": _native.SequenceOptions(),
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "short block": ({"block": _native.host_bytes(64)}, "block must be of .* bytes at least, it is 64"),
    "crooked block": ({"block": _native.host_bytes(10**5)[1:]}, "block must be aligned to 64 bytes"),
    "block of floats": ({"block": np.zeros(10**5, np.float32)}, "block must be uint8, it is float32"),
    "no y": ({"y": None}, "must be arrays, it is None"),
    "no cn": ({"cn": None}, "must be arrays, it is None"),
    "y too narrow": ({"y": empty((4, 3, 6), np.float32)}, r"y must be \(T, B, features\) = \(4, 3, 7\)"),
    "y with gaps": ({"y": empty((8, 3, 7), np.float32)[::2]}, "y must be C-contiguous"),
    "too few weights": ({"weights": []}, "weights must be a list of 4 arrays"),
    "wide x": ({"x": np.zeros((4, 3, 5))}, "x must be float32, it is float64"),
    "batch sizes that rise": (
        {"x": np.zeros((5, 5), np.float32), "batch_sizes": np.array([2, 3])},
        "batch_sizes must be at least 1 and falling, it is 3 at step 1, behind 2",
    ),
    "rows amiss": (
        {"x": np.zeros((5, 5), np.float32), "batch_sizes": np.array([3, 3])},
        r"x must be \(rows, I\) = \(6, 5\), it is \(5, 5\)",
    ),
    "lengths with batch sizes": (
        {"batch_sizes": np.array([3]), "options": _native.SequenceOptions(lengths=np.array([1, 1, 1]))},
        "lengths and resets must be None with batch_sizes",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments(wrong: str) -> None:
    changes, message = WRONG[wrong]
    described = native(Stack("lstm", 4, 3, 5, 7), np.float32)
    with pytest.raises((TypeError, ValueError), match=message):
        described.forward_into(**{**arguments(), **changes})


def test_outputs_must_lie_apart() -> None:
    described = native(Stack("lstm", 4, 3, 5, 7), np.float32)
    given = arguments()
    given["hn"] = given["cn"]
    with pytest.raises(ValueError, match=r"(hn|cn) must not share memory with (hn|cn)"):
        described.forward_into(**given)


def test_an_unknown_precision_or_one_of_other_devices_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of"):
        _native.Stack("lstm", 1, 1, True, 3, 5, "float32", "fp4")
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match="precision"):
        _native.Stack("lstm", 1, 1, True, 3, 5, "float32", "tf32")


def test_room_for_all_four_pieces_of_a_layer_norm_tape() -> None:
    """Their rounding up takes more than three lines together."""
    stack = Stack("lstm_layer_norm", 1, 11, 3, 9)
    described = native(stack, np.float32)
    packed, fixed, each = described.block_bytes
    asked = needed(described, stack, np.float32)
    assert packed + 11 * each + 3 * 64 < asked <= fixed + 11 * each
