"""Which cell an LSTM's options choose, one of them at a time. Needs nothing built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Options of an LSTM that make it another cell: their values for the plain one, and the cell.
LSTM_OPTIONS: dict[str, tuple[Any, str]] = {
    "layer_norm": (False, "lstm_layer_norm"),
    "peephole": (False, "lstm_peephole"),
    "proj_size": (0, "lstm_projected"),
}


def lstm_cell(options: Mapping[str, Any]) -> str:
    """The cell of an LSTM with these values of its options.

    Raises:
        ValueError: more than one is chosen.
    """
    chosen = [name for name in LSTM_OPTIONS if options[name]]
    if len(chosen) > 1:
        first, second = chosen[:2]
        raise ValueError(
            f"{second} must be {LSTM_OPTIONS[second][0]} with {first}={options[first]}, it is "
            f"{options[second]}: use one of the two"
        )
    return LSTM_OPTIONS[chosen[0]][1] if chosen else "lstm"
