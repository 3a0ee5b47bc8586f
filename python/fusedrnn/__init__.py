"""Fast training of recurrent networks with nothing but NumPy.

    import fusedrnn as fr

    fr.nn           layers and models: RNN, GRU, LSTM, Linear, Embedding, LayerNorm, Dropout, Last, Sequential
    fr.optim        Adam, AdamW, RMSprop, Adagrad, SGD, gradient clipping, schedules
    fr.losses       mse, cross_entropy, binary_cross_entropy; MSE, CrossEntropy, BinaryCrossEntropy as objects
    fr.functional   every operation as a plain function of arrays
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

if TYPE_CHECKING:
    from fusedrnn import cpu, cuda, functional, io, losses, nn, optim, reference
    from fusedrnn._core.arrays import asarray
    from fusedrnn._native import DeviceArray

__version__ = "0.1.0"
__all__ = [
    "DeviceArray",
    "__version__",
    "asarray",
    "cpu",
    "cuda",
    "functional",
    "get_num_threads",
    "io",
    "losses",
    "nn",
    "optim",
    "reference",
    "set_num_threads",
]
_NAMES = {"DeviceArray": "_native", "asarray": "_core.arrays"}
_PARTS = frozenset({"cpu", "cuda", "functional", "io", "losses", "nn", "optim", "reference"})


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


def get_num_threads() -> int:
    """How many threads a call may use."""
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
