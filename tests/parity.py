"""The rule that says when a kernel agrees with the reference. No tolerance in it is chosen by hand.

Rounding alone moves a result by some e: the largest difference between the reference in the kernel's dtype,
its sums strictly sequential, in a drawn order and a rounding error off, and the reference in the next wider
dtype, over 8 such runs. A kernel passes where ``|ours - truth| <= 2 e + 4 eps max|truth| + smallest
normal``. That is asked of each tensor, of each gate's block of it and of each time step of it, with e and
the maximum of that part: a gradient 40 steps back may be 1e-8 of the largest, and must be right there too.
What is not finite must be the same in the same place.

In a precision that rounds the operands of products (tf32, tf32x3, bf16, fp16) the truth takes inputs and
weights as they are rounded and rounds nothing else; the 8 runs round operands as the kernels do, each a
rounding error of the narrow format off, and leave out of products of tf32x3 what the kernels leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from fusedrnn.reference.arithmetic import NUMPY, Arithmetic, sequential

Array = NDArray[Any]
Results = Mapping[str, Array]
RUNS = 8


class Axes(NamedTuple):
    """Which axis of a result is time, and which holds blocks (of how many gates) side by side."""

    time: int | None = None
    gate: int | None = None
    gates: int = 1


def wider(dtype: Any) -> Any:
    """The dtype the truth is computed in: float64 for float32, long double for float64.

    Skips the test, and says why, where long double is no wider than float64.
    """
    if dtype == np.float32:
        return np.float64
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip(
            "the tolerance rule cannot be applied to float64: long double is no wider on this machine"
        )
    return np.longdouble


def cast(arrays: Any, dtype: Any) -> Any:
    """A nest of dicts, tuples and lists with its floating-point arrays in dtype; all else as it is."""
    if isinstance(arrays, np.ndarray):
        return arrays.astype(dtype) if np.issubdtype(arrays.dtype, np.inexact) else arrays
    if isinstance(arrays, Mapping):
        return {name: cast(a, dtype) for name, a in arrays.items()}
    if isinstance(arrays, (tuple, list)):
        return type(arrays)(cast(a, dtype) for a in arrays)
    return arrays


def assert_parity(
    ours: Results,
    reference: Callable[[Any, Arithmetic], Results],
    dtype: Any,
    axes: Mapping[str, Axes] | None = None,
) -> None:
    """Applies the rule to every result.

    Args:
        ours: what the kernel gave, by name.
        reference: computes the same from inputs cast to a dtype, with an arithmetic, which a function
            without sums of its own is free to ignore.
        dtype: float32 or float64, the kernel's.
        axes: where results have time steps and gate blocks.
    """
    truth = reference(wider(dtype), NUMPY)
    assert ours.keys() == truth.keys()
    for name in truth:
        assert ours[name].dtype == dtype, f"{name}: dtype {ours[name].dtype}"
        assert ours[name].shape == truth[name].shape, (
            f"{name}: shape {ours[name].shape}, not {truth[name].shape}"
        )
    with np.errstate(all="ignore"):
        runs = [reference(dtype, sequential(seed)) for seed in range(RUNS)]
        for name, right in truth.items():
            errors = np.max([np.abs(run[name].astype(right.dtype) - right) for run in runs], axis=0)
            _assert_tensor(name, ours[name], right, errors, dtype, (axes or {}).get(name, Axes()))


def _assert_tensor(name: str, ours: Array, truth: Array, errors: Array, dtype: Any, axes: Axes) -> None:
    rounded = truth.astype(dtype)  # what is finite but too large for dtype is infinite there
    finite = np.isfinite(rounded)
    unlike = ~finite & ~((ours == rounded) | (np.isnan(ours) & np.isnan(rounded))) | finite & ~np.isfinite(
        ours
    )
    if unlike.any():
        at = tuple(int(i[0]) for i in np.nonzero(unlike))
        raise AssertionError(f"{name}{list(at)}: {ours[at]} where the truth is {truth[at]}")
    info = np.finfo(dtype)
    difference = np.where(finite, np.abs(ours - truth), 0)
    errors = np.where(finite & np.isfinite(errors), errors, 0)
    size = np.where(finite, np.abs(truth), 0)
    for part, index in _parts(truth.shape, axes):
        if difference[index].size == 0:
            continue
        allowed = 2 * errors[index].max() + 4 * info.eps * size[index].max() + info.smallest_normal
        if difference[index].max() > allowed:
            at = np.unravel_index(np.argmax(np.where(_mask(truth.shape, index), difference, -1)), truth.shape)
            raise AssertionError(
                f"{name}{part}: off by {difference[index].max():.3e} at {[int(i) for i in at]}"
                f" ({ours[at]} for {truth[at]}), allowed {allowed:.3e}"
            )


def _mask(shape: tuple[int, ...], index: tuple[Any, ...]) -> Array:
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def _parts(shape: tuple[int, ...], axes: Axes) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The whole, each time step, each gate block, each gate block of each time step."""
    times: list[tuple[str, Any]] = [("", slice(None))]
    gates: list[tuple[str, Any]] = [("", slice(None))]
    if axes.time is not None:
        times += [(f" step {t}", t) for t in range(shape[axes.time])]
    if axes.gate is not None:
        width = shape[axes.gate] // axes.gates
        gates += [(f" gate {g}", slice(g * width, (g + 1) * width)) for g in range(axes.gates)]
    for time_name, t in times:
        for gate_name, g in gates:
            index: list[Any] = [slice(None)] * len(shape)
            if axes.time is not None:
                index[axes.time] = t
            if axes.gate is not None:
                index[axes.gate] = g
            yield time_name + gate_name, tuple(index)
