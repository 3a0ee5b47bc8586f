"""The LSTM module."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn._core.arrays import resolve_device
from fusedrnn._core.checks import Seed, flag
from fusedrnn.functional.recurrent import pair
from fusedrnn.nn.recurrent import Recurrent

Array = NDArray[Any]
Pair = tuple[Array | None, Array | None]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(W x + b_ih + R h + b_hh), g = tanh(same), c' = f c + i g, h' = o tanh(c').

    With peepholes (Gers & Schmidhuber 2000) each unit's i and f also see its c, and o sees c':
    i = sigmoid(... + p_i c), f = sigmoid(... + p_f c), o = sigmoid(... + p_o c').

        lstm = fr.nn.LSTM(input_size, hidden_size, num_layers=1, ...)
        y, (hn, cn) = lstm(x, (h0, c0), lengths=None, resets=None)
        dx, (dh0, dc0) = lstm.backward(dy, (dhn, dcn))

    Args:
        peephole: whether there are peepholes, ``weight_peephole_l0`` (3 * H,), p_i, p_f, p_o; on the CPU.

    Other arguments, initial weights, lengths, resets and errors: see `Recurrent`. Gates lie in the order
    i f g o.
    """

    _cell = "lstm"
    peephole = False  # of pickles from before there were any

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        peephole: bool = False,
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
        precision: str = "ieee",
        algo: str = "auto",
        seed: Seed = None,
    ) -> None:
        self.peephole = flag("peephole", peephole)
        if self.peephole:
            self._cell = "lstm_peephole"
            if resolve_device(device) != "cpu":
                raise ValueError("peephole must be False on a CUDA device, it is True: use device='cpu'")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype=dtype, device=device, precision=precision, algo=algo, seed=seed,
        )  # fmt: skip

    def _describe(self) -> str:
        text = super()._describe()
        return f"{text}, peephole=True" if self.peephole else text

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
