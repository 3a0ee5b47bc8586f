"""Activations as layers: what PyTorch's modules of these names compute, for arrays in host memory."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from fusedrnn._core import checks
from fusedrnn.functional import activations as functional
from fusedrnn.nn.module import Module

Array = NDArray[Any]


class Activation(Module):
    """Base of the activations: y of x of any shape, and dx of dy from y alone.

        y = activation(x)               # float32 or float64, of any shape
        dx = activation.backward(dy)

    Recurrent layers have theirs within; these are for what stands between other layers. A model with one of
    them makes its training steps by separate calls.
    """

    _value: ClassVar[Any]  # the function of that name in fusedrnn.functional, and its gradient
    _gradient: ClassVar[Any]

    def forward(self, x: Array) -> Array:
        """y like x.

        Raises:
            TypeError: x is no NumPy array of float32 or float64.
        """
        if not self.training:
            return self._value(x)  # type: ignore[no-any-return]
        self._calls.make_room()
        y: Array = self._value(x)
        self._calls.record(0, y.copy(), (x,), (y,))
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx like x from dy like y.

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
            TypeError, ValueError: dy has another dtype or shape than y.
        """
        call = self._recorded(of)
        dx: Array = self._gradient(dy, call.tape)
        self._calls.took(call)
        return dx


class ReLU(Activation):
    """y = max(x, 0); NaN stays, and the gradient at 0 is 0."""

    _value, _gradient = staticmethod(functional.relu), staticmethod(functional.relu_backward)


class Tanh(Activation):
    """y = tanh(x)."""

    _value, _gradient = staticmethod(functional.tanh), staticmethod(functional.tanh_backward)


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), without overflow."""

    _value, _gradient = staticmethod(functional.sigmoid), staticmethod(functional.sigmoid_backward)


class _OverLastAxis(Activation):
    """Base of those that look at a whole row.

    Args:
        dim: the axis, as in PyTorch: the last one, -1.
    """

    dim: ClassVar[int] = -1

    def __init__(self, dim: int = -1) -> None:
        if checks.integer("dim", dim, -64, 64) != -1:
            raise ValueError(f"dim must be -1, the last axis, it is {dim!r}: move the axis there")


class Softmax(_OverLastAxis):
    """y = exp(x) / sum(exp(x)) over the last axis. For training, `fr.losses.cross_entropy` takes logits."""

    _value, _gradient = staticmethod(functional.softmax), staticmethod(functional.softmax_backward)


class LogSoftmax(_OverLastAxis):
    """y = x - log(sum(exp(x))) over the last axis. For training, `fr.losses.cross_entropy` takes logits."""

    _value, _gradient = staticmethod(functional.log_softmax), staticmethod(functional.log_softmax_backward)
