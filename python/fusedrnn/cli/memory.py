"""How much memory there can be, asked before it is needed: a system that promises more kills later."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

from fusedrnn.cli.errors import CommandError

_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the control group, as containers have it


def available() -> int:
    """Bytes this process could have at most: of the machine, its control group, its own limit."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limits += [limit for limit in (resource.getrlimit(resource.RLIMIT_AS)[0],) if limit > 0]
    with contextlib.suppress(OSError, ValueError):  # there is no group, or no limit: "max"
        limits.append(int(_GROUP_LIMIT.read_text("ascii")))
    return min(limits)


def require(needed: int, what: str, advice: str) -> None:
    """Raises CommandError if `what` needs more bytes than there can be; `advice` says what to do."""
    there = available()
    if needed > there:
        raise CommandError(
            f"not enough memory: {what} needs about {needed / 2**30:.3g} GiB, "
            f"there are {there / 2**30:.3g} GiB: {advice}"
        )
