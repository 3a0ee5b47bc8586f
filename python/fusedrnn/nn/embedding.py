"""The embedding layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array, resolve_device
from fusedrnn._core.calls import kept
from fusedrnn._core.parameter import FlatBuffer, Parameter, float_dtype
from fusedrnn.nn import init
from fusedrnn.nn.module import LayerSpec, Module

Array = NDArray[Any]


class Embedding(Module):
    """A table of vectors: y[...] = weight[ids[...]].

        y = embedding(ids)              # ids int64 of any shape (...), y (..., embedding_dim)
        embedding.backward(dy)          # adds into weight.grad; ids have no gradient

    The parameter ``weight`` (num_embeddings, embedding_dim) starts normal with mean 0 and deviation 1.

    Args:
        num_embeddings: rows of the table; ids are in [0, num_embeddings).
        embedding_dim: width of a row.
        dtype: of the table and of y: float32 or float64.
        device: "cpu", "cuda" (raises with the reason where it cannot be used), or "auto".
        seed: for initial weights: an int, a `numpy.random.Generator`, or None for a random one.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
        seed: checks.Seed = None,
    ) -> None:
        self.num_embeddings = checks.positive_int("num_embeddings", num_embeddings)
        self.embedding_dim = checks.positive_int("embedding_dim", embedding_dim)
        self.dtype = float_dtype(dtype)
        self.device = resolve_device(device)
        shape = (self.num_embeddings, self.embedding_dim)
        self.weight = FlatBuffer.allocate({"weight": shape}, self.dtype, self.device)["weight"]
        init.normal_(self.weight, 1.0, checks.generator(seed))

    def forward(self, ids: Array) -> Array:
        """y (..., embedding_dim) of ids (...)."""
        training = self.training
        if training:
            self._calls.make_room()
        if self.device == "cuda":
            ids = as_device_array(ids)
        y = _native.embedding_forward(ids, self.weight.data)
        if training:
            self._calls.record(self._version(), kept(ids), (), (y,))
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> None:
        """Adds dy like y into the rows of the weight's gradient, in the order of the ids.

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: dy has the wrong dtype, shape or strides.
        """
        call = self._recorded(of)
        if self.device == "cuda":
            dy = as_device_array(dy)
        _native.embedding_backward(dy, call.tape, self.weight.grad)
        self._calls.took(call)

    def _layer_spec(self) -> LayerSpec:
        return "embedding", {}, (self.weight,)

    def _describe(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
