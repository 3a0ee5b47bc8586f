"""Recurrent stacks in NumPy: the same functions as `fusedrnn.functional.recurrent`, written to be read.

One loop over layers and directions, one over time steps, whole batches inside. Any float or complex dtype.
Rows past their length take no part in a step, so what x and dy hold there is never read. Each function takes
one argument its native twin has not: ``arithmetic``, see `fusedrnn.reference.arithmetic`.

Weights packed in a precision other than "ieee" make matrix products read operands rounded to its format: x,
weights, dropout's results, states and gradients of pre-activations, which biases' gradients sum up. All else
(sums, gates, c, the path of h past the products) keeps the dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.weight_names import cell_told, stack_shape
from fusedrnn.reference.arithmetic import NUMPY, Arithmetic
from fusedrnn.reference.cells import CELLS, Cell, Step, gate_weights
from fusedrnn.reference.philox import drop
from fusedrnn.reference.rounding import PRECISIONS, multiply_operands, round_operand

Array = NDArray[Any]


class PackedWeights:
    """A snapshot of a weights dict; later writes to its arrays are not seen. Matrices are operands."""

    def __init__(
        self, weights: Mapping[str, Array], precision: str = "ieee", cell: str | None = None
    ) -> None:
        if cell is not None and cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}, it is {cell!r}")
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(map(repr, PRECISIONS))}, it is {precision!r}"
            )
        self.cell = cell_told(weights, CELLS.items()) if cell is None else cell
        specs = gate_weights(1) if self.cell is None else CELLS[self.cell].weights  # names of all cells
        self.shape = stack_shape(weights, specs)
        self.precision = precision
        self.arrays = {
            name: round_operand(array, precision) if spec.is_matrix else array
            for name, (_, spec) in self.shape.weights(specs).items()
            for array in [np.array(weights[name])]
        }

    @property
    def nbytes(self) -> int:
        """Size of the copy in bytes."""
        return sum(a.nbytes for a in self.arrays.values())


def pack_weights(
    weights: Mapping[str, Array],
    *,
    precision: str = "ieee",
    algo: str = "auto",
    cell: str | None = None,
) -> PackedWeights:
    """Copies a weights dict, for use in place of it in the forward functions. Only "auto" computes here."""
    if algo != "auto":
        raise ValueError(f"algo={algo!r} is a plan of CUDA devices: the reference has only 'auto'")
    return PackedWeights(weights, precision, cell)


@dataclass
class _Options:
    """What forward is told of its sequences beside x and the states, as its keywords say it."""

    lengths: Array | None
    resets: Array | None
    batch_first: bool
    dropout: float
    dropout_key: int
    train: bool
    arithmetic: Arithmetic


@dataclass
class _Call:
    """What forward was asked, as backward needs it: time first, nothing absent."""

    cell: Cell
    weights: PackedWeights
    x: Array  # (T, B, I)
    lengths: Array  # (B,)
    resets: Array  # (T, B)
    batch_first: bool
    dropout: float
    dropout_key: int
    hidden: int
    arithmetic: Arithmetic

    def rows(self, t: int) -> Array:
        """The rows whose step t exists."""
        rows: Array = np.flatnonzero(self.lengths > t)
        return rows

    def steps(self, direction: int) -> Iterator[int]:
        """Time steps in the order a direction takes them."""
        times = range(len(self.x))
        return iter(times) if direction == 0 else reversed(times)

    def cut(self, direction: int, t: int, rows: Array) -> Array:
        """True (rows, 1) where a reset keeps step t from seeing the state that reaches it.

        resets[t] cuts between t - 1 and t, so the reverse direction, coming from t + 1, looks at t + 1.
        Its initial state comes from no step and is never cut.
        """
        if direction == 0:
            cut = self.resets[t, rows]
        elif t + 1 < len(self.x):
            cut = self.resets[t + 1, rows] & (t + 1 < self.lengths[rows])
        else:
            cut = np.zeros(len(rows), bool)
        column: Array = cut[:, None]
        return column

    def layer_weights(
        self, layer: int, direction: int
    ) -> tuple[Array, Array, Array, Array, Array, list[str]]:
        """weight_ih, weight_hh, bias_ih, bias_hh of one layer and direction; zeros for absent biases.

        Then what units have of their own, (blocks, H), and the names of the weights that it is in.
        """
        suffix = f"l{layer}" + ("_reverse" if direction else "")
        arrays = self.weights.arrays
        weight_hh = arrays[f"weight_hh_{suffix}"]
        zeros = np.zeros(len(weight_hh), weight_hh.dtype)
        bias_ih, bias_hh = (arrays.get(f"bias_{k}_{suffix}", zeros) for k in ("ih", "hh"))
        own = [f"{spec.name}_{suffix}" for spec in self.cell.weights if spec.role == "per_unit"]
        units = np.concatenate([zeros[:0], *(arrays[name] for name in own)]).reshape(-1, self.hidden)
        return arrays[f"weight_ih_{suffix}"], weight_hh, bias_ih, bias_hh, units, own

    def operand(self, array: Array) -> Array:
        """What products read of an array that a step computed."""
        return self.arithmetic.operand(array, self.weights.precision)

    def product(self, base: Array, a: Array, b: Array) -> Array:
        """base + a b of operands."""
        return multiply_operands(self.arithmetic.add_product, base, a, b, self.weights.precision)

    def drop(self, layer: int, array: Array) -> Array:
        """Dropout of a layer's input (T, B, D * H), or of its gradient; layer 0 has none."""
        if layer == 0 or self.dropout == 0:
            return array
        return drop(array, self.dropout, self.dropout_key, layer)


