"""Keras's layers as ours, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.io import gates
from fusedrnn.io.description import Tree, container, node
from fusedrnn.io.errors import FormatError, UnsupportedError
from fusedrnn.io.keras_chain import Layer, nested
from fusedrnn.io.layers import Activation

Array = NDArray[Any]
Arrays = dict[str, Array]
# Returns the arrays of a layer; what is wrong with them is a FormatError.
Weights = Callable[[Layer], list[Array]]
CELLS = {"SimpleRNN": "RNN", "GRU": "GRU", "LSTM": "LSTM"}
# Options that act while Keras trains, and not on what a trained model computes.
_TRAINING_ONLY = (
    "dropout",
    "activity_regularizer",
    *(
        f"{kind}_{what}"
        for kind in ("kernel", "recurrent", "bias", "embeddings", "gamma", "beta")
        for what in ("regularizer", "constraint")
    ),
)


class Reader:
    """Turns Keras's layers into ours one by one.

    Attributes:
        dropped: options that were left out.
    """

    def __init__(self, weights: Weights) -> None:
        self.dropped: list[str] = []
        self._weights = weights
        self._parts: list[tuple[Tree, Arrays]] = []
        self._mask: tuple[int, float, str] | None = None  # the first part it covers, padding's value, layer
        self._end = 0  # of the parts that the mask goes through, with the fill after it
        self._fill = "previous"
        self._steps = True  # whether there still is a time axis

    def add(self, layer: Layer) -> None:
        """Adds the equal of a layer."""
        kind, config = layer.kind, layer.config
        self._check(layer, config)
        if kind == "TimeDistributed":
            inner = nested(layer, "layer", "layer")
            if inner.kind != "Dense":
                layer.refuse(f"TimeDistributed({inner.kind[:80]})")
            self._check(inner, inner.config)
            self._dense(inner)
        elif kind in (*CELLS, "Bidirectional"):
            self._recurrent(layer)
        elif kind == "Dense":
            self._dense(layer)
        elif kind == "Embedding":
            (table,) = self._arrays(layer, 1)
            if config.get("mask_zero"):
                self._start_mask(layer, 0.0)
            rows, width = table.shape if table.ndim == 2 else (0, 0)
            self._put(node("Embedding", num_embeddings=rows, embedding_dim=width, dtype=table.dtype.name),
                      {"weight": table})  # fmt: skip
        elif kind == "Masking":
            if type(config["mask_value"]) not in (int, float):
                raise UnsupportedError(f"layer {layer.name!r}: mask_value must be a number")
            self._start_mask(layer, float(config["mask_value"]))
        elif kind == "Dropout":
            if config.get("noise_shape") is not None:
                layer.refuse("Dropout with noise_shape")
            self._put(node("Dropout", p=float(config["rate"])), {})
        elif kind == "LayerNormalization":
            self._layer_norm(layer)
        elif kind != "InputLayer":
            self._activation(layer, _activation_layer(layer))

    def finish(self) -> tuple[list[Tree], Arrays]:
        """The layers' trees and their arrays by dotted name."""
        first, end = len(self._parts), len(self._parts)
        value = 0.0
        if self._mask is not None:
            first, value, name = self._mask
            end = self._end
            if end <= first:
                if name:
                    raise UnsupportedError(f"layer {name!r}: Masking without a recurrent layer after it")
                first = end = len(self._parts)
        layers: list[Tree] = []
        arrays: Arrays = {}
        inner: list[Tree] = []
        for i, (tree, own) in enumerate(self._parts):
            masked = first <= i < end
            prefix = f"{len(layers)}.{len(inner)}." if masked else f"{len(layers)}."
            arrays.update({prefix + key: array for key, array in own.items()})
            (inner if masked else layers).append(tree)
            if masked and i == end - 1:
                layers.append(container(inner, "Masked", value=value, fill=self._fill))
        if not layers:
            raise UnsupportedError("the model has no layer that computes anything")
        return layers, arrays

    # ------------------------------------------------------------------------------------------- parts
    def _put(self, tree: Tree, arrays: Arrays) -> None:
        self._parts.append((tree, arrays))

    def _arrays(self, layer: Layer, count: int) -> list[Array]:
        arrays = self._weights(layer)
        if len(arrays) != count:
            raise FormatError(f"layer {layer.name!r} must have {count} arrays, it has {len(arrays)}")
        for array in arrays:
            if array.dtype not in (np.float32, np.float64):
                raise UnsupportedError(
                    f"layer {layer.name!r} has weights of {array.dtype}: float32 or float64"
                )
        return arrays

    def _check(self, layer: Layer, config: dict[str, Any]) -> None:
        """Refuses what every layer may have, and notes what acts in training alone."""
        policy = config.get("dtype", "float32")
        if isinstance(policy, dict):
            policy = (
                policy["config"]["name"]
                if policy.get("class_name") == "DTypePolicy"
                else policy["class_name"]
            )
        if layer.kind != "InputLayer" and policy not in ("float32", "float64"):
            raise UnsupportedError(
                f"layer {layer.name!r} has the dtype {policy!r}: float32 and float64 are read"
            )
        if config.get("lora_rank") or config.get("quantization_config"):
            raise UnsupportedError(
                f"layer {layer.name!r} has LoRA weights or is quantized: merge these first"
            )
        for name in _TRAINING_ONLY:
            if config.get(name):
                self.dropped.append(f"{name} of {layer.name!r}")

    def _start_mask(self, layer: Layer, value: float) -> None:
        if self._mask is not None:
            raise UnsupportedError(f"layer {layer.name!r} makes a second mask: one is read")
        self._mask = (len(self._parts), value, layer.name if layer.kind == "Masking" else "")
        self._end = -1

    def _dense(self, layer: Layer) -> None:
        config = layer.config
        found = self._arrays(layer, 2 if config["use_bias"] else 1)
        kernel = found[0]
        if kernel.ndim != 2:
            raise FormatError(f"layer {layer.name!r}: its kernel must have two axes, it has {kernel.ndim}")
        arrays = {"weight": kernel.T, **({"bias": found[1]} if config["use_bias"] else {})}
        self._put(
            node("Linear", in_features=kernel.shape[0], out_features=kernel.shape[1],
                 bias=bool(config["use_bias"]), dtype=kernel.dtype.name),
            arrays,
        )  # fmt: skip
        self._activation(layer, config["activation"])

    def _activation(self, layer: Layer, function: Any) -> None:
        if function == "linear" or function is None:
            return
        if function not in Activation.FUNCTIONS:
            layer.refuse(f"activation {_named(function)!r}")
        self._put(node("Activation", function=function), {})

    def _layer_norm(self, layer: Layer) -> None:
        config = layer.config
        scale, center = bool(config["scale"]), bool(config["center"])
        axis = config["axis"]
        rank = len((config.get("build_config") or {}).get("input_shape", ()))
        last = (
            axis in (-1, [-1]) or (rank and axis in (rank - 1, [rank - 1])) or (not rank and axis in (2, [2]))
        )
        if not last or config.get("rms_scaling"):
            layer.refuse(f"LayerNormalization over axis {axis}, or with rms_scaling,")
        if center and not scale:
            layer.refuse("LayerNormalization with center and without scale")
        found = self._arrays(layer, scale + center)
        if not scale:
            layer.refuse("LayerNormalization without scale: its size is not known")
        arrays = dict(zip(("weight", "bias"), found, strict=False))
        self._put(
            node("LayerNorm", features=found[0].shape[0], eps=float(config["epsilon"]), bias=center,
                 dtype=found[0].dtype.name),
            arrays,
        )  # fmt: skip

    # ---------------------------------------------------------------------------------- recurrent layers
    def _recurrent(self, layer: Layer) -> None:
        both = layer.kind == "Bidirectional"
        if both:
            if layer.config.get("merge_mode") != "concat":
                layer.refuse(f"merge_mode={layer.config.get('merge_mode')!r}")
            halves = [
                nested(layer, "layer", "forward_layer"),
                nested(layer, "backward_layer", "backward_layer"),
            ]
        else:
            halves = [layer]
        for half in halves:
            if half.kind not in CELLS:
                layer.refuse(f"Bidirectional({half.kind[:80]})")
            if both:
                self._check(half, half.config)
            self._check_cell(half, backwards=half is not halves[0])
        first = halves[0]
        shared = (
            "units", "use_bias", "activation", "return_sequences", "zero_output_for_mask",
            "recurrent_dropout", "reset_after",
        )  # fmt: skip
        if both and (first.kind != halves[1].kind
                     or any(first.config.get(n) != halves[1].config.get(n) for n in shared)):  # fmt: skip
            raise UnsupportedError(f"layer {layer.name!r}: its two directions differ in kind or options")
        self._put(*self._cell(layer, halves))
        sequences, zero = first.config["return_sequences"], bool(first.config.get("zero_output_for_mask"))
        if not sequences:
            self._put(node("Ends" if both else "Last", batch_first=True), {})
        if self._mask is not None and self._steps:
            if zero and not sequences:
                layer.refuse("zero_output_for_mask without return_sequences")
            if both and sequences and not zero:
                layer.refuse("a masked Bidirectional without zero_output_for_mask")
            self._end, self._fill = len(self._parts), "zero" if zero else "previous"
        self._steps = self._steps and bool(sequences)

    def _cell(self, layer: Layer, halves: list[Layer]) -> tuple[Tree, Arrays]:
        config, kind = halves[0].config, CELLS[halves[0].kind]
        after = kind == "GRU" and bool(config.get("reset_after", False))  # older files are without
        bias, order = bool(config["use_bias"]), gates.KERAS[kind]
        arrays: Arrays = {}
        for half, suffix in zip(halves, ("l0", "l0_reverse"), strict=False):
            found = self._arrays(half._replace(path=f"{half.path}/cell"), 3 if bias else 2)
            kernel, recurrent = found[:2]
            H = recurrent.shape[0] if recurrent.ndim == 2 else 0
            rows = len(order) * H
            if not H or kernel.ndim != 2 or kernel.shape[1] != rows or recurrent.shape[1] != rows:
                raise FormatError(
                    f"layer {layer.name!r}: kernels of shapes {kernel.shape} and {recurrent.shape} "
                    f"are no {kind}'s"
                )
            arrays[f"weight_ih_{suffix}"] = gates.to_ours(kernel.T, order)
            arrays[f"weight_hh_{suffix}"] = gates.to_ours(recurrent.T, order)
            if bias:
                pair = found[2] if after else np.stack([found[2], np.zeros_like(found[2])])
                if pair.shape != (2, rows):
                    raise FormatError(
                        f"layer {layer.name!r}: a bias of shape {found[2].shape} is no {kind}'s"
                    )
                for name, part in zip(("ih", "hh"), pair, strict=True):
                    arrays[f"bias_{name}_{suffix}"] = gates.to_ours(part, order)
        weight = arrays["weight_ih_l0"]
        options = {"nonlinearity": config["activation"]} if kind == "RNN" else {}
        if kind == "GRU" and not after:
            options["reset_after"] = False
        if config.get("recurrent_dropout"):
            options["recurrent_dropout"] = float(config["recurrent_dropout"])
        tree = node(
            kind, input_size=weight.shape[1], hidden_size=weight.shape[0] // len(order), bias=bias,
            batch_first=True, bidirectional=len(halves) == 2, dtype=weight.dtype.name, **options,
        )  # fmt: skip
        return tree, arrays

    def _check_cell(self, layer: Layer, backwards: bool) -> None:
        config, name = layer.config, f"layer {layer.name!r}"
        for option, wanted in (("return_state", False), ("stateful", False), ("go_backwards", backwards),
                               ("time_major", False)):  # fmt: skip
            if bool(config.get(option, wanted)) != wanted:
                more = ": give model(x, state=...) the state" if option == "stateful" else ""
                raise UnsupportedError(f"{name}: {layer.kind}({option}={not wanted}) has no equal here{more}")
        functions = ("tanh", "relu") if layer.kind == "SimpleRNN" else ("tanh",)
        if config["activation"] not in functions:
            raise UnsupportedError(
                f"{name}: {layer.kind}(activation={_named(config['activation'])!r}) has no cell here, "
                f"{' and '.join(functions)} have"
            )
        if layer.kind != "SimpleRNN" and config["recurrent_activation"] != "sigmoid":
            raise UnsupportedError(
                f"{name}: {layer.kind}(recurrent_activation={_named(config['recurrent_activation'])!r}) "
                "has no cell here, sigmoid has"
            )


def _activation_layer(layer: Layer) -> Any:
    """The function of a layer that is one."""
    config = layer.config
    if layer.kind == "ReLU":
        plain = (
            not config.get("max_value") and not config.get("negative_slope") and not config.get("threshold")
        )
        if not plain or config.get("max_value") == 0:
            layer.refuse("ReLU with a slope, threshold or maximum")
        return "relu"
    if layer.kind == "Softmax":
        if config.get("axis", -1) != -1:
            layer.refuse(f"Softmax over axis {config['axis']}")
        return "softmax"
    return config["activation"]


def _named(function: Any) -> str:
    """An activation's name: text, or a serialised object."""
    if isinstance(function, dict):
        function = (
            function.get("config") if isinstance(function.get("config"), str) else function.get("class_name")
        )
    return str(function)[:80]
