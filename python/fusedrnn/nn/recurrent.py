"""What RNN, GRU and LSTM have in common: a whole stack of layers and directions in one call."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks, probabilities
from fusedrnn._core.arrays import as_device_array, check_algo, check_precision, resolve_device
from fusedrnn._core.cells import CELLS
from fusedrnn._core.inputs import kept
from fusedrnn._core.parameter import FlatBuffer, float_dtype
from fusedrnn._core.weight_names import StackShape
from fusedrnn._native import SequenceOptions
from fusedrnn.functional.recurrent import named_flow, single
from fusedrnn.nn.initial_weights import Weight, initialise
from fusedrnn.nn.module import LayerSpec, Module
from fusedrnn.nn.unbatched import batched, is_unbatched, require_no_lengths, without_batch

Array = NDArray[Any]
_DEFAULTS = {
    "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
    "dropout_mode": "step", "recurrent_dropout": 0.0, "zoneout": 0.0, "weight_dropout": 0.0,
    "recompute": 0,
}  # fmt: skip


@cache
def _plain_options(batch_first: bool, train: bool) -> SequenceOptions:
    """Those of a call without lengths, resets and dropout, made once: a tenth of the smallest call's time."""
    return SequenceOptions(batch_first=batch_first, train=train)


# What parameters and the cell were made by.
_FIXED = frozenset(
    {
        "input_size", "hidden_size", "num_layers", "bias", "bidirectional",
        "proj_size", "peephole", "layer_norm", "reset_after", "nonlinearity",
    }
)  # fmt: skip


