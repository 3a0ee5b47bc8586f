"""What an input is, what a build makes of it, and the few ways in which the two are compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOREIGN = re.compile(  # texts of pybind11's and NumPy's, which say nothing of this package's arguments
    r"incompatible function arguments|Unable to cast|unexpected keyword argument|negative dimensions"
    r"|object has no attribute|object is not iterable|object is not subscriptable|not supported between"
    r"|takes \d+ positional|must be real number, not|could not convert string"
)


class Found(NamedTuple):
    """What a build made of an input, and whether that is right."""

    gives: str
    right: bool


class Absent(Exception):
    """What the right value is computed by is not installed."""


@dataclass(frozen=True)
class Fault:
    """An input that once gave something wrong.

    Attributes:
        kind: the number of its kind, "1.1" and so on.
        name: the input in short.
        right: the right result in words.
        run: gives it to the installed package; anything that it raises is a wrong result.
        seconds: longer is a hang.
        gigabytes: more memory than this fails.
        needs: a run of the command line, made once: `run` is called with its directory.
        release: true of builds with an optimiser only.
        slow: takes seconds, and another test holds it.
    """

    kind: str
    name: str
    right: str
    run: Callable[..., Found]
    seconds: float = 20
    gigabytes: float = 4
    needs: bool = False
    release: bool = False
    slow: bool = False


FAULTS: list[Fault] = []


def fault(kind: str, name: str, right: str, **limits: Any) -> Callable[[Callable[..., Found]], None]:
    """Registers a function as an input."""

    def register(run: Callable[..., Found]) -> None:
        FAULTS.append(Fault(kind, name, right, run, **limits))

    return register


def torch() -> Any:
    """PyTorch, which says what is right for some inputs."""
    try:
        import torch as module
    except ImportError:
        raise Absent("torch") from None
    return module


def refusal(call: Callable[[], Any], *words: str) -> Found:
    """Right where the call raises an error that names what is wrong in words of this package's own."""
    try:
        result = call()
    except Exception as error:
        text = str(error)
        helps = all(word in text for word in words) and not FOREIGN.search(text)
        kind = isinstance(error, (TypeError, ValueError, RuntimeError, AttributeError, ImportError))
        return Found(f"{type(error).__name__}: {text}", helps and kind)
    return Found(f"accepted: {result!r}" if np.isscalar(result) else "accepted", False)


def worst(found: Any, right: Any) -> float:
    """The largest difference of two arrays as a share of the right one's largest element."""
    found, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
    if found.shape != right.shape:
        return float("inf")
    off = np.abs(found - right).max()
    return float("inf") if np.isnan(off) else float(off / max(np.abs(right).max(), 1e-300))


def near(most: float, **pairs: tuple[Any, Any]) -> Found:
    """Right where every array is as near to its right value as `most` of that one's largest element."""
    off = {name: worst(*pair) for name, pair in pairs.items()}
    return Found(
        ", ".join(f"{name} off by {value:.1e}" for name, value in off.items()), max(off.values()) <= most
    )


def equal(found: Any, right: Any) -> Found:
    return Found(repr(found), found == right)


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path
