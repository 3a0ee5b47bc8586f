"""A model as data: a tree of names and constructor arguments, which is JSON, and arrays by dotted name.

    {"kind": "Sequential", "layers": [{"kind": "LSTM", "arguments": {"input_size": 3, ...}}, ...]}

Every importer makes such a tree and `build` the model of it, so that what a file asks for is checked in one
place: nothing is allocated before the arrays at hand are found to have the sizes that the tree names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import nn
from fusedrnn._core.cells import CELLS
from fusedrnn._core.weight_names import StackShape
from fusedrnn.io.errors import FormatError, UnsupportedError
from fusedrnn.io.layers import Activation, Ends, Masked

Array = NDArray[Any]
Tree = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

KINDS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        nn.RNN, nn.GRU, nn.LSTM, nn.Linear, nn.Embedding, nn.LayerNorm, nn.Dropout, nn.Last, nn.Sequential,
        Activation, Ends, Masked,
    )
}  # fmt: skip
_ELSEWHERE = ("seed", "device", "algo", "layers")  # where and how fast it runs, and what it holds


def node(kind: str, **arguments: Any) -> Tree:
    """A tree's node for a layer with these constructor arguments."""
    return {"kind": kind, "arguments": arguments}


def container(layers: list[Tree], kind: str = "Sequential", **arguments: Any) -> Tree:
    """A tree's node for a Sequential or Masked of these layers."""
    return {**node(kind, **arguments), "layers": layers}


def describe(module: nn.Module) -> Tree:
    """The tree of a module.

    Raises:
        UnsupportedError: a module is of the caller's own type, or two share a parameter.
    """
    names = [name for name, _ in module._all_parameters()]
    if len(names) != sum(1 for _ in module.parameters()):
        raise UnsupportedError(
            "parameters are shared between layers: only models without that can be written"
        )
    return _describe(module, "")


def _describe(module: nn.Module, where: str) -> Tree:
    kind = type(module).__name__
    if KINDS.get(kind) is not type(module):
        at = f"layer {where}, a {kind}," if where else f"{kind}"
        raise UnsupportedError(
            f"{at} is none of this package's layers, so its configuration is not known: "
            "keep its state_dict() instead, or give load and from_torch a model to fill"
        )
    tree = node(kind, **_arguments(module))
    if isinstance(module, nn.Sequential):
        tree["layers"] = [_describe(part, _dotted(where, str(i))) for i, part in enumerate(module)]
    return tree


def _arguments(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in inspect.signature(type(module)).parameters:
        if name in _ELSEWHERE:
            continue
        # LayerNorm's flag is the one that is kept as a weight alone
        value = getattr(module, "weight" if name == "elementwise_affine" else name)
        if name in ("bias", "elementwise_affine") and not isinstance(value, bool):
            value = value is not None
        found[name] = np.dtype(value).name if name == "dtype" else value
    return found


def build(
    tree: Any, arrays: Mapping[str, Array], *, device: str = "cpu", precision: str | None = None
) -> nn.Module:
    """The model of a tree, with arrays for its parameters.

    Args:
        tree: what `describe` returned, or came out of a file.
        arrays: all parameters by dotted name, float32 or float64.
        device: of the modules.
        precision: in place of the one in the tree.

    Raises:
        FormatError: the tree is none, or the arrays do not fit it.
        ValueError, RuntimeError: device or precision cannot be had here.
    """
    try:
        sizes = {name: array.shape for name, array in arrays.items()}
        expected = dict(_shapes(tree, "", len(arrays)))
        for name, shape in expected.items():
            if sizes.get(name) != shape:
                raise FormatError(f"{name} must have shape {shape}, it has {sizes.get(name, 'no array')}")
        given = {"device": device, **({} if precision is None else {"precision": precision})}
        module = _build(tree, given)
        module.load_state_dict(arrays)
    except FormatError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as e:
        raise FormatError(f"the model's configuration and weights do not fit: {_said(e)}") from e
    return module


def _said(error: BaseException) -> str:
    return f"{error!r}" if isinstance(error, (KeyError, AttributeError)) else f"{error}"[:400]


def _build(tree: Tree, given: dict[str, Any]) -> nn.Module:
    kind = KINDS[tree["kind"]]
    takes = inspect.signature(kind).parameters
    arguments = tree["arguments"] | {name: value for name, value in given.items() if name in takes}
    if "seed" in takes:
        arguments["seed"] = 0  # of weights that are overwritten, and of dropout's key
    module: nn.Module = kind(*(_build(layer, given) for layer in tree.get("layers", ())), **arguments)
    return module


def _shapes(tree: Tree, prefix: str, most: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the parameters that a tree leads to, of at most `most` layers a module."""
    kind, arguments = tree["kind"], tree["arguments"]
    if kind not in KINDS:
        raise FormatError(f"it has a layer of the unknown kind {str(kind)[:40]!r}")
    if not isinstance(arguments, dict):
        raise FormatError(f"the arguments of its {kind} are no object")
    if issubclass(KINDS[kind], nn.Sequential):
        for i, layer in enumerate(tree["layers"]):
            yield from _shapes(layer, f"{prefix}{i}.", most)
    elif issubclass(KINDS[kind], nn.Recurrent):
        yield from _recurrent_shapes(KINDS[kind], arguments, prefix, most)
    else:
        yield from ((prefix + name, shape) for name, shape in _layer_shapes(kind, arguments).items())


def _layer_shapes(kind: str, arguments: dict[str, Any]) -> Shapes:
    shapes: Shapes = {}
    if kind == "Linear":
        shapes["weight"] = (arguments["out_features"], arguments["in_features"])
        if arguments.get("bias", True):
            shapes["bias"] = (arguments["out_features"],)
    elif kind == "Embedding":
        shapes["weight"] = (arguments["num_embeddings"], arguments["embedding_dim"])
    elif kind == "LayerNorm" and arguments.get("elementwise_affine", True):
        shapes["weight"] = (arguments["features"],)
    return shapes


def _recurrent_shapes(
    kind: Any, arguments: dict[str, Any], prefix: str, most: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    I, H, L = arguments["input_size"], arguments["hidden_size"], arguments.get("num_layers", 1)
    if not isinstance(L, int) or most < L:
        raise FormatError(f"{prefix}num_layers is {str(L)[:40]}, and there are {most} arrays")
    family = kind.__name__.lower()
    variant = "peephole" if arguments.get("peephole", False) else None
    weights = next(
        cell.weights
        for cell in CELLS.values()
        if cell.family == family and (variant is None or cell.variant == variant)
    )
    shapes = StackShape(L, 2 if arguments.get("bidirectional", False) else 1, bias=False)
    for name, shape in shapes.shapes(weights, I, H).items():
        yield prefix + name, shape


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


# What every format knows of a recurrent layer. An option beyond these is written only where it is off.
_COMMON = {
    "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional",
    "nonlinearity", "dtype", "precision",
}  # fmt: skip


def common_arguments(tree: Tree, target: str, *more: str) -> dict[str, Any]:
    """The arguments of a recurrent layer that every format has, and `more` that `target` has.

    Raises:
        UnsupportedError: another one is not at its default, and `target` has no equal of it.
    """
    defaults = inspect.signature(KINDS[tree["kind"]]).parameters
    known = {*_COMMON, *more}
    for name, value in tree["arguments"].items():
        if name not in known and value != defaults[name].default:
            raise UnsupportedError(f"{tree['kind']}({name}={value!r}) has no equal in {target}")
    return {name: value for name, value in tree["arguments"].items() if name in known}
