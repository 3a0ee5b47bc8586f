"""The LSTM module."""

from __future__ import annotations

from typing import Any, Literal, overload

from numpy.typing import NDArray

from fusedrnn.functional.recurrent import pair
from fusedrnn.nn.recurrent import Recurrent

Array = NDArray[Any]
Pair = tuple[Array | None, Array | None]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(W x + b_ih + R h + b_hh), g = tanh(same), c' = f c + i g, h' = o tanh(c').

        lstm = fr.nn.LSTM(input_size, hidden_size, num_layers=1, ...)
        y, (hn, cn) = lstm(x, (h0, c0), lengths=None, resets=None)
        dx, (dh0, dc0) = lstm.backward(dy, (dhn, dcn))

    Arguments, initial weights, lengths, resets and errors: see `Recurrent`. Gates lie in the order i f g o.
    """

    _cell = "lstm"

    def forward(
        self,
        x: Array,
        state: Pair | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """y (T, B, D * H) and (hn, cn), each (L * D, B, H), from x (T, B, I) and (h0, c0)."""
        h0, c0 = (None, None) if state is None else pair("state", "h0, c0", state)
        y, hn, cn = self._forward(x, h0, c0, lengths, resets)
        return y, (hn, cn)

    @overload
    def backward(
        self, dy: Array | None, dstate: Pair | None = None, *, of: Any = None, need_dx: Literal[True] = True
    ) -> tuple[Array, tuple[Array, Array]]: ...
    @overload
    def backward(
        self, dy: Array | None, dstate: Pair | None = None, *, of: Any = None, need_dx: bool
    ) -> tuple[Array | None, tuple[Array, Array]]: ...
    def backward(
        self, dy: Array | None, dstate: Pair | None = None, *, of: Any = None, need_dx: bool = True
    ) -> tuple[Array | None, tuple[Array, Array]]:
        """Back-propagation through time of a training call; adds into the parameters' gradients.

        Args:
            dy: gradient of y, or None for zeros; not read past a row's length.
            dstate: gradients (dhn, dcn) of the final states, either or both None for zeros.
            of: a result of the call that is meant, where several wait; see `Module`.
            need_dx: False skips dx.

        Returns:
            dx like x (None without need_dx), and (dh0, dc0), each (L * D, B, H).

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: an argument has the wrong dtype, shape or strides.
        """
        dhn, dcn = (None, None) if dstate is None else pair("dstate", "dhn, dcn", dstate)
        dx, dh0, dc0 = self._backward(dy, dhn, dcn, of, need_dx)
        return dx, (dh0, dc0)
