"""Drawn recurrent stacks, run by the kernels and by the reference: what the tests of all cells share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from parity import Axes, assert_parity, cast

import fusedrnn as fr
from fusedrnn import functional, reference
from fusedrnn._core.cells import CELLS
from fusedrnn._core.weight_names import StackShape
from fusedrnn.reference.arithmetic import Arithmetic
from fusedrnn.reference.rounding import round_operand

Array = NDArray[Any]
GATES = {name: len(cell.gates) for name, cell in CELLS.items()}
# CUDA refuses cells whose units have weights of their own.
CUDA_CELLS = [name for name, cell in CELLS.items() if all(w.role != "per_unit" for w in cell.weights)]


@dataclass(frozen=True)
class Stack:
    """One call of forward and backward. Sizes: T steps, B rows, I inputs, H units."""

    cell: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    directions: int = 1
    bias: bool = True
    lengths: bool = False
    resets: bool = False
    batch_first: bool = False
    dropout: float = 0.0
    state: bool = True
    dy: bool = True
    dhn: bool = True
    dcn: bool = True
    need_dx: bool = True
    into: bool = False  # gradients are added into arrays that hold something
    strided: bool = False  # arrays are views with gaps between their rows
    spread: float = 1.0  # of the weights; 3 saturates gates, 0.1 makes gradients fade fast
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """The arrays of a `Stack`, in float64 with values that float32 can hold; None where absent."""

    stack: Stack
    x: Array
    h0: Array | None
    c0: Array | None
    weights: dict[str, Array]
    dy: Array | None
    dhn: Array | None
    dcn: Array | None
    into: dict[str, Array] | None
    lengths: Array | None
    resets: Array | None

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of forward."""
        s = self.stack
        return {
            "lengths": self.lengths,
            "resets": self.resets,
            "batch_first": s.batch_first,
            "dropout": s.dropout,
            "dropout_key": (s.seed * 0x9E3779B97F4A7C15 + 1) % 2**64,
        }


# around the widths of lanes and tiles, and odd
SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 23, 31, 33])


def stacks(family: str, cells: Sequence[str] = CUDA_CELLS) -> st.SearchStrategy[Stack]:
    """Stacks of a family's cells, small, of unequal sizes, some of them 0 or 1."""
    often = st.sampled_from([True, True, True, False])
    return st.builds(
        Stack,
        cell=st.sampled_from([name for name in cells if CELLS[name].family == family]),
        T=st.sampled_from([0, 1, 2, 3, 5, 6, 10]),
        B=st.sampled_from([0, 1, 2, 3, 4, 5, 7, 9]),
        I=st.one_of(st.just(0), SIZES, SIZES),
        H=SIZES,
        layers=st.sampled_from([1, 1, 2, 3]),
        directions=st.integers(1, 2),
        bias=often,
        lengths=st.booleans(),
        resets=st.booleans(),
        batch_first=st.booleans(),
        dropout=st.sampled_from([0.0, 0.0, 0.3, 0.5]),
        state=often,
        dy=often,
        dhn=st.booleans(),
        dcn=st.booleans(),
        need_dx=often,
        into=st.booleans(),
        strided=st.booleans(),
        spread=st.sampled_from([0.1, 1.0, 1.0, 3.0]),
        seed=st.integers(0, 2**32 - 1),
    )


def stack_weights(stack: Stack, rng: np.random.Generator) -> dict[str, Array]:
    """Weights and biases by PyTorch's names, of a spread that keeps activations of order 1."""
    scale = stack.spread / np.sqrt(stack.H)
    shape = StackShape(stack.layers, stack.directions, stack.bias)
    shapes = shape.shapes(CELLS[stack.cell].weights, stack.I, stack.H)
    return {name: rng.normal(size=size) * scale for name, size in shapes.items()}


