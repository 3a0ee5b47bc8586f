"""The language model: embedding -> recurrent stack -> linear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn._core.arrays import check_precision, linear_precision, resolve_device
from fusedrnn._core.cells import CELLS, Cell
from fusedrnn._core.variants import LSTM_OPTIONS, lstm_cell
from fusedrnn._core.weight_names import StackShape
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import CommandError


def device_of(model: fr.nn.Module) -> str:
    """The device of a model: "cpu" or "cuda"."""
    return next(model.parameters()).device


def parameter_shapes(pieces: int, config: TrainConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of all parameters of `build_model`'s model, without making it."""
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (pieces, config.embedding)}
    weights = cell_of(config).weights
    stack = StackShape(config.layers, 1, True).shapes(
        weights, config.embedding, config.hidden, config.proj_size
    )
    shapes.update({f"1.{name}": shape for name, shape in stack.items()})
    return {**shapes, "3.weight": (pieces, _outputs(config)), "3.bias": (pieces,)}


def state_shapes(config: TrainConfig, batch: int) -> list[tuple[int, ...]]:
    """The shapes of the recurrent state, h or h and c, of `batch` streams."""
    units = (_outputs(config), config.hidden)[: 1 + cell_of(config).cell_state]
    return [(config.layers, batch, n) for n in units]


def _outputs(config: TrainConfig) -> int:
    """What the recurrent layers give at each step."""
    return config.proj_size or config.hidden


def cell_of(config: TrainConfig) -> Cell:
    """The facts of the cell that the configuration chooses."""
    if config.cell == "lstm":
        return CELLS[lstm_cell({name: getattr(config, name) for name in LSTM_OPTIONS})]
    if config.cell == "gru":
        return CELLS["gru" if config.reset_after else "gru_reset_before"]
    return CELLS[f"{config.cell}_{config.nonlinearity}"]


def parameter_bytes(pieces: int, config: TrainConfig) -> int:
    """What the parameters take."""
    shapes = parameter_shapes(pieces, config).values()
    return np.dtype(config.dtype).itemsize * sum(math.prod(shape) for shape in shapes)


def build_model(pieces: int, config: TrainConfig, device: str = "cpu") -> fr.nn.Sequential:
    """A model that maps pieces of text (T, B), int64, to scores of the next one (T, B, V), V = `pieces`.

    Cell, layers, hidden, embedding, dropout, the layer's own options, dtype, precision and seed of the
    configuration are read. Dropout acts between the recurrent layers and before the last.

    Raises:
        CommandError: the device cannot be used, or has not the precision.
    """
    rng = np.random.default_rng(config.seed)
    place: dict[str, Any] = {"dtype": np.dtype(config.dtype), "device": device, "seed": rng}
    between = config.dropout if config.layers > 1 else 0.0
    try:
        where = resolve_device(device)
        try:
            precision = check_precision(config.precision, where, place["dtype"])
        except ValueError as error:
            raise CommandError(f"--precision {config.precision}: {error}") from None
        return fr.nn.Sequential(
            fr.nn.Embedding(pieces, config.embedding, **place),
            fr.nn.RECURRENT[config.cell](
                config.embedding,
                config.hidden,
                config.layers,
                dropout=between,
                precision=precision,
                **config.layer_arguments(),
                **place,
            ),
            fr.nn.Dropout(config.dropout, seed=rng),
            fr.nn.Linear(_outputs(config), pieces, precision=linear_precision(precision, where), **place),
        )
    except (RuntimeError, ValueError) as error:
        raise CommandError(f"--device {device}: {error}") from None
