"""Elman stacks as functions; shapes and weights as `fusedrnn.functional.recurrent` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from numpy.typing import NDArray

from fusedrnn._core.cells import variant_named
from fusedrnn.functional.packing import PackedWeights
from fusedrnn.functional.recurrent import Tape, backward, forward, options_of, single

__all__ = ["rnn_backward", "rnn_forward"]
Array = NDArray[Any]


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
    dropout_mode: str = "step",
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    weight_dropout: float = 0.0,
    first_row: int = 0,
) -> tuple[Array, Array, Tape | None]:
    """Elman network over whole sequences (Elman 1990): h' = tanh or relu of W x + b_ih + R h + b_hh.

    Arguments and results as `lstm_forward`, with one state h0 (L * D, B, H); nonlinearity is "tanh" or
    "relu".

    Raises:
        TypeError, ValueError: as `lstm_forward`.
    """
    cell = variant_named("rnn", "nonlinearity", nonlinearity)
    h0 = single("state", "h0", state)
    options = options_of(
        cell, lengths, resets, batch_first, dropout, dropout_key, train,
        dropout_mode, recurrent_dropout, zoneout, first_row,
    )  # fmt: skip
    weight_dropout = weight_dropout if train else 0.0
    y, hn, _, tape = forward(cell, x, h0, None, weights, options, weight_dropout, dropout_key)
    return y, hn, tape


@overload
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: Literal[True] = True,
    flow: Literal[False] = False,
) -> tuple[Array, Array, dict[str, Array]]: ...
@overload
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool,
    flow: Literal[False] = False,
) -> tuple[Array | None, Array, dict[str, Array]]: ...
@overload
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: Literal[True],
) -> tuple[Array | None, Array, dict[str, Array], dict[str, Array]]: ...
def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: bool = False,
) -> Any:
    """Back-propagation through time of `rnn_forward`; as `lstm_backward`, with one dstate (L * D, B, H).

    Raises:
        TypeError, ValueError: as `lstm_backward`.
    """
    dhn = single("dstate", "dhn", dstate)
    dx, dh0, _, grads, norms = backward("rnn", tape, dy, dhn, None, dweights, need_dx, flow)
    return (dx, dh0, grads, norms) if flow else (dx, dh0, grads)
