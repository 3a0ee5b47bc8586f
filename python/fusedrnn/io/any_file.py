"""Models by the name of a file: which reader and which writer a suffix stands for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusedrnn import nn
from fusedrnn.io import safetensors_file
from fusedrnn.io.errors import UnsupportedError
from fusedrnn.io.keras_in import from_keras
from fusedrnn.io.keras_out import to_keras
from fusedrnn.io.model_file import FORMAT, load, save
from fusedrnn.io.onnx_in import from_onnx
from fusedrnn.io.onnx_out import to_onnx
from fusedrnn.io.torch_in import from_torch

_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")


def read_model(path: str | Path, weights: str | Path | None = None) -> Any:
    """The model in a file: .safetensors (`load`, or the state dict of one layer), .keras, .onnx, or the .json
    of a Keras configuration with a .weights.h5 file.

    Raises:
        UnsupportedError: of another kind; FormatError, OSError, ImportError: as the readers do; ValueError:
            weights are given and not taken, or missing.
    """
    suffix = Path(path).suffix
    if suffix not in (".json", ".keras") and weights is not None:
        raise ValueError(f"weights must be None: {path} has its own")
    if suffix in (".keras", ".json", ".h5"):
        return from_keras(Path(path), weights)
    if suffix == ".onnx":
        return from_onnx(path)
    if suffix == ".safetensors":
        header = safetensors_file.read_header(path)
        form = header.metadata.get("format", "")
        if form == FORMAT:
            return load(path)
        if form.startswith("fusedrnn"):
            raise UnsupportedError(f"{path} is a checkpoint of fusedrnn train ({form!r}), not a model alone")
        return from_torch(safetensors_file.read(path)[0])
    if suffix in _PICKLES:
        raise UnsupportedError(
            f"{path} is a pickle, and reading one executes what it holds: read it yourself by "
            "torch.load(path, weights_only=True), then fr.io.from_torch, or write .safetensors"
        )
    raise UnsupportedError(f"{path}: .safetensors, .keras, .onnx and .json (with weights) files are read")


def write_model(model: nn.Module, path: str | Path, *, lengths: bool = False) -> None:
    """Writes a model as the suffix says: .safetensors, .onnx, .keras or .weights.h5.

    Raises:
        UnsupportedError: of another kind, or what the writers refuse; OSError, ImportError: as they do;
            ValueError: lengths are asked for elsewhere than in ONNX.
    """
    writers: dict[str, Callable[[], Any]] = {
        ".safetensors": lambda: save(model, path),
        ".onnx": lambda: to_onnx(model, path, lengths=lengths),
        ".keras": lambda: to_keras(model, path),
        ".weights.h5": lambda: to_keras(model, path),
    }
    suffix = next((known for known in writers if str(path).endswith(known)), None)
    if suffix is None:
        raise UnsupportedError(f"{path}: .safetensors, .onnx, .keras and .weights.h5 files are written")
    if lengths and suffix != ".onnx":
        raise ValueError("lengths must be False: they are an input of ONNX files alone")
    writers[suffix]()
