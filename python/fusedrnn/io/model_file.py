"""Whole models in one file of our own: safetensors with the configuration in its header.

    format           "fusedrnn-model"
    format_version   "1"
    model            JSON: the tree of description.py, or the name of a class of the caller's own
    state            JSON: mode, and the keys of dropout

The arrays have PyTorch's names and shapes, so that other programs read the weights as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fusedrnn import nn
from fusedrnn.io import safetensors_file
from fusedrnn.io.description import build, describe, require_module
from fusedrnn.io.errors import FormatError, UnsupportedError
from fusedrnn.io.files import path_of

FORMAT = "fusedrnn-model"
FORMAT_VERSION = "1"


def save(model: nn.Module, path: str | Path) -> None:
    """Writes a model, weights and configuration, or leaves the file that was there.

    Optimizer, gradients and tape stay behind. A module of the caller's own type is written without a
    configuration; `load` then wants one of the same type to fill.

    Args:
        model: any module.
        path: the file, ``.safetensors`` by custom.

    Raises:
        UnsupportedError: layers share a parameter; ImportError: safetensors is not installed; OSError: the
            file cannot be written.

    Example:
        >>> fr.io.save(model, "model.safetensors")
        >>> fr.io.load("model.safetensors")
    """
    path = path_of("path", path)
    try:
        tree = describe(model)
    except UnsupportedError:
        if _own(model):
            raise
        tree = {"class": type(model).__name__}
    state = {"training": model.training, "random": model.random_state()}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": json.dumps(tree, allow_nan=False),
        "state": json.dumps(state),
    }
    safetensors_file.write(path, model.state_dict(), metadata)


def load(
    path: str | Path, model: nn.Module | None = None, *, device: str = "cpu", precision: str | None = None
) -> Any:
    """Reads a model that `save` wrote: the same types (a Sequential where one was written), weights, mode.

    Args:
        path: the file.
        model: a module to fill in place of a new one; needed where the file's is of the caller's own type.
        device: "cpu", "cuda" or "auto", of a new model.
        precision: of a new model, in place of the one it was written with.

    Returns:
        The model.

    Raises:
        FormatError: the file is damaged, none of a model, or its arrays do not fit; UnsupportedError: it is
            of a newer version, or of the caller's own type, and no model is given.
        ImportError: safetensors is not installed; OSError: the file cannot be read; RuntimeError: device
            cannot be used.
    """
    if model is not None:
        require_module(model)
    arrays, metadata = safetensors_file.read(path_of("path", path))
    tree, state = configuration(path, metadata)
    if model is None:
        if "class" in tree:
            raise UnsupportedError(
                f"{path} holds a {str(tree['class'])[:80]}, a module of its writer's own: "
                "make one, and give it as load(path, model)"
            )
        model = build(tree, arrays, device=device, precision=precision)
    else:
        try:
            model.load_state_dict(arrays)
        except ValueError as error:
            raise FormatError(f"{path}: {error}") from None
    try:
        model.load_random_state(state["random"])
        model.train(state["training"] is True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged: its state does not fit: {error}") from None
    return model


def configuration(path: str | Path, metadata: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree and the state in a file's metadata.

    Raises:
        FormatError: there is none; UnsupportedError: of a newer version.
    """
    if metadata.get("format") != FORMAT:
        raise FormatError(
            f"{path} is a safetensors file, but none that fr.io.save wrote: read its arrays by "
            "fr.io.safetensors_file.read, a PyTorch state dict by from_torch"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise UnsupportedError(
            f"{path} has format version {str(metadata.get('format_version'))[:20]}, "
            f"this fusedrnn reads {FORMAT_VERSION}"
        )
    try:
        tree, state = json.loads(metadata["model"]), json.loads(metadata["state"])
    except (KeyError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} is damaged: its configuration is no JSON ({error!r})") from None
    if not isinstance(tree, dict) or not isinstance(state, dict):
        raise FormatError(f"{path} is damaged: its configuration is no JSON object")
    return tree, state


def _own(model: nn.Module) -> bool:
    """Whether every module is of this package."""
    return all(type(m).__module__.startswith("fusedrnn.") for m in model.modules())
