"""Learning rate schedules: values by hand, composition, errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from fusedrnn.optim import schedules


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (schedules.exponential(0.8, 0.5), {0: 0.8, 1: 0.4, 3: 0.1}),
        (schedules.exponential(0.8, 0.25, every=4), {0: 0.8, 2: 0.4, 4: 0.2}),
        (schedules.step(0.8, 0.5, every=3), {0: 0.8, 2: 0.8, 3: 0.4, 5: 0.4, 6: 0.2}),
        (schedules.linear(1.0, 4), {0: 1.0, 1: 0.75, 4: 0.0, 9: 0.0}),
        (schedules.linear(1.0, 4, final=0.2), {0: 1.0, 2: 0.6, 4: 0.2, 9: 0.2}),
        (schedules.cosine(1.0, 4), {0: 1.0, 1: (1 + math.sqrt(0.5)) / 2, 2: 0.5, 4: 0.0, 9: 0.0}),
        (schedules.cosine(1.0, 4, final=0.5), {0: 1.0, 2: 0.75, 4: 0.5, 9: 0.5}),
        (schedules.warmup(0.5, 4), {0: 0.125, 1: 0.25, 3: 0.5, 4: 0.5, 100: 0.5}),
        (schedules.warmup(schedules.linear(1.0, 2), 2), {0: 0.5, 1: 1.0, 2: 1.0, 3: 0.5, 4: 0.0}),
        (schedules.warmup(schedules.warmup(1.0, 2), 2), {0: 0.25, 1: 0.5, 2: 0.5, 3: 1.0}),
    ],
)
def test_values(schedule: schedules.Schedule, values: dict[int, float]) -> None:
    for step, lr in values.items():
        assert type(schedule(step)) is float
        np.testing.assert_allclose(schedule(step), lr, rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.exponential(-1.0, 0.5), "lr must be finite and >= 0, it is -1.0"),
        (lambda: schedules.exponential(1.0, math.nan), "factor must be finite"),
        (lambda: schedules.step(1.0, 0.5, 0), "every must be at least 1, it is 0"),
        (lambda: schedules.linear(1.0, 0), "steps must be at least 1, it is 0"),
        (lambda: schedules.cosine(1.0, 5, final=-1.0), "final must be finite"),
        (lambda: schedules.warmup(1.0, math.nan), "steps must be at least 1"),  # type: ignore[arg-type]
        (lambda: schedules.warmup(-1.0, 5), "schedule must be finite"),
    ],
)
def test_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
