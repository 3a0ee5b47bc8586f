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
    before it is done. `DeviceArray.numpy`, ``float()`` and other copies to host memory wait for it; what goes
    wrong in it is raised there.

    - Arrays may go from one stream or thread to another: a call's stream waits for what other
      streams still do with its arrays, as far as that came from this package. Memory is given back when the
      last of it is done, so an array may be dropped at any time.
    - Arrays of other libraries are held until the work that uses them is done. DLPack asks their producer to
      have them ready for the stream; the stream that ``__cuda_array_interface__`` names is waited for, by the
      stream and not by the host. What the owner does to one later is the owner's to order, and for as long as
      a tape borrows an x it must not be written.
    - A consumer's stream waits for what it takes by DLPack. What the consumer does there is known as long as
      that stream is a default one, or the one of the block that the consumer gives the array back in;
      otherwise wait for it before the array is dropped. ``__cuda_array_interface__`` names the stream to wait
      for, None when nothing is under way.
    - A stream that is being captured into a graph records the calls like any other work: they run when the
      graph does, with what their arrays and parameters hold then, and the graph keeps their memory. What the
      host would have to wait for cannot be captured, and raises: copies from and to host memory, lengths and
      resets.
    - A stream must exist as long as the block does.

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


def empty_cache() -> None:
    """Gives memory that was freed back to the GPU, as ``torch.cuda.empty_cache()`` does.

        del model, batch
        fr.cuda.empty_cache()

    What arrays of this package no longer use stays with the process otherwise, because arrays to come get
    it from there much faster; other libraries of the process cannot have it. This gives back that of the
    calling thread's GPU, and waits for all its work first. What arrays, models and training steps still hold
    stays.

    Raises:
        RuntimeError: CUDA cannot be used, and the message says why; the thread's stream is being captured
            into a graph; or this process was forked after CUDA had been used.
    """
    _native.empty_cache()


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
