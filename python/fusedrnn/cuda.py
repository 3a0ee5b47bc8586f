"""Whether CUDA can be used, and if not, why.

The first question opens the plugin library beside this package (or the one that the environment variable
``FUSEDRNN_CUDA_PLUGIN`` names) and with it the driver; importing does neither. The answer holds for the
process.
"""

from __future__ import annotations

from typing import NoReturn

from fusedrnn import _native


def is_available() -> bool:
    """Whether ``device="cuda"`` works here."""
    return why_not() is None


def why_not() -> str | None:
    """Why CUDA cannot be used and what to do about it, in one sentence; None where it can.

    The reason is one of: this build has no plugin; the plugin cannot be opened, or is of another version;
    there is no NVIDIA driver; it is too old, does not answer, or finds no GPU; the GPU is too old.
    """
    reason: str | None = _native.cuda_info()["why_not"]
    return reason


def stream(handle: int) -> NoReturn:
    """Makes later calls of this thread run on a CUDA stream of the caller's.

    Raises:
        RuntimeError: CUDA cannot be used; the message says why.
    """
    raise RuntimeError(f"no CUDA stream can be used: {why_not()}")
