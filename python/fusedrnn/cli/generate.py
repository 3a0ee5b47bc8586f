"""Lets a model write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.model import device_of
from fusedrnn.cli.vocabulary import Vocabulary


def default_prompt(vocabulary: Vocabulary) -> str:
    """What a sample starts with where no prompt is given."""
    return "The " if set("The ") <= set(vocabulary.pieces) else vocabulary.pieces[0]


def choose(scores: NDArray[Any], temperature: float, rng: np.random.Generator) -> int:
    """Draws a class from softmax(scores / temperature), scores (V,); temperature 0 takes the highest.

    Raises:
        CommandError: a score is not a number, or infinite.
    """
    wide = scores.astype(np.float64)
    if not np.isfinite(wide).all():
        raise CommandError(
            "the model's scores are not finite, its training has exploded: train again with a lower --lr"
        )
    if temperature == 0:
        return int(np.argmax(wide))
    with np.errstate(over="ignore"):  # to -inf, whose exponential is the right one
        scaled = (wide - wide.max()) / temperature
    cumulative = np.cumsum(np.exp(scaled))
    chosen = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return min(chosen, len(wide) - 1)  # the product may have been rounded up to the sum itself


def generate(
    model: fr.nn.Sequential,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Yields `length` characters, piece by piece, that continue a prompt of at least one character.

    Leaves the model in eval mode.

    Raises:
        CommandError: the prompt has a character the model does not know, or its scores are not finite.
    """
    model.eval()
    ids = vocabulary.encode(prompt)
    state = None
    device = device_of(model)
    while length > 0:
        scores, state = model(fr.asarray(ids[:, None], device), state=state, return_state=True)
        chosen = choose(fr.asarray(scores, "cpu")[-1, 0], temperature, rng)
        piece = vocabulary.pieces[chosen][:length]
        length -= len(piece)
        yield piece
        ids = np.array([chosen], np.int64)
