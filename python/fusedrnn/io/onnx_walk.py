"""The way of x through an ONNX graph, operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.io import gates
from fusedrnn.io.description import Tree, node
from fusedrnn.io.errors import FormatError, UnsupportedError
from fusedrnn.io.onnx_cells import Cell, read_cell
from fusedrnn.io.onnx_graph import Graph, called

Array = NDArray[Any]
# What to_onnx makes of lengths, last operation first: the index of the last step; whether there is one.
LAST, ANY = (("Unsqueeze", 1), ("Sub", 1)), (("Unsqueeze", 1), ("Greater", 0))
_FUNCTIONS = ("Relu", "Sigmoid", "Tanh", "Softmax")


class Walk:
    """Follows x through the graph.

    A value's axes are letters: T steps, B batch, D directions, F features; p and q are the first two of x
    until a recurrent layer says which of them is time.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._layers: list[tuple[Tree | Cell, dict[str, Array]]] = []
        self._claimed: set[int] = set()
        self._used: set[str] = set()
        self._lengths = ""  # the input of the graph that is them
        self._roles: dict[str, str] = {}  # of p and q: T and B
        self._needed = {id(n) for n in graph.ancestors(graph.outputs[0])}
        self._output = graph.outputs[0]

    def _reader_of(self, value: str) -> Any:
        """The one node that carries a value on to the output."""
        readers = [
            n for n in self._graph.readers.get(value, ()) if id(n) in self._needed and n.op_type != "Shape"
        ]
        if len(readers) != 1:
            names = ", ".join(called(n) for n in readers[:3])
            raise UnsupportedError(
                f"value {value[:80]!r} is read by {len(readers)} nodes on the way to the output ({names}): "
                "chains of layers are read"
            )
        return readers[0]

    def _claim(self, *nodes: Any) -> None:
        for item in nodes:
            if id(item) in self._claimed:
                raise FormatError(f"{called(item)} reads what it makes")
            self._claimed.add(id(item))

    def _step(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        """The value and its axes after one node."""
        kind = item.op_type
        if item.domain not in ("", "ai.onnx"):
            raise UnsupportedError(
                f"{called(item)} is of the domain {item.domain[:40]!r}: the standard's is read"
            )
        handler = getattr(self, f"_read_{kind.lower()}", None)
        if handler is not None:
            result: tuple[str, str] = handler(item, value, axes)
            return result
        if kind in gates.ONNX:
            return self._recurrent(item, value, axes)
        if kind in _FUNCTIONS:
            if kind == "Softmax":
                self._require_last_axis(item, axes, -1 if self._graph.opset >= 13 else 1)
            self._layers.append((node("Activation", function=kind.lower()), {}))
            return item.output[0], axes
        raise UnsupportedError(f"{called(item)} has no equal here")

    def _recurrent(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        if list(item.input).count(value) != 1 or item.input[0] != value or len(axes) != 3 or axes[2] != "F":
            raise UnsupportedError(f"{called(item)} does not read x (T, B, features) alone")
        if not self._roles:
            self._roles = {axes[0]: "T", axes[1]: "B"}
        if [self._roles.get(a) for a in axes[:2]] != ["T", "B"]:
            raise UnsupportedError(
                f"{called(item)} runs over the axis that is the batch for the layers before"
            )
        cell, arrays, claimed = read_cell(self._graph, item, self._weight)
        self._claimed |= {id(n) for n in claimed}
        if cell.lengths:
            self._require_lengths(item.input[4])
        self._layers.append((cell, arrays))
        outputs = [*item.output, "", "", ""]
        t, b = axes[0], axes[1]
        if outputs[0] and (outputs[0] == self._output or self._leads(outputs[0])):
            return outputs[0], f"{t}D{b}F"
        if outputs[1] and self._leads(outputs[1]) and cell.directions == 1:
            self._layers.append((node("Last", batch_first=False), {}))
            return outputs[1], f"D{b}F"
        raise UnsupportedError(f"{called(item)}: neither its y nor the final state of one direction goes on")

    def _leads(self, value: str) -> bool:
        return value == self._output or any(id(n) in self._needed for n in self._graph.readers.get(value, ()))

    def _weight(self, name: str) -> Array:
        """The floating-point constant of that name, which no other layer may use."""
        array = self._graph.constant(name)
        if array is None:
            raise UnsupportedError(f"weights {name[:80]!r} are no constant of the graph")
        if array.dtype not in (np.float32, np.float64):
            raise UnsupportedError(f"weights {name[:80]!r} are {array.dtype}: float32 and float64 are read")
        if name in self._used:
            raise UnsupportedError(
                f"weights {name[:80]!r} are used twice: layers that share weights are not read"
            )
        self._used.add(name)
        return array

    def _require_lengths(self, name: str) -> None:
        if not self._of_lengths(name):
            raise UnsupportedError(f"sequence_lens {name[:80]!r} must be an input of the graph")

    def _of_lengths(self, name: str, *operations: tuple[str, int]) -> bool:
        """Whether a value is made of one input of the graph, which is not x, by these operations alone.

        Each is an operator and the integer that it takes beside the value (Unsqueeze: its axis), last first.
        """
        graph = self._graph
        for kind, number in operations:
            maker = graph.maker.get(name)
            if maker is None or maker.op_type != kind:
                return False
            given = graph.axes(maker) if kind == "Unsqueeze" else graph.ints(maker.input[1])
            if given != [number]:
                return False
            self._claimed.add(id(maker))
            name = maker.input[0]
        maker = graph.maker.get(name)
        if maker is not None and maker.op_type == "Cast":
            self._claimed.add(id(maker))
            name = maker.input[0]
        known = self._lengths or name
        if name != known or name not in list(graph.inputs)[1:]:
            return False
        self._lengths = name
        return True

    # -------------------------------------------------------------------------------------- other layers
    def _embeds(self, item: Any, value: str) -> bool:
        return item.op_type == "Gather" and len(item.input) == 2 and item.input[1] == value

    def _read_gather(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        axis = self._graph.attributes(item).get("axis", 0)
        if self._embeds(item, value):
            if axis != 0 or "F" in axes or self._layers:
                raise UnsupportedError(
                    f"{called(item)}: an embedding reads rows of a table by the ids that go in"
                )
            table = self._weight(item.input[0])
            if table.ndim != 2:
                raise UnsupportedError(f"{called(item)}: its table must have two axes, it has {table.ndim}")
            self._layers.append(
                (node("Embedding", num_embeddings=table.shape[0], embedding_dim=table.shape[1],
                      dtype=table.dtype.name), {"weight": table})
            )  # fmt: skip
            return item.output[0], axes + "F"
        at = self._graph.constant(item.input[1])
        letter = axes[axis] if -len(axes) <= axis < len(axes) else ""
        if at is not None and at.ndim == 0 and letter == "D" and at in (-1, 0):
            return item.output[0], axes.replace("D", "")
        if at is None or at.shape or at != -1 or self._roles.get(letter) != "T":
            raise UnsupportedError(f"{called(item)}: of steps the last alone can be picked")
        self._layers.append((node("Last", batch_first=False), {}))
        return item.output[0], axes.replace(letter, "")

    def _read_gathernd(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        options = self._graph.attributes(item)
        resolved = "".join(self._roles.get(a, a) for a in axes)
        if resolved != "BTF" or options.get("batch_dims") != 1 or not self._of_lengths(item.input[1], *LAST):
            raise UnsupportedError(f"{called(item)}: of steps the last by lengths alone can be picked")
        self._layers.append((node("Last", batch_first=False), {}))
        return item.output[0], axes[0] + "F"

    def _read_where(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        zero = self._graph.constant(item.input[2])
        before = self._layers[-1][0] if self._layers else None
        picked = isinstance(before, dict) and before["kind"] == "Last"
        zeros = item.input[1] == value and zero is not None and not zero.any()
        if not picked or not zeros or not self._of_lengths(item.input[0], *ANY):
            raise UnsupportedError(f"{called(item)} has no equal here")
        return item.output[0], axes

    def _read_split(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        """The final states of two directions, as `to_onnx` picks them from y."""
        before = len(self._layers)
        (last, first), ends = item.output, []
        for half, at in ((last, -1), (first, 0)):
            at_axes = axes
            while True:
                reader = self._reader_of(half)
                if reader.op_type == "Concat":
                    ends.append((reader, half))
                    break
                self._claim(reader)
                if at == 0 and reader.op_type == "Gather":
                    index, axis = (
                        self._graph.constant(reader.input[1]),
                        self._graph.attributes(reader)["axis"],
                    )
                    if index is None or index.shape or index != 0 or self._roles.get(at_axes[axis]) != "T":
                        raise UnsupportedError(
                            f"{called(reader)}: of the second direction step 0 can be picked"
                        )
                    half, at_axes = reader.output[0], at_axes.replace(at_axes[axis], "")
                else:
                    half, at_axes = self._step(reader, half, at_axes)
        (join, one), (other, two) = ends
        size = self._layers[before - 1][0]
        if (
            join is not other
            or list(join.input) != [one, two]
            or not isinstance(size, Cell)
            or size.directions != 2
        ):
            raise UnsupportedError(f"{called(item)}: halves that are no directions' final states")
        self._claim(join)
        if len(self._layers) != before + 1:
            raise UnsupportedError(f"{called(item)}: layers between its halves and their joint")
        self._layers[-1] = (node("Ends", batch_first=False), {})
        return join.output[0], at_axes

    def _read_concat(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        """Final states of several layers, of which the last is picked after it."""
        picks = self._reader_of(item.output[0])
        at = self._graph.constant(picks.input[1]) if picks.op_type == "Gather" else None
        axis = self._graph.attributes(item).get("axis")
        if axes[0] != "D" or axis != 0 or item.input[-1] != value or at is None or at.shape or at != -1:
            raise UnsupportedError(f"{called(item)} has no equal here")
        return item.output[0], axes

    def _read_matmul(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        self._require_last_axis(item, axes, -1)
        if item.input[0] != value:
            raise UnsupportedError(f"{called(item)} multiplies from the left: x times a constant is read")
        weight = self._weight(item.input[1])
        if weight.ndim != 2:
            raise UnsupportedError(f"{called(item)}: its constant must have two axes, it has {weight.ndim}")
        bias = None
        after = [n for n in self._graph.readers.get(item.output[0], ()) if id(n) in self._needed]
        output = item.output[0]
        if len(after) == 1 and after[0].op_type == "Add" and output != self._output:
            (name,) = [n for n in after[0].input if n != output]
            bias = self._weight(name)
            self._claim(after[0])
            output = after[0].output[0]
        self._linear(item, weight.T, bias)
        return output, axes

    def _read_gemm(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        options = self._graph.attributes(item)
        scaled = any(options.get(n, 1.0) != 1.0 for n in ("alpha", "beta"))
        if item.input[0] != value or options.get("transA") or scaled or len(axes) != 2:
            raise UnsupportedError(f"{called(item)}: alpha, beta or transA have no equal here")
        weight = self._weight(item.input[1])
        bias = self._weight(item.input[2]) if len(item.input) > 2 and item.input[2] else None
        self._linear(item, weight if options.get("transB") else weight.T, bias)
        return item.output[0], axes

    def _linear(self, item: Any, weight: Array, bias: Array | None) -> None:
        if weight.ndim != 2 or (bias is not None and bias.shape != (weight.shape[0],)):
            shape = None if bias is None else bias.shape
            raise UnsupportedError(f"{called(item)}: weights of shape {weight.shape} with a bias of {shape}")
        out, features = weight.shape
        tree = node("Linear", in_features=features, out_features=out, bias=bias is not None,
                    dtype=weight.dtype.name)  # fmt: skip
        self._layers.append((tree, {"weight": weight, **({} if bias is None else {"bias": bias})}))

    def _read_layernormalization(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        self._require_last_axis(item, axes, -1)
        weight = self._weight(item.input[1])
        bias = self._weight(item.input[2]) if len(item.input) > 2 and item.input[2] else None
        if weight.ndim != 1:
            raise UnsupportedError(f"{called(item)}: its scale must have one axis, it has {weight.ndim}")
        eps = float(self._graph.attributes(item).get("epsilon", 1e-5))
        eps = float(f"{eps:.7g}")  # the decimal that the file's float32 was written for
        tree = node("LayerNorm", features=weight.shape[0], eps=eps, bias=bias is not None,
                    dtype=weight.dtype.name)  # fmt: skip
        self._layers.append((tree, {"weight": weight, **({} if bias is None else {"bias": bias})}))
        return item.output[0], axes

    def _read_dropout(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        ratio = self._graph.attributes(item).get("ratio", 0.5)
        if len(item.input) > 1 and item.input[1]:
            given = self._graph.constant(item.input[1])
            if given is None or given.size != 1:
                raise UnsupportedError(f"{called(item)}: its ratio is no constant")
            ratio = given.item()
        self._layers.append((node("Dropout", p=float(f"{float(ratio):.7g}")), {}))
        return item.output[0], axes

    def _read_identity(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        return item.output[0], axes

    def _read_cast(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        if "F" in axes:
            raise UnsupportedError(f"{called(item)}: ids alone may be cast")
        return item.output[0], axes

    def _read_transpose(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        order = self._graph.attributes(item).get("perm", list(range(len(axes)))[::-1])
        if sorted(order) != list(range(len(axes))):
            raise FormatError(f"{called(item)}: perm {list(order)[:8]} for {len(axes)} axes")
        return item.output[0], "".join(axes[i] for i in order)

    def _read_squeeze(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        if [axes[a] for a in self._graph.axes(item) or ()] != ["D"] or self._directions() != 1:
            raise UnsupportedError(f"{called(item)}: the axis of one direction alone can be dropped")
        return item.output[0], axes.replace("D", "")

    def _read_reshape(self, item: Any, value: str, axes: str) -> tuple[str, str]:
        shape, size = self._graph.ints(item.input[1]), self._directions() * self._hidden()
        if axes[2:] != "DF" or shape not in ([0, 0, -1], [0, 0, size]):
            raise UnsupportedError(f"{called(item)}: the axes of directions and features alone can be joined")
        return item.output[0], axes[:2] + "F"

    def _cell(self) -> Cell | None:
        return next((a for a, _ in reversed(self._layers) if isinstance(a, Cell)), None)

    def _directions(self) -> int:
        cell = self._cell()
        return 0 if cell is None else cell.directions

    def _hidden(self) -> int:
        cell = self._cell()
        return 0 if cell is None else cell.hidden_size

    def _require_last_axis(self, item: Any, axes: str, default: int) -> None:
        axis = self._graph.attributes(item).get("axis", default)
        if axes[-1:] != "F" or axis not in (-1, len(axes) - 1):
            raise UnsupportedError(f"{called(item)} must act on the last axis, and that be features")