def draw(stack: Stack, shortest: int = 0) -> Data:
    """Random data, lengths at least shortest. Past a row's length x and dy are NaN and resets anything."""
    s, rng = stack, np.random.default_rng(stack.seed)
    lead = (s.B, s.T) if s.batch_first else (s.T, s.B)
    state_shape = (s.layers * s.directions, s.B, s.H)
    weights = stack_weights(s, rng)
    x, dy = rng.normal(size=(*lead, s.I)), rng.normal(size=(*lead, s.directions * s.H))
    h0, c0, dhn, dcn = (rng.normal(size=state_shape) for _ in range(4))
    into = {name: rng.normal(size=w.shape) for name, w in weights.items()}
    lengths = rng.integers(min(shortest, s.T), s.T + 1, size=s.B) if s.lengths else None
    resets = rng.random(lead) < 0.3 if s.resets else None
    if lengths is not None:
        padding = np.arange(s.T)[:, None] >= lengths
        padding = padding.T if s.batch_first else padding
        x[padding], dy[padding] = np.nan, np.nan
    pair = CELLS[s.cell].cell_state
    floats = (
        x,
        h0 if s.state else None,
        c0 if s.state and pair else None,
        weights,
        dy if s.dy else None,
        dhn if s.dhn else None,
        dcn if s.dcn and pair else None,
        into if s.into else None,
    )
    return Data(s, *cast(cast(floats, np.float32), np.float64), lengths, resets)


def gapped(a: Array | None) -> Array | None:
    """The same values as a view with gaps of NaN between rows and between matrices."""
    if a is None or a.ndim < 2:
        return a
    room = np.full((2 * a.shape[0], *(n + 3 for n in a.shape[1:])), np.nan, a.dtype)
    view = room[(slice(None, None, 2), *(slice(1, n + 1) for n in a.shape[1:]))]
    view[...] = a
    return view


def on_device(arrays: Any) -> Any:
    """A nest of dicts, tuples and lists with its arrays on the CUDA device."""
    return converted(arrays, np.ndarray, fr.asarray)


def on_host(arrays: Any) -> Any:
    """A nest of dicts, tuples and lists with copies of its device arrays as NumPy arrays."""
    return converted(arrays, fr.DeviceArray, fr.DeviceArray.numpy)


