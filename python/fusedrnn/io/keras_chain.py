"""The layers of a Keras configuration, in the order in which the model runs them."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple, NoReturn

from fusedrnn.io.errors import FormatError, UnsupportedError

# Layers that have an equal here, and the names under which Keras files their arrays.
GROUPS = {
    "InputLayer": "input_layer", "Embedding": "embedding", "Masking": "masking",
    "SimpleRNN": "simple_rnn", "GRU": "gru", "LSTM": "lstm", "Bidirectional": "bidirectional",
    "Dense": "dense", "TimeDistributed": "time_distributed", "Dropout": "dropout",
    "LayerNormalization": "layer_normalization", "Activation": "activation", "ReLU": "re_lu",
    "Softmax": "softmax",
}  # fmt: skip
_MASK_OPERATIONS = ("NotEqual", "Any")  # which Keras writes into functional models for mask_zero and Masking


class Layer(NamedTuple):
    """A layer of a configuration.

    Attributes:
        kind: Keras's class.
        config: its options.
        name: for messages.
        path: of its arrays in a weights file.
        place: among the layers of the configuration.
    """

    kind: str
    config: dict[str, Any]
    name: str
    path: str
    place: int

    def refuse(self, what: str) -> NoReturn:
        """Raises the UnsupportedError that says what of this layer has no equal here."""
        raise UnsupportedError(f"layer {self.name!r}: {what} has no equal here")


def chain(config: Any) -> list[Layer]:
    """The layers of a model's configuration, one after the other.

    Args:
        config: what ``model.to_json()`` holds, or ``model.get_config()`` returns.

    Raises:
        UnsupportedError: a layer has no equal here, or the model is no chain; FormatError: it is no
            configuration of a model.
    """
    kind = "Functional" if isinstance(config, dict) and "input_layers" in config else "Sequential"
    if isinstance(config, dict) and "class_name" in config:
        kind, config = config["class_name"], config.get("config")
    if kind not in ("Sequential", "Functional", "Model"):
        raise UnsupportedError(
            f"the model is a {str(kind)[:80]}: Sequential and functional models of Keras's layers are read"
        )
    entries = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(entries, list) or not entries:
        raise FormatError("the configuration has no list of layers")
    counts: Counter[str] = Counter()
    layers: list[Layer] = []
    for i, entry in enumerate(entries):
        options = entry.get("config") if isinstance(entry, dict) else None
        if not isinstance(options, dict) or not isinstance(entry.get("class_name"), str):
            raise FormatError(f"layer {i} of the configuration has no class_name and config")
        layers.append(_layer(entry, options, i, counts))
    if kind == "Sequential":
        for layer in layers:
            _require_known(layer)
        return layers
    return _follow(config, entries, layers)


def nested(layer: Layer, key: str, path: str) -> Layer:
    """The layer that another wraps, under `key` of its options; its arrays are in its group `path`.

    Raises:
        FormatError: there is none.
    """
    entry = layer.config.get(key)
    options = entry.get("config") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(options, dict):
        raise FormatError(f"layer {layer.name!r}: its configuration has no {key}")
    return Layer(str(entry.get("class_name")), options, layer.name, f"{layer.path}/{path}", layer.place)


def _layer(entry: dict[str, Any], options: dict[str, Any], index: int, counts: Counter[str]) -> Layer:
    kind = entry["class_name"]
    count = counts[kind]
    counts[kind] += 1
    path = f"layers/{GROUPS.get(kind, '?')}" + (f"_{count}" if count else "")
    return Layer(kind, options, str(options.get("name", entry.get("name", index)))[:80], path, index)


def _require_known(layer: Layer) -> None:
    if layer.kind not in GROUPS:
        layer.refuse(layer.kind[:80])


def _follow(config: dict[str, Any], entries: list[Any], layers: list[Layer]) -> list[Layer]:
    """The layers of a functional model from its input to its output."""
    by_name = {str(e.get("name", layer.config.get("name"))): (e, layer)
               for e, layer in zip(entries, layers, strict=True)}  # fmt: skip
    (start,), (name,) = (_ends(config, key) for key in ("input_layers", "output_layers"))
    found: list[Layer] = []
    while True:
        if name not in by_name or len(found) > len(layers):
            raise FormatError(f"layer {name[:80]!r} of the configuration is joined to none, or to itself")
        entry, layer = by_name[name]
        _require_known(layer)
        found.append(layer)
        if layer.kind == "InputLayer":
            break
        name = _inbound(entry, layer, by_name)
    if name != start:
        raise UnsupportedError(f"the model's output does not come from its input {start[:80]!r} alone")
    chained = {layer.place for layer in found}
    for layer in layers:
        if layer.place not in chained and layer.kind not in _MASK_OPERATIONS:
            raise UnsupportedError(f"layer {layer.name!r} ({layer.kind[:80]}) is beside the chain of layers")
    return found[::-1]


def _ends(config: dict[str, Any], key: str) -> list[str]:
    ends = config.get(key)
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    if not isinstance(ends, list) or not all(
        isinstance(e, list) and e and isinstance(e[0], str) for e in ends
    ):
        raise UnsupportedError(f"{key} of the configuration must be a list: one tensor goes in and one out")
    if len(ends) != 1:
        raise UnsupportedError(f"the model has {len(ends)} {key}: one tensor goes in and one comes out here")
    return [ends[0][0]]


def _inbound(entry: dict[str, Any], layer: Layer, by_name: dict[str, Any]) -> str:
    """The name of the one layer that another reads."""
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise UnsupportedError(f"layer {layer.name!r} is called {len(nodes or ())} times: once is read")
    call = nodes[0]
    try:
        sources = [_history(argument) for argument in call["args"]]
        options = call["kwargs"].items()
    except (KeyError, TypeError, IndexError, AttributeError):
        raise FormatError(f"layer {layer.name!r}: its inbound_nodes are not as Keras 3 writes them") from None
    if len(sources) != 1 or sources[0] is None:
        raise UnsupportedError(f"layer {layer.name!r} is called with {len(sources)} arguments: one is read")
    for name, value in options:
        source = _history(value)
        if source is None and not isinstance(value, (list, dict)):
            continue  # training=False and its like
        operation = by_name.get(source or "", (None, None))[1]
        if name != "mask" or operation is None or operation.kind not in _MASK_OPERATIONS:
            layer.refuse(f"a call with {str(name)[:40]}=")
    return sources[0]


def _history(argument: Any) -> str | None:
    """The layer that a tensor comes from, None of anything else."""
    if isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__":
        return str(argument["config"]["keras_history"][0])
    return None
