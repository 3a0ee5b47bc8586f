"""What reading and writing models may fail with, and the optional packages it needs."""

from __future__ import annotations

import importlib
from typing import Any


class FormatError(ValueError):
    """A file is damaged, or says of itself what cannot be."""


class UnsupportedError(ValueError):
    """A model has something that has no equal on the other side; the message names it."""


def need(module: str) -> Any:
    """Imports an optional package, or a module of it.

    Raises:
        ImportError: it is not installed; the message says what installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"this needs {package}, which is not installed: pip install {_INSTALLS.get(package, package)}",
            name=package,
        ) from None


_INSTALLS = dict.fromkeys(("safetensors", "onnx", "h5py"), "'fusedrnn[io]'") | {
    "keras": "keras and one of its backends (torch, jax or tensorflow)"
}