class Tape:
    """What one forward keeps for its backward, and nothing that either writes afterwards.

    Values of steps past a row's length are 0.

    Attributes:
        inputs: per layer, its input after dropout (T, B, features), as products read it; that of layer 0 is
            x, borrowed unless it had to be rounded.
        states, carries: what each step saw, resets applied, (L * D, T, B, H).
        operands: the states as products read them.
        new_states, new_carries: what each step made, (L * D, T, B, H).
        tapes: gates after their activation, (L * D, T, B, blocks * H).
    """

    def __init__(self, call: _Call) -> None:
        shape = call.weights.shape
        leading = (shape.num_layers * shape.num_directions, *call.x.shape[:2])
        self.call = call
        self.inputs: list[Array] = []
        self.states, self.carries, self.operands, self.new_states, self.new_carries = (
            np.zeros((*leading, call.hidden), call.x.dtype) for _ in range(5)
        )
        self.tapes = np.zeros((*leading, call.cell.tape_blocks * call.hidden), call.x.dtype)

    @property
    def nbytes(self) -> int:
        """Size in bytes, x not counted."""
        kept = [*self.inputs[1:], self.states, self.carries, self.operands, self.new_states, self.new_carries]
        return sum(a.nbytes for a in kept) + self.tapes.nbytes

    @property
    def cells(self) -> Array | None:
        """Cell states c (L * D, T, B, H) of an LSTM (a copy), None for the other cells."""
        return self.new_carries.copy() if self.call.cell.has_carry else None

    @property
    def gates(self) -> Array | None:
        """Gates after their activation (L * D, T, B, blocks * H), a copy.

        Blocks are i f g o (LSTM) or r z n q with q = R_n h + b_hn (GRU); None for an Elman cell.
        """
        return self.tapes.copy() if self.call.cell.tape_blocks else None


