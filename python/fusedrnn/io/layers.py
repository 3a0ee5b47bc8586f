"""Layers that models of other libraries have and `fusedrnn.nn` has not, in plain NumPy.

They run in host memory; a model that holds one trains by separate calls, not by the one native step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.nn import Module, Sequential

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

    FUNCTIONS = ("relu", "sigmoid", "tanh", "softmax")

    def __init__(self, function: str) -> None:
        if function not in self.FUNCTIONS:
            names = ", ".join(map(repr, self.FUNCTIONS))
            raise ValueError(f"function must be one of {names}, it is {function!r}")
        self.function = function

    def forward(self, x: Array) -> Array:
        """y like x."""
        _require_host(x)
        if self.training:
            self._calls.make_room()
        if self.function == "relu":
            y = np.maximum(x, 0)
        elif self.function == "tanh":
            y = np.tanh(x)
        elif self.function == "sigmoid":
            tail = np.exp(-np.abs(x))  # of the side that cannot overflow
            y = np.where(x < 0, tail, 1) / (1 + tail)
        else:
            y = np.exp(x - x.max(-1, keepdims=True))
            y /= y.sum(-1, keepdims=True)
        if self.training:
            self._calls.record(0, y.copy(), (x,), (y,))  # y itself is the caller's to write to
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx like x from dy like y.

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
        """
        call = self._recorded(of)
        y: Array = call.tape
        if self.function == "relu":
            dx = np.where(y > 0, dy, 0)
        elif self.function == "tanh":
            dx = dy * (1 - y * y)
        elif self.function == "sigmoid":
            dx = dy * y * (1 - y)
        else:
            product = dy * y
            dx = product - y * product.sum(-1, keepdims=True)
        self._calls.took(call)
        return dx

    def _describe(self) -> str:
        return repr(self.function)


class Ends(Module):
    """The final state of each direction, side by side, from the y of a bidirectional layer.

        y = ends(x, lengths=None)       # x (T, B, 2 H), y (B, 2 H)
        dx = ends.backward(dy)

    The first half is that of the last valid step, the second that of step 0; 0 for a row of length 0. It is
    what Keras's Bidirectional returns without return_sequences.

    Args:
        batch_first: x is (B, T, 2 H).
    """

    sequence_arguments = ("lengths",)

    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = bool(batch_first)

    def forward(self, x: Array, lengths: Array | None = None) -> Array:
        """y (B, 2 H) of x (T, B, 2 H).

        Raises:
            ValueError: x has not three axes and an even number of features.
        """
        _require_host(x)
        if self.training:
            self._calls.make_room()
        if x.ndim != 3 or x.shape[2] % 2:
            raise ValueError(f"x must have three axes and both directions' features, its shape is {x.shape}")
        rows = x if self.batch_first else x.swapaxes(0, 1)
        half = x.shape[2] // 2
        y = np.zeros((rows.shape[0], x.shape[2]), x.dtype)
        at = _last_steps(rows.shape[0], rows.shape[1], lengths)
        valid = np.flatnonzero(at >= 0)
        y[valid, :half] = rows[valid, at[valid], :half]
        y[valid, half:] = rows[valid, 0, half:]
        if self.training:
            self._calls.record(0, (rows.shape, at, valid), (x,), (y,))
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx (T, B, 2 H), zero everywhere but at the steps picked, from dy (B, 2 H).

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
        """
        call = self._recorded(of)
        shape, at, valid = call.tape
        half = shape[2] // 2
        rows = np.zeros(shape, dy.dtype)
        rows[valid, at[valid], :half] = dy[valid, :half]
        rows[valid, 0, half:] = dy[valid, half:]
        self._calls.took(call)
        return rows if self.batch_first else np.ascontiguousarray(rows.swapaxes(0, 1))

    def _describe(self) -> str:
        return "batch_first=True" if self.batch_first else ""


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
        if fill not in ("previous", "zero"):
            raise ValueError(f"fill must be 'previous' or 'zero', it is {fill!r}")
        if not all(getattr(layer, "batch_first", True) for layer in layers):
            raise ValueError("batch_first must be True in all layers that a mask goes through")
        super().__init__(*layers)
        self.value = float(value)
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
            self._calls.record(0, (order, source, body, part), (given,), (y,), parts)
        return (y, final) if return_state else y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True, flow: bool = False) -> Any:
        """dx of the first layer from dy; padding gets 0. With flow, `flow` counts a row's valid steps alone.

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant; what
                the layers raise.
        """
        call = self._recorded(of)
        order, source, body, part = call.tape
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


def _last_steps(batch: int, steps: int, lengths: Array | None) -> Array:
    """The index of each row's last valid step, -1 of a row without one."""
    if lengths is None:
        return np.full(batch, steps - 1)
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths must be {batch} ints, they are {lengths.dtype} of shape {lengths.shape}")
    if ((lengths < 0) | (lengths > steps)).any():
        raise ValueError(f"lengths must be between 0 and {steps}, they are {lengths.tolist()}")
    return lengths.astype(np.int64) - 1


def _require_host(x: Any) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a NumPy array, it is {type(x).__name__}: this layer runs in host memory")
