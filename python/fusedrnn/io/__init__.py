"""Models in and out: our own files, PyTorch, Keras and ONNX.

    fr.io.save(model, "model.safetensors")           weights and configuration
    model = fr.io.load("model.safetensors")

    model = fr.io.from_torch(module)                 a module or a state dict
    module = fr.io.to_torch(model)
    model = fr.io.from_keras("model.keras")          or a live model, or a configuration with .weights.h5
    keras_model = fr.io.to_keras(model)
    model = fr.io.from_onnx("model.onnx")
    fr.io.to_onnx(model, "model.onnx")

What has no equal here (other activations, clipping, ...) is refused
by name with `UnsupportedError`; a file that is damaged, or lies about its sizes, with `FormatError`. Nothing
in a file is ever executed. Packages of other formats are imported when a function needs them:
``pip install 'fusedrnn[io]'`` brings safetensors, onnx and h5py; torch and keras are for their live models.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusedrnn._core import torch_hints

if TYPE_CHECKING:
    from fusedrnn.io import safetensors_file
    from fusedrnn.io.errors import FormatError, UnsupportedError
    from fusedrnn.io.keras_in import from_keras
    from fusedrnn.io.keras_out import to_keras
    from fusedrnn.io.layers import Activation, Ends, Masked
    from fusedrnn.io.model_file import load, save
    from fusedrnn.io.onnx_in import from_onnx
    from fusedrnn.io.onnx_out import to_onnx
    from fusedrnn.io.torch_in import from_torch
    from fusedrnn.io.torch_out import to_torch

__all__ = [
    "Activation",
    "Ends",
    "FormatError",
    "Masked",
    "UnsupportedError",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load",
    "safetensors_file",
    "save",
    "to_keras",
    "to_onnx",
    "to_torch",
]
_HOMES = {
    **dict.fromkeys(("Activation", "Ends", "Masked"), "layers"),
    **dict.fromkeys(("FormatError", "UnsupportedError"), "errors"),
    **dict.fromkeys(("save", "load"), "model_file"),
    **{f"{way}_{form}": f"{form}_{side}"
       for form in ("torch", "keras", "onnx") for way, side in (("from", "in"), ("to", "out"))},
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"fusedrnn.io.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"fusedrnn.io.{name}")
    return torch_hints.missing("module 'fusedrnn.io'", name, torch_hints.IO)


def __dir__() -> list[str]:
    return __all__
