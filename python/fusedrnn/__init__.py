"""Fast training of recurrent networks with nothing but NumPy.

    import fusedrnn as fr

    fr.nn           layers and models: RNN, GRU, LSTM, Linear, Embedding, LayerNorm, Dropout, Last, Sequential
    fr.optim        Adam, AdamW, RMSprop, Adagrad, SGD, gradient clipping, schedules
    fr.losses       mse, l1, huber, smooth_l1, cross_entropy, nll, binary_cross_entropy; with options as
                    objects: MSE, L1, Huber, SmoothL1, CrossEntropy, NLL, BinaryCrossEntropy
    fr.functional   every operation as a plain function of arrays
    fr.data         batches of sequences of unequal length
    fr.testing      gradcheck, for modules and losses of your own
    fr.io           models in and out: files of our own, PyTorch, Keras, ONNX
    fr.reference    the same functions in NumPy, for any float or complex dtype
    fr.cpu, fr.cuda what this machine and this build can run on
    fr.asarray      arrays on a CUDA device and back, `fr.DeviceArray`

Parts are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusedrnn._core import provided


def _require_main_interpreter() -> None:
    """ImportError in a subinterpreter, where the compiled module would wait for the GIL for ever."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from Python 3.13 on, and before
        try:
            interpreters: Any = importlib.import_module(name)
        except ImportError:
            continue
        current, main = interpreters.get_current(), interpreters.get_main()
        if current != main:
            raise ImportError("fusedrnn works in the main interpreter only, this is a subinterpreter")
        return


if TYPE_CHECKING:
    from fusedrnn import cpu, cuda, data, functional, io, losses, nn, optim, reference, testing
    from fusedrnn._core.arrays import asarray
    from fusedrnn._native import DeviceArray

_require_main_interpreter()

__version__ = "0.1.0"
__all__ = [
    "DeviceArray",
    "__version__",
    "asarray",
    "cpu",
    "cuda",
    "data",
    "functional",
    "get_num_threads",
    "io",
    "losses",
    "nn",
    "optim",
    "plot",
    "reference",
    "set_flush_denormal",
    "set_num_threads",
    "testing",
]
_NAMES = {"DeviceArray": "_native", "asarray": "_core.arrays"}
_PARTS = frozenset(
    {"cpu", "cuda", "data", "functional", "io", "losses", "nn", "optim", "plot", "reference", "testing"}
)


def _train_step(*args: Any, **options: Any) -> Any:
    from fusedrnn.training.step import train_step

    provided.train_step = train_step  # from the second call on
    return train_step(*args, **options)


provided.train_step = _train_step


def set_num_threads(n: int) -> None:
    """Sets how many threads later calls use; results do not depend on it.

    The default is `FUSEDRNN_NUM_THREADS`, else `OMP_NUM_THREADS`, else the physical cores this process may
    use.

    Raises:
        ValueError: n is less than 1.
    """
    from fusedrnn import _native

    _native.set_num_threads(n)


def set_flush_denormal(mode: bool) -> bool:
    """Has later calls on the CPU read and write denormal numbers as 0, or not (the default), as torch's.

    Denormals, below 1.2e-38 in float32, are right and may be a hundred times slower than other numbers: a
    state or a gradient that dies away ends in them. The setting of the calling thread, which other libraries
    change, is neither used nor changed.

    Returns:
        Whether the processor can do so.

    Raises:
        TypeError: mode is not True or False.
    """
    from fusedrnn import _native

    return _native.set_flush_denormal(mode)


def get_num_threads() -> int:
    """How many threads a call may use.

    Raises:
        RuntimeError: FUSEDRNN_NUM_THREADS is set, and not to a number of threads.
    """
    from fusedrnn import _native

    return _native.get_num_threads()


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"fusedrnn.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"fusedrnn.{_NAMES[name]}"), name)
    torch_hints = importlib.import_module("fusedrnn._core.torch_hints")
    return torch_hints.missing("module 'fusedrnn'", name, torch_hints.PACKAGE)


def __dir__() -> list[str]:
    return __all__
