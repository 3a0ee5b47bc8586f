"""Signals that ask a run to end: it saves first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C; kill and shutdown; a terminal that is closed; the limit on processor time.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)


class Stop:
    """Whether a signal asked the run to end."""

    signum: int | None = None

    @property
    def name(self) -> str:
        """What stopped the run, for people."""
        if self.signum == signal.SIGINT:
            return "Ctrl-C"
        return "nothing" if self.signum is None else signal.Signals(self.signum).name


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """The signals of `STOPPING` set `signum`; a second one ends the program at once.

    A SIGHUP that is ignored stays ignored: so nohup asks for it.
    """
    stop = Stop()
    before = {number: signal.getsignal(number) for number in STOPPING}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]

    def handle(signum: int, _: FrameType | None) -> None:
        stop.signum = signum
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
