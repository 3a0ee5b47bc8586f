"""Whether CUDA can be used, and if not, why."""

from __future__ import annotations


def is_available() -> bool:
    """Whether ``device="cuda"`` works here."""
    return False


def why_not() -> str | None:
    """Why CUDA cannot be used, in one sentence; None where it can."""
    return "this build has no CUDA plugin"
