"""LSTM, GRU and RNN with the interface of torch.nn's, computed by this package's kernels."""

from __future__ import annotations

import numbers
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fusedrnn._core import checks
from fusedrnn._core.cells import CELLS
from fusedrnn._core.variants import LSTM_OPTIONS, lstm_cell
from fusedrnn._core.weight_names import NORMS, StackShape
from fusedrnn.torch import beyond, dispatch, masks, packed_sequence, recurrence
from fusedrnn.torch.dispatch import require_dense
from fusedrnn.torch.flow import NOT_IN_GRAPH, Flow
from fusedrnn.torch.keeps_packing import KeepsPacking

_NAMES = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


class Recurrent(KeepsPacking, nn.RNNBase):
    """What `LSTM`, `GRU` and `RNN` have in common; constructor, parameters and state dict are torch.nn's.

    Letters: T steps, B rows, I inputs, H units, L layers, D directions. A call takes

        input: (T, B, I), with batch_first (B, T, I), unbatched (T, I), or a PackedSequence.
        hx: the initial state, (L * D, B, H), or for an LSTM a pair of such (h with P units, where there is
            proj_size); None: zeros.
        lengths: int (B,), valid steps of each row, 0 to T, in any order. Past them input is not read and
            output is exactly 0; the final state is that at the length; the second direction starts at the
            last valid step. Of an unbatched input: one int.
        resets: bool, shaped like input without its features; True at (t, b) cuts the link between steps
            t - 1 and t of row b, for states and gradients. At t = 0 it cuts the initial state of the forward
            direction.

    and returns output and the final state as torch.nn does. Gradients are autograd's; there is no double
    backward. Dropout between layers draws its mask's key from PyTorch's generator, so `torch.manual_seed`
    governs it; the masks are not torch.nn's.

    Weights are float32 or float64. Inside `torch.autocast` inputs of narrow types are widened, and results
    have the dtype of the weights.

    Attributes:
        precision: None for "ieee", and "bf16" in a bfloat16 autocast where kernels have that; or the name
            of a precision.
        dropout_mode, recurrent_dropout, zoneout, weight_dropout: keywords of the constructor beyond
            torch.nn's, which `fusedrnn.nn.LSTM` explains; these and the two below may be set on a module that
            `replace` has made. Cells, which make one step, have none of them.
        recompute: for long sequences in little memory: what is kept for backward are states every so many
            steps, or with "auto" every root of T, and backward computes the steps between again, to the same
            bits. Not with bidirectional. A PackedSequence is padded for it.
        collect_flow: whether backward also measures how the gradient flows through time, see `flow`.

    Raises:
        ValueError, RuntimeError: what torch.nn raises for wrong shapes, devices and dtypes.
        TypeError: weights are of another type than float32 and float64, or a tensor is sparse.
        NotImplementedError: tensors are on a device that no kernel serves.
    """

    _pair: ClassVar[bool] = False  # whether the state is (h, c)
    _variants: ClassVar[dict[str, Any]] = {}  # options that choose the cell, and their defaults
    dropout_mode: str = beyond.SETTABLE["dropout_mode"]  # these of modules that torch.nn has made
    recurrent_dropout: float = beyond.SETTABLE["recurrent_dropout"]
    zoneout: float | tuple[float, float] = beyond.SETTABLE["zoneout"]
    weight_dropout: float = beyond.SETTABLE["weight_dropout"]
    recompute: int | str = beyond.SETTABLE["recompute"]
    collect_flow: bool = beyond.SETTABLE["collect_flow"]
    _flow: Flow | None = None

    def __init__(self, mode: str, *args: Any, precision: str | None = None, **options: Any) -> None:
        _check_types(dict(zip(_NAMES, args, strict=False)) | options)
        settable = {name: options.pop(name) for name in beyond.SETTABLE if name in options}
        variant = {name: checks.flag(name, options.pop(name)) for name in self._variants if name in options}
        super().__init__(mode, *args, **options)
        self.precision = precision
        self.__dict__.update(variant)
        for name, value in settable.items():
            setattr(self, name, value)
        if variant:
            self._make_weights()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in beyond.SETTABLE:
            value = beyond.checked(name, value, self._pair, self.bidirectional)
        elif name in self._variants and value != getattr(self, name):
            raise AttributeError(
                f"{name} is fixed when a {type(self).__name__} is made, here as {getattr(self, name)!r}: "
                f"make another with {name}={value!r}"
            )
        super().__setattr__(name, value)

    def _make_weights(self) -> None:
        """Adds those that the cell has beside torch.nn's, behind them of each layer and direction."""
        stack = StackShape(self.num_layers, 2 if self.bidirectional else 1, self.bias)
        weights = CELLS[self._cell].weights
        shapes = stack.shapes(weights, self.input_size, self.hidden_size, self.proj_size)
        if shapes.keys() == self._parameters.keys():
            return
        made, like = dict(self._parameters), self.weight_ih_l0.detach()
        self._parameters.clear()
        for name, shape in shapes.items():
            own = made[name] if name in made else nn.Parameter(like.new_empty(shape))
            self.register_parameter(name, own)
        names = list(shapes)
        each = len(names) // (stack.num_layers * stack.num_directions)
        self._flat_weights_names = names
        self._all_weights = [names[i : i + each] for i in range(0, len(names), each)]
        self._init_flat_weights()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch.nn's; layer normalisation begins as it is in `torch.nn.LayerNorm`."""
        super().reset_parameters()
        for name in self._flat_weights_names:
            start = NORMS.get(name.rpartition("_l")[0])
            if start is not None:
                nn.init.constant_(getattr(self, name), start)

    def flatten_parameters(self) -> None:
        """As torch.nn's, for cells that cuDNN has."""
        if CELLS[self._cell].on_cuda:
            super().flatten_parameters()

    @property
    def flow(self) -> dict[str, Tensor] | None:
        """How the gradient flowed through time in the newest backward with `collect_flow`, None before one.

        "h", and "c" of an LSTM, each float64 (L, D, T): of each step, the 2-norm over rows and units of the
        whole gradient of the loss with respect to h (c), as it is behind the step.
        `fusedrnn.plot.gradient_flow` draws it.

            lstm = ft.LSTM(3, 5)
            lstm.collect_flow = True
            y, _ = lstm(torch.randn(7, 2, 3))
            y[-1].sum().backward()
            lstm.flow["h"]  # (1, 1, 7)
        """
        return None if self._flow is None else self._flow.norms

    def beyond_torch(self) -> dict[str, Any]:
        """The options that torch.nn's module has not and that do something."""
        defaults = {**beyond.SETTABLE, **self._variants}
        values = {name: getattr(self, name) for name in defaults}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def _steps_between(self) -> int:
        return checks.steps_between(self.recompute)

    def _flow_place(self) -> Flow | None:
        if not self.collect_flow:
            return None
        if self._flow is None:
            self.__dict__["_flow"] = Flow()
        return self._flow

    def _masks(self) -> masks.Masks:
        return masks.of(self)

    def extra_repr(self) -> str:
        """As torch.nn's, with what this package adds."""
        return ", ".join(
            [super().extra_repr(), *(f"{name}={v!r}" for name, v in self.beyond_torch().items())]
        )

    def _weights(self) -> list[Tensor]:
        """The weights as attributes have them: of a parametrized or pruned module, what is computed."""
        parameters = self._parameters
        try:
            return [parameters[name] for name in self._flat_weights_names]
        except KeyError:
            return [getattr(self, name) for name in self._flat_weights_names]

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None, resets: Any = None) -> Any:
        """Output and the final state; see the class."""
        if self.collect_flow and dispatch.in_graph() and torch.is_grad_enabled():
            if not torch.compiler.is_dynamo_compiling():
                raise RuntimeError(NOT_IN_GRAPH)
            return _outside(self, input, hx, lengths, resets)
        if isinstance(input, PackedSequence):
            if lengths is not None or resets is not None:
                raise ValueError(
                    "lengths and resets must be None with a PackedSequence, which has lengths of its own: "
                    "use a padded tensor with lengths= and resets="
                )
            return packed_sequence.forward(self, input, hx)
        if input.dim() == 3:
            if hx is not None:
                self._check_axes(hx, 3)
            return self._batched(input, hx, lengths, resets)
        if input.dim() != 2:
            name = self.mode.split("_")[0]
            tensor = " tensor" if name == "RNN" else ""  # as torch.nn has it
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D{tensor} instead")
        require_dense("input", input)
        batch_axis = 0 if self.batch_first else 1
        if lengths is not None:
            lengths = recurrence.marks(lengths)
            if lengths.dim() == 0:
                lengths = lengths.unsqueeze(0)
            elif lengths.shape != (1,):
                raise ValueError(
                    "lengths must be one int where input is unbatched, "
                    f"it is a tensor of shape {tuple(lengths.shape)}: use the int, or a batched input"
                )
        if hx is not None:
            self._check_axes(hx, 2)
            for state in hx if self._pair else (hx,):
                require_dense("hx", state)
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1)) if self._pair else hx.unsqueeze(1)
        if resets is not None:
            resets = recurrence.marks(resets).unsqueeze(batch_axis)
        y, end = self._batched(input.unsqueeze(batch_axis), hx, lengths, resets)
        end = (end[0].squeeze(1), end[1].squeeze(1)) if self._pair else end.squeeze(1)
        return y.squeeze(batch_axis), end

    def _batched(self, input: Tensor, hx: Any, lengths: Any, resets: Any) -> Any:
        h0, c0 = (None, None) if hx is None else hx if self._pair else (hx, None)
        y, hn, cn = recurrence.run(self, input, h0, c0, lengths, resets)
        return y, (hn, cn) if self._pair else hn

    def _check_axes(self, hx: Any, axes: int) -> None:
        """The sentences of torch.nn for a state with another number of axes than input."""
        kind = f"For {'' if axes == 3 else 'un'}batched {axes}-D input"
        if self._pair:
            if hx[0].dim() != axes or hx[1].dim() != axes:
                raise RuntimeError(
                    f"{kind}, hx and cx should also be {axes}-D but got ({hx[0].dim()}-D, {hx[1].dim()}-D) "
                    "tensors"
                )
        elif hx.dim() != axes:
            raise RuntimeError(f"{kind}, hx should also be {axes}-D but got {hx.dim()}-D tensor")

    @property
    def _cell(self) -> str:
        return self.mode.lower()

    def _refuse(
        self,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        expected: tuple[tuple[int, int, int], tuple[int, int, int]],
        w: Tensor,
    ) -> NoReturn:
        """Raises what torch.nn does for an input or a state that does not fit, those of h and c expected."""
        if x.dtype != w.dtype:
            recurrence.refuse_kind(x, h0, c0, w)
        if x.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.size(-1)}"
            )
        for place, state in enumerate((h0, c0)):
            which = f"hidden[{place}]" if self._pair else "hidden"
            if state is not None:
                self.check_hidden_size(state, expected[place], "Expected " + which + " size {}, got {}")
        recurrence.refuse_kind(x, h0, c0, w)


