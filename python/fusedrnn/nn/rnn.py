"""The Elman RNN module."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fusedrnn._core.cells import variant_named, variants
from fusedrnn._core.checks import Seed
from fusedrnn.nn.recurrent import SingleState


class RNN(SingleState):
    """Elman network (Elman 1990): h' = tanh(W x + b_ih + R h + b_hh), or relu of it.

        rnn = fr.nn.RNN(input_size, hidden_size, num_layers=1, ..., nonlinearity="tanh")
        y, hn = rnn(x, h0, lengths=None, resets=None)
        dx, dh0 = rnn.backward(dy, dhn)

    `nonlinearity` is "tanh" or "relu". Other arguments, initial weights, lengths, resets and errors: see
    `Recurrent`.
    """

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
        nonlinearity: str = "tanh",
        dropout_mode: str = "step",
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
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
        if str(bias) in variants("rnn"):  # PyTorch's fourth argument
            raise TypeError(f"bias must be True or False, it is {bias!r}: write nonlinearity={bias!r}")
        self._cell = variant_named("rnn", "nonlinearity", nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dropout_mode=dropout_mode, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_dropout=weight_dropout, recompute=recompute, dtype=dtype, device=device,
            precision=precision, algo=algo, init=init, forget_bias=forget_bias, seed=seed,
        )  # fmt: skip

    def _describe(self) -> str:
        text = super()._describe()
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity!r}"
