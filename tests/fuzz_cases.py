"""What fuzz_calls.py calls: every public function, class and method with right arguments, always new."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fusedrnn as fr

F32 = np.float32


class Call(NamedTuple):
    """A function and right arguments for it, by name."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    also: tuple[str, ...] = ()  # other names that a message may have


Make = Callable[[np.random.Generator], Call]
CASES: dict[str, Make] = {}


def case(name: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        CASES[name] = make
        return make

    return add


def floats(rng: np.random.Generator, *shape: int, dtype: Any = F32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


# ------------------------------------------------------------------------------------------------ functional
def _simple() -> None:
    F = fr.functional
    weights = ("weight", "bias")
    for name in ("relu", "tanh", "sigmoid", "softmax", "log_softmax"):
        CASES[f"functional.{name}"] = lambda r, n=name: Call(getattr(F, n), {"x": floats(r, 3, 4)})
        CASES[f"functional.{name}_backward"] = lambda r, n=name: Call(
            getattr(F, f"{n}_backward"), {"dy": floats(r, 3, 4), "y": floats(r, 3, 4)}
        )
    elements: dict[str, dict[str, Any]] = {
        "mse": {}, "l1": {}, "huber": {"delta": 1.0}, "smooth_l1": {"beta": 1.0},
        "binary_cross_entropy": {"pos_weight": 2.0},
    }  # fmt: skip
    for name, more in elements.items():
        CASES[f"functional.{name}"] = lambda r, n=name, m=more: Call(
            getattr(F, n),
            {
                "pred": floats(r, 3, 4), "target": floats(r, 3, 4), "reduction": "mean",
                "mask": r.random((3, 4)) < 0.5, "ignore_index": 1, **m,
            },
            ("threshold", "loss"),
        )  # fmt: skip
    for name in ("cross_entropy", "nll"):
        CASES[f"functional.{name}"] = lambda r, n=name: Call(
            getattr(F, n),
            {
                "pred": floats(r, 3, 4), "target": r.integers(0, 4, 3), "reduction": "sum",
                "mask": r.random(3) < 0.5, "ignore_index": None, "weight": [1.0, 2.0, 0.0, 1.0],
                **({"label_smoothing": 0.1} if n == "cross_entropy" else {}),
            },
        )  # fmt: skip
    CASES.update({
        "functional.linear_forward": lambda r: Call(F.linear_forward, {
            "x": floats(r, 5, 3), "weight": floats(r, 2, 3), "bias": floats(r, 2), "precision": "ieee"}),
        "functional.linear_backward": lambda r: Call(F.linear_backward, {
            "dy": floats(r, 5, 2), "x": floats(r, 5, 3), "weight": floats(r, 2, 3), "bias": True,
            "need_dx": True, "precision": "ieee"}),
        "functional.embedding_forward": lambda r: Call(F.embedding_forward, {
            "ids": r.integers(0, 4, (3, 2)), "weight": floats(r, 4, 3)}),
        "functional.embedding_backward": lambda r: Call(F.embedding_backward, {
            "dy": floats(r, 3, 2, 3), "ids": r.integers(0, 4, (3, 2)), "num_embeddings": 4}, ("dweight",)),
        "functional.layer_norm_forward": lambda r: Call(F.layer_norm_forward, {
            "x": floats(r, 3, 4), "weight": floats(r, 4), "bias": floats(r, 4), "eps": 1e-5}, weights),
        "functional.layer_norm_backward": lambda r: Call(F.layer_norm_backward, {
            "dy": floats(r, 3, 4), "x": floats(r, 3, 4), "weight": floats(r, 4),
            "mean": np.zeros(3), "rstd": np.ones(3, F32)}, weights),
        "functional.dropout": lambda r: Call(F.dropout, {"x": floats(r, 5), "p": 0.5, "key": 1, "stream": 0}),
        "functional.last_forward": lambda r: Call(F.last_forward, {
            "x": floats(r, 4, 2, 3), "lengths": np.array([2, 4]), "batch_first": False}),
        "functional.last_backward": lambda r: Call(F.last_backward, {
            "dy": floats(r, 2, 3), "T": 4, "lengths": np.array([2, 4]), "batch_first": False}),
        "functional.global_norm": lambda r: Call(
            F.global_norm, {"arrays": [floats(r, 3), floats(r, 2)]}, ("grads",)),
        "functional.clip_by_global_norm_": lambda r: Call(
            F.clip_by_global_norm_, {"arrays": [floats(r, 3)], "max_norm": 1.0}, ("grads",)),
        "functional.clip_by_value_": lambda r: Call(
            F.clip_by_value_, {"arrays": [floats(r, 3)], "limit": 1.0}, ("grads",)),
    })  # fmt: skip
    for kind, states, options in (
        ("sgd", ["momentum_buffer"], {"momentum": 0.9, "dampening": 0.1, "nesterov": False, "step": 2}),
        ("adagrad", ["sum"], {"lr_decay": 0.1, "eps": 1e-8, "step": 1}),
        ("rmsprop", ["square_avg"], {"alpha": 0.9, "eps": 1e-8, "momentum": 0.0}),
        ("adam", ["exp_avg", "exp_avg_sq"], {
            "betas": (0.9, 0.99), "eps": 1e-8, "step": 1, "bias_correction": True, "decoupled": False}),
    ):  # fmt: skip
        CASES[f"functional.{kind}_"] = lambda r, k=kind, s=states, o=options: Call(
            getattr(F, f"{k}_"),
            {
                "param": floats(r, 4), "grad": floats(r, 4), **{n: np.zeros(4, F32) for n in s},
                "lr": 0.1, "weight_decay": 0.0, "clip_factor": None, **o,
            },
            ("beta1", "beta2", "scalars"),
        )  # fmt: skip


_simple()
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
STATES = ("h0", "c0", "dhn", "dcn", "weights", "dweights", "options", "cell")


def _weights(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    rows = GATES[kind] * 2
    return {"weight_ih_l0": floats(rng, rows, 3), "weight_hh_l0": floats(rng, rows, 2)}


def _state(rng: np.random.Generator, kind: str) -> Any:
    h = floats(rng, 1, 2, 2)
    return (h, h.copy()) if kind == "lstm" else h


def _forward(rng: np.random.Generator, kind: str) -> Call:
    given = {
        "x": floats(rng, 4, 2, 3), "state": _state(rng, kind), "weights": _weights(rng, kind),
        "lengths": np.array([2, 4]), "resets": rng.random((4, 2)) < 0.2, "batch_first": False, "dropout": 0.0,
        "dropout_key": 1, "train": True, "dropout_mode": "step", "recurrent_dropout": 0.1, "zoneout": 0.1,
        "weight_dropout": 0.1, "first_row": 0,
    }  # fmt: skip
    if kind == "rnn":
        given["nonlinearity"] = "tanh"
    if kind == "gru":
        given["reset_after"] = True
    return Call(getattr(fr.functional, f"{kind}_forward"), given, STATES)


def _backward(rng: np.random.Generator, kind: str) -> Call:
    forward = _forward(rng, kind)
    tape = forward.function(**forward.arguments)[-1]
    given = {
        "tape": tape, "dy": floats(rng, 4, 2, 2), "dstate": _state(rng, kind),
        "dweights": {n: np.zeros_like(w) for n, w in forward.arguments["weights"].items()}, "need_dx": True,
        "flow": True,
    }  # fmt: skip
    return Call(getattr(fr.functional, f"{kind}_backward"), given, STATES)


for _kind in GATES:
    CASES[f"functional.{_kind}_forward"] = lambda r, k=_kind: _forward(r, k)
    CASES[f"functional.{_kind}_backward"] = lambda r, k=_kind: _backward(r, k)


@case("functional.pack_weights")
def _pack(rng: np.random.Generator) -> Call:
    given = {
        "weights": _weights(rng, "gru"), "precision": "ieee", "algo": "auto", "cell": "gru",
        "weight_dropout": 0.1, "dropout_key": 1,
    }  # fmt: skip
    return Call(fr.functional.pack_weights, given, ("weight",))


# --------------------------------------------------------------------------------------------------- modules
SIZES: dict[str, Any] = {"input_size": 3, "hidden_size": 2}
RECURRENT: dict[str, Any] = {
    **SIZES, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
    "dropout_mode": "step", "recurrent_dropout": 0.1, "zoneout": 0.0, "weight_dropout": 0.1, "recompute": 0,
    "dtype": F32, "device": "cpu", "precision": "ieee", "algo": "auto", "init": "torch", "forget_bias": None,
    "seed": 0,
}  # fmt: skip
PLACE: dict[str, Any] = {"dtype": F32, "device": "cpu"}
MODULES: dict[str, dict[str, Any]] = {
    "LSTM": {**RECURRENT, "peephole": False, "proj_size": 0, "layer_norm": False},
    "GRU": {**RECURRENT, "reset_after": True},
    "RNN": {**RECURRENT, "nonlinearity": "tanh"},
    "Linear": {"in_features": 3, "out_features": 2, "bias": True, **PLACE, "precision": "ieee", "seed": 0},
    "Embedding": {"num_embeddings": 4, "embedding_dim": 3, "padding_idx": None, **PLACE, "seed": 0},
    "LayerNorm": {"features": 3, "eps": 1e-5, "elementwise_affine": True, "bias": True, **PLACE},
    "Dropout": {"p": 0.5, "seed": 0},
    "Last": {"batch_first": False},
    "FinalState": {"batch_first": False},
    "ReLU": {}, "Tanh": {}, "Sigmoid": {}, "Softmax": {"dim": -1}, "LogSoftmax": {"dim": -1},
}  # fmt: skip


def _input(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    if kind == "Embedding":
        return {"ids": rng.integers(0, 4, (4, 2))}
    x: dict[str, Any] = {"x": floats(rng, 4, 2, 4 if kind == "FinalState" else 3)}
    if kind.lower() in fr.nn.RECURRENT:
        x |= {"state": _state(rng, kind.lower()), "lengths": [2, 4], "resets": rng.random((4, 2)) < 0.2}
    elif kind in ("Last", "FinalState"):
        x["lengths"] = np.array([2, 4])
    return x


def _module_forward(rng: np.random.Generator, kind: str) -> Call:
    return Call(getattr(fr.nn, kind)(**MODULES[kind]).forward, _input(rng, kind), STATES)


def _module_backward(rng: np.random.Generator, kind: str) -> Call:
    module = getattr(fr.nn, kind)(**MODULES[kind])
    y = module(**_input(rng, kind))
    y = y[0] if isinstance(y, tuple) else y
    given = {"dy": floats(rng, *y.shape), "of": y, "need_dx": True}
    if kind.lower() in fr.nn.RECURRENT:
        given |= {"dstate": _state(rng, kind.lower()), "flow": True}
    return Call(module.backward, given, STATES)


for _kind in MODULES:
    CASES[f"nn.{_kind}"] = lambda r, k=_kind: Call(
        getattr(fr.nn, k), dict(MODULES[k]), ("input_size", "hidden_size", "mode")
    )
    CASES[f"nn.{_kind}.forward"] = lambda r, k=_kind: _module_forward(r, k)
    CASES[f"nn.{_kind}.backward"] = lambda r, k=_kind: _module_backward(r, k)


def _model() -> Any:
    return fr.nn.Sequential(fr.nn.GRU(3, 2, seed=0), fr.nn.Last(), fr.nn.Linear(2, 2, seed=1))


def _set(target: Any, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(target, name, value)


@case("nn.Sequential")
def _sequential(rng: np.random.Generator) -> Call:
    return Call(lambda layers: fr.nn.Sequential(fr.nn.ReLU(), layers), {"layers": fr.nn.Last()})


@case("nn.Sequential.forward")
def _chain(rng: np.random.Generator) -> Call:
    given = {**_input(rng, "GRU"), "return_state": True}
    given["state"] = [given["state"]]
    return Call(_model().forward, given, STATES)


@case("nn.Sequential.backward")
def _chain_back(rng: np.random.Generator) -> Call:
    model = _model()
    y = model(floats(rng, 4, 2, 3))
    return Call(model.backward, {"dy": floats(rng, 2, 2), "of": y, "need_dx": True}, STATES)


@case("nn.Sequential.train_step")
def _train_step(rng: np.random.Generator) -> Call:
    model = _model()
    optimizer = fr.optim.Adam(model.parameters())
    x, y = floats(rng, 4, 2, 3), floats(rng, 2, 2)
    if rng.random() < 0.5:  # the native step is there then
        model.train_step(x, y, "mse", optimizer)
    given = {
        "x": x, "y": y, "loss": "mse", "optimizer": optimizer, "clip_norm": None, "clip_value": None,
        "skip_nonfinite": False, "lengths": None, "resets": None, "mask": None, "ignore_index": None,
        "state": None, "return_state": False, "flow": False,
    }  # fmt: skip

    def step(**options: Any) -> None:
        if not callable(options["loss"]):  # what a function of the caller's own raises is its own
            model.train_step(**options)

    return Call(step, given, (*STATES, "target", "pred", "reduction"))


@case("nn.Module.load_state_dict")
def _load(rng: np.random.Generator) -> Call:
    model = _model()
    return Call(
        model.load_state_dict, {"state_dict": model.state_dict(), "strict": True}, ("state_dict", "2.bias")
    )


@case("nn.Module.train")
def _mode(rng: np.random.Generator) -> Call:
    return Call(_model().train, {"mode": True})


@case("nn.Module.requires_grad_")
def _freeze(rng: np.random.Generator) -> Call:
    return Call(_model().requires_grad_, {"requires_grad": True})


@case("nn.Module.load_random_state")
def _random_state(rng: np.random.Generator) -> Call:
    module = fr.nn.Dropout(0.5, seed=0)
    return Call(module.load_random_state, {"state": module.random_state()})


@case("nn.Parameter")
def _parameter(rng: np.random.Generator) -> Call:
    return Call(fr.nn.Parameter, {"array": floats(rng, 3), "name": "w", "requires_grad": True})


@case("nn.FlatBuffer")
def _buffer(rng: np.random.Generator) -> Call:
    return Call(fr.nn.FlatBuffer, {"size": 3, "dtype": F32, "device": "cpu"})


for _name in ("data", "grad"):
    CASES[f"nn.Parameter.{_name}"] = lambda r, n=_name: Call(
        lambda **a: _set(fr.nn.Parameter(np.zeros(3, F32), "w"), n)(a[n]), {n: floats(r, 3)}
    )


# -------------------------------------------------------------------------------------------- optim, losses
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False},
    "Adagrad": {"lr": 0.1, "lr_decay": 0.0, "weight_decay": 0.0, "eps": 1e-8},
    "RMSprop": {
        "lr": 0.1, "alpha": 0.9, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False,
    },
    "Adam": {
        "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "bias_correction": True,
        "amsgrad": False,
    },
}  # fmt: skip
OPTIONS["AdamW"] = OPTIONS["Adam"]
for _kind in OPTIONS:
    CASES[f"optim.{_kind}"] = lambda r, k=_kind: Call(
        getattr(fr.optim, k), {"params": list(_model().parameters()), **OPTIONS[k]}, ("beta1", "beta2")
    )
    CASES[f"optim.{_kind}.step"] = lambda r, k=_kind: Call(
        getattr(fr.optim, k)(_model().parameters(), **OPTIONS[k]).step,
        {"clip_norm": None, "skip_nonfinite": False, "clip_value": None},
    )


@case("optim.Optimizer.load_state_dict")
def _load_optimizer(rng: np.random.Generator) -> Call:
    optimizer = fr.optim.Adam(_model().parameters())
    optimizer.step()
    return Call(optimizer.load_state_dict, {"state_dict": optimizer.state_dict()})


@case("optim.Optimizer.add_param_group")
def _add_group(rng: np.random.Generator) -> Call:
    optimizer = fr.optim.Adam(_model().parameters())
    return Call(
        optimizer.add_param_group,
        {"group": {"params": [fr.nn.Parameter(np.zeros(3))]}},
        ("params", "parameter group"),
    )


@case("optim.Optimizer.lr")
def _rate(rng: np.random.Generator) -> Call:
    optimizer = fr.optim.Adam(_model().parameters())
    return Call(lambda lr: _set(optimizer, "lr")(lr), {"lr": 0.1})


@case("optim.clip_grad_norm_")
def _clip(rng: np.random.Generator) -> Call:
    given = {
        "params": list(_model().parameters()),
        "max_norm": 1.0,
        "norm_type": 2,
        "error_if_nonfinite": False,
    }
    return Call(fr.optim.clip_grad_norm_, given)


@case("optim.clip_grad_value_")
def _clip_value(rng: np.random.Generator) -> Call:
    return Call(fr.optim.clip_grad_value_, {"params": list(_model().parameters()), "clip_value": 1.0})


LOSSES: dict[str, dict[str, Any]] = {
    "MSE": {}, "L1": {}, "Huber": {"delta": 1.0}, "SmoothL1": {"beta": 1.0}, "NLL": {"weight": [1.0, 2.0]},
    "CrossEntropy": {"weight": [1.0, 2.0], "label_smoothing": 0.1}, "BinaryCrossEntropy": {"pos_weight": 1.0},
}  # fmt: skip
for _kind in LOSSES:
    CASES[f"losses.{_kind}"] = lambda r, k=_kind: Call(
        getattr(fr.losses, k), {**LOSSES[k], "ignore_index": None, "reduction": "mean"}
    )
    CASES[f"losses.{_kind}()"] = lambda r, k=_kind: Call(
        getattr(fr.losses, k)(**LOSSES[k]),
        {
            "pred": floats(r, 3, 2), "mask": None,
            "target": r.integers(0, 2, 3) if k in ("NLL", "CrossEntropy") else floats(r, 3, 2),
        },
    )  # fmt: skip


# ---------------------------------------------------------------------------- schedules, init, data, testing
SCHEDULES: dict[str, dict[str, Any]] = {
    "exponential": {"lr": 0.1, "factor": 0.5, "every": 2},
    "step": {"lr": 0.1, "factor": 0.5, "every": 2},
    "linear": {"lr": 0.1, "steps": 5, "final": 0.0},
    "cosine": {"lr": 0.1, "steps": 5, "final": 0.0},
    "warmup": {"schedule": 0.1, "steps": 5},
}
for _name in SCHEDULES:
    CASES[f"optim.schedules.{_name}"] = lambda r, n=_name: Call(
        lambda **given: (
            None if callable(given.get("schedule")) else getattr(fr.optim.schedules, n)(**given)(3)
        ),
        dict(SCHEDULES[n]),
    )
INITS: dict[str, dict[str, Any]] = {
    "uniform_": {"bound": 0.1}, "normal_": {"deviation": 0.1}, "constant_": {"value": 0.1},
    "glorot_uniform_": {"blocks": 1}, "orthogonal_": {"blocks": 1}, "identity_": {},
}  # fmt: skip
for _name in INITS:
    CASES[f"nn.init.{_name}"] = lambda r, n=_name: Call(
        getattr(fr.nn.init, n),
        {
            "parameter": fr.nn.Parameter(np.zeros((3, 3))), **INITS[n],
            **({} if n in ("constant_", "identity_") else {"rng": r}),
        },
    )  # fmt: skip


@case("data.batches")
def _batches(rng: np.random.Generator) -> Call:
    given = {
        "sequences": [floats(rng, n, 2) for n in (3, 5, 4)], "targets": np.array([0, 1, 0]), "batch_size": 2,
        "shuffle": True, "bucket": 2, "batch_first": False, "drop_last": False, "pad": 0.0, "seed": 0,
    }  # fmt: skip
    return Call(lambda **options: list(fr.data.batches(**options)), given)


def _may_be_wrong(**options: Any) -> None:
    """By a tolerance of nothing a gradient may well be wrong."""
    with contextlib.suppress(AssertionError):
        fr.testing.gradcheck(**options)


@case("testing.gradcheck")
def _gradcheck(rng: np.random.Generator) -> Call:
    gru, x = fr.nn.GRU(3, 2, dtype=np.float64, seed=0), floats(rng, 2, 2, 3).astype(float)
    given = {"rtol": None, "atol": None, "samples": 3, "seed": 0}
    return Call(lambda **options: _may_be_wrong(subject=gru, inputs=x, **options), given)
