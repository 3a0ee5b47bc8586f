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


def checked(module: Any, name: str, value: Any) -> Any:
    """One of `SETTABLE` as a module's attribute keeps it.

    Raises:
        TypeError, ValueError: it is of a wrong type or out of range, or not for this module.
    """
    if name == "recompute":
        return checks.recompute(value, module.bidirectional)
    if name == "collect_flow":
        return checks.flag(name, value)
    return masks.checked(module._cell, name, value)
