"""Whether CUDA can be used, and if not, why."""

from __future__ import annotations

from typing import NoReturn


def is_available() -> bool:
    """Whether ``device="cuda"`` works here."""
    return why_not() is None


def why_not() -> str | None:
    """Why CUDA cannot be used, in one sentence; None where it can."""
    return "this build has no CUDA plugin"


def stream(handle: int) -> NoReturn:
    """Makes later calls of this thread run on a CUDA stream of the caller's.

    Raises:
        RuntimeError: CUDA cannot be used; the message says why.
    """
    raise RuntimeError(f"no CUDA stream can be used: {why_not()}")
