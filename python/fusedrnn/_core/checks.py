"""Checks of constructor arguments; every message names the argument, what it must be and what it was."""

from __future__ import annotations

import math
import numbers
from typing import Any, NoReturn

import numpy as np

from fusedrnn import _native

Seed = int | np.random.Generator | None


def positive_int(name: str, value: Any, most: int | None = None) -> int:
    """`value` as an int of at least 1, and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int, it is {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, it is {value}")
    if most is not None and int(value) > most:
        raise ValueError(f"{name} must be at most {most}, it is {value}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """`value` as the bool that it must be."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, it is {value!r}")
    return bool(value)


def probability(name: str, value: Any) -> float:
    """`value` as a float in [0, 1]."""
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be between 0 and 1, it is {value}")
    return number


def positive(name: str, value: Any) -> float:
    """`value` as a finite float greater than 0."""
    number = real(name, value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} must be finite and greater than 0, it is {value}")
    return number


def real(name: str, value: Any) -> float:
    """`value` as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, it is {type(value).__name__}")
    return float(value)


def generator(seed: Any) -> np.random.Generator:
    """The random generator that `seed` names; None gives one seeded by the operating system.

    NumPy's global generator is neither read nor written.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral)):
        raise TypeError(f"seed must be an int, a numpy.random.Generator or None, it is {type(seed).__name__}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must be at least 0, it is {seed}")
    return np.random.default_rng(None if seed is None else int(seed))


def require_input(x: Any, dtype: np.dtype[Any], device: str) -> None:
    """Raises TypeError unless x is an array of that dtype on that device; says what to do about it."""
    if getattr(x, "dtype", None) != dtype or isinstance(x, np.ndarray) != (device == "cpu"):
        _refuse_input(x, dtype, device)


def _refuse_input(x: Any, dtype: np.dtype[Any], device: str) -> NoReturn:
    on_device = isinstance(x, _native.DeviceArray)
    if device == "cuda" and not on_device:
        was = "a NumPy array" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f'x must be a DeviceArray, it is {was}: use fr.asarray(x, device="cuda")')
    if device == "cpu" and not isinstance(x, np.ndarray):
        fix = "x.detach().numpy()" if hasattr(x, "detach") else "np.asarray(x)"
        was = f"a DeviceArray on {x.device}: use x.numpy()" if on_device else f"{type(x).__name__}: use {fix}"
        raise TypeError(f"x must be a NumPy array, it is {was}")
    other = f" or dtype=np.{x.dtype}" if x.dtype in (np.float32, np.float64) else ""
    cast = "fr.asarray(x.numpy().astype({}))" if on_device else "x.astype({})"
    raise TypeError(f"x is {x.dtype}, the module {dtype}: use {cast.format(f'np.{dtype}')}{other}")


def dropout_key(rng: np.random.Generator) -> int:
    """A 64-bit key for the first dropout mask of a module."""
    return int(rng.integers(2**64, dtype=np.uint64))


def next_key(key: int) -> int:
    """The key after `key`. Masks of any two keys are unrelated, so counting up is enough."""
    return (key + 1) % 2**64
