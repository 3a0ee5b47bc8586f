"""Fair timing of contenders in one process on a shared, noisy machine. The method is in README.md."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

BLOCK_SECONDS = 0.3
REST_SECONDS = 0.05  # lets the spinning threads of the contender before go to sleep
SIDE_SECONDS = 1.0  # timed calls of each contender, at least
MIN_CALLS = 5  # of each contender, however long they take


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes:
        name: shown in tables.
        call: one repetition of the work.
        prepare: run before every block, untimed; sets the thread count, for one.
    """

    name: str
    call: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Timing:
    """Seconds a call, over all timed calls."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    calls: int


def compare(contenders: Sequence[Contender], seconds: float = SIDE_SECONDS) -> dict[str, Timing]:
    """Times contenders in alternating blocks.

    Each block lasts at least 0.3 s, its first call is dropped, and 50 ms of sleep follow it. Rounds over all
    contenders repeat until each has `seconds` of timed calls and at least 5 of them.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:  # allocations, caches of either library, lazy initialisation
        contender.prepare()
        contender.call()
    while any(sum(t) < seconds or len(t) < MIN_CALLS for t in times.values()):
        for contender in contenders:
            time.sleep(REST_SECONDS)
            contender.prepare()
            contender.call()
            times[contender.name] += _block(contender.call)
    return {name: _timing(values) for name, values in times.items()}


def best(timings: dict[str, Timing]) -> str:
    """The name of the fastest."""
    return min(timings, key=lambda name: timings[name].median)


def _block(call: Callable[[], Any]) -> list[float]:
    times = []
    end = time.perf_counter() + BLOCK_SECONDS
    while True:
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        times.append(stop - start)
        if stop >= end:
            return times


def _timing(values: list[float]) -> Timing:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(values))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import onnxruntime
    import torch

    import fusedrnn as fr

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "fusedrnn": fr.__version__,
        "isa": fr.cpu.isa(),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
