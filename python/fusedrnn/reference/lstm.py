"""LSTM stacks in NumPy, see `fusedrnn.reference.recurrent`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fusedrnn._core.weight_names import cell_by_names
from fusedrnn.reference.arithmetic import NUMPY, Arithmetic
from fusedrnn.reference.cells import CELLS
from fusedrnn.reference.packing import PackedWeights
from fusedrnn.reference.recurrent import backward, forward
from fusedrnn.reference.stack_call import Options, Tape

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
    arithmetic: Arithmetic = NUMPY,
) -> tuple[Array, tuple[Array, Array], Tape | None]:
    """As `fusedrnn.functional.lstm_forward`, for any float or complex dtype."""
    cell = weights.cell if isinstance(weights, PackedWeights) else cell_by_names(weights, CELLS.items())
    h0, c0 = (None, None) if state is None else state
    options = Options(
        lengths, resets, batch_first, dropout, dropout_key, train, dropout_mode, recurrent_dropout,
        zoneout, weight_dropout, first_row, arithmetic,
    )  # fmt: skip
    y, hn, cn, tape = forward(cell or "lstm", x, h0, c0, weights, options)
    return y, (hn, cn), tape


def lstm_backward(
    tape: Tape,
    dy: Array | None,
    dstate: tuple[Array | None, Array | None] | None = None,
    *,
    dweights: Mapping[str, Array] | None = None,
    need_dx: bool = True,
    flow: bool = False,
) -> Any:
    """As `fusedrnn.functional.lstm_backward`."""
    dhn, dcn = (None, None) if dstate is None else dstate
    dx, dh0, dc0, grads, norms = backward(tape, dy, dhn, dcn, dweights, need_dx)
    return (dx, (dh0, dc0), grads, norms) if flow else (dx, (dh0, dc0), grads)
