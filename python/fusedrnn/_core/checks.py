"""Checks of arguments, all kinds of them: each message names the argument, what it must be and what it was.

What comes from a caller goes through here, or through the native checks of arrays (csrc/bindings/arrays),
which say the same: so no text of pybind11's or NumPy's tells a caller of what is within.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from fusedrnn import _native
from fusedrnn._core.probabilities import integer as integer
from fusedrnn._core.probabilities import probability as probability
from fusedrnn._core.probabilities import real as real

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


def positive(name: str, value: Any) -> float:
    """`value` as a finite float greater than 0."""
    number = real(name, value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} must be finite and greater than 0, it is {value}")
    return number


def recompute(value: Any, bidirectional: bool) -> int | str:
    """`value` as the number of steps, or "auto", of what recomputes; 0 with two directions."""
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"recompute must be a number of steps or 'auto', it is {value!r}")
    else:
        value = integer("recompute", value, 0, 2**31)
    if value and bidirectional:
        raise ValueError(
            f"recompute must be 0 with bidirectional=True, it is {value!r}: "
            "each direction starts where the other ends"
        )
    found: int | str = value
    return found


def steps_between(recompute: int | str) -> int:
    """A checked `recompute` as the native module has it."""
    return -1 if isinstance(recompute, str) else recompute


def text(name: str, value: Any) -> str:
    """`value` as the text that it must be."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, it is {type(value).__name__}")
    return value


def choice(name: str, value: Any, known: Collection[str]) -> str:
    """`value` as one of the texts that are known."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, it is {value!r}")
    return value


def mapping(name: str, value: Any, what: str) -> Mapping[str, Any]:
    """`value` as a dict with texts for keys, `what` being what it must be."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be {what}, it is a {type(value).__name__}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must be {what}, it has a key of type {type(key).__name__}")
    return value


def several(name: str, value: Any, what: str) -> list[Any]:
    """What an iterable holds, `what` being what it must be; texts and arrays are none."""
    if isinstance(value, (str, bytes, bytearray, memoryview, np.ndarray, Mapping, type)):
        raise TypeError(f"{name} must be {what}, it is a {type(value).__name__}")
    try:
        items: Iterable[Any] = iter(value)
    except TypeError:
        raise TypeError(f"{name} must be {what}, it is a {type(value).__name__}") from None
    return list(items)


def require_array(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a NumPy array or a DeviceArray."""
    if not isinstance(value, (np.ndarray, _native.DeviceArray)):
        raise TypeError(f"{name} must be a NumPy array, it is of type {type(value).__name__}")


def require_axes(name: str, value: Any, least: int) -> None:
    """Raises what `require_array` does, and ValueError where it has fewer axes."""
    require_array(name, value)
    if value.ndim < least:
        raise ValueError(f"{name} must have at least {least} axes, its shape is {value.shape}")


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


def require_no_mask(name: str, array: Any) -> None:
    """Raises TypeError for a masked array: no parameter, state or input has a mask."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, it is masked: use {name}.filled(value)")


def require_float(name: str, array: Any) -> None:
    """Raises TypeError unless `array` is a NumPy array of float32 or float64."""
    require_no_mask(name, array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, it is of type {type(array).__name__}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, it is {array.dtype}")


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
