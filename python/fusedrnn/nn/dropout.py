"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array
from fusedrnn.nn.module import LayerSpec, Module

Array = NDArray[Any]


class Dropout(Module):
    """Sets elements to 0 with probability p and scales the others by 1 / (1 - p) (Srivastava et al. 2014).

        y = dropout(x)                  # x of any shape; y is x itself in eval mode or with p = 0
        dx = dropout.backward(dy)

    x may be a NumPy array or one on a CUDA device, and y and dx are where it is.

    No mask is stored: it is a function (Philox4x32-10) of a key, which counts up with every call, and of an
    element's position. `Module.random_state` holds the next key.

    Args:
        p: probability of dropping an element, in [0, 1).
        seed: for the keys: an int, a `numpy.random.Generator`, or None for a random one.
    """

    def __init__(self, p: float = 0.5, *, seed: checks.Seed = None) -> None:
        self.p = checks.probability("p", p)
        self._dropout_key = checks.dropout_key(checks.generator(seed))

    def forward(self, x: Array) -> Array:
        """y like x."""
        x = as_device_array(x)
        if not self.training:
            return x
        self._calls.make_room()
        key = self._dropout_key
        y = x if self.p == 0 else _native.dropout(x, self.p, key, 0)
        self.__dict__["_dropout_key"] = checks.next_key(key)
        self._calls.record(0, (key, x.shape), (x,), () if y is x else (y,))
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx like x from dy like y, with the mask of the last training forward.

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
            TypeError, ValueError: dy has the wrong dtype, shape or strides.
        """
        call = self._recorded(of)
        key, shape = call.tape
        dy = as_device_array(dy)
        checks.require_array("dy", dy)
        if dy.dtype not in (np.float32, np.float64):
            raise TypeError(f"dy must be float32 or float64, it is {dy.dtype}")
        if dy.shape != shape:
            raise ValueError(f"dy must have shape {shape}, it has {dy.shape}")
        dx = dy if self.p == 0 else _native.dropout(dy, self.p, key, 0)
        self._calls.took(call)
        return dx

    def _layer_spec(self) -> LayerSpec:
        return "dropout", {"p": self.p}, ()

    def _describe(self) -> str:
        return str(self.p)
