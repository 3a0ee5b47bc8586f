"""An ONNX file as a graph that can be asked: who makes a value, who reads it, what a constant holds.

Nothing of the file is executed or followed elsewhere: weights outside of it are refused, and constants are
held against the bytes that are there before an array is made of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.io.errors import FormatError, UnsupportedError, need
from fusedrnn.io.files import regular_size

Array = NDArray[Any]
MAX_BYTES = 1 << 31  # of one protobuf message
OLDEST_OPSET = 7  # of the recurrent operators as they are now


class Graph:
    """The graph of a model.

    Args:
        source: a path, or an ``onnx.ModelProto``.

    Raises:
        FormatError: it is damaged, or no ONNX file; UnsupportedError: its operators are not the standard's of
            opset 7 or later, or weights are in other files. ImportError: onnx is not installed; OSError: the
            file cannot be read; TypeError: source is neither.

    Attributes:
        nodes: in the order of the file.
        inputs: names and ranks of what goes in, None where a rank is not given.
        outputs: names.
        maker: the node that makes a value.
        readers: the nodes that read a value.
        opset: version of the operators.
    """

    def __init__(self, source: Any) -> None:
        self._onnx = onnx = need("onnx")
        if isinstance(source, (str, Path)):
            self._name = str(source)
            if regular_size(source) > MAX_BYTES:
                raise FormatError(f"{source} is larger than the 2 GiB that an ONNX file may be")
            try:
                model = onnx.ModelProto.FromString(Path(source).read_bytes())
            except need("google.protobuf.message").DecodeError as error:
                raise FormatError(f"{source} is damaged or no ONNX file: {error}") from None
        elif isinstance(source, onnx.ModelProto):
            self._name, model = "the model", source
        else:
            raise TypeError(f"source must be a path or an onnx.ModelProto, it is {type(source).__name__}")
        graph = model.graph
        if not graph.node or not graph.output:
            raise FormatError(f"{self._name} is no ONNX file: it has no graph with nodes and outputs")
        self.opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        if self.opset < OLDEST_OPSET:
            raise UnsupportedError(f"{self._name} has opset {self.opset}: {OLDEST_OPSET} and later are read")
        self.nodes = list(graph.node)
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.maker: dict[str, Any] = {}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in filter(None, node.output):
                if name in self.maker:
                    raise FormatError(f"{self._name} is damaged: value {name[:80]!r} is made twice")
                self.maker[name] = node
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
            if node.op_type == "Constant" and node.output and [a.name for a in node.attribute] == ["value"]:
                self._tensors[node.output[0]] = node.attribute[0].t
        self.inputs = {i.name: _rank(i) for i in graph.input if i.name not in self._tensors}
        self.outputs = [output.name for output in graph.output]

    def constant(self, name: str) -> Array | None:
        """The constant of a name as an array of its own, None if it is none.

        Raises:
            FormatError: its bytes are not those of its shape; UnsupportedError: it is in another file, or of
                a type other than float32, float64, int32, int64 and bool.
        """
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        types = self._onnx.TensorProto
        if tensor.data_location == types.EXTERNAL:
            raise UnsupportedError(
                f"constant {name[:80]!r} lies in another file: save the model with its weights inside"
            )
        fields = {types.FLOAT: "float_data", types.DOUBLE: "double_data", types.INT64: "int64_data",
                  types.INT32: "int32_data", types.BOOL: "int32_data"}  # fmt: skip
        if tensor.data_type not in fields:
            raise UnsupportedError(
                f"constant {name[:80]!r} is {_type_name(types, tensor.data_type)}: "
                "float32, float64, int32, int64 and bool are read"
            )
        shape = tuple(tensor.dims)
        dtype = np.dtype(self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        values = getattr(tensor, fields[tensor.data_type])
        held = len(tensor.raw_data) // dtype.itemsize if tensor.HasField("raw_data") else len(values)
        if len(shape) > 32 or min(shape, default=0) < 0 or math.prod(shape) != held:
            raise FormatError(
                f"{self._name} is damaged: constant {name[:80]!r} holds {held} numbers for {shape}"
            )
        try:
            array: Array = self._onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise FormatError(f"{self._name} is damaged: constant {name[:80]!r}: {error}") from None
        copy: Array = array.copy()
        return copy

    def entries(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, type and shape of all constants, none of which is read."""
        types = self._onnx.TensorProto
        return [(n, _type_name(types, t.data_type), tuple(t.dims)) for n, t in self._tensors.items()]

    def ints(self, name: str) -> list[int] | None:
        """A constant of integers as a list, None if it is none."""
        array = self.constant(name) if name else None
        return None if array is None or array.dtype.kind != "i" else [int(i) for i in array.ravel()]

    def attributes(self, node: Any) -> dict[str, Any]:
        """The attributes of a node by name: numbers, lists, text.

        Raises:
            FormatError: one is not what its type says.
        """
        try:
            return {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        except (ValueError, TypeError) as error:
            raise FormatError(f"{self._name} is damaged: {error}") from None

    def axes(self, node: Any) -> list[int] | None:
        """The axes of a Squeeze or Unsqueeze, an attribute once and an input now."""
        found = self.attributes(node).get("axes")
        if found is None and len(node.input) > 1:
            return self.ints(node.input[1])
        return None if found is None else list(found)

    def ancestors(self, value: str) -> list[Any]:
        """All nodes that a value depends on, constants apart."""
        found: dict[int, Any] = {}
        waiting = [value]
        while waiting:
            node = self.maker.get(waiting.pop())
            if node is not None and id(node) not in found and node.op_type != "Constant":
                found[id(node)] = node
                waiting += node.input
        return list(found.values())


def called(node: Any) -> str:
    """A node for messages."""
    return f"node {node.name[:80] or (node.output[0][:80] if node.output else '')!r} ({node.op_type[:40]})"


def _rank(value: Any) -> int | None:
    tensor = value.type.tensor_type
    return len(tensor.shape.dim) if tensor.HasField("shape") else None


def _type_name(types: Any, number: int) -> str:
    try:
        return str(types.DataType.Name(number))
    except ValueError:
        return f"of the unknown type {number}"
