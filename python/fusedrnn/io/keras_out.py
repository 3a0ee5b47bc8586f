"""Our models as Keras's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import nn
from fusedrnn.io import gates
from fusedrnn.io.description import Tree, common_arguments, describe
from fusedrnn.io.errors import UnsupportedError, need
from fusedrnn.io.files import path_of
from fusedrnn.io.keras_layers import CELLS

Array = NDArray[Any]
Made = tuple[Any, list[Array]]  # a layer and its weights
_KERAS = {ours: theirs for theirs, ours in CELLS.items()}


def to_keras(model: nn.Module, path: str | Path | None = None) -> Any:
    """The model as a ``keras.Sequential`` of the backend that Keras runs on, batch first as all of Keras is.

    Layers of a stack become layers of their own, with Dropout between them. `Last` and `Ends` become
    return_sequences=False of the recurrent layer before them, `Masked` a Masking layer or mask_zero. Initial
    states are zeros. Of RNN, LSTM and GRU with reset_after=False the two biases are added, as Keras has one.

    Args:
        model: of this package's layers.
        path: where the model is saved too, a ``.keras`` or ``.weights.h5`` file.

    Returns:
        The Keras model; `from_keras` takes it back.

    Raises:
        UnsupportedError: a layer has no equal there, or is of the caller's own type. ImportError: keras is
            not installed; ValueError: path ends otherwise.

    Example:
        >>> keras_model = fr.io.to_keras(model, "model.keras")
    """
    if path is not None:
        path = path_of("path", path)
    if path is not None and not str(path).endswith((".keras", ".weights.h5")):
        raise ValueError(f"path must end in .keras or .weights.h5, it is {path}")
    keras = need("keras")
    tree = describe(model)
    writer = _Writer(keras, model.state_dict())
    bare = tree["kind"] != "Sequential"
    writer.add({"layers": [tree]} if bare else tree, "", bare)
    made = keras.Sequential([writer.input(), *(layer for layer, _ in writer.layers)])
    for layer, weights in writer.layers:
        layer.set_weights(weights)
    if path is not None and str(path).endswith(".keras"):
        made.save(path)
    elif path is not None:
        made.save_weights(path)
    return made


class _Writer:
    """Makes Keras layers one by one.

    Attributes:
        layers: made so far, with their weights.
    """

    def __init__(self, keras: Any, arrays: dict[str, Array]) -> None:
        self.layers: list[Made] = []
        self._keras, self._arrays = keras, arrays
        self._features: int | None = None  # of x; None of ids
        self._dtype = "float32"
        self._sized = self._timed = False
        self._zero = False  # whether the recurrent layer to be made returns zeros for what is masked

    def input(self) -> Any:
        """The layer that says what goes in."""
        axes = (None,) if self._timed else ()
        if self._features is None:
            return self._keras.Input(axes, dtype="int32")
        return self._keras.Input((*axes, self._features), dtype=self._dtype)

    def add(self, tree: Tree, prefix: str, bare: bool = False) -> None:
        """Adds the layers of a Sequential or Masked."""
        parts = tree["layers"]
        for i, part in enumerate(parts):
            after = parts[i + 1]["kind"] if i + 1 < len(parts) else ""
            self._add(part, "" if bare else f"{prefix}{i}.", after, parts[i - 1] if i else None)

    def _add(self, tree: Tree, prefix: str, after: str, before: Tree | None) -> None:
        kind, given, layers = tree["kind"], tree["arguments"], self._keras.layers
        if kind == "Sequential":
            self.add(tree, prefix)
        elif kind == "Masked":
            self._masked(tree, prefix)
        elif kind in _KERAS:
            self._recurrent(tree, prefix, after)
        elif kind in ("Last", "Ends"):
            both = before is not None and before["arguments"].get("bidirectional")
            if before is None or before["kind"] not in _KERAS or both != (kind == "Ends"):
                raise UnsupportedError(
                    f"{kind} has an equal in Keras only behind a recurrent layer of "
                    f"{'one direction' if kind == 'Last' else 'two directions'}"
                )
        elif kind == "Embedding":
            self._size(None, given["dtype"])
            self._embedding(given, prefix, mask=False)
        elif kind == "Linear":
            self._size(given["in_features"], given["dtype"])
            weights = [self._arrays[prefix + "weight"].T]
            if given["bias"]:
                weights.append(self._arrays[prefix + "bias"])
            dense = layers.Dense(given["out_features"], use_bias=given["bias"], dtype=given["dtype"])
            self.layers.append((dense, weights))
        elif kind == "LayerNorm":
            self._size(given["features"], given["dtype"])
            affine = given["elementwise_affine"]
            names = ["weight", "bias"][: (1 + given["bias"]) * affine]
            norm = layers.LayerNormalization(
                epsilon=given["eps"], scale=affine, center=affine and given["bias"], dtype=given["dtype"]
            )
            self.layers.append((norm, [self._arrays[prefix + name] for name in names]))
        elif kind == "Dropout":
            self.layers.append((layers.Dropout(given["p"], dtype=self._dtype), []))
        else:
            self.layers.append((layers.Activation(given["function"], dtype=self._dtype), []))

    def _size(self, features: int | None, dtype: str) -> None:
        """Notes what goes in, which the first layer with a size says."""
        if not self._sized:
            self._features, self._dtype, self._sized = features, dtype, True

    def _embedding(self, given: dict[str, Any], prefix: str, mask: bool) -> None:
        table = self._keras.layers.Embedding(
            given["num_embeddings"], given["embedding_dim"], mask_zero=mask, dtype=given["dtype"]
        )
        self.layers.append((table, [self._arrays[prefix + "weight"]]))

    def _masked(self, tree: Tree, prefix: str) -> None:
        given, parts = tree["arguments"], tree["layers"]
        self._timed = True
        last = next((p for p in reversed(parts) if p["kind"] in _KERAS), None)
        if last is None or parts[-1]["kind"] not in (*_KERAS, "Last", "Ends"):
            raise UnsupportedError("Masked has an equal in Keras only where it ends in a recurrent layer")
        both, sequences = last["arguments"]["bidirectional"], parts[-1] is last
        zero = given["fill"] == "zero"
        if both and sequences and not zero:
            raise UnsupportedError(
                "Masked(fill='previous') around a bidirectional layer has no equal in Keras"
            )
        if parts[0]["kind"] == "Embedding":
            if given["value"]:
                raise UnsupportedError(f"Masked(value={given['value']}) of ids: Keras masks id 0 alone")
            first = parts[0]["arguments"]
            self._size(None, first["dtype"])
            self._embedding(first, f"{prefix}0.", mask=True)
        else:
            first = next(p["arguments"] for p in parts if "dtype" in p["arguments"])
            features = next(first[n] for n in ("input_size", "in_features", "features") if n in first)
            self._size(features, first["dtype"])
            self.layers.append((self._keras.layers.Masking(given["value"], dtype=first["dtype"]), []))
        for i, part in enumerate(parts):
            if i == 0 and part["kind"] == "Embedding":
                continue
            after = parts[i + 1]["kind"] if i + 1 < len(parts) else ""
            self._zero = zero and part is last and sequences and not both
            self._add(part, f"{prefix}{i}.", after, parts[i - 1] if i else None)
            self._zero = False

    def _recurrent(self, tree: Tree, prefix: str, after: str) -> None:
        given = common_arguments(tree, "Keras", "recurrent_dropout", "reset_after")
        layers, kind = self._keras.layers, tree["kind"]
        self._timed = True
        self._size(given["input_size"], given["dtype"])
        for layer in range(given["num_layers"]):
            top = layer == given["num_layers"] - 1
            options: dict[str, Any] = {
                "return_sequences": not (top and after in ("Last", "Ends")),
                "use_bias": given["bias"],
                "dtype": given["dtype"],
            }
            if given.get("recurrent_dropout"):
                options["recurrent_dropout"] = given["recurrent_dropout"]
            if kind == "GRU":
                options["reset_after"] = given["reset_after"]
            if kind == "RNN":
                options["activation"] = given["nonlinearity"]
            if top and self._zero:
                options["zero_output_for_mask"] = True
            made = getattr(layers, _KERAS[kind])(given["hidden_size"], **options)
            paired = kind == "GRU" and given["reset_after"]
            weights = self._weights(kind, prefix, f"_l{layer}", given["bias"], paired)
            if given["bidirectional"]:
                made = layers.Bidirectional(made, merge_mode="concat", dtype=given["dtype"])
                weights += self._weights(kind, prefix, f"_l{layer}_reverse", given["bias"], paired)
            self.layers.append((made, weights))
            if given["dropout"] and not top:
                self.layers.append((layers.Dropout(given["dropout"], dtype=given["dtype"]), []))

    def _weights(self, kind: str, prefix: str, suffix: str, bias: bool, paired: bool) -> list[Array]:
        """Kernels and, where there is, the bias: a pair of them, or their sum."""
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if bias else [])
        parts = [gates.from_ours(self._arrays[prefix + n + suffix], gates.KERAS[kind]) for n in names]
        weights = [parts[0].T, parts[1].T]
        if bias:
            weights.append(np.stack(parts[2:]) if paired else parts[2] + parts[3])
        return weights