class Recurrent(Module):
    """What RNN, GRU and LSTM have in common.

    Letters: T steps, B batch, I inputs, H hidden, L layers, D directions, G gates of the cell.

    Args:
        input_size: I, features of x.
        hidden_size: H, features of a state. Where an LSTM projects its h to P units (`proj_size`), P stands
            for H in h0, hn, y and the columns of weight_hh.
        num_layers: L; each layer but the first reads the y of the one before.
        bias: whether there are bias_ih and bias_hh.
        batch_first: x and y are (B, T, features), resets (B, T); states stay (L * D, B, H).
        dropout: probability of dropping an element of the input of every layer but the first, in training.
        bidirectional: a second direction runs from each row's last step to its first; y holds both.
        dropout_mode: "step", or "sequence": dropout has the same mask at all steps of a row (Gal & Ghahramani
            2016). This and the three below are on the CPU.
        recurrent_dropout: probability of dropping, in training, an element of h on its way into R h; the same
            ones at all steps of a row, at each call new ones (the same, as Keras has it).
        zoneout: probability that a unit keeps its state for a step in place of the new one (Krueger et al.
            2017); of an LSTM one for c and h, each with a mask of its own, or a pair (c, h). In eval mode a
            state is the expectation of that.
        weight_dropout: probability of dropping, in training, an element of R, new ones at each call (Merity
            et al. 2018, "AWD-LSTM").
        recompute: for long sequences in little memory, on the CPU and not with bidirectional: the tape keeps
            states every so many steps, and backward computes the steps between again (Chen et al. 2016), to
            the same bits. "auto" takes the root of T; a number is rounded up to about 256 / B steps or a
            multiple of it. 0: the tape keeps all steps.
        dtype: of parameters and of all arrays taken and returned: float32 or float64.
        device: "cpu", "cuda" (raises with the reason where it cannot be used), or "auto". On CUDA every
            array that goes in or out is on the device: `DeviceArray`s come out; they, and CUDA arrays of
            other libraries, which are not copied, go in. `fusedrnn.asarray` makes one of a NumPy array.
        precision: what operands of products are rounded to, of float32 modules: "ieee" (not at all), "bf16",
            on the CPU "bf16x3" and "bf16x6", on CUDA "tf32", "tf32x3" and "fp16" (docs/numerics.md).
        algo: which kernels compute the recurrent part on CUDA, see `fusedrnn.functional.pack_weights`;
            "auto" on the CPU.
        init: initial weights. "torch": all uniform in [-1 / sqrt(H), 1 / sqrt(H)]. "keras": W uniform by
            Glorot & Bengio 2010, R orthogonal (Saxe et al. 2014), both over all gates at once, biases 0, an
            LSTM's forget gate 1. "glorot": W and R by Glorot, gate by gate, biases 0. "orthogonal": the same
            with R orthogonal, gate by gate. "identity": R the identity, W normal with deviation 0.001, biases
            0, for RNN with nonlinearity="relu" (Le et al. 2015). ("chrono", steps): as torch, but biases of
            the gates let units remember for times uniform in [1, steps - 1] (Tallec & Ollivier 2018), for
            LSTM and GRU. Functions of `fusedrnn.nn.init` do others.
        forget_bias: what an LSTM's forget gate has for the sum of its two biases; None: as `init` has it.
        seed: for initial weights and dropout: an int, a `numpy.random.Generator`, or None for a random one.

    Weights and biases have PyTorch's names and shapes: ``weight_ih_l0`` (G * H, I), ``weight_hh_l0``
    (G * H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (G * H,), with layers counted up from 0 and ``_reverse``
    appended for the second direction.

    A call takes x, the initial state (None: zeros), and

        lengths: int (B,), of any integer type or a list, valid steps of each row, 0 to T, in any order. Past
            them x is not read and y is exactly 0; the final state is that at the length; the second direction
            starts at the last valid step.
        resets: bool, shaped like x without its features; True at (t, b) cuts the link between steps t - 1
            and t of row b, for states and gradients, in both directions. At t = 0 it cuts the initial state
            of the forward direction.

    It returns y (T, B, D * H) and the final state; both are the caller's to write to. In host memory x may be
    one sequence, (T, I), as in PyTorch: then states are (L * D, H), resets (T,), there are no lengths, and no
    result has a batch axis.

    Raises:
        TypeError: an argument has the wrong type or dtype; ValueError: the wrong shape or strides, or a
            value out of range; RuntimeError: device="cuda" where CUDA cannot be used.
    """

    sequence_arguments = ("lengths", "resets")
    proj_size = 0  # of an LSTM that projects h: P
    dropout_mode = "step"  # these of pickles from before there were any
    recurrent_dropout = 0.0
    zoneout: float | tuple[float, float] = 0.0
    weight_dropout = 0.0
    recompute: int | str = 0
    _cell: str
    _packed: tuple[int, str, _native.PackedWeights] | None

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
        seed: checks.Seed = None,
    ) -> None:
        self.input_size = checks.positive_int("input_size", input_size)
        self.hidden_size = checks.positive_int("hidden_size", hidden_size)
        self.num_layers = checks.positive_int("num_layers", num_layers, _native.MAX_LAYERS)
        self.bias = checks.flag("bias", bias)
        self.batch_first = checks.flag("batch_first", batch_first)
        self.dropout = checks.probability("dropout", dropout)
        self.bidirectional = checks.flag("bidirectional", bidirectional)
        self.dtype = float_dtype(dtype)
        self.device = resolve_device(device)
        self.precision = check_precision(precision, self.device, self.dtype)
        self.algo = check_algo(algo, self.device)
        self._regularise(dropout_mode, recurrent_dropout, zoneout, weight_dropout)
        self.recompute = self._checked_recompute(recompute)
        if self.dropout and self.num_layers == 1:
            warnings.warn("dropout acts between layers: with num_layers=1 it does nothing", stacklevel=2)
        rng = checks.generator(seed)
        parameters = FlatBuffer.allocate(self._shapes(), self.dtype, self.device)
        self._names = tuple(parameters)
        cell = CELLS[self._cell]
        specs = self._stack().weights(cell.weights)
        weights = {n: Weight(p, specs[n][1], self.hidden_size) for n, p in parameters.items()}
        initialise(weights, cell, init, forget_bias, rng)
        for name, parameter in parameters.items():
            setattr(self, name, parameter)
        if self._draws():
            self._dropout_key = checks.dropout_key(rng)

    def _regularise(
        self, dropout_mode: Any, recurrent_dropout: Any, zoneout: Any, weight_dropout: Any
    ) -> None:
        """Takes over what regularises beside dropout.

        Raises:
            TypeError, ValueError: a value is none, or the device is not the CPU.
        """
        probabilities.dropout_mode(dropout_mode)
        self.dropout_mode = dropout_mode
        self.recurrent_dropout = checks.probability("recurrent_dropout", recurrent_dropout)
        c, h = probabilities.zoneout(zoneout, CELLS[self._cell].cell_state)
        self.zoneout = (c, h) if isinstance(zoneout, Sequence) and (c or h) else h
        self.weight_dropout = checks.probability("weight_dropout", weight_dropout)
        if self.device == "cpu":
            return
        for name in ("dropout_mode", "recurrent_dropout", "zoneout", "weight_dropout"):
            value, default = getattr(self, name), _DEFAULTS[name]
            if value != default:
                raise ValueError(
                    f"{name} must be {default!r} on a CUDA device, it is {value!r}: "
                    "it is not on CUDA yet, use device='cpu'"
                )

    def _checked_recompute(self, recompute: Any) -> int | str:
        """`recompute`; TypeError or ValueError where it is none, or not for such a module."""
        steps = checks.recompute(recompute, self.bidirectional and self.device == "cpu")
        if steps and self.device != "cpu":
            raise ValueError(
                f"recompute must be 0 on a CUDA device, it is {steps!r}: "
                "it is not on CUDA yet, use device='cpu'"
            )
        return steps

    def _steps_between(self) -> int:
        """`recompute`, which a user may have set since, as the native module has it."""
        return checks.steps_between(self._checked_recompute(self.recompute))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__ and value != self.__dict__[name]:
            raise AttributeError(
                f"{name} is fixed when a {type(self).__name__} is made, here as {self.__dict__[name]!r}: "
                f"make another with {name}={value!r}"
            )
        super().__setattr__(name, value)

    def _draws(self) -> bool:
        """Whether a call in training mode draws masks."""
        return bool(self.dropout or self.recurrent_dropout or self.zoneout or self.weight_dropout)

    def _zoneout(self) -> tuple[float, float]:
        return probabilities.zoneout(self.zoneout, CELLS[self._cell].cell_state)

    def _stack(self) -> StackShape:
        return StackShape(self.num_layers, 2 if self.bidirectional else 1, self.bias)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return self._stack().shapes(
            CELLS[self._cell].weights, self.input_size, self.hidden_size, self.proj_size
        )

    @property
    def tape(self) -> _native.Tape | None:
        """What the last training forward kept for backward, None without one.

        Opaque, except for ``nbytes``; ``cells``, the cell states (L * D, T, B, H) of an LSTM; and ``gates``
        (L * D, T, B, blocks * H) after their activation, blocks i f g o (LSTM), behind them W x and R h with
        layer normalisation, r z n q with q = R_n h + b_hn (GRU), or r z n (GRU with the reset before the
        product). Both are copies, None for cells that have none; with `recompute` there are none, and they
        raise RuntimeError.
        """
        call = self._calls.newest
        return None if call is None else call.tape

    @property
    def flow(self) -> dict[str, Array] | None:
        """How the gradient flowed through time in the newest backward with ``flow=True``, None before one.

        "h", and "c" of an LSTM, each float64 (L, D, T): of each step, the 2-norm over rows and units of the
        whole gradient of the loss with respect to h (c), as it is behind the step. Rows past their length
        count as zero. `fusedrnn.plot.gradient_flow` draws it.

        Example:
            >>> import numpy as np, fusedrnn as fr
            >>> rnn = fr.nn.RNN(3, 5, seed=0)
            >>> y, _ = rnn(np.ones((7, 2, 3), np.float32))
            >>> dy = np.zeros_like(y)
            >>> dy[-1] = 1                                     # a loss of the last step alone
            >>> dx, _ = rnn.backward(dy, flow=True)
            >>> rnn.flow["h"].shape, bool(rnn.flow["h"][0, 0, 0] < rnn.flow["h"][0, 0, 6])
            ((1, 1, 7), True)
        """
        return self.__dict__.get("_flow")

    def _keep_flow(self, norms: _native.Flow | None) -> None:
        self.__dict__["_flow"] = named_flow(norms)

    def _parameters_changed(self) -> None:
        super()._parameters_changed()
        self.__dict__["_packed"] = None

    def _packing(self, version: int, key: int) -> _native.PackedWeights:
        """The weights in the backend's layout, packed again whenever they or the backend changed.

        With weight dropout a call in training mode packs those that its key leaves.

        Safe among concurrent calls in eval mode: the cache is replaced as a whole, at worst packed twice. A
        graph packs whenever it runs, what the weights are then.
        """
        drops = self.weight_dropout if self.training else 0.0
        if drops:
            return self._pack(drops, key)
        backend = _native.backend()
        cached = self._packed
        keep = self.device == "cpu" or not (_native.capturing() or any(b.replayed for b in self._buffers))
        if keep and cached is not None and cached[0] == version and cached[1] == backend:
            return cached[2]
        packed = self._pack()
        if keep:
            self.__dict__["_packed"] = (version, backend, packed)
        return packed

    def _pack(self, weight_dropout: float = 0.0, key: int = 0) -> _native.PackedWeights:
        return _native.pack_weights(
            self.num_layers,
            2 if self.bidirectional else 1,
            self.bias,
            [self._parameters[name].data for name in self._names],
            self.precision,
            self.algo,
            self._cell,
            weight_dropout,
            key,
        )

    def _forward(
        self,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        lengths: Array | None,
        resets: Array | None,
    ) -> tuple[Array, Array, Any]:
        training = self.training
        key = 0
        if training:
            self._calls.make_room()
        if self.device == "cuda":
            x, h0, c0, lengths, resets = map(as_device_array, (x, h0, c0, lengths, resets))
        checks.require_input(x, self.dtype, self.device)
        draws = self._draws()
        if training and draws:
            key = self._dropout_key
            self.__dict__["_dropout_key"] = checks.next_key(key)
        given = x, h0, c0
        if training and self._is_here(x):
            x = kept(x)
        unbatched = is_unbatched(x)
        if unbatched:
            require_no_lengths(lengths)
            if x.shape[1] != self.input_size:
                sizes = f"(T, I) = (T, {self.input_size})"
                raise ValueError(f"x must be {sizes}, or of three axes with a batch, it is {x.shape}")
            x, resets = (
                batched("x", x, 2, self._batch_axis()),
                batched("resets", resets, 1, self._batch_axis()),
            )
            h0, c0 = batched("h0", h0, 2), batched("c0", c0, 2)
        version = self._version()
        packed = self._packing(version, key)
        if lengths is None and resets is None and not draws and self.recompute == 0:
            options = _plain_options(self.batch_first, training)
        else:
            options = SequenceOptions(
                lengths, resets, self.batch_first, self.dropout, key, training, self.recurrent_dropout,
                *self._zoneout(), self.dropout_mode == "sequence", 0, self._steps_between(),
            )  # fmt: skip
        y, hn, cn, tape = _native.sequence_forward(self._cell, packed, x, h0, c0, options)
        if unbatched:
            y, hn, cn = without_batch(y, self._batch_axis()), without_batch(hn), without_batch(cn)
        if training:
            self._calls.record(version, tape, given, (y, hn, cn), (), unbatched)
        return y, hn, cn

    def _batch_axis(self) -> int:
        return 0 if self.batch_first else 1

    def _is_here(self, x: Array) -> bool:
        """Whether x is where the weights are; elsewhere it is refused, and must not be copied before."""
        return self.device == "cpu" or x.device == self._parameters[self._names[0]].data.device

    def _backward(
        self, dy: Array | None, dhn: Array | None, dcn: Array | None, of: Any, need_dx: bool, flow: bool
    ) -> tuple[Array | None, Array, Any]:
        call = self._recorded(of)
        grads = [self._parameters[name]._added_to() for name in self._names]
        if self.device == "cuda":
            dy, dhn, dcn = map(as_device_array, (dy, dhn, dcn))
        if call.unbatched:
            dy = batched("dy", dy, 2, self._batch_axis())
            dhn, dcn = batched("dhn", dhn, 2), batched("dcn", dcn, 2)
        dx, dh0, dc0, norms = _native.sequence_backward(call.tape, dy, dhn, dcn, grads, need_dx, flow)
        if flow:
            self._keep_flow(norms)
        self._calls.took(call)
        if call.unbatched:
            return without_batch(dx, self._batch_axis()), without_batch(dh0), without_batch(dc0)
        return dx, dh0, dc0

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_packed"]
        return state

    def _layer_spec(self) -> LayerSpec:
        options = {
            "cell": self._cell,
            "num_layers": self.num_layers,
            "num_directions": 2 if self.bidirectional else 1,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "dropout_mode": self.dropout_mode,
            "recurrent_dropout": self.recurrent_dropout,
            "zoneout": self._zoneout(),
            "weight_dropout": self.weight_dropout,
            "recompute": self._steps_between(),
            "precision": self.precision,
            "algo": self.algo,
        }
        return "recurrent", options, tuple(self._parameters[name] for name in self._names)

    def _describe(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value!r}"
        return text if self.dtype == np.float32 else f"{text}, dtype={self.dtype}"


