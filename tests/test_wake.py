"""Sleeping workers are woken for much work, left asleep for little, and awake where calls follow each other.

Linux counts how often a thread has given up its CPU to wait: a worker that nobody wakes does not.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from steps import adam, data

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn.nn import LSTM, Last, Linear, Sequential

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="counts context switches in /proc"),
]
PAUSE = 0.005  # five times as long as workers wait for a call that follows


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = _native.get_num_threads()
    _native.set_num_threads(2)
    yield
    _native.set_num_threads(before)


def worker_waits() -> int:
    """How often the worker has gone to sleep so far."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == "fusedrnn-1":
            status = (task / "status").read_text()
            return int(status.partition("\nvoluntary_ctxt_switches:")[2].split(maxsplit=1)[0])
    return 0


def woken_by(call: Callable[[], Any], times: int = 10) -> int:
    """How often the worker went to sleep anew in calls far from each other."""
    time.sleep(PAUSE)
    before = worker_waits()
    for _ in range(times):
        call()
        time.sleep(PAUSE)
    return worker_waits() - before


def forward(T: int, B: int, H: int) -> Callable[[], Any]:
    module, x = LSTM(3, H, seed=1), data(T, B, 3)
    module(x)  # packs the weights, which is a call of its own
    return lambda: module(x)


def training(T: int, B: int, H: int) -> Callable[[], Any]:
    model = Sequential(LSTM(3, H, seed=1), Last(), Linear(H, 2, seed=2))
    optimizer = adam(model.parameters())
    step = {"x": data(T, B, 3), "y": data(B, 2), "loss": "mse", "optimizer": optimizer}
    model.train_step(**step)
    return lambda: model.train_step(**step)


@pytest.mark.parametrize("work", [forward, training])
def test_sleeping_workers_are_woken_for_much_work_only(work: Any) -> None:
    much, little = work(40, 32, 128), work(10, 10, 50)
    assert woken_by(much) >= 10
    assert woken_by(little) == 0


def test_packing_wakes_workers_where_weights_are_large() -> None:
    few, many = LSTM(3, 256, seed=1).state_dict(), LSTM(200, 300, 2, seed=1).state_dict()
    assert woken_by(lambda: fr.functional.pack_weights(few)) == 0
    assert woken_by(lambda: fr.functional.pack_weights(many)) >= 10


@pytest.mark.skipif(fr.get_num_threads() < 2, reason="with one CPU nobody spins")
@pytest.mark.parametrize("work", [forward, training])
def test_little_work_is_shared_where_calls_follow_each_other(work: Any) -> None:
    call = work(10, 10, 50)
    time.sleep(PAUSE)
    before = worker_waits()
    end = time.monotonic() + 20
    while worker_waits() == before:
        assert time.monotonic() < end, "the worker was never roused"
        for _ in range(100):
            call()
        time.sleep(PAUSE)  # long enough for a roused worker to sleep again, which is what is counted


@pytest.mark.skipif(fr.get_num_threads() < 2, reason="with one CPU nobody spins")
def test_workers_stay_awake_for_calls_a_little_apart() -> None:
    """As those of a training loop that makes its batches. A worker's patience ends while it waits for a core
    that another program has: loops beside one say nothing, and one in which workers stay awake is enough."""
    call, calls = forward(40, 32, 128), 400
    call()
    undisturbed = []
    for _ in range(20):
        before, others, begin = worker_waits(), seconds_of_others(), time.perf_counter()
        for _ in range(calls):
            end = time.perf_counter() + 300e-6
            while time.perf_counter() < end:
                pass
            call()
        waits = worker_waits() - before
        if waits < calls / 2:
            return
        free = (
            max(os.cpu_count() or 1, fr.get_num_threads()) - fr.get_num_threads()
        )  # cores that we leave to others
        if seconds_of_others() - others < (free + 0.1) * (time.perf_counter() - begin):
            undisturbed.append(waits)
    if not undisturbed:
        pytest.skip("other programs had the cores in each of 20 loops")
    raise AssertionError(f"of {calls} calls, workers slept before {undisturbed} of them, loop by loop")


def seconds_of_others() -> float:
    """What the processor's cores have done for other programs, and the host for other machines, up to now."""
    _, user, nice, system, _, _, irq, softirq, steal, *_ = Path("/proc/stat").read_text().split()
    busy = sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def test_the_plan_is_for_workers_that_are_awake() -> None:
    plan = _native.sequence_plan(
        "lstm", "float32", num_layers=1, num_directions=1, T=10, B=10, I=1, H=50, threads=2
    )
    assert (plan["row_groups"], plan["unit_groups"]) == (2, 1)


def test_forced_plans_wake_whoever_they_need() -> None:
    call = forward(10, 10, 50)
    try:
        _native.force_plan("2x1")
        assert woken_by(call) >= 10
    finally:
        _native.force_plan("")


def test_results_are_the_same_awake_or_asleep() -> None:
    module, x = LSTM(3, 50, seed=1), data(10, 10, 3)
    results = []
    for pause in (0.0, PAUSE):
        for _ in range(5):
            y, _ = module(x)
            results.append((y, module.backward(np.ones_like(y))[0]))
            time.sleep(pause)
    for y, dx in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(dx, results[0][1])
