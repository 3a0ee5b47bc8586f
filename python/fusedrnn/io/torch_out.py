"""Our models as PyTorch's."""

from __future__ import annotations

from typing import Any

from fusedrnn import nn
from fusedrnn.io.description import RECURRENT, Tree, common_arguments, describe
from fusedrnn.io.errors import UnsupportedError, need


def to_torch(model: nn.Module) -> Any:
    """The model as a PyTorch module on the CPU, with the same weights, parameter names and mode.

    A Sequential becomes a ``torch.nn.Sequential`` whose next module reads y of a recurrent one; it takes x
    alone, so initial states are zeros. Other layers become PyTorch's own.

    Args:
        model: any module of this package.

    Returns:
        A ``torch.nn.Module``; `from_torch` takes it back.

    Raises:
        UnsupportedError: a layer has no equal there (`Masked`), or is of the caller's own type.
        ImportError: torch is not installed.

    Example:
        >>> module = fr.io.to_torch(fr.nn.LSTM(3, 5))
    """
    torch = need("torch")
    module = _module(torch, describe(model))
    tensors = {name: torch.from_numpy(array) for name, array in model.state_dict().items()}
    module.load_state_dict(tensors)
    return module.train(model.training)


def _module(torch: Any, tree: Tree) -> Any:
    from fusedrnn.io import torch_modules

    kind = tree["kind"]
    recurrent = kind in RECURRENT
    given = common_arguments(tree, "PyTorch", "proj_size") if recurrent else dict(tree["arguments"])
    given.pop("precision", None)
    if "dtype" in given:
        given["dtype"] = getattr(torch, given["dtype"])
    if kind == "Sequential":
        return torch_modules.Sequential(*(_module(torch, layer) for layer in tree["layers"]))
    if kind in ("Last", "Ends"):
        return getattr(torch_modules, kind)(**given)
    if kind == "Activation":
        return {
            "relu": torch.nn.ReLU,
            "tanh": torch.nn.Tanh,
            "sigmoid": torch.nn.Sigmoid,
            "softmax": lambda: torch.nn.Softmax(-1),
        }[given["function"]]()
    if kind == "LayerNorm":
        return torch.nn.LayerNorm(given.pop("features"), **given)
    if recurrent or kind in ("Linear", "Embedding", "Dropout"):
        return getattr(torch.nn, kind)(**given)
    raise UnsupportedError(f"{kind} has no equal in PyTorch: convert the layers within it")
