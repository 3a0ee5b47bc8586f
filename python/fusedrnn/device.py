"""Where a module's arrays live and how it computes: the `device` and `precision` arguments, checked."""

from __future__ import annotations

import warnings

from fusedrnn import cuda

DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = ("ieee", "tf32", "tf32x3", "bf16", "fp16")
_said_fallback = False


def resolve_device(device: str) -> str:
    """The device to use for the argument `device`: "cpu" or "cuda".

    "auto" is CUDA where it can be used, and otherwise the CPU, which is said once per process by a
    RuntimeWarning that holds the reason.

    Raises:
        ValueError: device is not "cpu", "cuda" or "auto".
        RuntimeError: device is "cuda", and CUDA cannot be used; the message says why.
    """
    global _said_fallback
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(map(repr, DEVICES))}, it is {device!r}")
    if device == "cpu" or cuda.is_available():
        return "cpu" if device == "cpu" else "cuda"
    if device == "cuda":
        raise RuntimeError(f'device="cuda" cannot be used: {cuda.why_not()}')
    if not _said_fallback:
        _said_fallback = True
        warnings.warn(f'device="auto" uses the CPU: {cuda.why_not()}', RuntimeWarning, stacklevel=3)
    return "cpu"


def check_precision(precision: str, device: str) -> str:
    """The argument `precision` of a module on `device`, checked.

    Parameters are float32 or float64 whatever it says; it is a policy for the arithmetic on CUDA. The CPU
    computes in the parameters' own type, which is "ieee".

    Raises:
        ValueError: precision is unknown, or not offered on this device.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, it is {precision!r}")
    if device == "cpu" and precision != "ieee":
        raise ValueError(
            f"precision={precision!r} is an arithmetic of CUDA devices: on the CPU only 'ieee' is offered"
        )
    return precision
