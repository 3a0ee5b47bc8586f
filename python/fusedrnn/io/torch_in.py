"""Models of PyTorch as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import nn
from fusedrnn._core import checks
from fusedrnn._core.cells import CELLS
from fusedrnn._core.variants import LSTM_OPTIONS
from fusedrnn._core.weight_names import BESIDE_GATES, cell_by_names
from fusedrnn.io.description import Tree, build, container, node, require_module
from fusedrnn.io.errors import FormatError, UnsupportedError, need

Array = NDArray[Any]
_MODES = {"LSTM": "LSTM", "GRU": "GRU", "RNN_TANH": "RNN", "RNN_RELU": "RNN"}
_WEIGHTS = {spec.name: spec for cell in CELLS.values() for spec in cell.weights}
_RECURRENT_NAME = re.compile(rf"({'|'.join(_WEIGHTS)})_l(\d{{1,5}})(_reverse)?")
_KINDS = {len(cell.gates): nn.RECURRENT[cell.family].__name__ for cell in CELLS.values()}  # by gates


def from_torch(
    source: Any,
    model: nn.Module | None = None,
    *,
    batch_first: bool = False,
    nonlinearity: str | None = None,
) -> Any:
    """The model of a PyTorch module, or of its state dict.

    Weights are copied, bit for bit, into float32 or float64 modules on the CPU. Taken are LSTM, GRU and RNN
    (all options), Linear, Embedding, LayerNorm, Dropout, ReLU, Tanh, Sigmoid, Softmax over the
    last axis, Identity and Sequential of these, and what `to_torch` makes.

    A state dict does not say everything: that of a single recurrent layer, or of a Linear with a bias, is
    enough (of a GRU it is taken for ``reset_after=True``); for another, and for a module of a class of your
    own, write the model down here with the same attribute names and give it as `model`.

    Args:
        source: a ``torch.nn.Module``, or a dict of tensors or arrays by PyTorch's names.
        model: a module to fill in place of a new one.
        batch_first: of the layer that a state dict is of.
        nonlinearity: "tanh" or "relu", needed for the state dict of an RNN.

    Returns:
        The module, a `Sequential` for a Sequential; in the mode of the one it was made of.

    Raises:
        UnsupportedError: a module or option has no equal here; the message names it. ValueError: a state
            dict does not fit, or does not say enough. TypeError: source is neither.

    Example:
        >>> lstm = fr.io.from_torch(torch.nn.LSTM(3, 5, batch_first=True))
        >>> lstm = fr.io.from_torch(torch.load("lstm.pt", weights_only=True))
    """
    checks.flag("batch_first", batch_first)
    if nonlinearity is not None:
        checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
    if model is not None:
        require_module(model)
    if isinstance(source, Mapping):
        arrays = {str(name): _array(name, value) for name, value in source.items()}
        if model is not None:
            model.load_state_dict(arrays)
            return model
        tree, arrays = _of_state_dict(arrays, batch_first, nonlinearity)
        return build(tree, arrays)
    torch = need("torch")
    if not isinstance(source, torch.nn.Module):
        raise TypeError(
            f"source must be a torch.nn.Module or a state dict, it is {type(source).__name__}: "
            "read a file by torch.load(path, weights_only=True) or safetensors first"
        )
    if model is not None:
        model.load_state_dict({n: _array(n, t) for n, t in source.state_dict().items()})
        return model.train(source.training)
    made: dict[str, Array] = {}
    return build(_of_module(torch, source, "", made), made).train(source.training)


def _of_module(torch: Any, module: Any, prefix: str, arrays: dict[str, Array]) -> Tree:
    layers = torch.nn
    kind = type(module)
    ours = kind.__module__.startswith("fusedrnn.")
    at = f"module {prefix.rstrip('.')!r}: " if prefix else ""
    if isinstance(module, layers.Sequential) and (ours or kind is layers.Sequential):
        parts = [m for m in module if type(m) is not layers.Identity]
        return container([_of_module(torch, m, f"{prefix}{i}.", arrays) for i, m in enumerate(parts)])
    if isinstance(module, layers.RNNBase) and (ours or kind in (layers.LSTM, layers.GRU, layers.RNN)):
        return _of_recurrent(module, prefix, at, arrays)
    if kind is layers.Linear:
        found = _take(module, ("weight", "bias"), prefix, arrays)
        return node(
            "Linear", in_features=module.in_features, out_features=module.out_features,
            bias="bias" in found, dtype=found["weight"].dtype.name,
        )  # fmt: skip
    if kind is layers.Embedding:
        if module.max_norm is not None:
            raise UnsupportedError(f"{at}Embedding(max_norm={module.max_norm}) changes rows: leave it out")
        if module.scale_grad_by_freq:
            raise UnsupportedError(f"{at}Embedding(scale_grad_by_freq=True) divides gradients: leave it out")
        found = _take(module, ("weight",), prefix, arrays)
        return node(
            "Embedding", num_embeddings=module.num_embeddings, embedding_dim=module.embedding_dim,
            padding_idx=module.padding_idx, dtype=found["weight"].dtype.name,
        )  # fmt: skip
    if kind is layers.LayerNorm:
        if len(module.normalized_shape) != 1:
            raise UnsupportedError(f"{at}LayerNorm over {len(module.normalized_shape)} axes: over one only")
        found = _take(module, ("weight", "bias"), prefix, arrays)
        return node(
            "LayerNorm", features=int(module.normalized_shape[0]), eps=module.eps,
            elementwise_affine="weight" in found, bias="bias" in found,
            dtype=found["weight"].dtype.name if found else "float32",
        )  # fmt: skip
    if kind is layers.Dropout:
        return node("Dropout", p=module.p)
    if kind in (layers.ReLU, layers.Tanh, layers.Sigmoid):
        return node("Activation", function=kind.__name__.lower())
    if kind is layers.Softmax and module.dim == -1:
        return node("Activation", function="softmax")
    if ours and kind.__name__ in ("Last", "Ends"):
        return node(kind.__name__, batch_first=module.batch_first)
    if kind.__name__.startswith("Parametrized"):
        raise UnsupportedError(
            f"{at}{kind.__name__}: make its weights plain by remove_parametrizations first"
        )
    raise UnsupportedError(
        f"{at}{kind.__name__}{'' if kind is not layers.Softmax else f'(dim={module.dim})'} has no equal here"
        + ("" if prefix else ": convert its parts, or give a model with the same attribute names to fill")
    )


def _of_recurrent(module: Any, prefix: str, at: str, arrays: dict[str, Array]) -> Tree:
    if module.mode not in _MODES:
        raise UnsupportedError(f"{at}{type(module).__name__} of mode {module.mode!r} has no equal here")
    names = module._flat_weights_names
    found = _take(module, tuple(names), prefix, arrays)
    options = {"nonlinearity": module.mode[4:].lower()} if module.mode.startswith("RNN") else {}
    if getattr(module, "proj_size", 0):
        options["proj_size"] = module.proj_size
    if hasattr(module, "beyond_torch"):  # this package's
        options |= {n: v for n, v in module.beyond_torch().items() if n != "collect_flow"}
    return node(
        _MODES[module.mode], input_size=module.input_size, hidden_size=module.hidden_size,
        num_layers=module.num_layers, bias=bool(module.bias), batch_first=bool(module.batch_first),
        dropout=float(module.dropout), bidirectional=bool(module.bidirectional),
        dtype=found["weight_ih_l0"].dtype.name, **options,
    )  # fmt: skip


def _take(module: Any, names: tuple[str, ...], prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """The module's own weights of these names, which also go into arrays."""
    found = {name: getattr(module, name) for name in names}  # not the state dict: it may be computed
    own = {name: _array(prefix + name, tensor) for name, tensor in found.items() if tensor is not None}
    arrays.update({prefix + name: array for name, array in own.items()})
    return own


