"""Options of recurrent modules that torch.nn's have not: what they are by default, and what they may be."""

from __future__ import annotations

from typing import Any

from fusedrnn._core import checks
from fusedrnn._core.variants import LSTM_OPTIONS
from fusedrnn.torch import masks

#: Those of every module, which may be set at any time, and the values that do nothing.
SETTABLE: dict[str, Any] = {**masks.DEFAULTS, "recompute": 0, "collect_flow": False}
#: Those that make a module another cell, by torch.nn's class: fixed when it is made.
VARIANTS: dict[str, dict[str, Any]] = {
    "LSTM": {name: default for name, (default, _) in LSTM_OPTIONS.items() if name != "proj_size"},
    "GRU": {"reset_after": True},
    "RNN": {},
}


def checked(name: str, value: Any, pair: bool, bidirectional: bool) -> Any:
    """One of `SETTABLE` as a module's attribute keeps it; `pair` says whether the module's state is (h, c).

    Raises:
        TypeError, ValueError: it is of a wrong type or out of range, or not for this module.
    """
    if name == "recompute":
        return checks.recompute(value, bidirectional)
    if name == "collect_flow":
        return checks.flag(name, value)
    return masks.checked(name, value, pair)


def not_of_a_cell(name: str, kind: str) -> str:
    """What is wrong with one of `SETTABLE` of a cell, which makes one step."""
    return (
        f"{name} is an option of LSTM, GRU and RNN, and {kind} has none of {', '.join(SETTABLE)}: use "
        f"fusedrnn.torch.{kind.removesuffix('Cell')}, or another name"
    )
