"""What RNN, GRU and LSTM have in common: a whole stack of layers and directions in one call."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array, check_algo, check_precision, resolve_device
from fusedrnn._core.calls import kept
from fusedrnn._core.cells import CELLS
from fusedrnn._core.parameter import FlatBuffer, float_dtype
from fusedrnn._core.weight_names import StackShape
from fusedrnn._native import SequenceOptions
from fusedrnn.functional.recurrent import single
from fusedrnn.nn import init
from fusedrnn.nn.module import LayerSpec, Module

Array = NDArray[Any]
_DEFAULTS = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}


@cache
def _plain_options(batch_first: bool, train: bool) -> SequenceOptions:
    """Those of a call without lengths, resets and dropout, made once: a tenth of the smallest call's time."""
    return SequenceOptions(batch_first=batch_first, train=train)


class Recurrent(Module):
    """What RNN, GRU and LSTM have in common.

    Letters: T steps, B batch, I inputs, H hidden, L layers, D directions, G gates of the cell.

    Args:
        input_size: I, features of x.
        hidden_size: H, features of a state.
        num_layers: L; each layer but the first reads the y of the one before.
        bias: whether there are bias_ih and bias_hh.
        batch_first: x and y are (B, T, features), resets (B, T); states stay (L * D, B, H).
        dropout: probability of dropping an element of the input of every layer but the first, in training.
        bidirectional: a second direction runs from each row's last step to its first; y holds both.
        dtype: of parameters and of all arrays taken and returned: float32 or float64.
        device: "cpu", "cuda" (raises with the reason where it cannot be used), or "auto". On CUDA every
            array that goes in or out is on the device: `DeviceArray`s come out; they, and CUDA arrays of
            other libraries, which are not copied, go in. `fusedrnn.asarray` makes one of a NumPy array.
        precision: arithmetic on CUDA, of float32 modules; "ieee" on the CPU.
        algo: which kernels compute the recurrent part on CUDA, see `fusedrnn.functional.pack_weights`;
            "auto" on the CPU.
        seed: for initial weights and dropout: an int, a `numpy.random.Generator`, or None for a random one.

    Weights and biases start uniform in [-1 / sqrt(H), 1 / sqrt(H)], as PyTorch's do. They have PyTorch's
    names and shapes: ``weight_ih_l0`` (G * H, I), ``weight_hh_l0`` (G * H, H), ``bias_ih_l0`` and
    ``bias_hh_l0`` (G * H,), with layers counted up from 0 and ``_reverse`` appended for the second direction.

    A call takes x, the initial state (None: zeros), and

        lengths: int (B,), valid steps of each row, 0 to T, in any order. Past them x is not read and y is
            exactly 0; the final state is that at the length; the second direction starts at the last valid
            step.
        resets: bool, shaped like x without its features; True at (t, b) cuts the link between steps t - 1
            and t of row b, for states and gradients, in both directions. At t = 0 it cuts the initial state
            of the forward direction.

    It returns y (T, B, D * H) and the final state; both are the caller's to write to.

    Raises:
        TypeError: an argument has the wrong type or dtype; ValueError: the wrong shape or strides, or a
            value out of range; RuntimeError: device="cuda" where CUDA cannot be used.
    """

    sequence_arguments = ("lengths", "resets")
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
        dtype: DTypeLike = np.float32,
        device: str = "cpu",
        precision: str = "ieee",
        algo: str = "auto",
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
        if self.dropout and self.num_layers == 1:
            warnings.warn("dropout acts between layers: with num_layers=1 it does nothing", stacklevel=2)
        rng = checks.generator(seed)
        parameters = FlatBuffer.allocate(self._shapes(), self.dtype, self.device)
        self._names = tuple(parameters)
        for name, parameter in parameters.items():
            init.uniform_(parameter, 1 / math.sqrt(self.hidden_size), rng)
            setattr(self, name, parameter)
        if self.dropout:
            self._dropout_key = checks.dropout_key(rng)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        stack = StackShape(self.num_layers, 2 if self.bidirectional else 1, self.bias)
        return stack.shapes(CELLS[self._cell].weights, self.input_size, self.hidden_size)

    @property
    def tape(self) -> _native.Tape | None:
        """What the last training forward kept for backward, None without one.

        Opaque, except for ``nbytes``; ``cells``, the cell states (L * D, T, B, H) of an LSTM; and ``gates``
        (L * D, T, B, blocks * H) after their activation, blocks i f g o (LSTM) or r z n q with
        q = R_n h + b_hn (GRU). Both are copies, None for cells that have none.
        """
        call = self._calls.newest
        return None if call is None else call.tape

    def _parameters_changed(self) -> None:
        super()._parameters_changed()
        self.__dict__["_packed"] = None

    def _packing(self, version: int) -> _native.PackedWeights:
        """The weights in the backend's layout, packed again whenever they or the backend changed.

        Safe among concurrent calls in eval mode: the cache is replaced as a whole, at worst packed twice. A
        graph packs whenever it runs, what the weights are then.
        """
        backend = _native.backend()
        cached = self._packed
        keep = self.device == "cpu" or not (_native.capturing() or any(b.replayed for b in self._buffers))
        if keep and cached is not None and cached[0] == version and cached[1] == backend:
            return cached[2]
        packed = _native.pack_weights(
            self.num_layers,
            2 if self.bidirectional else 1,
            self.bias,
            [self._parameters[name].data for name in self._names],
            self.precision,
            self.algo,
            self._cell,
        )
        if keep:
            self.__dict__["_packed"] = (version, backend, packed)
        return packed

    def _forward(
        self,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        lengths: Array | None,
        resets: Array | None,
    ) -> tuple[Array, Array, Any]:
        training = self.training
        dropout, key = 0.0, 0
        if training:
            self._calls.make_room()
        if self.device == "cuda":
            x, h0, c0, lengths, resets = map(as_device_array, (x, h0, c0, lengths, resets))
        checks.require_input(x, self.dtype, self.device)
        if training and self.dropout:
            dropout, key = self.dropout, self._dropout_key
            self.__dict__["_dropout_key"] = checks.next_key(key)
        given = x, h0, c0
        if training and self._is_here(x):
            x = kept(x)
        version = self._version()
        packed = self._packing(version)
        if lengths is None and resets is None and not dropout:
            options = _plain_options(self.batch_first, training)
        else:
            options = SequenceOptions(lengths, resets, self.batch_first, dropout, key, training)
        y, hn, cn, tape = _native.sequence_forward(self._cell, packed, x, h0, c0, options)
        if training:
            self._calls.record(version, tape, given, (y, hn, cn))
        return y, hn, cn

    def _is_here(self, x: Array) -> bool:
        """Whether x is where the weights are; elsewhere it is refused, and must not be copied before."""
        return self.device == "cpu" or x.device == self._parameters[self._names[0]].data.device

    def _backward(
        self, dy: Array | None, dhn: Array | None, dcn: Array | None, of: Any, need_dx: bool
    ) -> tuple[Array | None, Array, Any]:
        call = self._recorded(of)
        grads = [self._parameters[name].grad for name in self._names]
        if self.device == "cuda":
            dy, dhn, dcn = map(as_device_array, (dy, dhn, dcn))
        gradients = _native.sequence_backward(call.tape, dy, dhn, dcn, grads, need_dx)
        self._calls.took(call)
        return gradients

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
            "precision": self.precision,
            "algo": self.algo,
        }
        return "recurrent", options, tuple(self._parameters[name] for name in self._names)

    def _describe(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value}"
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
        self, dy: Array | None, dstate: Array | None = None, *, of: Any = None, need_dx: Literal[True] = True
    ) -> tuple[Array, Array]: ...
    @overload
    def backward(
        self, dy: Array | None, dstate: Array | None = None, *, of: Any = None, need_dx: bool
    ) -> tuple[Array | None, Array]: ...
    def backward(
        self, dy: Array | None, dstate: Array | None = None, *, of: Any = None, need_dx: bool = True
    ) -> tuple[Array | None, Array]:
        """Back-propagation through time of a training call; adds into the parameters' gradients.

        Args:
            dy: gradient of y, or None for zeros; not read past a row's length.
            dstate: gradient dhn of the final state, or None for zeros.
            of: a result of the call that is meant, where several wait; see `Module`.
            need_dx: False skips dx.

        Returns:
            dx like x (None without need_dx), and dh0 (L * D, B, H).

        Raises:
            RuntimeError: there is no tape, several calls wait and `of` does not say which is meant, or the
                weights were written to since it was made.
            TypeError, ValueError: an argument has the wrong dtype, shape or strides.
        """
        dx, dh0, _ = self._backward(dy, single("dstate", "dhn", dstate), None, of, need_dx)
        return dx, dh0