class SingleState(Recurrent):
    """Base of RNN and GRU, whose state is h alone."""

    def forward(
        self,
        x: Array,
        state: Array | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
    ) -> tuple[Array, Array]:
        """y (T, B, D * H) and hn (L * D, B, H) from x (T, B, I) and h0."""
        y, hn, _ = self._forward(x, single("state", "h0", state), None, lengths, resets)
        return y, hn

    @overload
    def backward(
        self,
        dy: Array | None,
        dstate: Array | None = None,
        *,
        of: Any = None,
        need_dx: Literal[True] = True,
        flow: bool = False,
    ) -> tuple[Array, Array]: ...
    @overload
    def backward(
        self,
        dy: Array | None,
        dstate: Array | None = None,
        *,
        of: Any = None,
        need_dx: bool,
        flow: bool = False,
    ) -> tuple[Array | None, Array]: ...
    def backward(
        self,
        dy: Array | None,
        dstate: Array | None = None,
        *,
        of: Any = None,
        need_dx: bool = True,
        flow: bool = False,
    ) -> tuple[Array | None, Array]:
        """Back-propagation through time of a training call; adds into the parameters' gradients.

        Args:
            dy: gradient of y, or None for zeros; not read past a row's length.
            dstate: gradient dhn of the final state, or None for zeros.
            of: a result of the call that is meant, where several wait; see `Module`.
            need_dx: False skips dx.
            flow: also measure `flow`, on the CPU.

        Returns:
            dx like x (None without need_dx), and dh0 (L * D, B, H).

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: an argument has the wrong dtype, shape or strides, or flow is not on the
                device.
        """
        dx, dh0, _ = self._backward(dy, single("dstate", "dhn", dstate), None, of, need_dx, flow)
        return dx, dh0
