"""More calls for fuzz_calls.py: variants of cells, losses through a step, files, data, drawings, settings."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_cases import CASES, F32, MODULES, STATES, Call, case, floats

import fusedrnn as fr

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "peephole": ("LSTM", {"peephole": True}),
    "layer_norm": ("LSTM", {"layer_norm": True}),
    "proj_size": ("LSTM", {"proj_size": 1}),
    "reset_before": ("GRU", {"reset_after": False}),
    "recompute": ("GRU", {"recompute": "auto"}),
    "zoneout": ("LSTM", {"zoneout": (0.1, 0.2), "dropout_mode": "sequence"}),
}


def _variant(name: str) -> Any:
    kind, options = VARIANTS[name]
    return getattr(fr.nn, kind)(**MODULES[kind] | options)


def _given(rng: np.random.Generator, name: str) -> dict[str, Any]:
    return {"x": floats(rng, 4, 2, 3), "state": None, "lengths": [2, 4], "resets": rng.random((4, 2)) < 0.2}


def _backward(rng: np.random.Generator, name: str) -> Call:
    module = _variant(name)
    y, _ = module(**_given(rng, name))
    given = {
        "dy": floats(rng, *y.shape),
        "dstate": None,
        "of": y,
        "need_dx": True,
        "flow": name != "recompute",
    }
    return Call(module.backward, given, STATES)


def _functional(rng: np.random.Generator, name: str) -> Call:
    kind, options = VARIANTS[name]
    given = {"x": floats(rng, 4, 2, 3), "state": None, "weights": _variant(name).state_dict()}
    if "reset_after" in options:
        given["reset_after"] = False
    return Call(
        getattr(fr.functional, f"{kind.lower()}_forward"), given, (*STATES, "weight_hh_l0", "proj_size")
    )


for _name in VARIANTS:
    CASES[f"variant.{_name}.forward"] = lambda r, n=_name: Call(_variant(n).forward, _given(r, n), STATES)
    CASES[f"variant.{_name}.backward"] = lambda r, n=_name: _backward(r, n)
    CASES[f"variant.{_name}.functional"] = lambda r, n=_name: _functional(r, n)
    for _option in VARIANTS[_name][1]:
        CASES[f"variant.{_name}.{_option}"] = lambda r, n=_name, o=_option: Call(
            lambda **value: _variant_with(n, value), {o: VARIANTS[n][1][o]}
        )


def _variant_with(name: str, value: dict[str, Any]) -> Any:
    """The option is set after the module was made, or given to another one."""
    kind, options = VARIANTS[name]
    module = getattr(fr.nn, kind)(**MODULES[kind] | options | value)
    for option, each in value.items():
        setattr(module, option, each)
    return module(np.zeros((4, 2, 3), F32))


@case("step.losses")
def _losses(rng: np.random.Generator) -> Call:
    model = fr.nn.Sequential(fr.nn.Linear(3, 2, seed=0))
    optimizer = fr.optim.SGD(model.parameters())
    given = {"delta": 0.5, "reduction": "mean", "ignore_index": None}
    x, y = floats(rng, 4, 3), floats(rng, 4, 2)
    return Call(lambda **options: model.train_step(x, y, "huber", optimizer, **options), given)


# ------------------------------------------------------------------------------------------ files and formats
FOLDER = tempfile.TemporaryDirectory()
MODEL = str(Path(FOLDER.name) / "model.safetensors")


def _model() -> Any:
    return fr.nn.Sequential(fr.nn.GRU(3, 2, seed=0), fr.nn.Last(), fr.nn.Linear(2, 2, seed=1))


fr.io.save(_model(), MODEL)
PLACES = ("path", "file", "No such file", "directory", "name", "regular file", "null byte", "model")


def _onto(path: Any) -> Any:
    """A path within the folder, so that no text is a file beside it."""
    return str(Path(FOLDER.name) / "x" / path) if isinstance(path, str) and not path.startswith("/") else path


def _written(model: Any, path: Any) -> None:
    _on_disk(fr.io.save)(model=model, path=_onto(path))


def _on_disk(function: Any) -> Any:
    """The function; that there is no such file may be said, in the system's words."""

    def call(**given: Any) -> None:
        with contextlib.suppress(OSError):
            function(**given)

    return call


