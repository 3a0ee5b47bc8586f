"""Fields of a configuration that are options of the command line as well, and what their values must be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

# Every scheme of fusedrnn.nn.initial_weights, which a test compares; the last is written with its steps:
# chrono:500.
INITS = ("torch", "keras", "glorot", "orthogonal", "identity", "chrono")
MANY = 2**31 - 1  # of anything that is counted: what exists is bounded by text and memory before that
LARGE = 1e30  # of any rate: float32 ends soon after


def option(group: str, text: str, default: Any, **extra: Any) -> Any:
    """A field that is also a command-line option: its help group, help text and argparse extras.

    `later=True` marks one that checkpoints of earlier versions lack: their runs had its default. `layer=True`
    marks one that is an argument of the recurrent layer, by the same name, and `cell` the only cell whose
    layer has it. `check` says what is wrong with a value that is a number or a word.
    """
    return field(default=default, metadata={"group": group, "help": text, **extra})


def layer_option(text: str, default: Any, **extra: Any) -> Any:
    """An `option` of the recurrent layer."""
    return option("model", text, default, later=True, layer=True, **extra)


def init_problem(value: Any) -> str | None:
    """What an initial scheme must be and is not."""
    name, colon, steps = str(value).partition(":")
    needs_steps = name == INITS[-1]
    if name not in INITS or bool(colon) != needs_steps:
        return f"must be one of {', '.join(INITS[:-1])}, or chrono:STEPS"
    if needs_steps and not (steps.isascii() and steps.isdecimal() and len(steps) < 10 and int(steps) >= 3):
        return "must be chrono:STEPS, a whole number of steps from 3 on"
    return None


def recompute_problem(value: Any) -> str | None:
    """What the steps of recomputation must be and are not."""
    if isinstance(value, str):
        return None if value == "auto" else "must be a whole number of steps, or auto"
    return out_of_range(value, {"low": 0, "high": MANY})


def spelled(name: str, value: Any) -> str:
    """An option and its value on the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}"


def out_of_range(value: Any, limits: Mapping[str, Any]) -> str | None:
    """What a value must be and is not: finite, low <=, high >=, above <, below >, one of the choices."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if "check" in limits:
        problem: str | None = limits["check"](value)
        return problem
    if limits.get("choices") and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}"
    if "low" in limits and value < limits["low"]:
        return f"must be at least {limits['low']:.10g}"
    if "high" in limits and value > limits["high"]:
        return f"must be at most {limits['high']:.10g}"
    if "above" in limits and value <= limits["above"]:
        return f"must be above {limits['above']:.10g}"
    if "below" in limits and value >= limits["below"]:
        return f"must be below {limits['below']:.10g}"
    return None


def shortened(value: object) -> str:
    """A value as Python writes it, of at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested as deep
        text = f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."