def _check(name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype} like x, it is {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, it has {array.shape}")
    return array


def _state(name: str, array: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A state or the gradient of one, checked; zeros for None."""
    return np.zeros(shape, dtype) if array is None else _check(name, array, shape, dtype)


def _forward(
    kind: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    options: _Options,
) -> tuple[Array, Array, Array, Tape | None]:
    packed = weights if isinstance(weights, PackedWeights) else PackedWeights(weights, cell=kind)
    lengths, resets, batch_first = options.lengths, options.resets, options.batch_first
    if x.ndim != 3:
        raise ValueError(f"x must have 3 axes, it has {x.ndim}")
    if lengths is not None and not np.issubdtype(lengths.dtype, np.integer):
        raise TypeError(f"lengths must be integers, it is {lengths.dtype}")
    if resets is not None:
        _check("resets", resets, x.shape[:2], np.dtype(bool))
        resets = resets.swapaxes(0, 1) if batch_first else resets
    x = x.swapaxes(0, 1) if batch_first else x
    T, B, width = x.shape
    lengths = np.full(B, T) if lengths is None else _check("lengths", lengths, (B,), lengths.dtype)
    if ((lengths < 0) | (lengths > T)).any():
        raise ValueError(f"lengths must be in [0, {T}], they are {lengths}")

    cell = CELLS[kind](options.arithmetic)
    hidden = packed.arrays["weight_hh_l0"].shape[-1]
    L, D, _ = packed.shape
    for name, shape in packed.shape.shapes(cell.weights, width, hidden).items():
        _check(name, packed.arrays[name], shape, x.dtype)

    call = _Call(
        cell=cell,
        weights=packed,
        x=x,
        lengths=lengths,
        resets=np.zeros((T, B), bool) if resets is None else resets,
        batch_first=batch_first,
        dropout=options.dropout if options.train else 0.0,
        dropout_key=options.dropout_key,
        hidden=hidden,
        arithmetic=options.arithmetic,
    )
    tape = Tape(call)
    hn = _state("h0", h0, (L * D, B, hidden), x.dtype).copy()
    cn = _state("c0", c0, (L * D, B, hidden), x.dtype).copy()

    y = x
    for layer in range(L):
        if layer == 0:
            tape.inputs.append(round_operand(x, packed.precision))
        else:
            below = call.operand(y)
            dropped = call.drop(layer, below)
            tape.inputs.append(below if dropped is below else call.operand(dropped))
        y = np.zeros((T, B, D * hidden), x.dtype)
        for d in range(D):
            index = layer * D + d
            _forward_layer(tape, layer, d, hn[index], cn[index])
            y[:, :, d * hidden : (d + 1) * hidden] = tape.new_states[index]
    y = np.ascontiguousarray(y.swapaxes(0, 1)) if batch_first else y
    return y, hn, cn, tape if options.train else None


def _forward_layer(tape: Tape, layer: int, direction: int, h: Array, c: Array) -> None:
    """One layer and direction over all steps; h and c (B, H), the initial states, become the final ones."""
    call = tape.call
    weight_ih, weight_hh, bias_ih, bias_hh, units, _ = call.layer_weights(layer, direction)
    index = layer * call.weights.shape.num_directions + direction
    product, zero = call.product, h.dtype.type(0)
    for t in call.steps(direction):
        rows = call.rows(t)
        cut = call.cut(direction, t, rows)
        state, carry = np.where(cut, zero, h[rows]), np.where(cut, zero, c[rows])
        x_part = product(zero, tape.inputs[layer][t, rows], weight_ih.T) + bias_ih
        operand = call.operand(state)
        h_part = product(zero, operand, weight_hh.T) + bias_hh
        h[rows], c[rows], tape.tapes[index, t, rows] = call.cell.forward(x_part, h_part, units, state, carry)
        tape.states[index, t, rows], tape.carries[index, t, rows] = state, carry
        tape.operands[index, t, rows] = operand
        tape.new_states[index, t, rows], tape.new_carries[index, t, rows] = h[rows], c[rows]


def _backward(
    tape: Tape,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: Mapping[str, Array] | None,
    need_dx: bool,
) -> tuple[Array | None, Array, Array, dict[str, Array]]:
    call = tape.call
    (T, B, _), H, dtype = call.x.shape, call.hidden, call.x.dtype
    L, D, _ = call.weights.shape
    dh0 = _state("dhn", dhn, (L * D, B, H), dtype).copy()
    dc0 = _state("dcn", dcn, (L * D, B, H), dtype).copy()
    if dy is not None:
        _check("dy", dy, (B, T, D * H) if call.batch_first else (T, B, D * H), dtype)
        dy = dy.swapaxes(0, 1) if call.batch_first else dy
    else:
        dy = np.zeros((T, B, D * H), dtype)
    if dweights is None:
        dweights = {name: np.zeros_like(a) for name, a in call.weights.arrays.items()}
    for name, array in call.weights.arrays.items():
        _check(f"dweights[{name!r}]", dweights[name], array.shape, dtype)

    for layer in reversed(range(L)):
        dx = np.zeros(tape.inputs[layer].shape, dtype)
        for d in range(D):
            index = layer * D + d
            _backward_layer(
                tape, layer, d, dy[:, :, d * H : (d + 1) * H], dh0[index], dc0[index], dx, dweights
            )
        dy = call.drop(layer, dx)
    if not need_dx:
        return None, dh0, dc0, dict(dweights)
    return np.ascontiguousarray(dy.swapaxes(0, 1)) if call.batch_first else dy, dh0, dc0, dict(dweights)


def _backward_layer(
    tape: Tape,
    layer: int,
    direction: int,
    dy: Array,
    dh: Array,
    dc: Array,
    dx: Array,
    dweights: Mapping[str, Array],
) -> None:
    """One layer and direction backwards; dh, dc (B, H) become those of the initial states, dx is added to."""
    call = tape.call
    weight_ih, weight_hh, _, _, units, own = call.layer_weights(layer, direction)
    suffix = f"l{layer}" + ("_reverse" if direction else "")
    index = layer * call.weights.shape.num_directions + direction
    product, column_sum, zero = call.product, call.arithmetic.add_product, dh.dtype.type(0)
    d_ih, d_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
    db_ih, db_hh = (np.zeros((1, len(weight_ih)), dh.dtype) for _ in range(2))
    d_units = np.zeros((1, units.size), dh.dtype)
    for t in call.steps(1 - direction):
        rows = call.rows(t)
        at = index, t, rows
        step = Step(
            tape.states[at], tape.carries[at], tape.new_states[at], tape.new_carries[at], tape.tapes[at]
        )
        grads = call.cell.backward(step, units, dh[rows] + dy[t, rows], dc[rows])
        x_grad, h_grad = call.operand(grads.x), call.operand(grads.h)
        dx[t, rows] += product(zero, x_grad, weight_ih)
        cut = call.cut(direction, t, rows)
        dh[rows] = np.where(cut, zero, product(zero, h_grad, weight_hh) + grads.direct)
        dc[rows] = np.where(cut, zero, grads.carry)
        ones = np.ones((1, len(rows)), dh.dtype)
        d_ih = product(d_ih, x_grad.T, tape.inputs[layer][t, rows])
        d_hh = product(d_hh, h_grad.T, tape.operands[at])
        db_ih = column_sum(db_ih, ones, x_grad)
        db_hh = column_sum(db_hh, ones, h_grad)
        if grads.units is not None:
            d_units = column_sum(d_units, ones, grads.units)
    dweights[f"weight_ih_{suffix}"] += d_ih
    dweights[f"weight_hh_{suffix}"] += d_hh
    if call.weights.shape.bias:
        dweights[f"bias_ih_{suffix}"] += db_ih[0]
        dweights[f"bias_hh_{suffix}"] += db_hh[0]
    at_unit = 0
    for name in own:
        dweights[name] += d_units[0, at_unit : at_unit + dweights[name].size]
        at_unit += dweights[name].size


def lstm_forward(
    x: Array,
    state: tuple[Array | None, Array | None] | None,
    weights: Mapping[str, Array] | PackedWeights,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    dropout_key: int = 0,
    train: bool = True,
    arithmetic: Arithmetic = NUMPY,
) -> tuple[Array, tuple[Array, Array], Tape | None]:
    """As `fusedrnn.functional.lstm_forward`, for any float or complex dtype."""
    cell = weights.cell if isinstance(weights, PackedWeights) else cell_told(weights, CELLS.items())
    h0, c0 = (None, None) if state is None else state
    options = _Options(lengths, resets, batch_first, dropout, dropout_key, train, arithmetic)
    y, hn, cn, tape = _forward(cell or "lstm", x, h0, c0, weights, options)
    return y, (hn, cn), tape


def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, tuple[Array, Array], dict[str, Array]]:
    """As `fusedrnn.functional.lstm_backward`."""
    dhn, dcn = (None, None) if dstate is None else dstate
    dx, dh0, dc0, grads = _backward(tape, dy, dhn, dcn, dweights, need_dx)
    return dx, (dh0, dc0), grads


def gru_forward(
    x: Array,
    state: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    dropout_key: int = 0,
    train: bool = True,
    arithmetic: Arithmetic = NUMPY,
) -> tuple[Array, Array, Tape | None]:
    """As `fusedrnn.functional.gru_forward`, for any float or complex dtype."""
    options = _Options(lengths, resets, batch_first, dropout, dropout_key, train, arithmetic)
    y, hn, _, tape = _forward("gru", x, state, None, weights, options)
    return y, hn, tape


def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, dict[str, Array]]:
    """As `fusedrnn.functional.gru_backward`."""
    dx, dh0, _, grads = _backward(tape, dy, dstate, None, dweights, need_dx)
    return dx, dh0, grads


def rnn_forward(
    x: Array,
    state: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    *,
    nonlinearity: str = "tanh",
    lengths: Array | None = None,
    resets: Array | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    dropout_key: int = 0,
    train: bool = True,
    arithmetic: Arithmetic = NUMPY,
) -> tuple[Array, Array, Tape | None]:
    """As `fusedrnn.functional.rnn_forward`, for any float or complex dtype."""
    if f"rnn_{nonlinearity}" not in CELLS:
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', it is {nonlinearity!r}")
    options = _Options(lengths, resets, batch_first, dropout, dropout_key, train, arithmetic)
    y, hn, _, tape = _forward(f"rnn_{nonlinearity}", x, state, None, weights, options)
    return y, hn, tape


def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, dict[str, Array]]:
    """As `fusedrnn.functional.rnn_backward`."""
    dx, dh0, _, grads = _backward(tape, dy, dstate, None, dweights, need_dx)
    return dx, dh0, grads
