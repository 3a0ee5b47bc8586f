"""The linear layer."""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array, check_precision, resolve_device
from fusedrnn._core.inputs import kept
from fusedrnn._core.parameter import FlatBuffer, Parameter, float_dtype
from fusedrnn.nn import init
from fusedrnn.nn.module import LayerSpec, Module

Array = NDArray[Any]


class Linear(Module):
    """y = x W^T + b over the last axis of x.

        y = linear(x)                   # x (..., in_features), y (..., out_features)
        dx = linear.backward(dy)

    Parameters ``weight`` (out_features, in_features) and ``bias`` (out_features,) start uniform in
    [-1 / sqrt(in_features), 1 / sqrt(in_features)], as PyTorch's do (Kaiming's rule with a = sqrt(5)).

    Args:
        in_features: features of x.
        out_features: features of y.
        bias: whether there is a bias.
        dtype: of parameters, x and y: float32 or float64.
        device: "cpu", "cuda" (raises with the reason where it cannot be used), or "auto".
        precision: what operands of products are rounded to: "ieee" (not at all), and on the CPU, for float32,
            "bf16", "bf16x3" or "bf16x6" (docs/numerics.md).
        seed: for initial weights: an int, a `numpy.random.Generator`, or None for a random one.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
        precision: str = "ieee",
        seed: checks.Seed = None,
    ) -> None:
        self.in_features = checks.positive_int("in_features", in_features)
        self.out_features = checks.positive_int("out_features", out_features)
        self.dtype = float_dtype(dtype)
        self.device = resolve_device(device)
        self.precision = check_precision(precision, self.device, self.dtype)
        if self.device == "cuda" and precision != "ieee":
            raise ValueError(
                f"precision must be 'ieee', the one that Linear computes in on CUDA, it is {precision!r}"
            )
        rng = checks.generator(seed)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if checks.flag("bias", bias):
            shapes["bias"] = (self.out_features,)
        for name, parameter in FlatBuffer.allocate(shapes, self.dtype, self.device).items():
            init.uniform_(parameter, 1 / math.sqrt(self.in_features), rng)
            setattr(self, name, parameter)
        if not bias:
            self.bias = None

    def forward(self, x: Array) -> Array:
        """y (..., out_features) of x (..., in_features)."""
        training = self.training
        if training:
            self._calls.make_room()
        if self.device == "cuda":
            x = as_device_array(x)
        checks.require_input(x, self.dtype, self.device)
        bias = self.bias
        y = _native.linear_forward(x, self.weight.data, None if bias is None else bias.data, self.precision)
        if training:
            self._calls.record(self._version(), kept(x), (x,), (y,))
        return y

    @overload
    def backward(self, dy: Array, *, of: Any = None, need_dx: Literal[True] = True) -> Array: ...
    @overload
    def backward(self, dy: Array, *, of: Any = None, need_dx: bool) -> Array | None: ...
    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array | None:
        """dx like x from dy like y (None without need_dx); adds into the parameters' gradients.

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: dy has the wrong dtype, shape or strides.
        """
        call = self._recorded(of)
        if self.device == "cuda":
            dy = as_device_array(dy)
        bias = self.bias
        dweight, dbias = self.weight._added_to(), None if bias is None else bias._added_to()
        dx = _native.linear_backward(dy, call.tape, self.weight.data, dweight, dbias, need_dx, self.precision)
        self._calls.took(call)
        return dx

    def _layer_spec(self) -> LayerSpec:
        return "linear", {"precision": self.precision}, (self.weight, self.bias)

    def _describe(self) -> str:
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")
