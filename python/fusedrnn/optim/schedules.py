"""Learning rate schedules: each returns a function of the step, counted from 0, to the learning rate.

    schedule = warmup(cosine(1e-3, steps=10_000), steps=500)
    optimizer.lr = schedule(step)

A schedule has no state: to resume, go on with the step. Arguments that are negative, not finite or, where a
number of steps is asked for, less than 1 raise ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fusedrnn._core import checks, torch_hints
from fusedrnn.functional.rules import check_range

Schedule = Callable[[int], float]


def _check_steps(name: str, steps: int) -> None:
    if not (math.isfinite(checks.real(name, steps)) and steps >= 1):
        raise ValueError(f"{name} must be at least 1, it is {steps}")


def exponential(lr: float, factor: float, every: int = 1) -> Schedule:
    """lr factor^(step / every): falls by `factor` over each `every` steps, smoothly."""
    check_range("lr", lr)
    check_range("factor", factor)
    _check_steps("every", every)
    return lambda step: lr * factor ** (step / every)


def step(lr: float, factor: float, every: int) -> Schedule:
    """lr factor^floor(step / every): falls by `factor` at each multiple of `every` steps."""
    check_range("lr", lr)
    check_range("factor", factor)
    _check_steps("every", every)
    return lambda step: lr * factor ** (step // every)


def linear(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From lr to final along a line that ends at step `steps`, constant after it."""
    check_range("lr", lr)
    check_range("final", final)
    _check_steps("steps", steps)
    return lambda step: lr + (final - lr) * min(1.0, step / steps)


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    """From lr to final along half a cosine (Loshchilov & Hutter 2017) that ends at step `steps`."""
    check_range("lr", lr)
    check_range("final", final)
    _check_steps("steps", steps)
    return lambda step: final + (lr - final) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2


def warmup(schedule: Schedule | float, steps: int) -> Schedule:
    """Rises along a line to what `schedule` begins with, reached by the last of `steps` steps, then follows
    it.

    Args:
        schedule: what comes after the rise, its own step counted from 0 there; a number for a constant rate.
        steps: length of the rise; the step k < steps has (k + 1) / steps of the rate.
    """
    _check_steps("steps", steps)
    if callable(schedule):
        after = schedule
    else:
        check_range("schedule", schedule)
        lr = float(schedule)

        def after(step: int) -> float:
            return lr

    return lambda step: after(0) * (step + 1) / steps if step < steps else after(step - steps)


if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.optim.schedules'", name, torch_hints.SCHEDULES)
