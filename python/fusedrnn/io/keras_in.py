"""Models of Keras 3 as ours."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import nn
from fusedrnn.io.description import build, container
from fusedrnn.io.errors import FormatError, UnsupportedError, need
from fusedrnn.io.files import path_of, regular_size
from fusedrnn.io.keras_chain import Layer, chain
from fusedrnn.io.keras_files import MAX_TEXT, WeightsFile, parse, read_archive
from fusedrnn.io.keras_layers import Reader, Weights

Array = NDArray[Any]


def from_keras(source: Any, weights: str | Path | None = None) -> nn.Sequential:
    """The model of a Keras 3 model, as a Sequential with batch_first=True that takes and returns its shapes.

    Taken are Sequential models, and functional ones that are a chain, of Embedding, Masking, SimpleRNN, GRU,
    LSTM, Bidirectional (merge_mode "concat"), Dense, TimeDistributed(Dense), Dropout, LayerNormalization,
    Activation, ReLU, Softmax and Input. Masks act as in Keras wherever padding is, left, right or within,
    see `Masked`. Files are read without Keras, and nothing in them is executed.

    The model is in eval mode, as Keras predicts; ``train()`` to go on training. Options that act in Keras's
    training alone (dropout of recurrent layers' inputs, regularizers, constraints) are left out with a
    warning, but for recurrent_dropout, which is taken.

    Args:
        source: a ``.keras`` file; a live model; or a configuration (``model.get_config()``, the text of
            ``model.to_json()`` or a ``.json`` file of it), which needs `weights`.
        weights: a ``.weights.h5`` file, which has no configuration of its own.

    Returns:
        The model, float32 or float64 as the weights are.

    Raises:
        UnsupportedError: a layer or an option has no equal here; the message names both. Among them are
            activations of cells other than Keras's defaults (and relu of SimpleRNN),
            stateful, return_state, go_backwards, and files of Keras before 3.
        FormatError: a file is damaged, or weights and configuration do not fit.
        ImportError: h5py is not installed; OSError: a file cannot be read; TypeError: source is none of
            these.

    Example:
        >>> model = fr.io.from_keras("model.keras")
        >>> model = fr.io.from_keras(keras_model.get_config(), "model.weights.h5")
    """
    config, live = _configuration(source, weights)
    if isinstance(config, Path):
        config, _, file = read_archive(config)
    elif weights is not None:
        path = path_of("weights", weights)
        file = WeightsFile(str(path), str(path), regular_size(path))
    else:
        return _model(config, _live_weights(live))
    try:
        return _model(config, lambda layer: file.arrays(layer.path))
    finally:
        file.close()


def _configuration(source: Any, weights: str | Path | None) -> tuple[Any, Any]:
    """A configuration, or the path of a .keras file; and the live layers, if there are any."""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        config: Any = parse(source, "source")
    elif isinstance(source, (str, Path)):
        path = Path(source)
        if path.suffix == ".keras":
            if weights is not None:
                raise ValueError("weights must be None: a .keras file has its own")
            return path, None
        if path.suffix != ".json":
            raise UnsupportedError(
                f"{path}: "
                + ("it holds weights alone: give from_keras(config, weights=path) the model's configuration, "
                   "model.get_config() or a file of model.to_json()" if path.name.endswith(".weights.h5")
                   else "a .keras or .json file is read; save an .h5 file again as .keras with Keras 3")
            )  # fmt: skip
        if regular_size(path) > MAX_TEXT:
            raise FormatError(f"{path} is larger than the {MAX_TEXT} bytes that a configuration may be")
        config = parse(path.read_bytes(), str(path))
    elif isinstance(source, Mapping):
        config = source
    elif hasattr(source, "get_config") and hasattr(source, "layers"):
        return {"class_name": _class_of(source), "config": _plain(source.get_config())}, source.layers
    else:
        raise TypeError(
            f"source must be a path, a Keras model or its configuration, it is {type(source).__name__}"
        )
    if weights is None:
        raise ValueError("weights must be the path of a .weights.h5 file: a configuration has none")
    return config, None


def _class_of(model: Any) -> str:
    names = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("keras.")]
    return names[0] if type(model).__module__.startswith("keras.") and names else type(model).__name__


def _plain(config: Any) -> Any:
    """The configuration as it is in a file."""
    return json.loads(json.dumps(config, default=lambda item: getattr(item, "__name__", str(item))))


def _live_weights(layers: Any) -> Weights:
    """The arrays of live layers, found as those of a file are."""
    ops = need("keras").ops
    by_name = {layer.name: layer for layer in layers}

    def arrays(layer: Layer) -> list[Array]:
        item = by_name[layer.name]
        for part in layer.path.split("/")[2:]:
            item = getattr(item, part)
        found = [variable for variable in item.weights if "seed_generator" not in variable.path]
        return [np.array(ops.convert_to_numpy(variable)) for variable in found]

    return arrays


def _model(config: Any, weights: Weights) -> nn.Sequential:
    reader = Reader(weights)
    try:
        for layer in chain(config):
            reader.add(layer)
        layers, arrays = reader.finish()
    except (FormatError, UnsupportedError):
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise FormatError(f"the configuration is not as Keras 3 writes it ({error!r})") from None
    model: Any = build(container(layers), arrays)
    if reader.dropped:
        warnings.warn(
            "left out, as it acts in Keras's training alone: " + ", ".join(reader.dropped), stacklevel=4
        )
    return model.eval()  # type: ignore[no-any-return]
