"""LSTM stacks as functions; shapes and weights as `fusedrnn.functional.recurrent` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from numpy.typing import NDArray

from fusedrnn.functional.packing import PackedWeights
from fusedrnn.functional.recurrent import Tape, backward, forward, options_of, pair, variant_of

__all__ = ["lstm_backward", "lstm_forward"]
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
    dropout_mode: str = "step",
    recurrent_dropout: float = 0.0,
    zoneout: float | tuple[float, float] = 0.0,
    weight_dropout: float = 0.0,
    first_row: int = 0,
) -> tuple[Array, tuple[Array, Array], Tape | None]:
    """LSTM over whole sequences (Hochreiter & Schmidhuber 1997, with forget gate; PyTorch's equations).

    i, f, o = sigmoid(W x + b_ih + R h + b_hh), g = tanh(same), c' = f c + i g, h' = o tanh(c').

    With ``weight_peephole_l0`` (3 * H,) among the weights, p_i, p_f and p_o of each unit (Gers & Schmidhuber
    2000), the sigmoids also see p_i c, p_f c and p_o c'. On the CPU.

    With ``weight_hr_l0`` (P, H) among them, W_hr, P being less than H (Sak et al. 2014), h' has P units, it
    is W_hr (o tanh(c')): weight_hh is (4 * H, P), y (T, B, D * P), h0 and hn are (L * D, B, P). On the CPU.

    With ``weight_ln_ih_l0`` and the other five weights of layer normalisation (Ba et al. 2016; see
    `fusedrnn.nn.LSTM`) pre-activations are LN_ih(W x) + LN_hh(R h) + b_ih + b_hh, and h' = o tanh(LN_c(c')).
    On the CPU.

    Args:
        x: (T, B, I), float32 or float64, unit stride in the last axis; (B, T, I) with batch_first.
        state: (h0, c0), each (L * D, B, H) or None for zeros; None for both.
        weights: PyTorch's names, see `fusedrnn.functional.recurrent`, or what `pack_weights` returned.
        lengths: int64 (B,), valid steps of each row, 0..T. y is exactly 0 past them, final states are
            those at the row's length, and what x holds there is never read.
        resets: bool, shaped like x without its last axis; True at (t, b) cuts the link between steps
            t - 1 and t of row b, for state and gradient, in both directions; at t = 0 it cuts the
            initial state of the forward direction.
        dropout: probability of dropping an element of the input of every layer but the first; only
            with ``train``.
        dropout_key: 64-bit key of the counter-based dropout mask (Philox4x32-10).
        train: keep a tape for `lstm_backward`.
        dropout_mode: "step", or "sequence" for the same mask at all steps of a row.
        recurrent_dropout: probability of dropping an element of h on its way into the product with
            weight_hh, the same ones at all steps of a row (Gal & Ghahramani 2016, as Keras has it); only with
            ``train``, on the CPU, as are the two below.
        zoneout: probability that a unit keeps its state for a step, one for c and h or a pair (c, h) (Krueger
            et al. 2017); without ``train`` states are the expectation of that.
        weight_dropout: probability of dropping an element of weight_hh (Merity et al. 2018), for this call;
            only with ``train``. A handle of `pack_weights` has its own.
        first_row: what row 0 of x is in all these masks, so that a part of a batch has those that it has in
            the whole batch. Masks of dropout_mode="step" depend on the batch's size as well.

    Returns:
        y (T, B, D * H), (hn, cn) each (L * D, B, H), and the tape (None unless train).

    Raises:
        TypeError: an argument has the wrong dtype; ValueError: the wrong shape or strides, or a value
            out of range. Messages name the argument.
    """
    h0, c0 = (None, None) if state is None else pair("state", "h0, c0", state)
    cell = variant_of("lstm", weights)
    options = options_of(
        cell, lengths, resets, batch_first, dropout, dropout_key, train,
        dropout_mode, recurrent_dropout, zoneout, first_row,
    )  # fmt: skip
    weight_dropout = weight_dropout if train else 0.0
    y, hn, cn, tape = forward(cell, x, h0, c0, weights, options, weight_dropout, dropout_key)
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
    flow: Literal[False] = False,
) -> tuple[Array, tuple[Array, Array], dict[str, Array]]: ...
@overload
def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool,
    flow: Literal[False] = False,
) -> tuple[Array | None, tuple[Array, Array], dict[str, Array]]: ...
@overload
def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: Literal[True],
) -> tuple[Array | None, tuple[Array, Array], dict[str, Array], dict[str, Array]]: ...
def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: bool = False,
) -> Any:
    """Back-propagation through time of `lstm_forward`.

    Args:
        tape: from `lstm_forward`; not changed.
        dy: gradient of y, shaped like y, or None for zeros. Not read past a row's length.
        dstate: (dhn, dcn), each like the final states or None; None for both.
        dweights: arrays by name to add the weight gradients into; None makes fresh ones.
        need_dx: False skips dx.
        flow: also measure how the gradient flows through time, on the CPU: of each step, the 2-norm over rows
            and units of the whole gradient of the loss with respect to h and to c. Rows past their length
            count as zero. What is added to c counts where tanh reads it and in the state behind the step.

    Returns:
        dx shaped like x (None without need_dx), (dh0, dc0) each (L * D, B, H), and dweights; with flow also a
        dict of "h" and "c", each float64 (L, D, T).

    Raises:
        TypeError, ValueError: as `lstm_forward`; and flow is given with device arrays.
    """
    dhn, dcn = (None, None) if dstate is None else pair("dstate", "dhn, dcn", dstate)
    dx, dh0, dc0, grads, norms = backward("lstm", tape, dy, dhn, dcn, dweights, need_dx, flow)
    return (dx, (dh0, dc0), grads, norms) if flow else (dx, (dh0, dc0), grads)
