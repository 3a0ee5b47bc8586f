"""The character model: embedding -> recurrent stack -> linear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn._weights import StackShape
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import CommandError

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STACKS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}


def home(model: fr.nn.Module) -> str:
    """The device of a model: "cpu" or "cuda"."""
    return next(model.parameters()).device


def parameter_shapes(characters: int, config: TrainConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of all parameters of `build_model`'s model, without making it."""
    rows, inputs = GATES[config.cell] * config.hidden, config.embedding
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (characters, config.embedding)}
    for name in StackShape(config.layers, 1, True).names():
        columns = config.hidden if "_hh_" in name or not name.endswith("_l0") else inputs
        shapes[f"1.{name}"] = (rows, columns) if name.startswith("weight") else (rows,)
    return {**shapes, "3.weight": (characters, config.hidden), "3.bias": (characters,)}


def state_shapes(config: TrainConfig, batch: int) -> list[tuple[int, ...]]:
    """The shapes of the recurrent state, h or h and c, of `batch` streams."""
    return [(config.layers, batch, config.hidden)] * (2 if config.cell == "lstm" else 1)


def parameter_bytes(characters: int, config: TrainConfig) -> int:
    """What the parameters take."""
    shapes = parameter_shapes(characters, config).values()
    return np.dtype(config.dtype).itemsize * sum(math.prod(shape) for shape in shapes)


def build_model(characters: int, config: TrainConfig, device: str = "cpu") -> fr.nn.Sequential:
    """A model that maps characters (T, B), int64, to scores of the next one (T, B, V), V = `characters`.

    Cell, layers, hidden, embedding, dropout, dtype and seed of the configuration are read. Dropout acts
    between the recurrent layers and before the last.

    Raises:
        CommandError: the device cannot be used.
    """
    rng = np.random.default_rng(config.seed)
    place: dict[str, Any] = {"dtype": np.dtype(config.dtype), "device": device, "seed": rng}
    between = config.dropout if config.layers > 1 else 0.0
    try:
        return fr.nn.Sequential(
            fr.nn.Embedding(characters, config.embedding, **place),
            STACKS[config.cell](config.embedding, config.hidden, config.layers, dropout=between, **place),
            fr.nn.Dropout(config.dropout, seed=rng),
            fr.nn.Linear(config.hidden, characters, **place),
        )
    except RuntimeError as error:
        raise CommandError(f"--device {device}: {error}") from None
