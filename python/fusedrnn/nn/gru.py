"""The GRU module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from fusedrnn._core.arrays import resolve_device
from fusedrnn._core.checks import Seed, flag
from fusedrnn.nn.recurrent import SingleState


class GRU(SingleState):
    """Gated recurrent unit (Cho et al. 2014), by default in the form of PyTorch, cuDNN and Keras.

    r, z = sigmoid(W x + b_ih + R h + b_hh), n = tanh(W x + b_ih + r (R h + b_hh)), h' = (1 - z) n + z h.

    As published the reset gate comes before the product: n = tanh(W x + b_ih + R (r h) + b_hh).

        gru = fr.nn.GRU(input_size, hidden_size, num_layers=1, ...)
        y, hn = gru(x, h0, lengths=None, resets=None)
        dx, dh0 = gru.backward(dy, dhn)

    Args:
        reset_after: whether r comes after the product, as in Keras's option of that name (ONNX's
            linear_before_reset); False is on the CPU.

    Other arguments, initial weights, lengths, resets and errors: see `Recurrent`. Gates lie in the order
    r z n.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> gru = fr.nn.GRU(3, 5, reset_after=False, seed=0)
        >>> y, hn = gru(np.zeros((7, 2, 3), np.float32))
        >>> y.shape, hn.shape
        ((7, 2, 5), (1, 2, 5))
    """

    _cell = "gru"
    reset_after = True  # of pickles from before there was a choice

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
        reset_after: bool = True,
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
        self.reset_after = flag("reset_after", reset_after)
        if not self.reset_after:
            self._cell = "gru_reset_before"
            if resolve_device(device) != "cpu":
                raise ValueError(
                    "reset_after must be True on a CUDA device, it is False: "
                    "it is not on CUDA yet, use device='cpu'"
                )
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dropout_mode=dropout_mode, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_dropout=weight_dropout, recompute=recompute, dtype=dtype, device=device,
            precision=precision, algo=algo, init=init, forget_bias=forget_bias, seed=seed,
        )  # fmt: skip

    def _describe(self) -> str:
        text = super()._describe()
        return text if self.reset_after else f"{text}, reset_after=False"
