"""Elman stacks in NumPy, see `fusedrnn.reference.recurrent`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fusedrnn.reference.arithmetic import NUMPY, Arithmetic
from fusedrnn.reference.cells import CELLS
from fusedrnn.reference.packing import PackedWeights
from fusedrnn.reference.recurrent import backward, forward
from fusedrnn.reference.stack_call import Options, Tape

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
    arithmetic: Arithmetic = NUMPY,
) -> tuple[Array, Array, Tape | None]:
    """As `fusedrnn.functional.rnn_forward`, for any float or complex dtype."""
    if f"rnn_{nonlinearity}" not in CELLS:
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', it is {nonlinearity!r}")
    options = Options(
        lengths, resets, batch_first, dropout, dropout_key, train, dropout_mode, recurrent_dropout,
        zoneout, weight_dropout, first_row, arithmetic,
    )  # fmt: skip
    y, hn, _, tape = forward(f"rnn_{nonlinearity}", x, state, None, weights, options)
    return y, hn, tape


def rnn_backward(
    tape: Tape,
    dy: Array | None,
    dstate: Array | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: bool = False,
) -> Any:
    """As `fusedrnn.functional.rnn_backward`."""
    dx, dh0, _, grads, norms = backward(tape, dy, dstate, None, dweights, need_dx)
    return (dx, dh0, grads, norms) if flow else (dx, dh0, grads)
