"""Layer normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array, resolve_device
from fusedrnn._core.inputs import kept
from fusedrnn._core.parameter import FlatBuffer, Parameter, float_dtype
from fusedrnn.nn import init
from fusedrnn.nn.module import LayerSpec, Module

Array = NDArray[Any]


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba, Kiros & Hinton 2016).

        y = norm(x)                     # x and y (..., features)
        dx = norm.backward(dy)

    Parameters ``weight`` and ``bias`` (features,) start at 1 and 0. var is the biased variance.

    Args:
        features: size of the last axis; a tuple of one size is taken as well, as PyTorch does.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias.
        bias: False leaves the bias out.
        dtype: of parameters, x and y: float32 or float64.
        device: "cpu", "cuda" (raises with the reason where it cannot be used), or "auto".
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        features: int | tuple[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
    ) -> None:
        if isinstance(features, (tuple, list)):
            if len(features) != 1:
                raise ValueError(f"features must be one size, that of the last axis, they are {features}")
            features = features[0]
        self.features = checks.positive_int("features", features)
        self.eps = checks.positive("eps", eps)
        self.dtype = float_dtype(dtype)
        self.device = resolve_device(device)
        affine = checks.flag("elementwise_affine", elementwise_affine)
        names = ["weight", "bias"][: 1 + checks.flag("bias", bias)] if affine else []
        parameters = FlatBuffer.allocate(dict.fromkeys(names, (self.features,)), self.dtype, self.device)
        self.weight = parameters.get("weight")
        self.bias = parameters.get("bias")
        if self.weight is not None:
            init.constant_(self.weight, 1.0)

    def forward(self, x: Array) -> Array:
        """y like x (..., features)."""
        training = self.training
        if training:
            self._calls.make_room()
        if self.device == "cuda":
            x = as_device_array(x)
        checks.require_input(x, self.dtype, self.device)
        if x.ndim == 0 or x.shape[-1] != self.features:
            raise ValueError(f"x must be (..., {self.features}), its shape is {x.shape}")
        weight, bias = self.weight, self.bias
        y, mean, rstd = _native.layer_norm_forward(
            x, None if weight is None else weight.data, None if bias is None else bias.data, self.eps
        )
        if training:
            self._calls.record(self._version(), (kept(x), mean, rstd), (x,), (y,))
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx like x from dy like y; adds into the parameters' gradients.

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: dy has the wrong dtype, shape or strides.
        """
        call = self._recorded(of)
        x, mean, rstd = call.tape
        if self.device == "cuda":
            dy = as_device_array(dy)
        weight, bias = self.weight, self.bias
        dx = _native.layer_norm_backward(
            dy, x,
            None if weight is None else weight.data,
            mean, rstd,
            None if weight is None else weight._added_to(),
            None if bias is None else bias._added_to(),
        )  # fmt: skip
        self._calls.took(call)
        return dx

    def _layer_spec(self) -> LayerSpec:
        return "layer_norm", {"eps": self.eps}, (self.weight, self.bias)

    def _describe(self) -> str:
        return f"{self.features}, eps={self.eps}"
