"""The recurrent operators of ONNX as our cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.io import gates
from fusedrnn.io.description import Tree, node
from fusedrnn.io.errors import FormatError, UnsupportedError
from fusedrnn.io.onnx_graph import Graph, called

Array = NDArray[Any]
_ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_INPUTS = {"LSTM": 8, "GRU": 6, "RNN": 6}
_PASSING = ("Identity", "Slice", "Unsqueeze")


@dataclass(frozen=True)
class Cell:
    """A recurrent layer without its arrays.

    Attributes:
        state: the input of the graph and the place in it that its h0 is, None for zeros.
    """

    node: Any
    kind: str
    input_size: int
    hidden_size: int
    directions: int
    bias: bool
    dtype: str
    options: tuple[tuple[str, Any], ...]
    lengths: bool
    state: tuple[str, int] | None
    num_layers: int = 1

    def tree(self, batch_first: bool) -> Tree:
        """The description of the layer."""
        return node(
            self.kind, input_size=self.input_size, hidden_size=self.hidden_size, num_layers=self.num_layers,
            bias=self.bias, batch_first=batch_first, bidirectional=self.directions == 2, dtype=self.dtype,
            **dict(self.options),
        )  # fmt: skip


def joined(first: Cell, second: Cell) -> Cell | None:
    """Both as one layer, where their initial states come one after the other in one input of the graph."""
    if first.state is None or second.state is None or first.state[0] != second.state[0]:
        return None
    width = first.directions * first.hidden_size
    rest = replace(second, node=first.node, input_size=first.input_size, state=first.state,
                   num_layers=first.num_layers)  # fmt: skip
    follows = second.state[1] == first.state[1] + first.num_layers * first.directions
    if rest != first or second.input_size != width or not follows:
        return None
    return replace(first, num_layers=first.num_layers + 1)


def read_cell(
    graph: Graph, item: Any, weight: Callable[[str], Array]
) -> tuple[Cell, dict[str, Array], list[Any]]:
    """A recurrent operator as a cell.

    Args:
        graph: where it is.
        item: the node.
        weight: gives the constant of a name.

    Returns:
        The cell, its arrays named as those of a layer of its own, and the nodes that make its initial states.

    Raises:
        UnsupportedError: an option has no equal here; FormatError: its arrays do not fit.
    """
    kind = item.op_type
    options = graph.attributes(item)
    inputs = [*item.input, *[""] * _INPUTS[kind]][: _INPUTS[kind]]
    directions = _directions(item, options)
    nonlinearity = _check_options(item, kind, options, directions)
    W, R = weight(inputs[1]), weight(inputs[2])
    B = weight(inputs[3]) if inputs[3] else None
    P = weight(inputs[7]) if kind == "LSTM" and inputs[7] else None
    order = gates.ONNX[kind]
    G = len(order)
    H = R.shape[2] if R.ndim == 3 else 0
    shapes = (directions, G * H), (directions, G * H, H), (directions, 2 * G * H)
    fits = W.ndim == 3 and W.shape[:2] == shapes[0] and R.shape == shapes[1]
    if not H or not fits or (B is not None and B.shape != shapes[2]) or options.get("hidden_size", H) != H:
        raise FormatError(
            f"{called(item)}: W {W.shape}, R {R.shape}, B {None if B is None else B.shape} and hidden_size "
            f"{options.get('hidden_size')} are no {kind}'s"
        )
    if P is not None and P.shape != (directions, 3 * H):
        raise FormatError(f"{called(item)}: P must have shape {(directions, 3 * H)}, it has {P.shape}")
    arrays: dict[str, Array] = {}
    for d, suffix in enumerate(("l0", "l0_reverse")[:directions]):
        arrays[f"weight_ih_{suffix}"] = gates.to_ours(W[d], order)
        arrays[f"weight_hh_{suffix}"] = gates.to_ours(R[d], order)
        if P is not None:
            arrays[f"weight_peephole_{suffix}"] = gates.to_ours(P[d], gates.ONNX_PEEPHOLES)
        if B is not None:
            for name, part in zip(("ih", "hh"), np.split(B[d], 2), strict=True):
                arrays[f"bias_{name}_{suffix}"] = gates.to_ours(part, order)
    claimed: list[Any] = []
    states = [_state(graph, item, name, claimed) for name in (inputs[5:7] if kind == "LSTM" else inputs[5:6])]
    named: tuple[tuple[str, Any], ...] = (("nonlinearity", nonlinearity),) if kind == "RNN" else ()
    if P is not None:
        named = (*named, ("peephole", True))
    cell = Cell(
        item, kind, W.shape[2], H, directions, B is not None, W.dtype.name, named, bool(inputs[4]), states[0]
    )
    return cell, arrays, claimed


def _directions(item: Any, options: dict[str, Any]) -> int:
    direction = options.get("direction", b"forward")
    if direction not in (b"forward", b"bidirectional"):
        raise UnsupportedError(f"{called(item)}: direction={_text(direction)!r} alone has no equal here")
    return 2 if direction == b"bidirectional" else 1


def _check_options(item: Any, kind: str, options: dict[str, Any], directions: int) -> str:
    """Refuses by name what has no cell, and returns the first activation."""
    if "clip" in options:
        raise UnsupportedError(f"{called(item)}: clip={options['clip']} has no cell here")
    if kind == "GRU" and options.get("linear_before_reset", 0) == 0:
        raise UnsupportedError(
            f"{called(item)}: linear_before_reset=0, the reset before the product, has no cell here: 1 has"
        )
    for name in ("input_forget", "layout"):
        if options.get(name, 0):
            raise UnsupportedError(f"{called(item)}: {name}={options[name]} has no equal here")
    names = [_text(a).lower() for a in options.get("activations", ())] or _ACTIVATIONS[kind] * directions
    usual = [_ACTIVATIONS[kind] * directions] + ([["relu"] * directions] if kind == "RNN" else [])
    if names not in usual:
        raise UnsupportedError(f"{called(item)}: activations {names[:6]} have no cell here")
    return names[0]


def _state(graph: Graph, item: Any, name: str, claimed: list[Any]) -> tuple[str, int] | None:
    """The input of the graph that an initial state is, with the place in it; None for zeros."""
    offset = 0
    for _ in range(16):
        if not name:
            return None
        constant = graph.constant(name)
        if constant is not None:
            if constant.any():
                raise UnsupportedError(f"{called(item)}: its initial state is a constant other than zeros")
            return None
        if name in graph.inputs:
            return name, offset
        maker = graph.maker.get(name)
        if maker is None:
            raise FormatError(f"{called(item)} reads {name[:80]!r}, which nothing makes")
        claimed += [maker]
        if maker.op_type in ("Expand", "ConstantOfShape"):
            claimed += [a for shape in maker.input for a in graph.ancestors(shape)]
            if maker.op_type == "ConstantOfShape":
                value = graph.attributes(maker).get("value")
                if value is not None and (any(value.raw_data) or any(value.float_data)):
                    raise UnsupportedError(
                        f"{called(item)}: its initial state is a constant other than zeros"
                    )
                return None
        elif maker.op_type not in _PASSING:
            raise UnsupportedError(f"{called(item)}: its initial state is made by {called(maker)}")
        if maker.op_type == "Slice":
            starts = _starts(graph, maker)
            if starts is None:
                raise UnsupportedError(f"{called(maker)}: of states, layers one after the other can be taken")
            offset += starts
        name = maker.input[0]
    raise FormatError(f"{called(item)}: its initial state is made by too many nodes")


def _starts(graph: Graph, item: Any) -> int | None:
    """Where a Slice of the first axis starts."""
    options = graph.attributes(item)
    found = [list(options[n]) if n in options else None for n in ("starts", "axes")]
    if len(item.input) > 3:
        found = [graph.ints(item.input[1]), graph.ints(item.input[3])]
    starts, axes = found
    return starts[0] if starts and axes == [0] and len(starts) == 1 and starts[0] >= 0 else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace")[:40] if isinstance(value, bytes) else str(value)[:40]
