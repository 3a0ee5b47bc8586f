"""Whether CUDA can be used, and if not, why.

The first question opens the plugin library beside this package (or the one that the environment variable
``FUSEDRNN_CUDA_PLUGIN`` names) and with it the driver; importing does neither. The answer holds for the
process.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def stream(handle: Any) -> Iterator[None]:
    """Makes the calls of this thread within the block run on a CUDA stream of the caller's.

        with fr.cuda.stream(torch.cuda.current_stream()):
            y, hn = gru(x)

    Outside of any block it is the legacy default stream. Each thread has its own.

    What is promised: a call's work goes to the stream, behind what is there already, and the call returns
    when it is done. A producer of arrays is asked through DLPack to be ready for the stream; the stream that
    an array names in ``__cuda_array_interface__`` is waited for. So arrays that come out are complete, and
    those that went in may be changed or freed when the call has returned, but for the x of a training call,
    which its tape borrows. A stream that is being captured into a graph cannot be used yet.

    Args:
        handle: an int (0 or 1 the legacy default stream, 2 the one per thread, else a cudaStream_t), or a
            stream that offers ``__cuda_stream__``, ``cuda_stream`` (PyTorch) or ``ptr`` (CuPy).

    Raises:
        RuntimeError: CUDA cannot be used; the message says why. TypeError: handle is no stream.
    """
    before = _native.set_stream(_number(handle))
    try:
        yield
    finally:
        _native.set_stream(before)


def _number(handle: Any) -> int:
    """The address of a stream."""
    reason = why_not()
    if reason is not None:
        raise RuntimeError(f"no CUDA stream can be used: {reason}")
    if hasattr(handle, "__cuda_stream__"):
        return int(handle.__cuda_stream__()[1])
    for name in ("cuda_stream", "ptr"):
        if isinstance(getattr(handle, name, None), int):
            return int(getattr(handle, name))
    if isinstance(handle, bool) or not isinstance(handle, numbers.Integral) or handle < 0:
        raise TypeError(f"handle must be an int of at least 0 or a stream, it is {handle!r}")
    return int(handle)
