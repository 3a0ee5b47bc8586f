"""Writes oracles/io_*.json: models as other libraries save them, with what those libraries compute of an x.

    KERAS_BACKEND=torch python tests/io_oracles.py keras torch onnx

Needs keras, torch, onnx and onnxruntime as named. Run it again only to add cases: the files are the record.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
import warnings
import zlib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ORACLES = Path(__file__).parent / "oracles"
T, B, I, H = 6, 4, 3, 5
RNG = np.random.default_rng(2026)
IDS = [[0, 0, 3, 2, 1, 5], [1, 2, 7, 0, 0, 0], [0, 4, 0, 1, 0, 2], [8, 1, 2, 3, 4, 5]]


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def draw_steps() -> Any:
    """Steps (B, T, I), those of padding 0 in all features where IDS are 0."""
    x = RNG.normal(size=(B, T, I)).astype(np.float32)
    x[np.array(IDS) == 0] = 0
    return x


def keras_cases() -> list[dict[str, Any]]:
    keras: Any = import_module("keras")
    L = keras.layers
    steps, ids = keras.Input((None, I)), keras.Input((None,))
    masked = [steps, L.Masking()]
    both = L.Bidirectional

    def functional() -> Any:
        x = keras.Input((None,))
        y = L.Embedding(9, I, mask_zero=True)(x)
        return keras.Model(x, L.Dense(2)(L.GRU(H)(L.LSTM(H, return_sequences=True)(y))))

    def functional_masking() -> Any:
        x = keras.Input((None, I))
        return keras.Model(x, L.Dense(2, activation="tanh")(L.LSTM(H)(L.Masking()(x))))

    chains: dict[str, Any] = {
        "LSTM": [steps, L.LSTM(H)],
        "LSTM, no bias": [steps, L.LSTM(H, use_bias=False, return_sequences=True)],
        "GRU": [steps, L.GRU(H, return_sequences=True)],
        "GRU, no bias": [steps, L.GRU(H, use_bias=False)],
        "SimpleRNN": [steps, L.SimpleRNN(H)],
        "SimpleRNN, relu": [steps, L.SimpleRNN(H, activation="relu", return_sequences=True)],
        "stacked": [steps, L.LSTM(H, return_sequences=True), L.Dropout(0.2), L.GRU(4, return_sequences=True),
                    L.LayerNormalization(), L.LSTM(3), L.Dense(4, activation="relu"), L.Dense(2)],
        "LSTM, both ways": [steps, both(L.LSTM(H, return_sequences=True)), both(L.LSTM(4))],
        "GRU, both ways": [steps, both(L.GRU(H)), L.Dense(2, activation="sigmoid", use_bias=False)],
        "SimpleRNN, both ways": [steps, both(L.SimpleRNN(H, return_sequences=True))],
        "Embedding": [ids, L.Embedding(9, I), L.GRU(H), L.Dense(3), L.Softmax()],
        "TimeDistributed": [steps, L.LSTM(H, return_sequences=True), L.TimeDistributed(L.Dense(2)), L.ReLU()],
        "Masking, last state": [*masked, L.LSTM(H)],
        "Masking, steps": [*masked, L.GRU(H, return_sequences=True), L.Dense(2)],
        "Masking, zeros": [*masked, L.SimpleRNN(H, return_sequences=True, zero_output_for_mask=True)],
        "Masking, stacked": [*masked, L.Dense(4), L.LSTM(H, return_sequences=True), L.GRU(4),
                             L.Dense(3, activation="softmax")],
        "mask_zero, both ways": [ids, L.Embedding(9, I, mask_zero=True), both(L.LSTM(H)), L.Dense(2)],
        "mask_zero, both ways, steps": [ids, L.Embedding(9, I, mask_zero=True),
                                        both(L.GRU(H, return_sequences=True)), L.Dense(2)],
        "functional, mask_zero": functional,
        "functional, Masking": functional_masking,
    }  # fmt: skip
    cases = []
    for name, layers in chains.items():
        model = layers() if callable(layers) else keras.Sequential(layers)
        for weight in model.weights:
            if "seed" not in weight.path:
                weight.assign(RNG.normal(0, 0.6, weight.shape))
        is_ids = len(model.input_shape) == 2
        x = np.array(IDS) if is_ids else draw_steps() if "asking" in name else RNG.normal(size=(B, T, I))
        x = x if is_ids else x.astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/model.keras")
            model.save_weights(f"{folder}/model.weights.h5")
            files = {n: packed(Path(folder, n).read_bytes()) for n in ("model.keras", "model.weights.h5")}
        y = np.asarray(model.predict(x, verbose=0))
        cases.append({"name": name, **files, "x": x.tolist(), "y": numbers(y)})
    return cases


def torch_cases() -> list[dict[str, Any]]:
    import torch
    from safetensors.torch import save

    torch.manual_seed(2026)
    cases = []
    for kind in ("LSTM", "GRU", "RNN"):
        for options in ({}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False}):
            if kind == "RNN":
                options = options | {"nonlinearity": "relu" if "bias" in options else "tanh"}
            module = getattr(torch.nn, kind)(I, H, **options).eval()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.copy_(torch.from_numpy(RNG.normal(0, 0.6, tuple(parameter.shape))))
                x = torch.from_numpy(RNG.normal(size=(B, T, I)).astype(np.float32))
                y, _ = module(x)
            cases.append({
                "name": f"{kind} {options}", "options": options, "state_dict.safetensors":
                packed(save(module.state_dict())), "x": x.tolist(), "y": numbers(y.numpy()),
            })  # fmt: skip
    return cases


def onnx_cases() -> list[dict[str, Any]]:
    import onnxruntime
    import torch

    torch.manual_seed(2026)
    cases = []
    for kind in ("LSTM", "GRU", "RNN"):
        for pick in ("steps, both ways", "last step", "final state"):
            net = Net(torch, kind, pick).eval()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.copy_(torch.from_numpy(RNG.normal(0, 0.6, tuple(parameter.shape))))
            x, file = RNG.normal(size=(B, T, I)).astype(np.float32), io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                axes = {"x": {0: "batch", 1: "time"}}
                example = (torch.from_numpy(x),)
                torch.onnx.export(net, example, file, dynamo=False, dynamic_axes=axes, input_names=["x"])
            y = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x})[0]
            cases.append({"name": f"{kind}, {pick}", "model.onnx": packed(file.getvalue()),
                          "x": x.tolist(), "y": numbers(y)})  # fmt: skip
    return cases


def Net(torch: Any, kind: str, pick: str) -> Any:
    """A two-layer network, batch first, and a head."""
    both = pick.startswith("steps")

    class Made(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(torch.nn, kind)(I, H, 2, batch_first=True, bidirectional=both)
            self.head = torch.nn.Linear(H * (1 + both), 2)

        def forward(self, x: Any) -> Any:
            y, state = self.cell(x)
            if pick == "final state":
                return self.head((state[0] if kind == "LSTM" else state)[-1])
            return self.head(y if both else y[:, -1])

    return Made()


def numbers(y: Any) -> Any:
    """float32 with the digits that bring it back."""
    assert y.dtype == np.float32
    return [numbers(row) for row in y] if y.ndim else float(str(y))


PROJECTS = {
    "keras": ("keras-team/keras", "Apache-2.0", ["keras", "torch"], keras_cases),
    "torch": ("pytorch/pytorch", "BSD-3-Clause", ["torch"], torch_cases),
    "onnx": ("microsoft/onnxruntime", "MIT", ["onnxruntime", "torch"], onnx_cases),
}


def main() -> None:
    for form in sys.argv[1:]:
        project, licence, packages, make = PROJECTS[form]
        provenance = {
            "project": project,
            "file": "tests/io_oracles.py",
            "version": {name: version(name) for name in packages},
            "licence": licence,
            "transcribed": "Computed by that library in float32 on a CPU, of models with drawn weights; "
            "keras on its torch backend. Files as the libraries wrote them (graphs by torch.onnx.export), "
            "in zlib and base64.",
        }
        lines = ",\n    ".join(json.dumps(case) for case in make())
        head = json.dumps({"provenance": provenance}, indent=2)[:-2]
        (ORACLES / f"io_{form}.json").write_text(f'{head},\n  "cases": [\n    {lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
