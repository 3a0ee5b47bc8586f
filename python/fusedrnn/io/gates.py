"""The order of gate blocks in other formats. Ours is PyTorch's: LSTM i f g o, GRU r z n."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# By format and cell: which of the format's blocks each of ours is.
KERAS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}  # i f c o; z r h
ONNX = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}  # i o f c; z r h
ONNX_PEEPHOLES = (0, 2, 1)  # i o f; ours are i f o


def to_ours(array: Array, order: tuple[int, ...]) -> Array:
    """Blocks of the first axis, as the format orders them, in our order."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[theirs] for theirs in order])


def from_ours(array: Array, order: tuple[int, ...]) -> Array:
    """The inverse of `to_ours`."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[order.index(theirs)] for theirs in range(len(order))])
