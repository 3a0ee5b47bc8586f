"""Our models as ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import __version__, nn
from fusedrnn.io import gates
from fusedrnn.io.description import Tree, common_arguments, describe
from fusedrnn.io.errors import UnsupportedError, need
from fusedrnn.io.files import write_atomically
from fusedrnn.io.onnx_graph import MAX_BYTES

Array = NDArray[Any]
OPSET, IR_VERSION = 17, 8  # of 2022; LayerNormalization came with 17
ROOM = 1 << 20  # bytes of a file for what is no weight
_SIZED = ("RNN", "GRU", "LSTM", "Linear", "LayerNorm")


def to_onnx(
    model: nn.Module,
    path: str | Path | None = None,
    *,
    lengths: bool = False,
    states: bool = True,
    batch: int | None = None,
    time: int | None = None,
) -> Any:
    """The model, as it computes in eval mode, as an ONNX graph.

    Inputs are ``x``, shaped as the model takes it (ids are int64), then for each recurrent module its initial
    states ``h0`` and, of an LSTM, ``c0`` (L * D, B, H), then ``lengths``, int64 (B,), if asked for. Outputs
    are ``y``, then the final states ``hn`` and ``cn`` of each. With several recurrent modules their names are
    counted: ``h0_0``, ``c0_0``, ``h0_1`` and so on. Batch and time are dynamic axes.

    Args:
        model: of this package's layers but `Masked`.
        path: the file to write; None returns the model alone.
        lengths: whether the valid steps of each row are an input.
        states: False leaves states out: they start as zeros.
        batch: fixes the batch.
        time: fixes the number of steps.

    Returns:
        The ``onnx.ModelProto``.

    Raises:
        UnsupportedError: a layer has no equal in ONNX, or is of the caller's own type, or the model is larger
            than the 2 GiB of an ONNX file. ValueError: lengths=True, and no layer takes them.
        ImportError: onnx is not installed; OSError: the file cannot be written.

    Example:
        >>> fr.io.to_onnx(model, "model.onnx")
        >>> session = onnxruntime.InferenceSession("model.onnx")
        >>> y, hn, cn = session.run(None, {"x": x, "h0": h0, "c0": c0})
    """
    onnx = need("onnx")
    tree = describe(model)
    arrays = model.state_dict()
    if sum(array.nbytes for array in arrays.values()) > MAX_BYTES - ROOM:
        raise UnsupportedError("the model is larger than the 2 GiB that an ONNX file may be")
    leaves = list(_leaves(tree, ""))
    if lengths and not any(leaf["kind"] in ("RNN", "GRU", "LSTM", "Last", "Ends") for _, leaf in leaves):
        raise ValueError("lengths must be False: no layer of this model takes them")
    graph = _Graph(onnx, leaves, arrays, lengths, states, {"batch": batch or "batch", "time": time or "time"})
    proto = graph.model()
    if path is not None:
        data = proto.SerializeToString()
        write_atomically(Path(path), lambda file: file.write(data))
    return proto


def _leaves(tree: Tree, prefix: str) -> Iterator[tuple[str, Tree]]:
    """The layers in their order with the prefix of their parameters' names."""
    if tree["kind"] == "Masked":
        raise UnsupportedError("Masked has no equal in ONNX: write the layers within it, with lengths=True")
    if "layers" not in tree:
        yield prefix, tree
    for i, layer in enumerate(tree.get("layers", ())):
        yield from _leaves(layer, f"{prefix}{i}.")