@case("io.save")
def _save(rng: np.random.Generator) -> Call:
    return Call(_written, {"model": _model(), "path": MODEL + ".saved"}, PLACES)


@case("io.load")
def _load(rng: np.random.Generator) -> Call:
    given = {"path": MODEL, "model": _model(), "device": "cpu", "precision": None}
    return Call(_on_disk(fr.io.load), given, PLACES)


@case("io.from_torch")
def _from_torch(rng: np.random.Generator) -> Call:
    import torch

    given = {"source": torch.nn.GRU(3, 2), "model": None, "batch_first": False, "nonlinearity": None}
    return Call(fr.io.from_torch, given, ("weight_ih_l0", "torch", "model", "float32"))


@case("io.to_torch")
def _to_torch(rng: np.random.Generator) -> Call:
    return Call(fr.io.to_torch, {"model": _model()})


@case("io.to_onnx")
def _to_onnx(rng: np.random.Generator) -> Call:
    given = {"model": fr.nn.GRU(3, 2, seed=0), "lengths": False, "states": True, "batch": None, "time": None}
    return Call(fr.io.to_onnx, given)


@case("io.from_onnx")
def _from_onnx(rng: np.random.Generator) -> Call:
    return Call(
        _on_disk(fr.io.from_onnx), {"source": fr.io.to_onnx(fr.nn.GRU(3, 2, seed=0))}, (*PLACES, "ONNX")
    )


@case("io.from_keras")
def _from_keras(rng: np.random.Generator) -> Call:
    given = {"source": "none.keras", "weights": None}
    return Call(_on_disk(fr.io.from_keras), given, (*PLACES, "Keras"))


@case("io.Ends")
def _ends(rng: np.random.Generator) -> Call:
    def run(batch_first: Any, x: Any, lengths: Any) -> None:
        fr.io.Ends(batch_first)(x, lengths)

    return Call(run, {"batch_first": False, "x": floats(rng, 4, 2, 6), "lengths": np.array([2, 4])})


@case("io.Masked")
def _masked(rng: np.random.Generator) -> Call:
    def run(x: Any, **options: Any) -> None:
        fr.io.Masked(fr.nn.GRU(3, 2, batch_first=True, seed=0), **options)(x)

    return Call(run, {"x": floats(rng, 2, 4, 3), "value": 0.0, "fill": "zero"})


@case("io.Activation")
def _activation(rng: np.random.Generator) -> Call:
    return Call(
        lambda function, x: fr.io.Activation(function)(x), {"function": "tanh", "x": floats(rng, 2, 3)}
    )


# ------------------------------------------------------------------------------- data, drawings, settings
@case("data.tbptt")
def _tbptt(rng: np.random.Generator) -> Call:
    given = {
        "x": floats(rng, 6, 2, 3), "y": floats(rng, 6, 2, 1), "steps": 4, "lengths": np.array([2, 6]),
        "mask": np.ones((6, 2), bool), "resets": np.zeros((6, 2), bool), "batch_first": False,
    }  # fmt: skip
    return Call(lambda **options: list(fr.data.tbptt(**options)), given)


@case("plot.gradient_flow")
def _flow(rng: np.random.Generator) -> Call:
    gru = fr.nn.GRU(3, 2, seed=0)
    y, _ = gru(floats(rng, 4, 2, 3))
    gru.backward(y, flow=True)
    return Call(fr.plot.gradient_flow, {"source": gru.flow, "axes": None}, ("flow",))


@case("asarray")
def _asarray(rng: np.random.Generator) -> Call:
    return Call(fr.asarray, {"x": floats(rng, 3), "device": "cpu"})


@case("set_flush_denormal")
def _denormal(rng: np.random.Generator) -> Call:
    def run(mode: Any) -> None:
        try:
            fr.set_flush_denormal(mode)
        finally:
            fr.set_flush_denormal(False)

    return Call(run, {"mode": True})


@case("set_num_threads")
def _threads(rng: np.random.Generator) -> Call:
    def run(n: Any) -> None:
        before = fr.get_num_threads()
        fr.set_num_threads(n)
        fr.set_num_threads(before)

    return Call(run, {"n": 1})


@case("cpu.engine")
def _engine(rng: np.random.Generator) -> Call:
    return Call(fr.cpu.engine, {"precision": "ieee"})