class LSTM(Recurrent):
    """`torch.nn.LSTM` on this package's kernels; see `Recurrent` for calls.

    i, f, o = sigmoid(W x + b_ih + R h + b_hh), g = tanh(same), c' = f c + i g, h' = o tanh(c')
    (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

        lstm = ft.LSTM(32, 64, num_layers=2)
        y, (hn, cn) = lstm(torch.randn(10, 4, 32))
        y.sum().backward()

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as of
            `torch.nn.LSTM`, in that order.
        proj_size: P, units of h where it is projected (Sak et al. 2014), on the CPU: h' = W_hr (o tanh(c')),
            output (T, B, D * P), h0 and hn (L * D, B, P); 0: h' itself.
        peephole, layer_norm: the LSTM with peepholes (Gers & Schmidhuber 2000) or layer normalisation (Ba et
            al. 2016), with the equations, names and shapes of weights that `fusedrnn.nn.LSTM` has; on the
            CPU, and of these and proj_size one at a time. They are fixed when a module is made.
        precision, dropout_mode, recurrent_dropout, ...: see `Recurrent`.
    """

    _pair = True
    _variants = beyond.VARIANTS["LSTM"]
    peephole: bool = _variants["peephole"]
    layer_norm: bool = _variants["layer_norm"]

    def __init__(self, *args: Any, precision: str | None = None, **options: Any) -> None:
        _ = lstm_cell({name: options.get(name, default) for name, (default, _) in LSTM_OPTIONS.items()})
        super().__init__("LSTM", *args, precision=precision, **options)

    @property
    def _cell(self) -> str:
        return lstm_cell({name: getattr(self, name) for name in LSTM_OPTIONS})


