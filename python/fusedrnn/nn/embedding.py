"""The embedding layer."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks, torch_hints
from fusedrnn._core.arrays import as_device_array, resolve_device
from fusedrnn._core.inputs import kept
from fusedrnn._core.parameter import FlatBuffer, Parameter, float_dtype
from fusedrnn.nn import init
from fusedrnn.nn.module import LayerSpec, Module

Array = NDArray[Any]


class Embedding(Module):
    """A table of vectors: y[...] = weight[ids[...]].

        y = embedding(ids)              # ids of any shape (...), y (..., embedding_dim)
        embedding.backward(dy)          # adds into weight.grad; ids have no gradient

    The parameter ``weight`` (num_embeddings, embedding_dim) starts normal with mean 0 and deviation 1.

    Args:
        num_embeddings: rows of the table; ids are in [0, num_embeddings).
        embedding_dim: width of a row.
        padding_idx: the id, negative from the end, whose row starts as zeros and gets no gradient from here,
            as in PyTorch. Weight decay of an optimizer leaves zeros zeros; weights that are loaded may have
            others.
        dtype: of the table and of y: float32 or float64.
        device: "cpu", "cuda" (raises with the reason where it cannot be used), or "auto".
        seed: for initial weights: an int, a `numpy.random.Generator`, or None for a random one.
    """

    weight: Parameter
    from_pretrained = torch_hints.Absent(
        "make Embedding(*array.shape) and set its weight.data = array; weight.requires_grad = False freezes"
    )

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
        seed: checks.Seed = None,
    ) -> None:
        self.num_embeddings = checks.positive_int("num_embeddings", num_embeddings)
        self.embedding_dim = checks.positive_int("embedding_dim", embedding_dim)
        self.padding_idx = padding_idx
        self.dtype = float_dtype(dtype)
        self.device = resolve_device(device)
        shape = (self.num_embeddings, self.embedding_dim)
        self.weight = FlatBuffer.allocate({"weight": shape}, self.dtype, self.device)["weight"]
        init.normal_(self.weight, 1.0, checks.generator(seed))
        if self.padding_idx is not None:
            values = self.weight.numpy()
            values[self.padding_idx] = 0
            self.weight.data = values

    @property
    def padding_idx(self) -> int | None:
        """The id whose row gets no gradient, counted from the start; None where each row does.

        It may be set, also counted from the end: the row stays as it is.

        Raises:
            TypeError: it is no int; ValueError: it is not in [-num_embeddings, num_embeddings).
        """
        return self._padding_idx

    @padding_idx.setter
    def padding_idx(self, padding_idx: Any) -> None:
        n = self.num_embeddings
        if padding_idx is not None:
            if isinstance(padding_idx, bool) or not isinstance(padding_idx, numbers.Integral):
                raise TypeError(f"padding_idx must be an int or None, it is {type(padding_idx).__name__}")
            if not -n <= int(padding_idx) < n:
                raise ValueError(f"padding_idx must be in [{-n}, {n}), it is {padding_idx}")
            padding_idx = int(padding_idx) % n
        self._padding_idx: int | None = padding_idx

    def forward(self, ids: Array) -> Array:
        """y (..., embedding_dim) of ids (...), of any integer type and strides, or lists of ints.

        On a CUDA device ids are int64.

        Raises:
            ValueError: an id is out of range; TypeError: ids are no integers.
        """
        training = self.training
        if training:
            self._calls.make_room()
        ids = as_device_array(ids) if self.device == "cuda" else _native.integers("ids", ids)
        y = _native.embedding_forward(ids, self.weight.data)
        if training:
            self._calls.record(self._version(), kept(ids) if self.device == "cuda" else ids, (), (y,))
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
        dweight = self.weight._added_to()
        if dweight is not None:
            _native.embedding_backward(dy, call.tape, dweight, self.padding_idx)
        self._calls.took(call)

    def _layer_spec(self) -> LayerSpec:
        padding = -1 if self.padding_idx is None else self.padding_idx
        return "embedding", {"padding_idx": padding}, (self.weight,)

    def _describe(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"_padding_idx": None, **state})
