"""Fair timing of contenders in one process on a shared, noisy machine. The method is in README.md."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

BLOCK_SECONDS = 0.3
REST_SECONDS = 0.05  # lets the spinning threads of the contender before go to sleep
SIDE_SECONDS = 1.0  # timed calls of each contender, at least
MIN_CALLS = 5  # of each contender, however long they take
HOPELESS = 1.5  # times as slow as the fastest of the same library, after two rounds: no further rounds
OURS = "fusedrnn"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
_clock = time.perf_counter


class Timed(Protocol):
    """Something to time: of a library, by a name for tables, in this process or another."""

    name: str
    library: str

    def block(self, seconds: float) -> list[float]:
        """Calls once untimed, then again and again for at least `seconds`; the timed calls' seconds."""


@dataclass(frozen=True)
class Contender:
    """Something to time in this process.

    Attributes:
        name: shown in tables.
        call: one repetition of the work.
        prepare: run before every block, untimed; sets the thread count, for one.
        library: whose work it is; contenders of one library differ in settings.
        view: turns what `call` returns into what all contenders of a row must agree on.
        finish: waits for what calls have begun, which is timed with them.
        repeat: calls between two waits, timed as one and divided.
    """

    name: str
    call: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    library: str = OURS
    view: Callable[[Any], Any] = lambda result: result
    finish: Callable[[], Any] = lambda: None
    repeat: int = 1

    def block(self, seconds: float) -> list[float]:
        """See `Timed`."""
        self.prepare()
        if self.repeat == 1:
            return timed_block(lambda: (self.call(), self.finish()), seconds)

        def several() -> None:
            for _ in range(self.repeat):
                self.call()
            self.finish()

        return [time / self.repeat for time in timed_block(several, seconds)]


@dataclass(frozen=True)
class Timing:
    """Seconds a call, over all timed calls."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    calls: int


def compare(
    contenders: Sequence[Timed],
    seconds: float = SIDE_SECONDS,
    block_seconds: float = BLOCK_SECONDS,
    rest_seconds: float = REST_SECONDS,
) -> dict[str, Timing]:
    """Times contenders in alternating blocks.

    Each block lasts at least 0.3 s, its first call is dropped, and 50 ms of sleep precede it, where the
    arguments do not say otherwise, as for a GPU, whose calls leave no threads spinning. Rounds over all
    contenders repeat until each has `seconds` of timed calls and at least 5 of them. A contender that after
    two rounds is far behind another of its library, which is taken at its best, gets no more.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    contenders = list(contenders)
    for contender in contenders:  # allocations, caches of either library, lazy initialisation
        contender.block(0.0)
    rounds = 0
    while any(sum(times[c.name]) < seconds or len(times[c.name]) < MIN_CALLS for c in contenders):
        for contender in contenders:
            time.sleep(rest_seconds)
            times[contender.name] += contender.block(block_seconds)
        rounds += 1
        if rounds == 2:
            medians = {c.name: float(np.median(times[c.name])) for c in contenders}
            fastest = {
                library: min(medians[c.name] for c in contenders if c.library == library)
                for library in {c.library for c in contenders}
            }
            contenders = [c for c in contenders if medians[c.name] < HOPELESS * fastest[c.library]]
    return {name: _timing(values) for name, values in times.items()}


def best(timings: Mapping[str, Timing]) -> str:
    """The name of the fastest."""
    return min(timings, key=lambda name: timings[name].median)


def use_clock(name: str) -> None:
    """Times calls by a clock of `CLOCKS` from now on.

    Processor time, of all threads of the process, is for machines that are busy with other work, and for one
    thread: it leaves out the time in which others have the core, but not what they do to its caches.
    """
    global _clock
    _clock = CLOCKS[name]


def timed_block(call: Callable[[], Any], seconds: float) -> list[float]:
    """See `Timed.block`."""
    call()
    times = []
    end = _clock() + seconds
    while True:
        start = _clock()
        call()
        stop = _clock()
        times.append(stop - start)
        if stop >= end:
            return times


def _timing(values: list[float]) -> Timing:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(values))


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    import fusedrnn as fr

    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    for package in ("torch", "onnxruntime"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    facts["clock"] = next(name for name, clock in CLOCKS.items() if clock is _clock)
    return {**facts, "fusedrnn": fr.__version__, "build": build(), "isa": fr.cpu.isa()}


def build() -> str:
    """Names the compiled module that is measured: the first digits of its hash."""
    import fusedrnn as fr

    return hashlib.sha256(Path(fr._native.__file__).read_bytes()).hexdigest()[:12]


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