class _Graph:
    """Nodes, constants, inputs and outputs of a graph, made layer by layer."""

    def __init__(
        self,
        onnx: Any,
        leaves: list[tuple[str, Tree]],
        arrays: Mapping[str, Array],
        lengths: bool,
        states: bool,
        sizes: dict[str, int | str],
    ) -> None:
        self._onnx, self._arrays, self._sizes = onnx, arrays, sizes
        self._leaves, self._states, self._lengths = leaves, states, lengths
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        dtypes = {np.dtype(t["arguments"]["dtype"]) for _, t in leaves if "dtype" in t["arguments"]}
        if len(dtypes) > 1:
            raise UnsupportedError(f"layers must be of one dtype, they are {sorted(map(str, dtypes))}")
        self._dtype = dtypes.pop() if dtypes else np.dtype(np.float32)
        self._recurrent = sum(tree["kind"] in ("RNN", "GRU", "LSTM") for _, tree in leaves)
        self._count = 0  # of recurrent layers so far
        firsts = [t["arguments"]["batch_first"] for _, t in leaves if "batch_first" in t["arguments"]]
        self._features = 0  # of what goes on
        self._timed = bool(firsts)  # whether what goes on has a time axis
        self._batch_first = self._time_second = bool(firsts and firsts[0])

    def model(self) -> Any:
        """The whole as a ModelProto."""
        helper = self._onnx.helper
        self._input()
        value = "x"
        for prefix, tree in self._leaves:
            value = getattr(self, f"_{tree['kind'].lower()}")(value, prefix, tree)
        if self._timed:
            value = self._laid(value, self._batch_first)
        self._node("Identity", [value], "y")
        if self._lengths:
            self._declare(self._inputs, "lengths", np.int64, ["batch"])
        self._declare(self._outputs, "y", self._dtype, [*self._leading(), self._features], first=True)
        graph = helper.make_graph(
            self._nodes,
            "fusedrnn",
            self._inputs,
            self._outputs,
            [self._onnx.numpy_helper.from_array(a, name) for name, a in self._constants.items()],
        )
        return helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="fusedrnn",
            producer_version=__version__,
        )

    # ------------------------------------------------------------------------------------------ elements
    def _node(
        self, kind: str, inputs: list[str], output: str | list[str] | None = None, **options: Any
    ) -> str:
        """Adds a node and returns the name of its (first) output."""
        names = [output] if isinstance(output, str) else output or [f"{kind.lower()}_{len(self._nodes)}"]
        self._nodes.append(
            self._onnx.helper.make_node(kind, inputs, names, f"{kind}_{len(self._nodes)}", **options)
        )
        return next(name for name in names if name)

    def _constant(self, array: Any, name: str) -> str:
        self._constants[name] = np.asarray(array, order="C")
        return name

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64), "ints_" + "_".join(map(str, values)))

    def _declare(self, where: list[Any], name: str, dtype: Any, axes: list[Any], first: bool = False) -> None:
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        shape = [self._sizes.get(a, a) if isinstance(a, str) else a for a in axes]
        where.insert(0 if first else len(where), helper.make_tensor_value_info(name, kind, shape))

    def _input(self) -> None:
        """Declares x, whose features the first layer with a size names."""
        if self._leaves[0][1]["kind"] == "Embedding":
            self._declare(self._inputs, "x", np.int64, self._leading())
            return
        sized = next((tree for _, tree in self._leaves if tree["kind"] in _SIZED), None)
        if sized is None:
            raise UnsupportedError("the model has no layer that says how many features x has")
        given = sized["arguments"]
        self._features = next(given[n] for n in ("input_size", "in_features", "features") if n in given)
        self._declare(self._inputs, "x", self._dtype, [*self._leading(), self._features])

    def _leading(self) -> list[str]:
        """The axes before the features."""
        if not self._timed:
            return ["batch"]
        return ["batch", "time"] if self._batch_first else ["time", "batch"]

    def _laid(self, value: str, batch_first: bool) -> str:
        """The value with time or batch first, as asked."""
        if batch_first == self._time_second:
            return value
        self._time_second = batch_first
        return self._node("Transpose", [value], perm=[1, 0, 2])

    def _weight(self, prefix: str, name: str) -> str:
        return self._constant(self._arrays[prefix + name], prefix + name)

    # -------------------------------------------------------------------------------------------- layers
    def _embedding(self, value: str, prefix: str, tree: Tree) -> str:
        self._features = tree["arguments"]["embedding_dim"]
        return self._node("Gather", [self._weight(prefix, "weight"), value], axis=0)

    def _linear(self, value: str, prefix: str, tree: Tree) -> str:
        transposed = self._constant(self._arrays[prefix + "weight"].T, prefix + "weight")
        self._features = tree["arguments"]["out_features"]
        value = self._node("MatMul", [value, transposed])
        if tree["arguments"]["bias"]:
            value = self._node("Add", [value, self._weight(prefix, "bias")])
        return value

    def _layernorm(self, value: str, prefix: str, tree: Tree) -> str:
        given = tree["arguments"]
        affine = given["elementwise_affine"]
        ones = np.ones(given["features"], self._dtype)
        scale = self._weight(prefix, "weight") if affine else self._constant(ones, prefix + "ones")
        inputs = [value, scale] + ([self._weight(prefix, "bias")] if affine and given["bias"] else [])
        return self._node("LayerNormalization", inputs, axis=-1, epsilon=given["eps"])

    def _dropout(self, value: str, prefix: str, tree: Tree) -> str:
        return value  # the graph is that of eval mode

    def _activation(self, value: str, prefix: str, tree: Tree) -> str:
        function = tree["arguments"]["function"].capitalize()
        options: dict[str, Any] = {"axis": -1} if function == "Softmax" else {}
        return self._node(function, [value], **options)

    def _last(self, value: str, prefix: str, tree: Tree) -> str:
        picked = self._pick_last(value)
        self._timed = False
        return picked

    def _ends(self, value: str, prefix: str, tree: Tree) -> str:
        halves = [f"half_{i}_{len(self._nodes)}" for i in (0, 1)]
        self._node("Split", [value], halves, axis=-1)
        before = self._time_second
        last = self._pick_last(halves[0])
        self._time_second = before
        first = self._counted(self._step(halves[1], 0))
        self._timed = False
        return self._node("Concat", [last, first], axis=1)

    def _step(self, value: str, at: int) -> str:
        index = self._constant(np.array(at, np.int64), f"step_{at}".replace("-", "minus_"))
        return self._node("Gather", [value, index], axis=1 if self._time_second else 0)

    def _pick_last(self, value: str) -> str:
        if not self._lengths:
            return self._step(value, -1)
        value = self._laid(value, True)
        at = self._node("Unsqueeze", [self._node("Sub", ["lengths", self._ints(1)]), self._ints(1)])
        return self._counted(self._node("GatherND", [value, at], batch_dims=1))

    def _counted(self, value: str, other: str | None = None) -> str:
        """The value of each row, or the other (None: 0) where the row has no valid step."""
        if not self._lengths:
            return value
        valid = self._node("Unsqueeze", [self._node("Greater", ["lengths", self._ints(0)]), self._ints(1)])
        if other is None:
            other = self._constant(np.zeros((), self._dtype), "zero")
        return self._node("Where", [valid, value, other])

    def _rnn(self, value: str, prefix: str, tree: Tree) -> str:
        given = common_arguments(tree, "ONNX", "peephole")
        kind, H = tree["kind"], given["hidden_size"]
        both = given["bidirectional"]
        D = 2 if both else 1
        symbols = ["h", "c"] if kind == "LSTM" else ["h"]
        suffix = f"_{self._count}" if self._recurrent > 1 else ""
        self._count += 1
        states = [f"{s}0{suffix}" for s in symbols] if self._states else []
        for name in states:
            self._declare(self._inputs, name, self._dtype, [D * given["num_layers"], "batch", H])
        counted = ""
        if self._lengths:
            counted = self._node("Cast", ["lengths"], to=self._onnx.TensorProto.INT32)
        options: dict[str, Any] = {"hidden_size": H, "direction": "bidirectional" if both else "forward"}
        if kind == "GRU":
            options["linear_before_reset"] = 1
        if kind == "RNN":
            options["activations"] = [given["nonlinearity"].capitalize()] * D
        value = self._laid(value, False)
        self._features = D * H
        finals: list[list[str]] = [[] for _ in symbols]
        for layer in range(given["num_layers"]):
            starts = [self._slice(name, layer * D, D, given["num_layers"]) for name in states]
            weights = self._weights(prefix, layer, D, kind, given["bias"])
            peepholes = [self._peepholes(prefix, layer, D)] if given.get("peephole", False) else []
            outputs = [f"{name}_{len(self._nodes)}" for name in ("Y", "Y_h", "Y_c")[: 1 + len(symbols)]]
            if not self._states:
                outputs = outputs[:1]
            inputs = [value, *weights, counted, *(starts or [""] * len(symbols)), *peepholes]
            while not inputs[-1]:
                inputs.pop()
            self._node(kind, inputs, outputs, **options)
            for gathered, name, start in zip(finals, outputs[1:], starts, strict=False):
                # ONNX leaves open what the final state of a row without steps is; here it is the initial one
                gathered.append(self._counted(name, start))
            if both:
                turned = self._node("Transpose", [outputs[0]], perm=[0, 2, 1, 3])
                value = self._node("Reshape", [turned, self._ints(0, 0, 2 * H)])
            else:
                value = self._node("Squeeze", [outputs[0], self._ints(1)])
        for symbol, names in zip(symbols, finals, strict=True):
            if names:
                self._node("Concat", names, f"{symbol}n{suffix}", axis=0)
                axes = [D * given["num_layers"], "batch", H]
                self._declare(self._outputs, f"{symbol}n{suffix}", self._dtype, axes)
        return value

    _gru = _lstm = _rnn

    def _slice(self, name: str, start: int, count: int, layers: int) -> str:
        if layers == 1:
            return name
        ends = [self._ints(start), self._ints(start + count), self._ints(0)]
        return self._node("Slice", [name, *ends])

    def _stacked(self, prefix: str, name: str, layer: int, D: int, order: tuple[int, ...]) -> Array:
        found = [self._arrays[f"{prefix}{name}_l{layer}{d}"] for d in ("", "_reverse")[:D]]
        return np.stack([gates.from_ours(array, order) for array in found])

    def _peepholes(self, prefix: str, layer: int, D: int) -> str:
        P = self._stacked(prefix, "weight_peephole", layer, D, gates.ONNX_PEEPHOLES)
        return self._constant(P, f"{prefix}P_l{layer}")

    def _weights(self, prefix: str, layer: int, D: int, kind: str, bias: bool) -> list[str]:
        def stacked(name: str) -> Array:
            return self._stacked(prefix, name, layer, D, gates.ONNX[kind])

        W, R = stacked("weight_ih"), stacked("weight_hh")
        B = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], 1) if bias else None
        named = [("W", W), ("R", R), ("B", B)]
        return ["" if a is None else self._constant(a, f"{prefix}{n}_l{layer}") for n, a in named]
