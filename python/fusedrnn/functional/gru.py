"""GRU stacks as functions; shapes and weights as `fusedrnn.functional.recurrent` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from numpy.typing import NDArray

from fusedrnn._core import checks
from fusedrnn.functional.packing import PackedWeights
from fusedrnn.functional.recurrent import Tape, backward, forward, options_of, single

__all__ = ["gru_backward", "gru_forward"]
Array = NDArray[Any]


def gru_forward(
    x: Array,
    state: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    *,
    reset_after: bool = True,
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
    """GRU over whole sequences (Cho et al. 2014).

    r, z = sigmoid(W x + b_ih + R h + b_hh), n = tanh(W x + b_ih + r (R h + b_hh)), h' = (1 - z) n + z h: the
    form of PyTorch and cuDNN. Without ``reset_after`` n = tanh(W x + b_ih + R (r h) + b_hh), on the CPU, as
    published; weights packed for that are packed with cell="gru_reset_before".
    Other arguments and results as `lstm_forward`, with one state h0 (L * D, B, H).

    Raises:
        TypeError, ValueError: as `lstm_forward`.
    """
    cell = "gru" if checks.flag("reset_after", reset_after) else "gru_reset_before"
    h0 = single("state", "h0", state)
    options = options_of(
        cell, lengths, resets, batch_first, dropout, dropout_key, train,
        dropout_mode, recurrent_dropout, zoneout, first_row,
    )  # fmt: skip
    weight_dropout = weight_dropout if train else 0.0
    y, hn, _, tape = forward(cell, x, h0, None, weights, options, weight_dropout, dropout_key)
    return y, hn, tape


@overload
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: Literal[True] = True,
    flow: Literal[False] = False,
) -> tuple[Array, Array, dict[str, Array]]: ...
@overload
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool,
    flow: Literal[False] = False,
) -> tuple[Array | None, Array, dict[str, Array]]: ...
@overload
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: Literal[True],
) -> tuple[Array | None, Array, dict[str, Array], dict[str, Array]]: ...
def gru_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: bool = False,
) -> Any:
    """Back-propagation through time of `gru_forward`; as `lstm_backward`, with one dstate (L * D, B, H).

    Raises:
        TypeError, ValueError: as `lstm_backward`.
    """
    dhn = single("dstate", "dhn", dstate)
    dx, dh0, _, grads, norms = backward("gru", tape, dy, dhn, None, dweights, need_dx, flow)
    return (dx, dh0, grads, norms) if flow else (dx, dh0, grads)
