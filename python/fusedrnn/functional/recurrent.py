"""Recurrent stacks as functions: forward gives a tape, backward reads it.

Shapes: x (T, B, I), or (B, T, I) with ``batch_first``; states (L * D, B, H) for L layers and D directions;
y (T, B, D * H). ``weights`` is a dict with PyTorch's names: ``weight_ih_l0`` (G * H, I), ``weight_hh_l0``
(G * H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (G * H), layers counted up from 0, ``_reverse`` appended for
the second direction. G is 1 (Elman), 3 (GRU, gates r z n) or 4 (LSTM, gates i f g o). Where an LSTM projects
its h to P units, P stands for H in h0, hn, y and the columns of weight_hh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks, probabilities
from fusedrnn._core.arrays import as_device_array
from fusedrnn._core.cells import CELLS
from fusedrnn._core.weight_names import cell_by_names
from fusedrnn._native import SequenceOptions
from fusedrnn.functional.packing import PackedWeights

Array = NDArray[Any]


class Tape:
    """What one forward keeps for its backward. Opaque, but for what is of interest to look at.

    Never written by backward, so backward may be called more than once. Borrows x and the states.
    """

    def __init__(self, cell: str, native: _native.Tape, packed: PackedWeights, dtype: np.dtype[Any]) -> None:
        self.cell = cell
        self.family = CELLS[cell].family
        self.native = native
        self.packed = packed
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.native.nbytes

    @property
    def cells(self) -> Array | None:
        """Cell states c (L * D, T, B, H) of an LSTM (a copy), None for the other cells."""
        return self.native.cells

    @property
    def gates(self) -> Array | None:
        """Gates after their activation (L * D, T, B, blocks * H), a copy.

        Blocks are i f g o (LSTM), behind them W x and R h with layer normalisation, r z n q with
        q = R_n h + b_hn (GRU), or r z n (GRU with the reset before the product); None for an Elman cell.
        """
        return self.native.gates


def pair(name: str, content: str, value: Any) -> tuple[Array | None, Array | None]:
    """`value` as the pair that the states of an LSTM are.

    Raises:
        TypeError: it is no tuple or list of two.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        text = f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
        raise TypeError(f"{name} must be a pair ({content}), it is {text}")
    return value[0], value[1]


def single(name: str, content: str, value: Any) -> Array | None:
    """`value` as the one array that the state of a GRU or an Elman network is.

    Raises:
        TypeError: it is a tuple or list.
    """
    if isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be {content} alone, it is a {type(value).__name__}")
    state: Array | None = value
    return state


def variant_of(family: str, weights: Any) -> str:
    """The cell of a family whose weights beside gates' there are, else the one that has the family's name."""
    cell = None
    if isinstance(weights, (PackedWeights, Mapping)):
        cell = weights.cell if isinstance(weights, PackedWeights) else cell_by_names(weights, CELLS.items())
    return cell if cell is not None and CELLS[cell].family == family else family


def options_of(
    cell: str,
    lengths: Array | None,
    resets: Array | None,
    batch_first: bool,
    dropout: float,
    dropout_key: int,
    train: bool,
    dropout_mode: str,
    recurrent_dropout: float,
    zoneout: float | tuple[float, float],
    first_row: int,
) -> SequenceOptions:
    """Options of a call of the forward functions, as the kernels take them."""
    per_sequence = probabilities.dropout_mode(dropout_mode)
    zoneout_c, zoneout_h = probabilities.zoneout(zoneout, CELLS[cell].cell_state)
    return SequenceOptions(
        lengths, resets, batch_first, dropout, dropout_key, train, recurrent_dropout,
        zoneout_c, zoneout_h, per_sequence, first_row,
    )  # fmt: skip


def forward(
    cell: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    options: SequenceOptions,
    weight_dropout: float = 0.0,
    dropout_key: int = 0,
) -> tuple[Array, Array, Array | None, Tape | None]:
    """y, hn, cn (None for a cell without) and the tape (None unless train) of any cell.

    Raises:
        ValueError: weight_dropout is given with packed weights, which have their own.
    """
    if not isinstance(weights, PackedWeights):
        packed = PackedWeights(weights, cell=cell, weight_dropout=weight_dropout, dropout_key=dropout_key)
    elif weight_dropout:
        raise ValueError(
            f"weight_dropout must be 0 with packed weights, it is {weight_dropout}: give it to pack_weights"
        )
    else:
        packed = weights
    if packed.on_device:
        x, h0, c0 = map(as_device_array, (x, h0, c0))
        options = options.of_arrays(as_device_array(options.lengths), as_device_array(options.resets))
    y, hn, cn, tape = _native.sequence_forward(cell, packed.native, x, h0, c0, options)
    return y, hn, cn, None if tape is None else Tape(cell, tape, packed, x.dtype)


def backward(
    family: str,
    tape: Any,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: Mapping[str, Array] | None,
    need_dx: bool,
    flow: bool,
) -> tuple[Array | None, Array, Array | None, dict[str, Array], dict[str, Array] | None]:
    """dx, dh0, dc0 (None for a cell without), dweights and, if asked for, flow of any cell of a family.

    Raises:
        TypeError: tape is none; ValueError: it is of another cell, or dweights lack a name.
    """
    if not isinstance(tape, Tape):
        was = "None, as forward returns with train=False" if tape is None else f"a {type(tape).__name__}"
        raise TypeError(f"tape must be the one that {family}_forward returned, it is {was}")
    if tape.family != family:
        raise ValueError(
            f"tape must be the one that {family}_forward returned, it is of the cell {tape.cell!r}"
        )
    shapes = tape.packed.shapes
    if dweights is None:
        zeros: Any = _native.device_zeros if tape.packed.on_device else np.zeros
        dweights = {name: zeros(shape, tape.dtype) for name, shape in shapes.items()}
    checks.mapping("dweights", dweights, "a dict of arrays by name")
    for name in shapes:
        if name not in dweights:
            raise ValueError(f"dweights: {name!r} is missing (found {sorted(dweights)})")
    for name in dweights:
        if name not in shapes:
            raise ValueError(f"dweights: {name!r} is no weight of the tape's (they are {sorted(shapes)})")
    if tape.packed.on_device:
        dy, dhn, dcn, *values = map(as_device_array, (dy, dhn, dcn, *dweights.values()))
        dweights = dict(zip(dweights, values, strict=True))
    dx, dh0, dc0, norms = _native.sequence_backward(
        tape.native, dy, dhn, dcn, [dweights[name] for name in shapes], need_dx, flow
    )
    return dx, dh0, dc0, dict(dweights), named_flow(norms)


def named_flow(norms: _native.Flow | None) -> dict[str, Array] | None:
    """Gradient flow by the names of the states, None where none was measured."""
    if norms is None:
        return None
    h, c = norms
    return {"h": h} if c is None else {"h": h, "c": c}
