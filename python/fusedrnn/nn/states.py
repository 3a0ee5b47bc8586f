"""States of a Sequential: a list with an entry for each stateful layer, nested as models are, or flat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fusedrnn._core.cells import CELLS
from fusedrnn.functional.recurrent import pair, single
from fusedrnn.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from fusedrnn.nn.sequential import Sequential


def check_states(model: Sequential, state: Any) -> None:
    """Raises TypeError or ValueError unless `state` is a list with an entry for each layer that has one."""
    expected = f"state must be a list of {len(model._stateful())}, one for each recurrent layer"
    if not isinstance(state, (list, tuple)):
        raise TypeError(f"{expected}, it is a {type(state).__name__}")
    if len(state) != len(model._stateful()):
        raise ValueError(f"{expected}, it has {len(state)}")


def flat_states(model: Sequential, state: Any) -> list[Any]:
    """h0 and c0 (None for a cell without) of every recurrent layer, one after the other."""
    if state is not None:
        check_states(model, state)
    layers = model._stateful()
    flat: list[Any] = []
    for layer, entry in zip(layers, [None] * len(layers) if state is None else state, strict=True):
        if not isinstance(layer, Recurrent):
            flat += flat_states(layer, entry)  # type: ignore[arg-type]
        elif entry is None:
            flat += (None, None)
        elif CELLS[layer._cell].cell_state:
            flat += pair("state", "h0, c0", entry)
        else:
            flat += (single("state", "h0", entry), None)
    return flat


def nested_states(model: Sequential, flat: Iterator[Any]) -> list[Any]:
    """Final states as `Sequential.forward` returns them, of every layer's hn (and cn, if it has one)."""
    states: list[Any] = []
    for layer in model._stateful():
        if not isinstance(layer, Recurrent):
            states.append(nested_states(layer, flat))  # type: ignore[arg-type]
        elif CELLS[layer._cell].cell_state:
            states.append((next(flat), next(flat)))
        else:
            states.append(next(flat))
    return states
