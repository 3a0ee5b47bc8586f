"""The last valid step of every row."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array
from fusedrnn.nn.module import LayerSpec, Module
from fusedrnn.nn.unbatched import batched, is_unbatched, require_no_lengths, without_batch

Array = NDArray[Any]


class Last(Module):
    """Picks each row's last valid step: y[b] = x[lengths[b] - 1, b], and 0 for a row of length 0.

        y = last(x, lengths=None)       # x (T, B, features), y (B, features); lengths None: the last step
        dx = last.backward(dy)

    Behind a bidirectional layer this is the forward direction's final state beside the second direction's
    state after one step; the second direction's final state is in the hn that the layer returns.

    x and lengths may be NumPy arrays or arrays on a CUDA device, and y and dx are where they are.

    Args:
        batch_first: x is (B, T, features).
    """

    sequence_arguments = ("lengths",)

    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = checks.flag("batch_first", batch_first)

    def forward(self, x: Array, lengths: Array | None = None) -> Array:
        """y (B, features) of x (T, B, features); of one sequence (T, features) in host memory (features,)."""
        training = self.training
        if training:
            self._calls.make_room()
        x, lengths = as_device_array(x), as_device_array(lengths)
        unbatched, given, axis = is_unbatched(x), x, 0 if self.batch_first else 1
        if unbatched:
            require_no_lengths(lengths)
            x = batched("x", x, 2, axis)
        if lengths is not None and not isinstance(lengths, _native.DeviceArray):
            lengths = _native.integers("lengths", lengths)  # a copy
        y = _native.last_forward(x, lengths, self.batch_first)
        if unbatched:
            y = without_batch(y, 0)
        if training:
            tape = (
                x.shape[1 if self.batch_first else 0],
                lengths.copy() if isinstance(lengths, _native.DeviceArray) else lengths,
            )
            self._calls.record(0, tape, (given,), (y,), (), unbatched)
        return y

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Array:
        """dx (T, B, features), zero everywhere but at the steps picked, from dy (B, features).

        Raises:
            RuntimeError: there is no tape, or several calls wait and `of` does not say which is meant.
            TypeError, ValueError: dy has the wrong dtype, shape or strides.
        """
        call = self._recorded(of)
        T, lengths = call.tape
        dy = batched("dy", dy, 1, 0) if call.unbatched else as_device_array(dy)
        if lengths is not None and getattr(dy, "ndim", 0) == 2 and dy.shape[0] != lengths.shape[0]:
            raise ValueError(f"dy must be ({lengths.shape[0]}, N), its shape is {dy.shape}")
        dx = _native.last_backward(dy, T, lengths, self.batch_first)
        self._calls.took(call)
        return without_batch(dx, 0 if self.batch_first else 1) if call.unbatched else dx

    def _layer_spec(self) -> LayerSpec:
        return "last", {"batch_first": self.batch_first}, ()

    def _describe(self) -> str:
        return "batch_first=True" if self.batch_first else ""
