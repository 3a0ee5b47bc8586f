"""The character model: embedding -> recurrent stack -> linear."""

from __future__ import annotations

from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import CommandError

STACKS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}


def home(model: fr.nn.Module) -> str:
    """The device of a model: "cpu" or "cuda"."""
    return next(model.parameters()).device


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