class GRU(Recurrent):
    """`torch.nn.GRU` on this package's kernels; see `Recurrent` for calls.

    r, z = sigmoid(W x + b_ih + R h + b_hh), n = tanh(W x + b_in + r (R h + b_hn)), h' = (1 - z) n + z h
    (Cho et al. 2014, with the reset gate after the product).

        gru = ft.GRU(32, 64)
        y, hn = gru(torch.randn(10, 4, 32))

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as of
            `torch.nn.GRU`, in that order.
        reset_after: False is the GRU as published, n = tanh(W x + b_in + R (r h) + b_hn), on the CPU; fixed
            when a module is made.
        precision, dropout_mode, recurrent_dropout, ...: see `Recurrent`.
    """

    _variants = beyond.VARIANTS["GRU"]
    reset_after: bool = _variants["reset_after"]

    def __init__(self, *args: Any, precision: str | None = None, **options: Any) -> None:
        _no_projection(options)
        super().__init__("GRU", *args, precision=precision, **options)

    @property
    def _cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"


class RNN(Recurrent):
    """`torch.nn.RNN` on this package's kernels; see `Recurrent` for calls.

    h' = tanh(W x + b_ih + R h + b_hh), or max(0, same) with nonlinearity="relu" (Elman 1990).

        rnn = ft.RNN(32, 64, nonlinearity="relu")
        y, hn = rnn(torch.randn(10, 4, 32))

    Args:
        input_size, hidden_size, ...: as of `torch.nn.RNN`, in its order, which has nonlinearity fourth.
        precision, dropout_mode, recurrent_dropout, ...: see `Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        precision: str | None = None,
        **options: Any,
    ) -> None:
        _no_projection(options)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            *args,
            precision=precision,
            **options,
        )
        self.nonlinearity = nonlinearity


@torch.compiler.disable
def _outside(module: Recurrent, input: Any, hx: Any, lengths: Any, resets: Any) -> Any:
    """A call of a module whose gradients are measured, which breaks a compiled graph."""
    return module.forward(input, hx, lengths=lengths, resets=resets)


def _no_projection(options: dict[str, Any]) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


def _check_types(given: dict[str, Any]) -> None:
    """What torch.nn finds out only later, or without a name, in the words it has for the others."""
    layers, dropout = given.get("num_layers", 1), given.get("dropout", 0.0)
    if not isinstance(layers, numbers.Integral):
        raise TypeError(f"num_layers should be of type int, got: {type(layers).__name__}")
    if not isinstance(dropout, numbers.Number):
        raise TypeError(f"dropout should be a number in range [0, 1], got: {type(dropout).__name__}")
    for name in ("bias", "batch_first", "bidirectional"):
        if not isinstance(given.get(name, False), bool):
            raise TypeError(f"{name} should be of type bool, got: {type(given[name]).__name__}")
