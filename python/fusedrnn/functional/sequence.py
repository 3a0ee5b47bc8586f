"""Recurrent stacks as functions: forward gives a tape, backward reads it.

Shapes: x (T, B, I), or (B, T, I) with ``batch_first``; states (L * D, B, H) for L layers and D directions;
y (T, B, D * H). ``weights`` is a dict with PyTorch's names: ``weight_ih_l0`` (G * H, I), ``weight_hh_l0``
(G * H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (G * H), layers counted up from 0, ``_reverse`` appended for
the second direction. G is 1 (Elman), 3 (GRU, gates r z n) or 4 (LSTM, gates i f g o).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._weights import stack_shape

Array = NDArray[Any]


class PackedWeights:
    """Weights in the backend's own layout; pass it as ``weights`` to pack once and call often.

    A snapshot: later writes to the arrays it was made from are not seen.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights must be a dict of arrays by name, they are a {type(weights).__name__}")
        self.shape = stack_shape(weights)
        arrays = {name: weights[name] for name in self.shape.names()}
        self.native = _native.pack_weights(
            self.shape.num_layers, self.shape.num_directions, self.shape.bias, list(arrays.values())
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


def pack_weights(weights: Mapping[str, Array]) -> PackedWeights:
    """Packs a weights dict once, for use in place of it in the forward functions.

    Raises:
        ValueError: a name is unknown or missing, or a shape does not fit the others; the message names it.
        TypeError: the dtypes differ or are not float32 or float64.
    """
    return PackedWeights(weights)


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


def _forward(
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
    packed = weights if isinstance(weights, PackedWeights) else PackedWeights(weights)
    y, hn, cn, tape = _native.sequence_forward(
        cell, packed.native, x, h0, c0, lengths, resets, batch_first, dropout, dropout_key, train
    )
    return y, hn, cn, None if tape is None else Tape(cell, tape, packed, x.dtype)


def _backward(
    cell: str,
    tape: Any,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: Mapping[str, Array] | None,
    need_dx: bool,
) -> tuple[Array | None, Array, Array | None, dict[str, Array]]:
    if not isinstance(tape, Tape):
        was = "None, as forward returns with train=False" if tape is None else f"a {type(tape).__name__}"
        raise TypeError(f"tape must be the one that {cell}_forward returned, it is {was}")
    if not tape.cell.startswith(cell):
        raise ValueError(
            f"tape must be the one that {cell}_forward returned, it is of the cell {tape.cell!r}"
        )
    shapes = tape.packed.shapes
    if dweights is None:
        dweights = {name: np.zeros(shape, tape.dtype) for name, shape in shapes.items()}
    for name in shapes:
        if name not in dweights:
            raise ValueError(f"dweights: {name!r} is missing (found {sorted(dweights)})")
    dx, dh0, dc0 = _native.sequence_backward(
        tape.native, dy, dhn, dcn, [dweights[name] for name in shapes], need_dx
    )
    return dx, dh0, dc0, dict(dweights)


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
) -> tuple[Array, tuple[Array, Array], Tape | None]:
    """LSTM over whole sequences (Hochreiter & Schmidhuber 1997, with forget gate; PyTorch's equations).

    i, f, o = sigmoid(W x + b_ih + R h + b_hh), g = tanh(same), c' = f c + i g, h' = o tanh(c').

    Args:
        x: (T, B, I), float32 or float64, unit stride in the last axis; (B, T, I) with batch_first.
        state: (h0, c0), each (L * D, B, H) or None for zeros; None for both.
        weights: a dict with PyTorch's names (see the module's text), or a handle of `pack_weights`.
        lengths: int64 (B,), valid steps of each row, 0..T. y is exactly 0 past them, final states are
            those at the row's length, and what x holds there is never read.
        resets: bool, shaped like x without its last axis; True at (t, b) cuts the link between steps
            t - 1 and t of row b, for state and gradient, in both directions; at t = 0 it cuts the
            initial state of the forward direction.
        dropout: probability of dropping an element of the input of every layer but the first; only
            with ``train``.
        dropout_key: 64-bit key of the counter-based dropout mask (Philox4x32-10).
        train: keep a tape for `lstm_backward`.

    Returns:
        y (T, B, D * H), (hn, cn) each (L * D, B, H), and the tape (None unless train).

    Raises:
        TypeError: an argument has the wrong dtype; ValueError: the wrong shape or strides, or a value
            out of range. Messages name the argument.
    """
    h0, c0 = (None, None) if state is None else pair("state", "h0, c0", state)
    y, hn, cn, tape = _forward(
        "lstm", x, h0, c0, weights, lengths, resets, batch_first, dropout, dropout_key, train
    )
    assert cn is not None
    return y, (hn, cn), tape


def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, tuple[Array, Array], dict[str, Array]]:
    """Back-propagation through time of `lstm_forward`.

    Args:
        tape: from `lstm_forward`; not changed.
        dy: gradient of y, shaped like y, or None for zeros. Not read past a row's length.
        dstate: (dhn, dcn), each like the final states or None; None for both.
        dweights: arrays by name to add the weight gradients into; None makes fresh ones.
        need_dx: False skips dx.

    Returns:
        dx shaped like x (None without need_dx), (dh0, dc0) each (L * D, B, H), and dweights.

    Raises:
        TypeError, ValueError: as `lstm_forward`.
    """
    dhn, dcn = (None, None) if dstate is None else pair("dstate", "dhn, dcn", dstate)
    dx, dh0, dc0, grads = _backward("lstm", tape, dy, dhn, dcn, dweights, need_dx)
    assert dc0 is not None
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
) -> tuple[Array, Array, Tape | None]:
    """GRU over whole sequences (Cho et al. 2014, in the reset-after form of PyTorch and cuDNN).

    r, z = sigmoid(W x + b_ih + R h + b_hh), n = tanh(W x + b_ih + r (R h + b_hh)), h' = (1 - z) n + z h.
    Arguments, results and errors as `lstm_forward`, with one state h0 (L * D, B, H).
    """
    h0 = single("state", "h0", state)
    y, hn, _, tape = _forward(
        "gru", x, h0, None, weights, lengths, resets, batch_first, dropout, dropout_key, train
    )
    return y, hn, tape


def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, dict[str, Array]]:
    """Back-propagation through time of `gru_forward`; as `lstm_backward` with one state."""
    dx, dh0, _, grads = _backward("gru", tape, dy, single("dstate", "dhn", dstate), None, dweights, need_dx)
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
) -> tuple[Array, Array, Tape | None]:
    """Elman network over whole sequences (Elman 1990): h' = tanh or relu of W x + b_ih + R h + b_hh.

    Arguments, results and errors as `lstm_forward`, with one state h0 (L * D, B, H); nonlinearity is
    "tanh" or "relu".
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', it is {nonlinearity!r}")
    h0 = single("state", "h0", state)
    cell = f"rnn_{nonlinearity}"
    y, hn, _, tape = _forward(
        cell, x, h0, None, weights, lengths, resets, batch_first, dropout, dropout_key, train
    )
    return y, hn, tape


def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, dict[str, Array]]:
    """Back-propagation through time of `rnn_forward`; as `lstm_backward` with one state."""
    dx, dh0, _, grads = _backward("rnn", tape, dy, single("dstate", "dhn", dstate), None, dweights, need_dx)
    return dx, dh0, grads
