"""A call of a recurrent stack, and what its forward keeps for backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core import probabilities
from fusedrnn.reference.arithmetic import Arithmetic
from fusedrnn.reference.cells import Cell, GatedCell
from fusedrnn.reference.masks import Masks
from fusedrnn.reference.packing import PackedWeights
from fusedrnn.reference.rounding import multiply_operands

Array = NDArray[Any]


@dataclass
class Options:
    """What forward is given of its sequences besides x and the states, as its keywords say it."""

    lengths: Array | None
    resets: Array | None
    batch_first: bool
    dropout: float
    dropout_key: int
    train: bool
    dropout_mode: str
    recurrent_dropout: float
    zoneout: float | tuple[float, float]
    weight_dropout: float
    first_row: int
    arithmetic: Arithmetic

    def masks(self, cell_state: bool) -> Masks:
        """Those of a cell with or without a state beside h."""
        zoneout = probabilities.zoneout(self.zoneout, cell_state)
        return Masks(
            self.dropout_key, self.train, self.dropout, probabilities.dropout_mode(self.dropout_mode),
            self.recurrent_dropout, *zoneout, self.first_row,
        )  # fmt: skip


class LayerWeights(NamedTuple):
    """The weights of a layer and direction; zeros for absent biases."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    units: Array  # (blocks, H): what units have of their own, and b_ih + b_hh of a cell that normalises
    projection: Array | None  # W_hr (P, H)
    own: list[str]  # the names of the weights that units consist of


@dataclass
class StackCall:
    """What forward was asked, as backward needs it: time first, nothing absent."""

    cell: Cell | GatedCell
    weights: PackedWeights
    x: Array  # (T, B, I)
    lengths: Array  # (B,)
    resets: Array  # (T, B)
    batch_first: bool
    masks: Masks
    hidden: int
    state: int  # units of h
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

    def layer_weights(self, layer: int, direction: int) -> LayerWeights:
        """Those of one layer and direction."""
        suffix = f"l{layer}" + ("_reverse" if direction else "")
        arrays = self.weights.arrays
        weight_hh = arrays[f"weight_hh_{suffix}"]
        zeros = np.zeros(len(weight_hh), weight_hh.dtype)
        bias_ih, bias_hh = (arrays.get(f"bias_{k}_{suffix}", zeros) for k in ("ih", "hh"))
        own = [f"{spec.name}_{suffix}" for spec in self.cell.weights if spec.role == "per_unit"]
        units = np.concatenate([zeros[:0], *(arrays[name] for name in own)]).reshape(-1, self.hidden)
        projection = arrays.get(f"weight_hr_{suffix}")
        if self.cell.normalises:
            units = np.concatenate([units, (bias_ih + bias_hh).reshape(-1, self.hidden)])
            bias_ih = bias_hh = zeros
        weight_ih = arrays[f"weight_ih_{suffix}"]
        return LayerWeights(weight_ih, weight_hh, bias_ih, bias_hh, units, projection, own)

    def operand(self, array: Array) -> Array:
        """What products read of an array that a step computed."""
        return self.arithmetic.operand(array, self.weights.precision)

    def product(self, base: Array, a: Array, b: Array) -> Array:
        """base + a b of operands."""
        return multiply_operands(self.arithmetic.add_product, base, a, b, self.weights.precision)

    @property
    def open_rows(self) -> int:
        """Rows of weight_hh whose gates read the state itself: all but those of a gated one."""
        gates = self.cell.weights[1].blocks
        return (gates - isinstance(self.cell, GatedCell)) * self.hidden

    def dropped(self, index: int, rows: Array, h: Array) -> Array:
        """Recurrent dropout of h (rows, P) of a layer and direction, or of its gradient."""
        factors = self.masks.factors(index, rows, self.state, h.dtype)
        return h if factors is None else h * factors


class Tape:
    """What one forward keeps for its backward, and nothing that either writes afterwards.

    Values of steps past a row's length are 0.

    Attributes:
        inputs: per layer, its input after dropout (T, B, features), as products read it; that of layer 0 is
            x, borrowed unless it had to be rounded.
        states, carries: what each step saw, resets applied, (L * D, T, B, P) and (L * D, T, B, H).
        operands: the states as products read them.
        gated_operands: likewise of gated states, of a cell that has such, else of no units.
        new_states, new_carries: behind each step.
        made_states, made_carries: what its cell made of them, before projection and zoneout, H units each.
        tapes: gates after their activation, (L * D, T, B, blocks * H).
    """

    def __init__(self, call: StackCall) -> None:
        shape = call.weights.shape
        leading = (shape.num_layers * shape.num_directions, *call.x.shape[:2])
        self.call = call
        self.inputs: list[Array] = []
        self.states, self.operands, self.new_states = (
            np.zeros((*leading, call.state), call.x.dtype) for _ in range(3)
        )
        self.carries, self.new_carries, self.made_states, self.made_carries = (
            np.zeros((*leading, call.hidden), call.x.dtype) for _ in range(4)
        )
        gated = call.hidden if isinstance(call.cell, GatedCell) else 0
        self.gated_operands = np.zeros((*leading, gated), call.x.dtype)
        self.tapes = np.zeros((*leading, call.cell.tape_blocks * call.hidden), call.x.dtype)

    @property
    def nbytes(self) -> int:
        """Size in bytes, x not counted."""
        kept = [*self.inputs[1:], self.states, self.carries, self.operands, self.new_states, self.new_carries]
        kept += [self.made_states, self.made_carries, self.gated_operands]
        return sum(a.nbytes for a in kept) + self.tapes.nbytes

    @property
    def cells(self) -> Array | None:
        """Cell states c (L * D, T, B, H) of an LSTM (a copy), None for the other cells."""
        return self.new_carries.copy() if self.call.cell.has_carry else None

    @property
    def gates(self) -> Array | None:
        """Gates after their activation (L * D, T, B, blocks * H), a copy.

        Blocks are i f g o (LSTM), behind them W x and R h with layer normalisation, r z n q with
        q = R_n h + b_hn (GRU), or r z n (GRU with the reset before the product); None for an Elman cell.
        """
        return self.tapes.copy() if self.call.cell.tape_blocks else None
