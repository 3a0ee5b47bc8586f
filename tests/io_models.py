"""Models of every kind that fusedrnn.io reads and writes, and what they compute by the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parity import assert_parity

from fusedrnn import io, nn, reference
from fusedrnn.reference.arithmetic import Arithmetic

Array = NDArray[Any]
T, B, I, H = 6, 4, 3, 5


def zoo(batch_first: bool = False) -> dict[str, nn.Module]:
    """Models in eval mode with weights large enough to tell gates apart."""
    recurrent = {"batch_first": batch_first}
    models: dict[str, nn.Module] = {
        "RNN": nn.RNN(I, H, seed=1, **recurrent),
        "RNN relu, no bias": nn.RNN(I, H, 2, nonlinearity="relu", bias=False, seed=2, **recurrent),
        "GRU, 2 layers": nn.GRU(I, H, 2, seed=3, **recurrent),
        "GRU, both ways, no bias": nn.GRU(I, H, bidirectional=True, bias=False, seed=4, **recurrent),
        "LSTM": nn.LSTM(I, H, seed=5, **recurrent),
        "LSTM, 2 layers, both ways": nn.LSTM(I, H, 2, bidirectional=True, dropout=0.2, seed=6, **recurrent),
        "forecaster": nn.Sequential(
            nn.LSTM(I, H, seed=7, **recurrent), nn.LSTM(H, 4, seed=8, **recurrent), nn.Last(batch_first),
            nn.Linear(4, 2, seed=9),
        ),
        "classifier": nn.Sequential(
            nn.Embedding(9, I, seed=10), nn.GRU(I, H, 2, bidirectional=True, seed=11, **recurrent),
            io.Ends(batch_first), nn.LayerNorm(2 * H), nn.Dropout(0.1, seed=12), nn.Linear(2 * H, 4, seed=13),
            io.Activation("relu"), nn.Linear(4, 3, bias=False, seed=14), io.Activation("softmax"),
        ),
        "tagger": nn.Sequential(
            nn.Embedding(9, I, seed=15), nn.RNN(I, H, bidirectional=True, seed=16, **recurrent),
            nn.Linear(2 * H, 3, seed=17), io.Activation("sigmoid"),
        ),
        "GRU, reset before": nn.GRU(I, H, 2, reset_after=False, seed=18, **recurrent),
        "GRU, reset before, both ways": nn.GRU(
            I, H, bidirectional=True, bias=False, reset_after=False, seed=19, **recurrent
        ),
        "LSTM, peepholes, both ways": nn.LSTM(
            I, H, 2, bidirectional=True, peephole=True, seed=20, **recurrent
        ),
        "LSTM, projected, both ways": nn.LSTM(
            I, H, 2, bidirectional=True, proj_size=2, seed=21, **recurrent
        ),
        "LSTM, layer norm": nn.LSTM(I, H, layer_norm=True, seed=22, **recurrent),
        "GRU, recurrent dropout": nn.GRU(I, H, recurrent_dropout=0.3, seed=23, **recurrent),
        "LSTM, zoneout": nn.LSTM(I, H, zoneout=(0.1, 0.2), seed=24, **recurrent),
        "LSTM, weight dropout": nn.LSTM(
            I, H, 2, dropout=0.2, dropout_mode="sequence", weight_dropout=0.3, seed=25, **recurrent
        ),
    }  # fmt: skip
    for seed, model in enumerate(models.values()):
        scatter(model, seed)
    return models


# The models of the zoo that a format has no equal of, with the option that its refusal names.
NO_EQUAL = {
    "torch": {
        "GRU, reset before": "reset_after=False",
        "GRU, reset before, both ways": "reset_after=False",
        "LSTM, peepholes, both ways": "peephole=True",
        "LSTM, layer norm": "layer_norm=True",
        "GRU, recurrent dropout": "recurrent_dropout=0.3",
        "LSTM, zoneout": "zoneout=(0.1, 0.2)",
        "LSTM, weight dropout": "dropout_mode='sequence'",
    },
    "onnx": {
        "LSTM, projected, both ways": "proj_size=2",
        "LSTM, layer norm": "layer_norm=True",
        "LSTM, zoneout": "zoneout=(0.1, 0.2)",
    },
    "keras": {
        "LSTM, peepholes, both ways": "peephole=True",
        "LSTM, projected, both ways": "proj_size=2",
        "LSTM, layer norm": "layer_norm=True",
        "LSTM, zoneout": "zoneout=(0.1, 0.2)",
        "LSTM, weight dropout": "dropout_mode='sequence'",
    },
}


def taken(form: str) -> list[str]:
    """Names of the models of the zoo that a format has an equal of."""
    return [name for name in zoo() if name not in NO_EQUAL[form]]


def masked() -> dict[str, nn.Module]:
    """Models, batch first, that skip padding."""
    models: dict[str, nn.Module] = {
        "masked ids": nn.Sequential(
            io.Masked(nn.Embedding(9, I, seed=1), nn.LSTM(I, H, batch_first=True, seed=2), nn.Last(True)),
            nn.Linear(H, 2, seed=3),
        ),
        "masked ids, both ways": io.Masked(
            nn.Embedding(9, I, seed=4), nn.GRU(I, H, 2, bidirectional=True, batch_first=True, seed=5),
            fill="zero",
        ),
        "masked steps": nn.Sequential(
            io.Masked(nn.Linear(I, I, seed=6), nn.LSTM(I, H, 2, batch_first=True, seed=7), value=-1.0),
            nn.Linear(H, 2, seed=8), io.Activation("tanh"),
        ),
        "masked steps, ends": io.Masked(
            nn.RNN(I, H, bidirectional=True, batch_first=True, seed=9), io.Ends(True), value=-1.0
        ),
    }  # fmt: skip
    for seed, model in enumerate(models.values()):
        scatter(model, 100 + seed)
    return models


def scatter(model: nn.Module, seed: int) -> None:
    """Sets eval mode and draws all parameters anew."""
    rng = np.random.default_rng(seed)
    for parameter in model.eval().parameters():
        parameter.data = rng.normal(0, 0.6, parameter.shape).astype(parameter.dtype)


def draw_input(model: nn.Module, seed: int = 0, dtype: Any = np.float32) -> Array:
    """An x for a model; for a masked one with padding left, right and within, and a row of nothing else."""
    rng = np.random.default_rng(1000 + seed)
    first = next(m for m in model.modules() if not list(m._modules))
    inner = next((m for m in model.modules() if isinstance(m, io.Masked)), None)
    if inner is None:
        batch_first = any(getattr(m, "batch_first", False) for m in model.modules())
        shape = (B, T) if batch_first else (T, B)
    else:
        shape = (B, T)
    ids = isinstance(first, nn.Embedding)
    x = rng.integers(1, 9, shape) if ids else rng.normal(0, 1, (*shape, I)).astype(dtype)
    if inner is not None:
        for row, steps in enumerate(([0, 1], [4, 5], [0, 2, 3], range(T))):
            x[row, list(steps)] = 0 if ids else inner.value
    return x


def forward(
    module: nn.Module,
    x: Array,
    arithmetic: Arithmetic,
    lengths: Array | None = None,
    states: Iterator[Any] | None = None,
    finals: list[Array] | None = None,
) -> Array:
    """y by the reference, in the dtype that `in_dtype` gave x; final states are added to `finals`."""
    state = None
    if isinstance(module, nn.Recurrent) and states is not None:
        state = next(states)
    weights = {n: np.asarray(p.data) for n, p in module._parameters.items()}
    dtype = _dtype(x)
    weights = {n: w.astype(dtype) for n, w in weights.items()}
    x = x.astype(dtype) if x.dtype.kind == "f" else x
    if isinstance(module, io.Masked):
        return _masked(module, x, arithmetic, states)
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = forward(layer, x, arithmetic, lengths, states, finals)
        return x
    if isinstance(module, nn.Recurrent):
        kind = type(module).__name__.lower()
        options: dict[str, Any] = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
        options |= {"reset_after": module.reset_after} if isinstance(module, nn.GRU) else {}
        options |= {"train": False, "zoneout": module.zoneout}
        state = None if state is None else _cast_state(state, dtype)
        run = getattr(reference, f"{kind}_forward")
        options |= {"lengths": lengths, "batch_first": module.batch_first, "arithmetic": arithmetic}
        y, final = run(x, state, weights, **options)[:2]
        if finals is not None:
            finals += final if isinstance(final, tuple) else [final]
        return y  # type: ignore[no-any-return]
    if isinstance(module, nn.Linear):
        return reference.linear_forward(x, weights["weight"], weights.get("bias"))
    if isinstance(module, nn.Embedding):
        return weights["weight"][np.asarray(x)]
    if isinstance(module, nn.LayerNorm):
        return reference.layer_norm_forward(x, weights.get("weight"), weights.get("bias"), module.eps)[0]
    if isinstance(module, nn.Last):
        return reference.last_forward(x, lengths, module.batch_first)
    if isinstance(module, io.Ends):
        return _ends(module, x, lengths)
    if isinstance(module, io.Activation):
        return _activation(module.function, x)
    assert isinstance(module, nn.Dropout)
    return x


class Ids(np.ndarray[Any, Any]):
    """Ids that remember in which dtype a model is to be computed."""

    wanted: Any


def in_dtype(x: Array, dtype: Any) -> Any:
    """x itself in a dtype, or ids that say which one a model is to be computed in."""
    if x.dtype.kind == "f":
        return x.astype(dtype)
    out = x.view(Ids)
    out.wanted = dtype
    return out


def _dtype(x: Any) -> Any:
    return x.wanted if isinstance(x, Ids) else x.dtype


def _cast_state(state: Any, dtype: Any) -> Any:
    if isinstance(state, tuple):
        return tuple(_cast_state(s, dtype) for s in state)
    return None if state is None else state.astype(dtype)


def _ends(module: io.Ends, x: Array, lengths: Array | None) -> Array:
    rows = x if module.batch_first else x.swapaxes(0, 1)
    half = x.shape[2] // 2
    out = np.zeros((rows.shape[0], x.shape[2]), x.dtype)
    for b, row in enumerate(rows):
        steps = len(row) if lengths is None else int(lengths[b])
        if steps:
            out[b] = np.concatenate([row[steps - 1, :half], row[0, half:]])
    return out


def _activation(function: str, x: Array) -> Array:
    if function == "relu":
        return x * (x > 0)
    if function == "tanh":
        return np.tanh(x)
    if function == "sigmoid":
        return 1 / (1 + np.exp(-x))
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


def _masked(module: io.Masked, x: Any, arithmetic: Arithmetic, states: Any) -> Array:
    """Row by row, each without its padding."""
    assert states is None
    plain = np.asarray(x)
    out = None
    for b, row in enumerate(plain):
        steps = [t for t, step in enumerate(row) if np.any(step != module.value)]
        short = in_dtype(row[None, steps], _dtype(x)) if steps else None
        if short is None:
            continue
        for layer in module:
            short = forward(layer, short, arithmetic)
        if short.ndim == 2:
            out = np.zeros((len(plain), short.shape[1]), short.dtype) if out is None else out
            out[b] = short[0]
            continue
        out = np.zeros((*plain.shape[:2], short.shape[2]), short.dtype) if out is None else out
        for t in range(plain.shape[1]):
            before = [i for i, s in enumerate(steps) if s <= t]
            if before and (module.fill == "previous" or t in steps):
                out[b, t] = short[0, before[-1]]
    assert out is not None
    return out


def assert_agrees(
    model: nn.Module, x: Array, *ys: Any, lengths: Array | None = None, states: list[Any] | None = None
) -> None:
    """Holds results that a library or our own model made of x in float32 to the reference, by the rule of
    parity.py. Each is y, or a list of y and all final states."""

    def compute(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        given = None if states is None else iter(states)
        finals: list[Array] = []
        y = forward(model, in_dtype(x, dtype), arithmetic, lengths, given, finals)
        right = [y, *finals]
        return {f"{i} {j}": right[j] for i, result in enumerate(results) for j in range(len(result))}

    results = [y if isinstance(y, list) else [y] for y in ys]
    named = {f"{i} {j}": np.asarray(a) for i, result in enumerate(results) for j, a in enumerate(result)}
    assert_parity(named, compute, np.float32)


def outputs(model: nn.Module, x: Array, **options: Any) -> Array:
    """y of a model, without the states that a bare recurrent layer returns too."""
    y = model(x, **options)
    return y[0] if isinstance(y, tuple) else y
