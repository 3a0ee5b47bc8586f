"""The final states of both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn.nn.module import Module

Array = NDArray[Any]


class FinalState(Module):
    """The state in which each direction of a bidirectional layer ends, side by side.

        head = fr.nn.FinalState()
        y, _ = bidirectional(x, lengths=lengths)          # (T, B, 2 * H)
        h = head(y, lengths)                              # (B, 2 * H)
        dy = head.backward(dh)

    The forward direction ends at a row's last valid step, the second one at step 0: what PyTorch code writes
    as ``torch.cat((h[-2], h[-1]), 1)``, and what Keras's ``Bidirectional(LSTM(...))`` returns. (`Last` takes
    both halves from the last step, where the second direction has seen one step only.) A row of length 0
    gives 0. For arrays in host memory; a model with this layer makes its training steps by separate calls.

    Args:
        batch_first: x is (B, T, 2 * H).
    """

    sequence_arguments = ("lengths",)

    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = checks.flag("batch_first", batch_first)

    def forward(self, x: Array, lengths: Array | None = None) -> Array:
        """h (B, 2 * H) of x (T, B, 2 * H), the y of a bidirectional layer; lengths as `Recurrent` has them.

        Raises:
            TypeError, ValueError: x is no NumPy array of three axes, the last one even, or a length is out
                of range.
        """
        checks.require_float("x", x)
        if x.ndim != 3 or x.shape[2] % 2:
            raise ValueError(f"x must be (T, B, 2 * H), it is {x.shape}")
        rows = x if self.batch_first else x.swapaxes(0, 1)
        B, T, width = rows.shape
        own = np.full(B, T) if lengths is None else _native.integers("lengths", lengths)
        if own.shape != (B,) or ((own < 0) | (own > T)).any():
            raise ValueError(f"lengths must be ({B},) numbers between 0 and T = {T}, they are {own}")
        if self.training:
            self._calls.make_room()
        h = np.zeros((B, width), x.dtype)
        some = np.flatnonzero(own)
        h[some, : width // 2] = rows[some, own[some] - 1, : width // 2]
        h[some, width // 2 :] = rows[some, 0, width // 2 :]
        if self.training:
            self._calls.record(0, (x.shape, own), (x,), (h,))
        return h

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx like x, 0 but where the states were taken from, of dy (B, 2 * H).

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
            TypeError, ValueError: dy has the wrong dtype or shape.
        """
        call = self._recorded(of)
        shape, own = call.tape
        checks.require_float("dy", dy)
        width = shape[2]
        if dy.shape != (len(own), width):
            raise ValueError(f"dy must have shape {(len(own), width)}, it has {dy.shape}")
        dx = np.zeros(shape, dy.dtype)
        rows = dx if self.batch_first else dx.swapaxes(0, 1)
        some = np.flatnonzero(own)
        rows[some, own[some] - 1, : width // 2] = dy[some, : width // 2]
        rows[some, 0, width // 2 :] = dy[some, width // 2 :]
        self._calls.took(call)
        return dx

    def _describe(self) -> str:
        return "batch_first=True" if self.batch_first else ""
