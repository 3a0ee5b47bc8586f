"""ONNX Runtime running a recurrent stack: an inference peer.

The model is written as protobuf bytes here, because a handful of messages is all it takes and the `onnx`
package would be one more to install. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
ONNX = "ONNX Runtime"
OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# Our gate at each place of ONNX's order: LSTM i o f c of our i f g o, GRU z r h of our r z n.
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
FLOAT, INT64 = 1, 7  # TensorProto.DataType
IR_VERSION, OPSET = 8, 14


def inference(cell: str, weights: Mapping[str, Array], x: Array, threads: int) -> Callable[[], Array]:
    """One forward pass of the stack with PyTorch's weights; the call returns y (T, B, H)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(stack_model(cell, weights, x.shape), options, providers)
    return lambda: session.run(None, {"x": x})[0]


def stack_model(cell: str, weights: Mapping[str, Array], shape: tuple[int, ...]) -> bytes:
    """A serialized ONNX model of a stack of one direction, input x of the given shape (T, B, I), output y."""
    layers = sum(name.startswith("weight_hh") for name in weights)
    hidden = weights["weight_hh_l0"].shape[1]
    nodes, tensors = [], [_tensor("one", np.array([1]))]
    for layer in range(layers):
        source = "x" if layer == 0 else f"y{layer - 1}"
        names = [f"{kind}{layer}" for kind in "WRB"]
        ih, hh, b_ih, b_hh = (
            _reordered(weights[f"{name}_l{layer}"], cell, hidden)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        arrays = (ih[None], hh[None], np.concatenate([b_ih, b_hh])[None])
        tensors += [_tensor(name, array) for name, array in zip(names, arrays, strict=True)]
        attributes = {"hidden_size": hidden} | ({"linear_before_reset": 1} if cell == "gru" else {})
        nodes.append(_node(OPERATORS[cell], [source, *names], [f"all{layer}"], attributes))
        nodes.append(_node("Squeeze", [f"all{layer}", "one"], [f"y{layer}"], {}))  # the axis of directions
    graph = b"".join(_bytes(1, node) for node in nodes) + _text(2, "stack")
    graph += b"".join(_bytes(5, tensor) for tensor in tensors)
    graph += _bytes(11, _value("x", shape)) + _bytes(12, _value(f"y{layers - 1}", (*shape[:2], hidden)))
    return _number(1, IR_VERSION) + _bytes(8, _text(1, "") + _number(2, OPSET)) + _bytes(7, graph)


def _reordered(weight: Array, cell: str, hidden: int) -> Array:
    blocks = weight.reshape(len(GATES[cell]), hidden, *weight.shape[1:])
    return np.ascontiguousarray(blocks[list(GATES[cell])].reshape(weight.shape))


def _node(operator: str, inputs: list[str], outputs: list[str], attributes: Mapping[str, int]) -> bytes:
    data = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs)
    data += _text(4, operator)
    for name, value in attributes.items():
        data += _bytes(5, _text(1, name) + _number(3, value) + _number(20, 2))  # 2: an integer
    return data


def _tensor(name: str, array: Array) -> bytes:
    kind = INT64 if array.dtype == np.int64 else FLOAT
    dims = b"".join(_number(1, n) for n in array.shape)
    return dims + _number(2, kind) + _text(8, name) + _bytes(9, array.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, n)) for n in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, dims)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
