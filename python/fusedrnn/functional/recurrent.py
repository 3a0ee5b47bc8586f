"""Recurrent stacks as functions: forward gives a tape, backward reads it.

Shapes: x (T, B, I), or (B, T, I) with ``batch_first``; states (L * D, B, H) for L layers and D directions;
y (T, B, D * H). ``weights`` is a dict with PyTorch's names: ``weight_ih_l0`` (G * H, I), ``weight_hh_l0``
(G * H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (G * H), layers counted up from 0, ``_reverse`` appended for
the second direction. G is 1 (Elman), 3 (GRU, gates r z n) or 4 (LSTM, gates i f g o).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array
from fusedrnn._core.cells import CELLS, variant_named, weights_of
from fusedrnn._core.weight_names import cell_told, stack_shape
from fusedrnn._native import SequenceOptions

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "pack_weights",
    "rnn_backward",
    "rnn_forward",
]
Array = NDArray[Any]


class PackedWeights:
    """Weights in the backend's own layout; pass it as ``weights`` to pack once and call often.

    A snapshot: later writes to the arrays it was made from are not seen. They fix the precision of what is
    computed with them, and the kernels that do.
    """

    def __init__(
        self,
        weights: Mapping[str, Array],
        precision: str = "ieee",
        algo: str = "auto",
        cell: str | None = None,
    ) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights must be a dict of arrays by name, they are a {type(weights).__name__}")
        self.cell = cell_told(weights, CELLS.items()) if cell is None else cell
        specs = weights_of(self.cell)
        self.shape = stack_shape(weights, specs)
        arrays = {name: as_device_array(weights[name]) for name in self.shape.weights(specs)}
        self.on_device = any(isinstance(array, _native.DeviceArray) for array in arrays.values())
        self.native = _native.pack_weights(
            self.shape.num_layers,
            self.shape.num_directions,
            self.shape.bias,
            list(arrays.values()),
            precision,
            algo,
            self.cell,
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

        Blocks are i f g o (LSTM) or r z n q with q = R_n h + b_hn (GRU); None for an Elman cell.
        """
        return self.native.gates


def pack_weights(
    weights: Mapping[str, Array],
    *,
    precision: str = "ieee",
    algo: str = "auto",
    cell: str | None = None,
) -> PackedWeights:
    """Packs a weights dict once, for use in place of it in the forward functions.

    Args:
        weights: see `fusedrnn.functional.recurrent`.
        precision: what operands of matrix products are rounded to on their way into the kernels: "ieee"
            (nothing), "tf32", "tf32x3" (three products of tf32 in place of one, near float32), "bf16" or
            "fp16"; on the CPU "ieee" alone. Sums, gates and cell states keep the dtype.
        algo: which kernels compute the recurrent part on CUDA: "auto" chooses by size and device; "reference"
            (a thread for each row and unit), "step" (a kernel for each step), "cluster" and "grid" (one for
            many steps, by few blocks or by all) are required, and a call for whose sizes or device they are
            not made raises RuntimeError.
            Results differ in rounding. On the CPU "auto" alone.
        cell: whose they are: "lstm", "lstm_peephole", "gru", "rnn_tanh" or "rnn_relu", the last two being the
            same here. None tells it by the name of peepholes, else by G, the rows of weight_hh for each of
            its columns.

    Raises:
        ValueError: a name is unknown or missing, or a shape does not fit the others; the message names it;
            precision, algo or cell is unknown.
        RuntimeError: precision or algo is not the CPU's.
        TypeError: the dtypes differ or are not float32 or float64.
    """
    return PackedWeights(weights, precision, algo, cell)


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


def _variant_told(family: str, weights: Any) -> str:
    """The cell of a family whose units' own weights there are, else the one that has the family's name."""
    cell = None
    if isinstance(weights, (PackedWeights, Mapping)):
        cell = weights.cell if isinstance(weights, PackedWeights) else cell_told(weights, CELLS.items())
    return cell if cell is not None and CELLS[cell].family == family else family


def forward(
    cell: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    options: SequenceOptions,
) -> tuple[Array, Array, Array | None, Tape | None]:
    """y, hn, cn (None for a cell without) and the tape (None unless train) of any cell."""
    packed = weights if isinstance(weights, PackedWeights) else PackedWeights(weights, cell=cell)
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
) -> tuple[Array | None, Array, Array | None, dict[str, Array]]:
    """dx, dh0, dc0 (None for a cell without) and dweights of any cell of a family.

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

    With ``weight_peephole_l0`` (3 * H,) among the weights, p_i, p_f and p_o of each unit (Gers & Schmidhuber
    2000), the sigmoids also see p_i c, p_f c and p_o c'. On the CPU.

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
    options = SequenceOptions(lengths, resets, batch_first, dropout, dropout_key, train)
    y, hn, cn, tape = forward(_variant_told("lstm", weights), x, h0, c0, weights, options)
    assert cn is not None
    return y, (hn, cn), tape


@overload
def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: Literal[True] = True,
) -> tuple[Array, tuple[Array, Array], dict[str, Array]]: ...
@overload
def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool,
) -> tuple[Array | None, tuple[Array, Array], dict[str, Array]]: ...
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
    dx, dh0, dc0, grads = backward("lstm", tape, dy, dhn, dcn, dweights, need_dx)
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
    options = SequenceOptions(lengths, resets, batch_first, dropout, dropout_key, train)
    y, hn, _, tape = forward("gru", x, h0, None, weights, options)
    return y, hn, tape


@overload
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: Literal[True] = True,
) -> tuple[Array, Array, dict[str, Array]]: ...
@overload
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool,
) -> tuple[Array | None, Array, dict[str, Array]]: ...
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, dict[str, Array]]:
    """Back-propagation through time of `gru_forward`; as `lstm_backward` with one state."""
    dx, dh0, _, grads = backward("gru", tape, dy, single("dstate", "dhn", dstate), None, dweights, need_dx)
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
    cell = variant_named("rnn", "nonlinearity", nonlinearity)
    h0 = single("state", "h0", state)
    options = SequenceOptions(lengths, resets, batch_first, dropout, dropout_key, train)
    y, hn, _, tape = forward(cell, x, h0, None, weights, options)
    return y, hn, tape


@overload
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: Literal[True] = True,
) -> tuple[Array, Array, dict[str, Array]]: ...
@overload
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool,
) -> tuple[Array | None, Array, dict[str, Array]]: ...
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, dict[str, Array]]:
    """Back-propagation through time of `rnn_forward`; as `lstm_backward` with one state."""
    dx, dh0, _, grads = backward("rnn", tape, dy, single("dstate", "dhn", dstate), None, dweights, need_dx)
    return dx, dh0, grads
