"""Calls of the native functions, each with one argument spoilt. As a program it prints what each call raised.

One line of JSON a case, so that a crash shows as the first case without a line. With --device arrays are on
the CUDA device.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fusedrnn import _native, functional
from fusedrnn.functional.rules import RULES

T, B, I, H, L, D = 5, 3, 7, 6, 2, 2
G = 4
HUGE = 2**62


class In(NamedTuple):
    """An array that is read.

    Of the axes `free` any size is right, with `any_rank` any number of leading axes. Where two arrays
    disagree on an axis, either may be named; `blames` says for which axes it is the other.
    """

    array: np.ndarray
    free: tuple[int, ...] = ()
    any_rank: bool = False
    blames: Mapping[int, str] = {}


class Out(NamedTuple):
    """An array that is written, or added into; otherwise as `In`."""

    array: np.ndarray
    free: tuple[int, ...] = ()
    any_rank: bool = False
    blames: Mapping[int, str] = {}


class Scalar(NamedTuple):
    """A scalar and values it must not have; those of a wrong type raise TypeError, the others ValueError."""

    value: Any
    bad: tuple[Any, ...]


class Fixed(NamedTuple):
    """An argument that is left alone."""

    value: Any


Argument = In | Out | Scalar | Fixed


class Case(NamedTuple):
    """One spoilt call: what must be raised, and the name its message must hold."""

    name: str
    call: Callable[[], Any]
    raises: type[Exception]
    mentions: str


def rng(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def foreign(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder())


class Host:
    """NumPy arrays: the native functions, and the ways to spoil an array that do not change a size."""

    native: Any = _native

    def kept(self, array: np.ndarray) -> Any:
        """An argument that is in host memory whatever the others are."""
        return array

    def readonly(self, array: np.ndarray) -> Any:
        copy = array.copy()
        copy.flags.writeable = False
        return copy

    def spoilt_type(self, argument: In | Out) -> Iterator[tuple[str, Any, type[Exception]]]:
        a = argument.array
        yield "a list", a.tolist(), TypeError
        yield "masked", np.ma.masked_array(a), TypeError
        if a.dtype != np.bool_:
            yield "foreign byte order", foreign(a), TypeError
        for dtype in (np.float16, np.int32, np.complex64, np.uint64, object):
            yield np.dtype(dtype).name, a.astype(dtype), TypeError
        if not argument.any_rank:
            yield "rank + 1", a[..., None, :], ValueError
            yield "rank - 1", np.asarray(a[0]), ValueError
        if a.shape[-1] > 1:
            yield "last axis strided", np.repeat(a, 2, -1)[..., ::2], ValueError
            yield "last axis negative", np.ascontiguousarray(a[..., ::-1])[..., ::-1], ValueError
        if a.ndim > 1:
            yield "first axis negative", np.ascontiguousarray(a[::-1])[::-1], ValueError
            yield "first axis broadcast", np.broadcast_to(a[:1], a.shape), ValueError
        unaligned = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        if a.itemsize > 1:
            unaligned[...] = a
            yield "unaligned", unaligned, ValueError
        if isinstance(argument, Out):
            yield "read-only", self.readonly(a), ValueError
            if a.ndim > 1:
                yield "not contiguous", np.repeat(a, 2, 0)[::2], ValueError


class Kept(NamedTuple):
    """A value that stays in host memory."""

    value: Any


class Device(Host):
    """The same on the device: arguments are put there as the functions are called."""

    def __init__(self) -> None:
        self.native = self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            there: dict[int, Any] = {}
            return getattr(_native, name)(*placed(arguments, there), **placed(named, there))

        return call

    def kept(self, array: np.ndarray) -> Any:
        return Kept(array)

    def readonly(self, array: np.ndarray) -> Any:
        return _native.device_array(array)._piece(0, array.shape, readonly=True)

    def spoilt_type(self, argument: In | Out) -> Iterator[tuple[str, Any, type[Exception]]]:
        a = argument.array
        yield "a list", a.tolist(), TypeError
        for dtype in {np.dtype(t) for t in (np.float32, np.int64, np.bool_)} - {a.dtype}:
            yield dtype.name, a.astype(dtype), TypeError
        if not argument.any_rank:
            yield "rank + 1", np.ascontiguousarray(a[..., None, :]), ValueError
            yield "rank - 1", a[:1].reshape(a.shape[1:]), ValueError
        wide = _native.device_array(np.repeat(np.repeat(a, 2, 0), 2, -1))
        strides = np.empty(wide.shape, a.dtype).strides
        if a.shape[-1] > 1:
            yield "last axis strided", strided(wide, a.shape, (*strides[:-1], 2 * a.itemsize)), ValueError
        if a.ndim > 1:
            yield "first axis broadcast", strided(wide, a.shape, (0, *strides[1:])), ValueError
        if isinstance(argument, Out):
            yield "read-only", self.readonly(a), ValueError
            if a.ndim > 1:
                yield "not contiguous", strided(wide, a.shape, strides), ValueError


def strided(whole: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """A device array that is a view of another one."""
    interface = {**whole.__cuda_array_interface__, "shape": shape, "strides": strides}
    return _native.device_array_from_interface(interface, whole)


def placed(value: Any, there: dict[int, Any]) -> Any:
    """A nest of arguments with its NumPy arrays on the device, each once."""
    if isinstance(value, Kept):
        return value.value
    if isinstance(value, (tuple, list)):
        return type(value)([placed(v, there) for v in value])
    if isinstance(value, dict):
        return {name: placed(v, there) for name, v in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    if id(value) not in there:
        there[id(value)] = _native.device_array(value)
    return there[id(value)]


def spoilt(at: Host, key: str, argument: In | Out) -> Iterator[tuple[str, Any, type[Exception], str]]:
    """Every way to spoil an array: what is wrong, the value, what must be raised, who must be named."""
    for what, value, raises in at.spoilt_type(argument):
        yield what, value, raises, key
    a = argument.array
    for axis in range(a.ndim):
        if axis not in argument.free:
            named = argument.blames.get(axis, key)
            more = np.repeat(a, [2] + [1] * (a.shape[axis] - 1), axis)
            yield f"axis {axis} + 1", more, ValueError, named
            yield f"axis {axis} - 1", np.ascontiguousarray(np.delete(a, 0, axis)), ValueError, named


def matrix(
    at: Host, name: str, function: Callable[..., Any], arguments: dict[str, Argument]
) -> Iterator[Case]:
    """All spoilt calls of a function, one argument at a time."""
    good = {k: (a.array if isinstance(a, (In, Out)) else a.value) for k, a in arguments.items()}
    yield from sweep(at, name, arguments, lambda key, value: lambda: function(**{**good, key: value}))


def sweep(
    at: Host, name: str, arguments: dict[str, Argument], spoil: Callable[[str, Any], Callable[[], Any]]
) -> Iterator[Case]:
    arrays = [a for a in arguments.values() if isinstance(a, (In, Out)) or isinstance(a.value, np.ndarray)]
    for key, argument in arguments.items():
        if isinstance(argument, (In, Out)):
            if isinstance(at, Device) and len(arrays) > 1:  # it, or all others, are in the wrong place
                yield Case(
                    f"{name}: {key} in host memory", spoil(key, at.kept(argument.array)), TypeError, ""
                )
            for what, value, raises, named in spoilt(at, key, argument):
                yield Case(f"{name}: {key} {what}", spoil(key, value), raises, named)
        if isinstance(argument, Scalar):
            for value in argument.bad:
                number = isinstance(value, int) or (
                    isinstance(value, float) and isinstance(argument.value, float)
                )
                right_kind = number != isinstance(argument.value, str) and value is not None
                raises = ValueError if right_kind else TypeError
                yield Case(f"{name}: {key} = {value!r}", spoil(key, value), raises, key)
    outputs = [k for k, a in arguments.items() if isinstance(a, Out)]
    for key in outputs:
        own = arguments[key].array  # type: ignore[union-attr]
        for other, argument in arguments.items():
            if other == key or not isinstance(argument, (In, Out)):
                continue
            if (argument.array.shape, argument.array.dtype) == (own.shape, own.dtype):
                yield Case(f"{name}: {key} is {other}", spoil(key, argument.array), ValueError, key)


NAN, INF = math.nan, math.inf
PROBABILITY = (-0.1, 1.5, NAN, "0.5", None)
POSITIVE = (-1.0, NAN, "1", None)
KEY = (-1, 2**64, 0.5, None)
INTEGER = (-1, HUGE * 4, 0.5, "3", None)


# ------------------------------------------------------------------------------------------ sequences
def lstm_weights() -> list[np.ndarray]:
    shapes = []
    for layer, _ in itertools.product(range(L), range(D)):
        shapes += [(G * H, I if layer == 0 else D * H), (G * H, H), (G * H,), (G * H,)]
    return [rng(*s) for s in shapes]


def weight_names() -> list[str]:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [f"{k}_l{layer}{d}" for layer, d in itertools.product(range(L), ("", "_reverse")) for k in kinds]


def pack(at: Host, weights: list[np.ndarray]) -> Any:
    return at.native.pack_weights(L, D, True, weights)


def pack_cases(at: Host) -> Iterator[Case]:
    names, weights = weight_names(), lstm_weights()
    # The first weights say what I and H are, the gates are told by the cell later.
    free = {"weight_ih_l0": (0, 1), "weight_hh_l0": (0, 1)}
    arguments: dict[str, Argument] = {n: In(w, free.get(n, ())) for n, w in zip(names, weights, strict=True)}
    yield from sweep(
        at,
        "pack_weights",
        arguments,
        lambda key, value: (
            lambda: pack(at, [value if n == key else w for n, w in zip(names, weights, strict=True)])
        ),
    )
    yield Case("pack_weights: one too few", lambda: pack(at, weights[:-1]), ValueError, "weights")
    for layers in (0, -1, 2**31, "1"):
        raises = TypeError if isinstance(layers, str) else ValueError
        call = lambda layers=layers: at.native.pack_weights(layers, D, True, weights)  # noqa: E731
        yield Case(f"pack_weights: num_layers = {layers!r}", call, raises, "num_layers")
    for directions in (0, 3):
        call = lambda n=directions: at.native.pack_weights(L, n, True, weights)  # noqa: E731
        yield Case(f"pack_weights: num_directions = {directions}", call, ValueError, "num_directions")


def forward_arguments(at: Host) -> dict[str, Argument]:
    return {
        "cell": Scalar("lstm", ("lstn", "", None)),
        "packed": Fixed(pack(at, lstm_weights())),
        "x": In(rng(T, B, I), free=(0, 1)),
        "h0": In(rng(L * D, B, H)),
        "c0": In(rng(L * D, B, H)),
        "lengths": In(np.array([T, 2, 0])),
        "resets": In(np.zeros((T, B), bool)),
        "batch_first": Fixed(False),
        "dropout": Scalar(0.0, PROBABILITY),
        "dropout_key": Scalar(0, KEY),
        "train": Fixed(True),
    }


def sequence_forward(at: Host, **arguments: Any) -> Any:
    names = ("lengths", "resets", "batch_first", "dropout", "dropout_key", "train")
    options = at.native.SequenceOptions(**{name: arguments.pop(name) for name in names})
    return at.native.sequence_forward(**arguments, options=options)


def sequence_cases(at: Host) -> Iterator[Case]:
    arguments = forward_arguments(at)
    # x decides T and B; every other array then disagrees, and one of them is named.
    yield from matrix(at, "sequence_forward", partial(sequence_forward, at), arguments)
    good = {k: (a.array if isinstance(a, (In, Out)) else a.value) for k, a in arguments.items()}

    def forward(**changed: Any) -> Callable[[], Any]:
        return lambda: sequence_forward(at, **{**good, **changed})

    yield Case(
        "sequence_forward: lengths above T", forward(lengths=np.array([T + 1, 1, 1])), ValueError, "lengths"
    )
    yield Case(
        "sequence_forward: lengths below 0", forward(lengths=np.array([-1, 1, 1])), ValueError, "lengths"
    )
    # An array without elements may have axes whose product with H overflows.
    huge, narrow = np.empty((2**30, 2**30, 0), np.float32), [rng(*s) for s in ((24, 0), (24, 6))]
    packed = at.native.pack_weights(1, 1, False, narrow)
    overflow = forward(x=huge, packed=packed, h0=None, c0=None, lengths=None, resets=None)
    yield Case("sequence_forward: T * B * H overflows", overflow, ValueError, "T * B")
    yield Case("sequence_forward: gates of another cell", forward(cell="gru"), ValueError, "weights")

    *_, tape = sequence_forward(at, **good)
    backward: dict[str, Argument] = {
        "tape": Fixed(tape),
        "dy": In(rng(T, B, D * H)),
        "dhn": In(rng(L * D, B, H)),
        "dcn": In(rng(L * D, B, H)),
        "need_dx": Fixed(True),
    }
    names, grads = weight_names(), lstm_weights()
    call = at.native.sequence_backward
    fixed = {k: (a.array if isinstance(a, (In, Out)) else a.value) for k, a in backward.items()}
    yield from sweep(
        at,
        "sequence_backward",
        backward,
        lambda key, value: lambda: call(**{**fixed, "dweights": grads, key: value}),
    )
    outputs: dict[str, Argument] = {n: Out(g) for n, g in zip(names, grads, strict=True)}
    yield from sweep(
        at,
        "sequence_backward",
        outputs,
        lambda key, value: (
            lambda: call(
                **fixed, dweights=[value if n == key else g for n, g in zip(names, grads, strict=True)]
            )
        ),
    )
    yield Case(
        "sequence_backward: no tape",
        lambda: call(**{**fixed, "tape": None, "dweights": grads}),
        TypeError,
        "tape",
    )


def plan_cases(at: Host) -> Iterator[Case]:
    yield from matrix(
        at,
        "sequence_plan",
        at.native.sequence_plan,
        {
            "cell": Scalar("lstm", ("lstn",)),
            "dtype": Scalar("float32", ("float16",)),
            "num_layers": Scalar(1, (0, -1)),
            "num_directions": Scalar(1, (0, 3)),
            **{name: Scalar(4, INTEGER) for name in "TBIH"},
            "threads": Scalar(2, (0, -1, 100000)),
        },
    )


# --------------------------------------------------------------------------------------------- layers
def layer_cases(at: Host) -> Iterator[Case]:
    N = 4
    weight, bias = rng(N, I), rng(N)
    yield from matrix(
        at,
        "linear_forward",
        at.native.linear_forward,
        {
            "x": In(rng(T, I), free=(0,), any_rank=True),
            "weight": In(weight, blames={0: "bias", 1: "x"}),
            "bias": In(bias),
        },
    )
    yield from matrix(
        at,
        "linear_backward",
        at.native.linear_backward,
        {
            "dy": In(rng(T, N)),
            "x": In(rng(T, I), any_rank=True, blames={0: "dy"}),
            "weight": In(weight, blames={0: "dy", 1: "x"}),
            "dweight": Out(rng(N, I)),
            "dbias": Out(rng(N)),
            "need_dx": Fixed(True),
        },
    )
    ids = np.arange(T)
    yield from matrix(
        at,
        "embedding_forward",
        at.native.embedding_forward,
        {"weight": In(rng(T, I), free=(0, 1)), "ids": Fixed(ids)},
    )
    for what, bad in (("too large", ids + 1), ("negative", ids - 1)):
        call = lambda bad=bad: at.native.embedding_forward(bad, rng(T, I))  # noqa: E731
        yield Case(f"embedding_forward: ids {what}", call, ValueError, "ids")
    for what, wrong in (
        ("float", rng(T)),
        ("int32", at.kept(ids.astype(np.int32))),
        ("a list", ids.tolist()),
    ):
        call = lambda wrong=wrong: at.native.embedding_forward(wrong, rng(T, I))  # noqa: E731
        yield Case(f"embedding_forward: ids {what}", call, TypeError, "ids")
    yield from matrix(
        at,
        "embedding_backward",
        at.native.embedding_backward,
        {"dy": In(rng(T, I)), "ids": Fixed(ids), "dweight": Out(rng(T + 1, I), (0,), blames={1: "dy"})},
    )
    call_large = lambda: at.native.embedding_backward(rng(T, I), ids + 2, rng(T + 1, I))  # noqa: E731
    yield Case("embedding_backward: ids too large", call_large, ValueError, "ids")
    yield from matrix(
        at,
        "layer_norm_forward",
        at.native.layer_norm_forward,
        {
            "x": In(rng(T, I), free=(0,), any_rank=True, blames={1: "weight"}),
            "weight": In(rng(I)),
            "bias": In(rng(I)),
            "eps": Scalar(1e-5, POSITIVE),
        },
    )
    yield from matrix(
        at,
        "layer_norm_backward",
        at.native.layer_norm_backward,
        {
            "dy": In(rng(T, I)),
            "x": In(rng(T, I), any_rank=True, blames={0: "dy", 1: "dy"}),
            "weight": In(rng(I)),
            "mean": In(rng(T)),
            "rstd": In(rng(T)),
            "dweight": Out(rng(I)),
            "dbias": Out(rng(I)),
        },
    )
    yield from matrix(
        at,
        "dropout",
        at.native.dropout,
        {
            "x": In(rng(T, I), free=(0, 1), any_rank=True),
            "p": Scalar(0.5, PROBABILITY),
            "key": Scalar(0, KEY),
            "stream": Scalar(0, (-1, 2**32, 0.5)),
        },
    )
    lengths = np.array([T, 2, 0])
    yield from matrix(
        at,
        "last_forward",
        at.native.last_forward,
        {"x": In(rng(T, B, I), free=(0, 1, 2)), "lengths": Fixed(None), "batch_first": Fixed(False)},
    )
    yield from matrix(
        at,
        "last_forward",
        at.native.last_forward,
        {"x": Fixed(rng(T, B, I)), "lengths": In(lengths), "batch_first": Fixed(False)},
    )
    yield from matrix(
        at,
        "last_backward",
        at.native.last_backward,
        {
            "dy": In(rng(B, I), free=(0, 1)),
            "T": Scalar(T, INTEGER),
            "lengths": Fixed(None),
            "batch_first": Fixed(False),
        },
    )
    many = lambda: at.native.last_backward(rng(B, I), HUGE, None, False)  # noqa: E731
    yield Case("last_backward: T overflows", many, ValueError, "")


# --------------------------------------------------------------------------------------------- losses
def loss_cases(at: Host) -> Iterator[Case]:
    mask = np.ones(T, bool)

    def call(name: str) -> Callable[..., Any]:
        return lambda **given: at.native.loss(_native.LossSpec(name), **given)

    yield from matrix(
        at,
        "LossSpec",
        _native.LossSpec,
        {
            "loss": Scalar("mse", ("mses", "", None)),
            "reduction": Scalar("mean", ("average", "", None)),
            "ignore_index": Scalar(None, (0.5, "1", 2**63)),
            "label_smoothing": Scalar(0.0, (-0.1, 1.1, NAN, "1")),
        },
    )
    for name in ("mse", "binary_cross_entropy"):
        yield from matrix(
            at,
            name,
            call(name),
            {
                "pred": In(rng(T, I), any_rank=True, blames={0: "target", 1: "target"}),
                "target": In(np.abs(rng(T, I)) % 1),
                "mask": Fixed(None),
            },
        )
    yield from matrix(
        at,
        "cross_entropy",
        call("cross_entropy"),
        {"pred": Fixed(rng(T, I)), "target": Fixed(np.zeros(T, np.int64)), "mask": In(mask)},
    )
    for what, target in (("too large", np.full(T, I)), ("negative", np.full(T, -1))):
        wrong = lambda target=target: call("cross_entropy")(pred=rng(T, I), target=target, mask=None)  # noqa: E731
        yield Case(f"cross_entropy: target {what}", wrong, ValueError, "target")


# ----------------------------------------------------------------------------------------- optimizers
def optimizer_cases(at: Host) -> Iterator[Case]:
    def piece() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        return rng(5), rng(5), [np.zeros(5, np.float32), np.zeros(5, np.float32)]

    param, grad, state = piece()
    yield from sweep(
        at,
        "Segments",
        {"param": Out(param, any_rank=True, blames={0: "grad"}), "grad": In(grad)},
        lambda key, value: (
            lambda: at.native.Segments(
                "adam", [(value if key == "param" else param, value if key == "grad" else grad, state)]
            )
        ),
    )
    yield Case("Segments: kind", lambda: at.native.Segments("adm", [piece()]), ValueError, "kind")
    yield Case(
        "Segments: state", lambda: at.native.Segments("adam", [(param, grad, state[:1])]), ValueError, "state"
    )
    table, good = (
        at.native.Segments("sgd", [(rng(5), rng(5), [None])]),
        dict.fromkeys(RULES["sgd"].scalars, 0.5),
    )
    for what, scalars in (
        ("one missing", {n: v for n, v in good.items() if n != "momentum"}),
        ("one unknown", {**good, "beta1": 0.5}),
        ("one misspelt", {**{n: v for n, v in good.items() if n != "momentum"}, "momentums": 0.5}),
    ):
        call = lambda s=scalars: at.native.optimizer_step(table, s, 1, None)  # noqa: E731
        yield Case(f"optimizer_step: scalars, {what}", call, ValueError, "scalars")
    grads = [rng(5), rng(2, 3)]
    for limit in (-1.0, NAN):
        call = lambda v=limit: at.native.clip_by_global_norm(grads, v)  # noqa: E731
        yield Case(f"clip_by_global_norm: max_norm = {limit}", call, ValueError, "max_norm")
        call = lambda v=limit: at.native.clip_by_value(grads, v)  # noqa: E731
        yield Case(f"clip_by_value: limit = {limit}", call, ValueError, "limit")
    for function, rest in (("global_norm", ()), ("clip_by_global_norm", (1.0,)), ("clip_by_value", (1.0,))):
        for what, value, raises in at.spoilt_type(In(rng(2, 3), any_rank=True)):
            call = lambda f=function, v=value, r=rest: getattr(at.native, f)([v], *r)  # noqa: E731
            yield Case(f"{function}: grads {what}", call, raises, "grads[0]")
        if rest:
            call = lambda f=function, r=rest: getattr(at.native, f)([at.readonly(rng(5))], *r)  # noqa: E731
            yield Case(f"{function}: grads read-only", call, ValueError, "grads[0]")


def scalar_cases() -> Iterator[Case]:
    """The scalars of the updates, which are checked in Python."""
    zeros = np.zeros(5, np.float32)
    rules: dict[str, tuple[int, dict[str, Any], tuple[str, ...]]] = {
        "sgd_": (0, {"lr": 0.1}, ("lr", "momentum", "weight_decay")),
        "adagrad_": (1, {"lr": 0.1, "step": 1}, ("lr", "lr_decay", "weight_decay", "eps")),
        "rmsprop_": (1, {"lr": 0.1}, ("lr", "alpha", "eps", "momentum", "weight_decay")),
        "adam_": (2, {"lr": 0.1, "step": 1}, ("lr", "eps", "weight_decay")),
    }
    for rule, (states, good, scalars) in rules.items():
        for scalar, value in itertools.product(scalars, (-1.0, NAN, INF, "1")):
            call = lambda r=rule, n=states, k={**good, scalar: value}: getattr(functional, r)(  # noqa: E731
                *(zeros.copy() for _ in range(2 + n)), **k
            )
            yield Case(
                f"{rule}: {scalar} = {value!r}", call, TypeError if value == "1" else ValueError, scalar
            )
    for betas in ((1.0, 0.9), (0.9, -0.1), (NAN, 0.9), (0.9,)):
        call = lambda b=betas: functional.adam_(  # noqa: E731
            *(zeros.copy() for _ in range(4)), lr=0.1, step=1, betas=b
        )
        yield Case(f"adam_: betas = {betas}", call, ValueError, "betas")
    for name, value in (
        *(("step", v) for v in (0, -1, 2**63, 2**64, 1.5, INF, NAN, "1")),
        *(("clip_factor", v) for v in (-1.0, NAN, INF, "1")),
    ):
        call = lambda k={"step": 1, name: value}: functional.adam_(  # noqa: E731
            *(zeros.copy() for _ in range(4)), lr=0.1, **k
        )
        wrong_kind = isinstance(value, str) or (name == "step" and isinstance(value, float))
        yield Case(f"adam_: {name} = {value!r}", call, TypeError if wrong_kind else ValueError, name)


def thread_cases() -> Iterator[Case]:
    for n in (0, -1, 257, 2**40, 1.5, None, "2"):
        raises = ValueError if isinstance(n, int) else TypeError
        yield Case(f"set_num_threads({n!r})", lambda n=n: _native.set_num_threads(n), raises, "n")
    yield Case("set_backend('sse')", lambda: _native.set_backend("sse"), ValueError, "name")


def cases(device: bool = False) -> list[Case]:
    at = Device() if device else Host()
    return [
        *(() if device else thread_cases()),
        *pack_cases(at),
        *sequence_cases(at),
        *(() if device else plan_cases(at)),
        *layer_cases(at),
        *loss_cases(at),
        *optimizer_cases(at),
        *(() if device else scalar_cases()),
    ]


def main() -> None:
    for case in cases("--device" in sys.argv):
        try:
            case.call()
            raised, message = "nothing", ""
        except Exception as error:
            raised, message = type(error).__name__, str(error)
        print(json.dumps({"name": case.name, "raised": raised, "message": message}), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
