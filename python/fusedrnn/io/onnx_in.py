"""ONNX graphs as our models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fusedrnn import nn
from fusedrnn.io.description import Tree, build, container
from fusedrnn.io.errors import FormatError, UnsupportedError
from fusedrnn.io.onnx_cells import Cell, joined
from fusedrnn.io.onnx_graph import Graph, called
from fusedrnn.io.onnx_walk import ANY, Walk

Array = NDArray[Any]


def from_onnx(source: str | Path | Any) -> nn.Sequential:
    """The model of an ONNX graph that is a chain of layers.

    Taken are LSTM, GRU (linear_before_reset=1) and RNN, forward or bidirectional, with the Transpose, Squeeze
    and Reshape around them; Gather of a table (an embedding), MatMul with Add, Gemm, LayerNormalization,
    Dropout, Relu, Sigmoid, Tanh, Softmax, and picking the last step or the final state. What `to_onnx` wrote
    comes back as it was, but for dropout; so do models from ``torch.onnx.export``. Initial states may be
    inputs, and are `state` of the model then, or zeros.

    Args:
        source: a path or an ``onnx.ModelProto``.

    Returns:
        The model in eval mode, batch_first if the graph's x is.

    Raises:
        UnsupportedError: the graph is no such chain, or an operator's option has no equal here
            (linear_before_reset=0, other activations, clip, input_forget, layout=1, a lone reverse
            direction); the message names it. FormatError: it is damaged. ImportError: onnx is not installed;
            OSError: the file cannot be read; TypeError: source is neither.

    Example:
        >>> model = fr.io.from_onnx("model.onnx")
        >>> y, states = model(x, state=[(h0, c0)], return_state=True)
    """
    graph = Graph(source)
    try:
        layers, arrays = _Reader(graph).read()
    except (FormatError, UnsupportedError):
        raise
    except (IndexError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"the graph is not as ONNX has it ({error!r})") from None
    model: nn.Sequential = build(container(layers), arrays)  # type: ignore[assignment]
    return model.eval()


class _Reader(Walk):
    """Follows x from the input to the output, and makes the model of what lies on the way."""

    def read(self) -> tuple[list[Tree], dict[str, Array]]:
        """The trees of the layers and their arrays by dotted name."""
        graph = self._graph
        x = next(iter(graph.inputs), None)
        if x is None:
            raise UnsupportedError("the graph has no input")
        rank = graph.inputs[x]
        if rank is None or not 1 <= rank <= 3:
            raise UnsupportedError(f"input {x[:80]!r} must have 1 to 3 axes, its rank is {rank}")
        ids = any(self._embeds(n, x) for n in graph.readers.get(x, ()))
        axes = "pqrs"[: rank if ids else rank - 1] + ("" if ids else "F")
        value, start = x, axes
        while value != self._output:
            reader = self._reader_of(value)
            self._claim(reader)
            value, axes = self._step(reader, value, axes)
        self._finish(start, axes)
        return self._assemble(self._batch_first(start))

    def _finish(self, start: str, axes: str) -> None:
        """Checks what is left when the output is reached."""
        went_in, comes_out = ("".join(self._roles.get(a, a) for a in value) for value in (start, axes))
        kept = went_in.replace("F", "") if "T" in comes_out else went_in.replace("F", "").replace("T", "")
        if comes_out != f"{kept}F":
            raise UnsupportedError(
                f"the output's axes are {comes_out}, the input's {went_in}: both must be time first, or both "
                "batch first"
            )
        for item in self._graph.ancestors(self._output):
            if id(item) not in self._claimed and item.op_type != "Shape":
                raise UnsupportedError(f"{called(item)} has no place in a chain of layers")
        cells = {id(layer[0].node) for layer in self._layers if isinstance(layer[0], Cell)}
        for name in self._graph.outputs[1:]:
            self._require_final(name, cells)

    def _require_final(self, name: str, cells: set[int]) -> None:
        """Checks that an output is made of final states alone."""
        waiting, seen = [name], set[str]()
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            maker = self._graph.maker.get(value)
            if maker is not None and id(maker) in cells and value in list(maker.output)[1:]:
                continue
            if maker is not None and maker.op_type in ("Concat", "Identity", "Squeeze"):
                waiting += maker.input if maker.op_type == "Concat" else [maker.input[0]]
            elif maker is not None and maker.op_type == "Where" and self._of_lengths(maker.input[0], *ANY):
                waiting.append(maker.input[1])
            else:
                raise UnsupportedError(f"output {name[:80]!r} is no final state of a recurrent layer")

    def _batch_first(self, start: str) -> bool:
        return self._roles.get(start[0]) == "B"

    def _assemble(self, batch_first: bool) -> tuple[list[Tree], dict[str, Array]]:
        """All layers; cells that share their states' inputs become one layer again."""
        merged: list[tuple[Tree | Cell, dict[str, Array]]] = []
        for item, own in self._layers:
            before = merged[-1] if merged else None
            if isinstance(item, Cell) and before is not None and isinstance(before[0], Cell):
                together = joined(before[0], item)
                if together is not None:
                    more = {n.replace("_l0", f"_l{together.num_layers - 1}"): a for n, a in own.items()}
                    merged[-1] = (together, before[1] | more)
                    continue
            merged.append((item, own))
        trees: list[Tree] = []
        arrays: dict[str, Array] = {}
        for i, (item, own) in enumerate(merged):
            if isinstance(item, Cell):
                tree = item.tree(batch_first)
            else:
                tree = item
                if tree["kind"] in ("Last", "Ends"):
                    tree["arguments"]["batch_first"] = batch_first
            trees.append(tree)
            arrays.update({f"{i}.{name}": array for name, array in own.items()})
        if not trees:
            raise UnsupportedError("the graph has no layer that computes anything")
        return trees, arrays