def _of_state_dict(
    arrays: dict[str, Array], batch_first: bool, nonlinearity: str | None
) -> tuple[Tree, dict[str, Array]]:
    prefixes = {name.rpartition(".")[0] for name in arrays}
    if len(prefixes) != 1:
        raise ValueError(
            f"the state dict is of {len(prefixes)} layers ({', '.join(sorted(prefixes)[:8])}), and does not "
            "say how they are joined: give a model with the same attribute names to fill"
        )
    arrays = {name.rpartition(".")[2]: array for name, array in arrays.items()}
    if set(arrays) == {"weight", "bias"} and arrays["weight"].ndim == 2:
        out, features = arrays["weight"].shape
        return node("Linear", in_features=features, out_features=out, dtype=_dtype(arrays)), arrays
    matches = [_RECURRENT_NAME.fullmatch(name) for name in arrays]
    if not all(matches) or not {"weight_ih_l0", "weight_hh_l0"} <= arrays.keys():
        raise ValueError(
            f"the state dict's names ({', '.join(sorted(arrays)[:8])}) are not those of one recurrent layer, "
            "nor of a Linear with a bias: give a model with the same attribute names to fill"
        )
    rows, H = arrays["weight_hh_l0"].shape if arrays["weight_hh_l0"].ndim == 2 else (0, 1)
    projected = 0
    if "weight_hr_l0" in arrays and arrays["weight_hr_l0"].ndim == 2:
        projected, H = arrays["weight_hr_l0"].shape
    cell = _KINDS.get(rows // H) if H and rows % H == 0 else None
    variant = cell_by_names(arrays, CELLS.items())
    if variant is not None and cell != "LSTM":
        own = next(m[0] for m in matches if m and _WEIGHTS[m[1]].role in BESIDE_GATES)
        raise FormatError(
            f"{own} is an LSTM's: weight_hh_l0 must have shape (4 H, {'P' if projected else 'H'}) with it, "
            f"it has {arrays['weight_hh_l0'].shape}, and {own} {arrays[own].shape}"
        )
    if cell is None or arrays["weight_ih_l0"].ndim != 2:
        raise FormatError(
            f"weight_hh_l0 must have shape (H, H), (3 H, H) or (4 H, H) and weight_ih_l0 two axes, they have "
            f"{arrays['weight_hh_l0'].shape} and {arrays['weight_ih_l0'].shape}"
        )
    if cell == "RNN" and nonlinearity is None:
        raise ValueError("nonlinearity must be 'tanh' or 'relu': the state dict of an RNN does not say which")
    if cell != "RNN" and nonlinearity is not None:
        raise ValueError(f"nonlinearity must be None: the state dict is that of an {cell}")
    tree = node(
        cell, input_size=arrays["weight_ih_l0"].shape[1], hidden_size=H,
        num_layers=1 + max(int(m[2]) for m in matches if m),
        bias=any(_WEIGHTS[m[1]].is_bias for m in matches if m),
        batch_first=batch_first, bidirectional=any(m[3] for m in matches if m), dtype=_dtype(arrays),
        **({} if nonlinearity is None else {"nonlinearity": nonlinearity}),
        **{n: projected if n == "proj_size" else True for n, (_, c) in LSTM_OPTIONS.items() if c == variant},
    )  # fmt: skip
    return tree, arrays


def _dtype(arrays: dict[str, Array]) -> str:
    return str(next(iter(arrays.values())).dtype)


def _array(name: object, tensor: Any) -> Array:
    """A tensor as a NumPy array of float32 or float64."""
    if hasattr(tensor, "detach"):
        if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
            raise UnsupportedError(f"{name} is {tensor.dtype}: use float32 (module.float()) or float64")
        tensor = tensor.detach().cpu().numpy()
    array: Array = np.asarray(tensor)
    if array.dtype not in (np.float32, np.float64):
        raise UnsupportedError(f"{name} is {array.dtype}: it must be float32 or float64")
    copy: Array = array.copy()
    return copy
