"""Recurrent stacks as functions: forward gives a tape, backward reads it.

Shapes: x (T, B, I), or (B, T, I) with ``batch_first``; states (L * D, B, H) for L layers and D directions;
y (T, B, D * H). ``weights`` is a dict with PyTorch's names: ``weight_ih_l0`` (G * H, I), ``weight_hh_l0``
(G * H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (G * H), layers counted up from 0, ``_reverse`` appended for
the second direction. G is 1 (Elman), 3 (GRU, gates r z n) or 4 (LSTM, gates i f g o).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from numpy.typing import NDArray

from fusedrnn.functional.stack import PackedWeights, Tape, backward, forward, pack_weights, pair, single

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
    y, hn, cn, tape = forward(
        "lstm", x, h0, c0, weights, lengths, resets, batch_first, dropout, dropout_key, train
    )
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
    y, hn, _, tape = forward(
        "gru", x, h0, None, weights, lengths, resets, batch_first, dropout, dropout_key, train
    )
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
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', it is {nonlinearity!r}")
    h0 = single("state", "h0", state)
    cell = f"rnn_{nonlinearity}"
    y, hn, _, tape = forward(
        cell, x, h0, None, weights, lengths, resets, batch_first, dropout, dropout_key, train
    )
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