def converted(arrays: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """A nest of dicts, tuples and lists with what is of one kind in it converted."""
    if isinstance(arrays, Mapping):
        return {name: converted(a, kind, convert) for name, a in arrays.items()}
    if isinstance(arrays, (tuple, list)):
        return type(arrays)(converted(a, kind, convert) for a in arrays)
    return convert(arrays) if isinstance(arrays, kind) else arrays


def run(
    data: Data, dtype: Any, arithmetic: Arithmetic | None, precision: str = "ieee", device: bool = False
) -> dict[str, Array]:
    """Forward and backward by the kernels (arithmetic None) or by the reference; every result by name.

    With `device` the kernels are given arrays on the CUDA device.
    """
    s = data.stack
    functions: Any = functional if arithmetic is None else reference
    extra = {} if arithmetic is None else {"arithmetic": arithmetic}
    arrays = cast((data.x, data.h0, data.c0, data.weights, data.dy, data.dhn, data.dcn, data.into), dtype)
    x, h0, c0, weights, dy, dhn, dcn, into = arrays
    if s.strided and arithmetic is None:
        x, h0, c0, dy, dhn, dcn = map(gapped, (x, h0, c0, dy, dhn, dcn))
        weights = {name: gapped(w) for name, w in weights.items()}
    options = data.options
    if device and arithmetic is None:
        x, h0, c0, weights, dy, dhn, dcn, into = on_device((x, h0, c0, weights, dy, dhn, dcn, into))
        options = on_device(options)
    if precision != "ieee":
        weights = functions.pack_weights(weights, precision=precision)
    backward_options = {"dweights": into, "need_dx": s.need_dx}
    forward, backward = calls(functions, s.cell)
    if CELLS[s.cell].cell_state:
        y, (hn, cn), tape = forward(x, (h0, c0), weights, **options, **extra)
        dx, (dh0, dc0), dweights = backward(tape, dy, (dhn, dcn), **backward_options)
    else:
        y, hn, tape = forward(x, h0, weights, **options, **extra)
        dx, dh0, dweights = backward(tape, dy, dhn, **backward_options)
        cn = dc0 = None
    results = {"y": y, "hn": hn, "cn": cn, "dx": dx, "dh0": dh0, "dc0": dc0}
    results |= {"cells": tape.cells, "gates": tape.gates, **{f"d{name}": g for name, g in dweights.items()}}
    return {name: on_host(a) for name, a in results.items() if a is not None}


def calls(functions: Any, cell: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A cell's forward and backward of `fusedrnn.functional` or `fusedrnn.reference`."""
    facts = CELLS[cell]
    forward = getattr(functions, f"{facts.family}_forward")
    if "nonlinearity" in inspect.signature(forward).parameters:
        forward = partial(forward, nonlinearity=facts.variant)
    return forward, getattr(functions, f"{facts.family}_backward")


def result_axes(stack: Stack) -> dict[str, Axes]:
    """Time and gate axes of the results. Directions are side by side in y, layers apart in states."""
    time = 1 if stack.batch_first else 0
    axes = {name: Axes(time=0) for name in ("hn", "cn", "dh0", "dc0")}
    axes |= {"y": Axes(time, 2, stack.directions), "dx": Axes(time)}
    axes |= {"cells": Axes(1), "gates": Axes(1, 2, len(CELLS[stack.cell].tape))}
    weights = StackShape(stack.layers, stack.directions, stack.bias).weights(CELLS[stack.cell].weights)
    return axes | {f"d{name}": Axes(gate=0, gates=spec.blocks) for name, (_, spec) in weights.items()}


def rounded(data: Data, precision: str) -> Data:
    """The data with x and the weights' matrices as a precision rounds them."""
    weights = {name: round_operand(a, precision) if a.ndim == 2 else a for name, a in data.weights.items()}
    return replace(data, x=round_operand(data.x, precision), weights=weights)


def check(stack: Stack, dtype: Any, precision: str = "ieee", device: bool = False) -> None:
    """Holds the kernels to the reference for a stack, all results, and padding to exact zeros.

    The truth takes inputs as the precision rounds them and rounds nothing else; what rounding may do is what
    it does to the reference in the same precision.
    """
    data = draw(stack)
    exact = rounded(data, precision)
    ours = run(data, dtype, None, precision, device)
    if data.lengths is not None:
        padding = np.arange(stack.T)[:, None] >= data.lengths
        padding = padding.T if stack.batch_first else padding
        for name in ("y", "dx"):
            assert name not in ours or (ours[name][padding] == 0).all(), f"{name} is not 0 past the lengths"

    def reference_run(d: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        return run(data, d, arithmetic, precision) if d == dtype else run(exact, d, arithmetic)

    assert_parity(ours, reference_run, dtype, result_axes(stack))


def check_again(stack: Stack, dtype: Any) -> None:
    """What must not change a bit: a second backward, strides, a packed handle, no tape. Inputs stay."""
    data = draw(stack)
    x, h0, c0, weights, dy, dhn, dcn = cast(
        (data.x, data.h0, data.c0, data.weights, data.dy, data.dhn, data.dcn), dtype
    )
    forward, backward = calls(functional, stack.cell)
    options = data.options
    state, dstate = ((h0, c0), (dhn, dcn)) if CELLS[stack.cell].cell_state else (h0, dhn)
    inputs = {"x": x, "h0": h0, "c0": c0, **weights, "dy": dy, "dhn": dhn, "dcn": dcn}
    inputs = {name: a for name, a in inputs.items() if a is not None}
    before = bits(inputs)

    y, end, tape = forward(x, state, weights, **options)
    first, second = (bits(named(backward(tape, dy, dstate))) for _ in range(2))
    assert first == second, "backward changed what it reads"
    if not stack.strided:
        gaps = replace(stack, strided=True)
        assert bits(run(data, dtype, None)) == bits(run(replace(data, stack=gaps), dtype, None))
    packed = forward(x, state, functional.pack_weights(weights), **options)
    assert bits(named(packed[:2])) == bits(named((y, end)))
    if stack.dropout == 0:
        plain = forward(x, state, weights, train=False, **options)
        assert plain[2] is None
        assert bits(named(plain[:2])) == bits(named((y, end)))
    assert bits(inputs) == before, "an input was written"


def named(results: Any, prefix: str = "") -> dict[str, Array]:
    """A nest of results by their place in it, absent ones left out."""
    if results is None:
        return {}
    if isinstance(results, np.ndarray):
        return {prefix: results}
    parts = results.items() if isinstance(results, Mapping) else enumerate(results)
    return {key: a for name, part in parts for key, a in named(part, f"{prefix}/{name}").items()}


def bits(results: Mapping[str, Array]) -> dict[str, bytes]:
    """For comparing results bit by bit."""
    return {name: np.ascontiguousarray(a).tobytes() for name, a in results.items()}
