"""Where arrays live and how modules compute: device arrays, and the arguments `device`, `precision` and
`algo`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fusedrnn import _native, cuda
from fusedrnn._core import checks
from fusedrnn._core.cells import ALGOS, PRECISIONS, PRECISIONS_OF

DEVICES = ("cpu", "cuda", "auto")
_said_fallback = False
_LEGACY_STREAM = 1


def resolve_device(device: str) -> str:
    """The device to use for the argument `device`: "cpu" or "cuda".

    "auto" is CUDA where it can be used, and otherwise the CPU, which is said once per process by a
    RuntimeWarning that holds the reason.

    Args:
        device: "cpu", "cuda" or "auto".

    Raises:
        ValueError: device is not "cpu", "cuda" or "auto".
        RuntimeError: device is "cuda", and CUDA cannot be used; the message says why.
    """
    global _said_fallback
    checks.choice("device", device, DEVICES)
    if device == "cpu":
        return device
    reason = cuda.why_not()
    if reason is None:
        return "cuda"
    if device == "cuda":
        raise RuntimeError(f'device="cuda" cannot be used: {reason}')
    if not _said_fallback:
        _said_fallback = True
        warnings.warn(f'device="auto" uses the CPU: {reason}', RuntimeWarning, stacklevel=3)
    return "cpu"


def check_precision(precision: str, device: str, dtype: Any = np.float32) -> str:
    """The argument `precision` of a module of that dtype on `device`, checked.

    Parameters are float32 or float64 whatever it says; it is a policy for the operands of products.

    Raises:
        ValueError: precision is unknown, or not offered on this device or for this dtype.
    """
    checks.choice("precision", precision, PRECISIONS)
    if precision not in PRECISIONS_OF[device]:
        offered, where = (
            ", ".join(map(repr, PRECISIONS_OF[device])),
            {"cpu": "the CPU", "cuda": "CUDA"}[device],
        )
        raise ValueError(f"precision={precision!r} is not offered on {where}: that has {offered}")
    if precision != "ieee" and dtype != np.float32:
        raise ValueError(f"precision={precision!r} is an arithmetic of float32 modules, this one is {dtype}")
    return precision


def linear_precision(precision: str, device: str) -> str:
    """The precision of a `Linear` behind recurrent layers: theirs, but on CUDA "ieee", its only one."""
    return precision if device == "cpu" else "ieee"


def check_algo(algo: str, device: str) -> str:
    """The argument `algo` of a module on `device`, checked.

    Raises:
        ValueError: algo is unknown, or a plan of CUDA devices on the CPU.
    """
    checks.choice("algo", algo, ALGOS)
    if device == "cpu" and algo != "auto":
        raise ValueError(f"algo={algo!r} is a plan of CUDA devices: on the CPU only 'auto' is offered")
    return algo


def asarray(x: Any, device: str = "cuda") -> Any:
    """x as an array on a device, without a copy where it is there already.

    Args:
        x: a NumPy array or what `numpy.asarray` turns into one, a `DeviceArray`, or an array of another
            library (PyTorch, CuPy, JAX) that offers ``__dlpack__`` or ``__cuda_array_interface__``; float32,
            float64, int64 or bool.
        device: "cuda", or "cpu" for a NumPy array.

    Returns:
        A `DeviceArray`, which shares the memory of x if x is an array on the device; or a NumPy array.

    Raises:
        RuntimeError: CUDA cannot be used; ValueError: x is on another device, or device is unknown;
            TypeError: x has another dtype; MemoryError: the device has not the memory.
    """
    checks.require_no_mask("x", x)
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', it is {device!r}")
    if device == "cpu":
        return _numbers(x)
    reason = cuda.why_not()
    if reason is not None:
        raise RuntimeError(f"asarray: CUDA cannot be used: {reason}")
    x = as_device_array(x)
    return x if isinstance(x, _native.DeviceArray) else _native.device_array(_numbers(x))


def on_host(x: Any) -> Any:
    """x as a NumPy array, copied where it is on a device; ValueError where it is lists of no shape."""
    x = as_device_array(x)
    return x.numpy() if isinstance(x, _native.DeviceArray) else np.asarray(x)


def _numbers(x: Any) -> np.ndarray[Any, Any]:
    """x as a NumPy array of numbers."""
    try:
        array: np.ndarray[Any, Any] = on_host(x)
    except ValueError:
        if not isinstance(x, (list, tuple)):
            raise
        raise ValueError("x must be an array or lists of one shape, its lists differ in length") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"x must be of real numbers, it is of dtype {array.dtype}")
    return array


def zeros(shape: Any, dtype: Any, beside: Any) -> Any:
    """Zeros of that shape and dtype on the device of the array `beside`, or a NumPy array."""
    if isinstance(beside, _native.DeviceArray):
        return _native.device_zeros(tuple(shape), dtype)
    return np.zeros(shape, dtype)


def as_device_array(x: Any) -> Any:
    """An array of another library on the device as a `DeviceArray` of the same memory; all else as it is."""
    if x is None or isinstance(x, (np.ndarray, _native.DeviceArray)) or not cuda.is_available():
        return x
    # DLPack first: it lets the producer order its own work before ours.
    if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == _native.cuda_info()["memory"]:
        stream = _native.current_stream() or _LEGACY_STREAM
        try:
            capsule = x.__dlpack__(stream=stream, max_version=(1, 0))
        except TypeError:  # from before DLPack 1.0
            capsule = x.__dlpack__(stream=stream)
        return _native.device_array_from_dlpack(capsule)
    if hasattr(x, "__cuda_array_interface__"):
        return _native.device_array_from_interface(x.__cuda_array_interface__, x)
    return x
