"""LSTMCell, GRUCell and RNNCell with the interface of torch.nn's: one step of one layer."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from torch import Tensor
from torch.nn.modules.rnn import RNNCellBase

from fusedrnn.torch import beyond, recurrence
from fusedrnn.torch.dispatch import require_dense
from fusedrnn.torch.keeps_packing import KeepsPacking

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Cell(KeepsPacking, RNNCellBase):
    """What the cells have in common; constructor, parameters and state dict are torch.nn's.

    A call takes input (B, I) or (I,) and the state hx of (B, H) or (H,), for an LSTM a pair of such, None for
    zeros; it returns the next state.

    Raises:
        ValueError, RuntimeError: what torch.nn raises for wrong shapes, devices and dtypes.
    """

    num_layers: ClassVar[int] = 1
    bidirectional: ClassVar[bool] = False
    batch_first: ClassVar[bool] = False
    dropout: ClassVar[float] = 0.0
    _pair: ClassVar[bool] = False
    _gates: ClassVar[int]
    _cell: Any  # the name of the native cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        precision: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, self._gates, device=device, dtype=dtype)
        self.precision = precision

    def __setattr__(self, name: str, value: Any) -> None:
        if name in beyond.SETTABLE:
            raise AttributeError(beyond.not_of_a_cell(name, type(self).__name__))
        super().__setattr__(name, value)

    def _weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in (_NAMES if self.bias else _NAMES[:2])]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The next state."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        require_dense("input", input)
        states = (None, None) if hx is None else hx if self._pair else (hx, None)
        for i, state in enumerate(states):
            if state is not None and state.dim() not in (1, 2):
                which = f"hx[{i}]" if self._pair else "hidden"
                raise ValueError(f"{name}: Expected {which} to be 1D or 2D, got {state.dim()}D instead")
            if state is not None:
                require_dense("hx", state)
        batched = input.dim() == 2
        x = (input if batched else input.unsqueeze(0)).unsqueeze(0)
        h0, c0 = (s if s is None else s.unsqueeze(0) if batched else s[None, None] for s in states)
        _, h, c = recurrence.run(self, x, h0, c0)
        h = h.squeeze(0) if batched else h[0, 0]
        if c is None:
            return h
        return h, c.squeeze(0) if batched else c[0, 0]

    def _refuse(self, x: Tensor, h0: Tensor | None, c0: Tensor | None, expected: Any, w: Tensor) -> NoReturn:
        """Raises what torch.nn does for an input or a state that does not fit."""
        if x.size(-1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {x.size(-1)} expected {self.input_size}"
            )
        for i, state in enumerate((h0, c0)):
            if state is None:
                continue
            if state.size(1) != x.size(1):
                raise RuntimeError(
                    f"Input batch size {x.size(1)} doesn't match hidden{i} batch size {state.size(1)}"
                )
            if state.size(2) != self.hidden_size:
                raise RuntimeError(
                    f"hidden{i} has inconsistent hidden_size: got {state.size(2)}, "
                    f"expected {self.hidden_size}"
                )
        recurrence.refuse_kind(x, h0, c0, w)


class LSTMCell(Cell):
    """`torch.nn.LSTMCell` on this package's kernels.

        cell = ft.LSTMCell(10, 20)
        h, c = cell(torch.randn(3, 10), (torch.zeros(3, 20), torch.zeros(3, 20)))

    Args:
        input_size, hidden_size, bias, device, dtype: as of `torch.nn.LSTMCell`.
        precision: see `fusedrnn.torch.Recurrent`.
    """

    _pair = True
    _gates = 4
    _cell = "lstm"


class GRUCell(Cell):
    """`torch.nn.GRUCell` on this package's kernels.

        h = ft.GRUCell(10, 20)(torch.randn(3, 10))

    Args:
        input_size, hidden_size, bias, device, dtype: as of `torch.nn.GRUCell`.
        precision: see `fusedrnn.torch.Recurrent`.
    """

    _gates = 3
    _cell = "gru"


class RNNCell(Cell):
    """`torch.nn.RNNCell` on this package's kernels.

        h = ft.RNNCell(10, 20, nonlinearity="relu")(torch.randn(3, 10))

    Args:
        input_size, hidden_size, bias, nonlinearity, device, dtype: as of `torch.nn.RNNCell`.
        precision: see `fusedrnn.torch.Recurrent`.
    """

    _gates = 1
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        precision: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, precision=precision)
        self.nonlinearity = nonlinearity

    @property
    def _cell(self) -> str:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return f"rnn_{self.nonlinearity}"
