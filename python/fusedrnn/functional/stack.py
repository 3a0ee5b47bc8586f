"""What the recurrent functions share: packed weights, tapes, checks of states, calls of the native module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array
from fusedrnn._core.weight_names import stack_shape

Array = NDArray[Any]


class PackedWeights:
    """Weights in the backend's own layout; pass it as ``weights`` to pack once and call often.

    A snapshot: later writes to the arrays it was made from are not seen. They fix the precision of what is
    computed with them, and the kernels that do.
    """

    def __init__(self, weights: Mapping[str, Array], precision: str = "ieee", algo: str = "auto") -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights must be a dict of arrays by name, they are a {type(weights).__name__}")
        self.shape = stack_shape(weights)
        arrays = {name: as_device_array(weights[name]) for name in self.shape.names()}
        self.on_device = any(isinstance(array, _native.DeviceArray) for array in arrays.values())
        self.native = _native.pack_weights(
            self.shape.num_layers,
            self.shape.num_directions,
            self.shape.bias,
            list(arrays.values()),
            precision,
            algo,
        )
        self.shapes = {name: array.shape for name, array in arrays.items()}

    @property
    def nbytes(self) -> int:
        """Size of the packed copy in bytes."""
        return self.native.nbytes


class Tape:
    """What one forward keeps for its backward. Opaque, but for what is of interest to look at.

    Never written by backward, so backward may be called more than once. Borrows x and the states.
    """

    def __init__(self, cell: str, native: _native.Tape, packed: PackedWeights, dtype: np.dtype[Any]) -> None:
        self.cell = cell
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

        Blocks are i f g o (LSTM) or r z n q with q = R_n h + b_hn (GRU); None for an Elman cell.
        """
        return self.native.gates


def pack_weights(
    weights: Mapping[str, Array], *, precision: str = "ieee", algo: str = "auto"
) -> PackedWeights:
    """Packs a weights dict once, for use in place of it in the forward functions.

    Args:
        weights: see `fusedrnn.functional.sequence`.
        precision: what operands of matrix products are rounded to on their way into the kernels: "ieee"
            (nothing), "tf32", "tf32x3" (three products of tf32 in place of one, near float32), "bf16" or
            "fp16"; on the CPU "ieee" alone. Sums, gates and cell states keep the dtype.
        algo: which kernels compute the recurrent part on CUDA: "auto" chooses by size and device; "reference"
            (a thread for each row and unit), "step" (a kernel for each step), "cluster" and "grid" (one for
            many steps, by few blocks or by all) are required, and a call for whose sizes or device they are
            not made raises RuntimeError.
            Results differ in rounding. On the CPU "auto" alone.

    Raises:
        ValueError: a name is unknown or missing, or a shape does not fit the others; the message names it;
            precision or algo is unknown.
        RuntimeError: precision or algo is not the CPU's.
        TypeError: the dtypes differ or are not float32 or float64.
    """
    return PackedWeights(weights, precision, algo)


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


def forward(
    cell: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    lengths: Array | None,
    resets: Array | None,
    batch_first: bool,
    dropout: float,
    dropout_key: int,
    train: bool,
) -> tuple[Array, Array, Array | None, Tape | None]:
    """y, hn, cn (None but for an LSTM) and the tape (None unless train) of any cell."""
    packed = weights if isinstance(weights, PackedWeights) else PackedWeights(weights)
    if packed.on_device:
        x, h0, c0, lengths, resets = map(as_device_array, (x, h0, c0, lengths, resets))
    y, hn, cn, tape = _native.sequence_forward(
        cell, packed.native, x, h0, c0, lengths, resets, batch_first, dropout, dropout_key, train
    )
    return y, hn, cn, None if tape is None else Tape(cell, tape, packed, x.dtype)


def backward(
    cell: str,
    tape: Any,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: Mapping[str, Array] | None,
    need_dx: bool,
) -> tuple[Array | None, Array, Array | None, dict[str, Array]]:
    """dx, dh0, dc0 (None but for an LSTM) and dweights of any cell.

    Raises:
        TypeError: tape is none; ValueError: it is of another cell, or dweights lack a name.
    """
    if not isinstance(tape, Tape):
        was = "None, as forward returns with train=False" if tape is None else f"a {type(tape).__name__}"
        raise TypeError(f"tape must be the one that {cell}_forward returned, it is {was}")
    if not tape.cell.startswith(cell):
        raise ValueError(
            f"tape must be the one that {cell}_forward returned, it is of the cell {tape.cell!r}"
        )
    shapes = tape.packed.shapes
    if dweights is None:
        zeros: Any = _native.device_zeros if tape.packed.on_device else np.zeros
        dweights = {name: zeros(shape, tape.dtype) for name, shape in shapes.items()}
    for name in shapes:
        if name not in dweights:
            raise ValueError(f"dweights: {name!r} is missing (found {sorted(dweights)})")
    if tape.packed.on_device:
        dy, dhn, dcn, *values = map(as_device_array, (dy, dhn, dcn, *dweights.values()))
        dweights = dict(zip(dweights, values, strict=True))
    dx, dh0, dc0 = _native.sequence_backward(
        tape.native, dy, dhn, dcn, [dweights[name] for name in shapes], need_dx
    )
    return dx, dh0, dc0, dict(dweights)
