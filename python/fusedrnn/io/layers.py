"""Layers that models of other libraries have and `fusedrnn.nn` has not, in plain NumPy.

They run in host memory; a model that holds one trains by separate calls, not by the one native step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusedrnn import nn
from fusedrnn._core import checks
from fusedrnn.nn import FinalState, Module, Sequential

Array = NDArray[Any]


class Activation(Module):
    """A function of every element, or softmax over the last axis.

        y = activation(x)               # x of any shape
        dx = activation.backward(dy)

    `fr.losses.cross_entropy` and `binary_cross_entropy` take logits: to train on with them, leave a softmax
    or sigmoid at the end out.

    Args:
        function: "relu", "sigmoid", "tanh" or "softmax".

    Raises:
        ValueError: function is another one.

    Example:
        >>> fr.io.Activation("relu")(np.array([-1.0, 2.0], np.float32))
        array([0., 2.], dtype=float32)
    """

    _LIKE: ClassVar[dict[str, Any]] = {
        "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softmax": nn.Softmax
    }  # fmt: skip
    FUNCTIONS = tuple(_LIKE)

    def __init__(self, function: str) -> None:
        self.function = checks.choice("function", function, self.FUNCTIONS)

    def forward(self, x: Array) -> Array:
        """y like x.

        Raises:
            TypeError: x is no NumPy array of float32 or float64.
        """
        _require_host(x)
        if self.training:
            self._calls.make_room()
        y: Array = self._LIKE[self.function]._value(x)
        if self.training:
            self._calls.record(0, y.copy(), (x,), (y,))  # y itself is the caller's to write to
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx like x.

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
            TypeError, ValueError: dy has another dtype or shape than y.
        """
        call = self._recorded(of)
        dx: Array = self._LIKE[self.function]._gradient(dy, call.tape)
        self._calls.took(call)
        return dx

    def _describe(self) -> str:
        return repr(self.function)


class Ends(FinalState):
    """The final state of each direction, side by side, from the y of a bidirectional layer.

        y = ends(x, lengths=None)       # x (T, B, 2 H), y (B, 2 H)
        dx = ends.backward(dy)

    The first half is that of the last valid step, the second that of step 0; 0 for a row of length 0. It is
    what Keras's Bidirectional returns without return_sequences.

    Args:
        batch_first: x is (B, T, 2 H).
    """


class Masked(Sequential):
    """Layers that skip steps of padding, wherever these are in a row: Keras's Masking and mask_zero.

        model = fr.io.Masked(fr.nn.Embedding(100, 8), fr.nn.LSTM(8, 16, batch_first=True))
        y = model(ids)                  # ids (B, T), 0 where there is padding

    A step is padding where x has `value` in all its features, or is that id. Of each row the other steps
    are moved together, the layers run with lengths, and what they return for steps goes back to where these
    were. The last layer must be recurrent, or pick from what one returns (`fr.nn.Last`, `Ends`).

    Args:
        layers: as in `Sequential`, with batch_first=True.
        value: of padding.
        fill: what y has at padding: "previous", the step before (zeros where there is none), or "zero".

    Raises:
        ValueError: fill is another one; what Sequential raises.
    """

    def __init__(self, *layers: Module, value: float = 0.0, fill: str = "previous") -> None:
        checks.choice("fill", fill, ("previous", "zero"))
        if not all(getattr(layer, "batch_first", True) for layer in layers):
            raise ValueError("batch_first must be True in all layers that a mask goes through")
        super().__init__(*layers)
        self.value = checks.real("value", value)
        self.fill = fill

    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        resets: Array | None = None,
        *,
        state: Sequence[Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """y (B, T, features), or what the last layer makes of the steps, of x (B, T) or (B, T, features).

        Raises:
            ValueError: lengths or resets are given, which the mask stands for; what the layers raise.
        """
        if lengths is not None or resets is not None:
            raise ValueError("lengths and resets must be None: which steps count is read off x")
        _require_host(x)
        if x.dtype.kind not in "iuf":
            raise TypeError(f"x must be of numbers, it is {x.dtype}")
        if self.training:
            self._calls.make_room()
        given = x
        keep = x != self.value
        if keep.ndim == 3:
            keep = keep.any(2)
        if keep.ndim != 2:
            raise ValueError(f"x must be (B, T) or (B, T, features), its shape is {x.shape}")
        steps = keep.sum(1)
        order = None
        if (keep != (np.arange(keep.shape[1]) < steps[:, None])).any():  # padding before or within a row
            order = np.argsort(~keep, axis=1, kind="stable")
            x = np.take_along_axis(x, order if x.ndim == 2 else order[..., None], 1)
        body = Sequential(*self)  # the same layers, which know nothing of padding
        body.training = self.training
        y, final = body(x, None if keep.all() else steps, state=state, return_state=True)
        source = None
        if y.ndim == 3 and not keep.all():
            source = np.cumsum(keep, 1) - 1
            if self.fill == "zero":
                source[~keep] = -1
            y = np.where(source[..., None] >= 0, np.take_along_axis(y, source.clip(0)[..., None], 1), 0)
        if self.training:
            part = body._calls.newest
            parts = () if part is None else (part,)
            self._calls.record(0, (order, source, body, part, y.shape), (given,), (y,), parts)
        return (y, final) if return_state else y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True, flow: bool = False) -> Any:
        """dx of the first layer from dy; padding gets 0. With flow, `flow` counts a row's valid steps alone.

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant; what
                the layers raise.
        """
        call = self._recorded(of)
        order, source, body, part, shape = call.tape
        checks.require_float("dy", dy)
        if dy.shape != shape:
            raise ValueError(f"dy must have shape {shape}, it has {dy.shape}")
        if source is not None:
            moved = np.zeros_like(dy)
            rows, steps = np.nonzero(source >= 0)
            np.add.at(moved, (rows, source[rows, steps]), dy[rows, steps])
            dy = moved
        dx = body.backward(dy, of=part, need_dx=need_dx, flow=flow)
        if flow:
            self.flow = body.flow
        self._calls.took(call)
        if dx is None or order is None:
            return dx
        out = np.empty_like(dx)
        np.put_along_axis(out, order[..., None], dx, 1)
        return out


def _require_host(x: Any) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a NumPy array, it is {type(x).__name__}: this layer runs in host memory")
