"""The LSTM module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn._core.arrays import resolve_device
from fusedrnn._core.checks import Seed, flag, integer, positive_int
from fusedrnn._core.variants import LSTM_OPTIONS, lstm_cell
from fusedrnn.functional.recurrent import pair
from fusedrnn.nn.recurrent import Recurrent

Array = NDArray[Any]
Pair = tuple[Array | None, Array | None]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(W x + b_ih + R h + b_hh), g = tanh(same), c' = f c + i g, h' = o tanh(c').

    With peepholes (Gers & Schmidhuber 2000) each unit's i and f also see its c, and o sees c':
    i = sigmoid(... + p_i c), f = sigmoid(... + p_f c), o = sigmoid(... + p_o c').

    With a projection (Sak et al. 2014) h has P units, fewer than c: h' = W_hr (o tanh(c')). So R is
    (4 * H, P), y (T, B, D * P), which layers above read, and h0 and hn (L * D, B, P).

    With layer normalisation (Ba et al. 2016, equations 20 to 22) i, f, o = sigmoid(LN_ih(W x) + LN_hh(R h) +
    b_ih + b_hh), g = tanh(same), h' = o tanh(LN_c(c')), where LN(z) = weight (z - mean) / sqrt(var + 1e-5) +
    bias. LN_ih and LN_hh take all gates of a row together, 4 H values; c' goes on to the next step as it is.

        lstm = fr.nn.LSTM(input_size, hidden_size, num_layers=1, ...)
        y, (hn, cn) = lstm(x, (h0, c0), lengths=None, resets=None)
        dx, (dh0, dc0) = lstm.backward(dy, (dhn, dcn))

    Args:
        proj_size: P, 0 for no projection, else less than H; W_hr is ``weight_hr_l0`` (P, H); on the CPU.
            Of this, peephole and layer_norm one at a time.
        peephole: whether there are peepholes, ``weight_peephole_l0`` (3 * H,), p_i, p_f, p_o; on the CPU.
        layer_norm: whether there is layer normalisation, ``weight_ln_ih_l0``, ``bias_ln_ih_l0``,
            ``weight_ln_hh_l0``, ``bias_ln_hh_l0``, each (4 * H,), ``weight_ln_c_l0`` and ``bias_ln_c_l0``,
            each (H,); weights begin as 1 and biases as 0, whatever `init` is. ``bias=False`` leaves out b_ih
            and b_hh alone, which add nothing to what the biases of LN_ih and LN_hh can do, but are where
            `forget_bias` and `init` put theirs. On the CPU.

    Other arguments, initial weights, lengths, resets and errors: see `Recurrent`. Gates lie in the order
    i f g o.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> lstm = fr.nn.LSTM(3, 5, peephole=True, seed=0)
        >>> y, (hn, cn) = lstm(np.zeros((7, 2, 3), np.float32))
        >>> y.shape, cn.shape, lstm.weight_peephole_l0.shape
        ((7, 2, 5), (1, 2, 5), (15,))
        >>> lstm = fr.nn.LSTM(3, 5, proj_size=2, seed=0)
        >>> y, (hn, cn) = lstm(np.zeros((7, 2, 3), np.float32))
        >>> y.shape, hn.shape, cn.shape, lstm.weight_hr_l0.shape
        ((7, 2, 2), (1, 2, 2), (1, 2, 5), (2, 5))
    """

    _cell = "lstm"
    peephole = False  # of pickles from before there were any
    layer_norm = False

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
        proj_size: int = 0,
        peephole: bool = False,
        layer_norm: bool = False,
        dropout_mode: str = "step",
        recurrent_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        weight_dropout: float = 0.0,
        recompute: int | str = 0,
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
        precision: str = "ieee",
        algo: str = "auto",
        init: str | tuple[str, int] = "torch",
        forget_bias: float | None = None,
        seed: Seed = None,
    ) -> None:
        self.peephole = flag("peephole", peephole)
        self.layer_norm = flag("layer_norm", layer_norm)
        self.proj_size = integer("proj_size", proj_size)
        if self.proj_size >= positive_int("hidden_size", hidden_size):
            raise ValueError(
                f"proj_size must be less than hidden_size, {hidden_size}, it is {proj_size}: "
                "0 is no projection"
            )
        options = {option: getattr(self, option) for option in LSTM_OPTIONS}
        self._cell = lstm_cell(options)
        for option, value in options.items():
            if value and resolve_device(device) != "cpu":
                raise ValueError(
                    f"{option} must be {LSTM_OPTIONS[option][0]} on a CUDA device, it is {value}: "
                    "it is not on CUDA yet, use device='cpu'"
                )
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dropout_mode=dropout_mode, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_dropout=weight_dropout, recompute=recompute, dtype=dtype, device=device,
            precision=precision, algo=algo, init=init, forget_bias=forget_bias, seed=seed,
        )  # fmt: skip

    def _describe(self) -> str:
        options = [f"{option}={getattr(self, option)!r}" for option in LSTM_OPTIONS if getattr(self, option)]
        return ", ".join([super()._describe(), *options])

    def forward(
        self,
        x: Array,
        state: Pair | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """y (T, B, D * H) and (hn, cn), each (L * D, B, H), from x (T, B, I) and (h0, c0).

        With proj_size y is (T, B, D * P), and h0 and hn are (L * D, B, P).
        """
        h0, c0 = (None, None) if state is None else pair("state", "h0, c0", state)
        y, hn, cn = self._forward(x, h0, c0, lengths, resets)
        return y, (hn, cn)

    @overload
    def backward(
        self,
        dy: Array | None,
        dstate: Pair | None = None,
        *,
        of: Any = None,
        need_dx: Literal[True] = True,
        flow: bool = False,
    ) -> tuple[Array, tuple[Array, Array]]: ...
    @overload
    def backward(
        self,
        dy: Array | None,
        dstate: Pair | None = None,
        *,
        of: Any = None,
        need_dx: bool,
        flow: bool = False,
    ) -> tuple[Array | None, tuple[Array, Array]]: ...
    def backward(
        self,
        dy: Array | None,
        dstate: Pair | None = None,
        *,
        of: Any = None,
        need_dx: bool = True,
        flow: bool = False,
    ) -> tuple[Array | None, tuple[Array, Array]]:
        """Back-propagation through time of a training call; adds into the parameters' gradients.

        Args:
            dy: gradient of y, or None for zeros; not read past a row's length.
            dstate: gradients (dhn, dcn) of the final states, either or both None for zeros.
            of: a result of the call that is meant, where several wait; see `Module`.
            need_dx: False skips dx.
            flow: also measure `flow`, on the CPU.

        Returns:
            dx like x (None without need_dx), and (dh0, dc0) like (h0, c0).

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: an argument has the wrong dtype, shape or strides, or flow is not on the
                device.
        """
        dhn, dcn = (None, None) if dstate is None else pair("dstate", "dhn, dcn", dstate)
        dx, dh0, dc0 = self._backward(dy, dhn, dcn, of, need_dx, flow)
        return dx, (dh0, dc0)
