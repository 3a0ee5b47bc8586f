"""A training step of a shape seen before allocates nothing but what it returns.

Asserted here, over hundreds of steps of several shapes in turn: no call of the function that all memory of
the backend and all returned arrays come from; no growth of Python's memory, traced, beyond a few numbers,
and no peak as high as an array. `test_leak.py` asserts that the resident set does not grow. That C++
allocates nothing in between is what tests/native/test_step.cpp counts.
"""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
from steps import B, I, T, adam, data, labels, regressor, sequences, tagger

from fusedrnn import _native


def rounds() -> list:
    """Models with steps of several shapes each, all of which have been seen."""
    lengths, resets = np.array([6, 1, 0, 3]), data(T, B) > 0.5
    shapes = [
        {"clip_norm": 1.0},
        {"lengths": lengths, "resets": resets},
        {"state": [(data(2, B, 5), None)], "skip_nonfinite": True},
        {"mask": np.ones((B, 2), bool), "ignore_index": 3},
    ]
    first, second = regressor(num_layers=2, dropout=0.5), tagger()
    steps = [
        (model, {**step, **more, "loss": loss, "optimizer": optimizer})
        for model, loss, options, made in (
            (first, "mse", shapes, [*sequences(4), {"x": data(99, 99, I), "y": data(99, 2)}]),
            (second, "cross_entropy", [{"clip_norm": 1.0}], labels(2)),
        )
        for optimizer in [adam(model.parameters())]
        for step, more in zip(made, [*options, {}], strict=False)
    ]
    for _ in range(3):
        run(steps)
    return steps


def run(steps: list) -> None:
    for model, step in steps:
        model.train_step(**step)


def test_nothing_of_the_backends_memory() -> None:
    steps = rounds()
    before = _native.host_allocations()
    for _ in range(100):
        run(steps)
    assert _native.host_allocations() == before
    model, step = steps[0]
    model.train_step(**step, return_state=True)
    assert _native.host_allocations() == before + 2  # hn and cn


def test_nothing_of_pythons_memory() -> None:
    steps = rounds()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(100):  # what Python keeps for later (lists grown, blocks freed) settles
            run(steps)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            run(steps)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000  # the step counts and the dropout keys grow past what small numbers take
    assert peak - before < 20_000  # arguments and results of one call; the largest x has 118 kB
