"""Writes oracles/io_*.json: models as other libraries save them, with what those libraries compute of an x.

    KERAS_BACKEND=torch python tests/io_oracles.py keras torch onnx keras_reset_before onnx_reset_before

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
    return keras_computed(keras, chains)


def keras_reset_before_cases() -> list[dict[str, Any]]:
    """GRU with the reset before the product."""
    keras: Any = import_module("keras")
    L = keras.layers
    steps, both = keras.Input((None, I)), L.Bidirectional

    def gru(units: int = H, **options: Any) -> Any:
        return L.GRU(units, reset_after=False, **options)

    chains = {
        "steps": [steps, gru(return_sequences=True)],
        "no bias": [steps, gru(use_bias=False)],
        "both ways, stacked": [steps, both(gru(return_sequences=True)), both(gru(4)), L.Dense(2)],
        "with one of the other kind": [steps, gru(return_sequences=True), L.GRU(4)],
        "Masking": [steps, L.Masking(), gru(return_sequences=True), gru(4)],
    }
    return keras_computed(keras, chains)


def keras_computed(keras: Any, chains: dict[str, Any]) -> list[dict[str, Any]]:
    """Each chain of layers with drawn weights as Keras saves it, and what it predicts."""
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


def onnx_reset_before_cases() -> list[dict[str, Any]]:
    """The operator GRU with linear_before_reset=0, a constant h0 of zeros and lengths, as graphs."""
    import onnx
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    cases = []
    for name, D, bias in (("forward", 1, True), ("both ways", 2, True), ("no bias", 1, False)):
        arrays = {
            "W": RNG.normal(0, 0.6, (D, 3 * H, I)),
            "R": RNG.normal(0, 0.6, (D, 3 * H, H)),
            **({"B": RNG.normal(0, 0.6, (D, 6 * H))} if bias else {}),
        }
        arrays = {n: a.astype(np.float32) for n, a in arrays.items()}
        x, h0 = (RNG.normal(size=s).astype(np.float32) for s in ((T, B, I), (D, B, H)))
        value = helper.make_tensor_value_info
        kind = onnx.TensorProto.FLOAT
        direction = "bidirectional" if D == 2 else "forward"
        inputs = ["x", *arrays, *([] if bias else [""]), "", "h0"]
        nodes = [
            helper.make_node("GRU", inputs, ["Y"], hidden_size=H, direction=direction, linear_before_reset=0)
        ]
        if D == 2:
            nodes.append(helper.make_node("Transpose", ["Y"], ["turned"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", ["turned", "shape"], ["y"]))
            last = {"shape": np.array([0, 0, D * H], np.int64)}
        else:
            nodes.append(helper.make_node("Squeeze", ["Y", "axes"], ["y"]))
            last = {"axes": np.array([1], np.int64)}
        graph = helper.make_graph(
            nodes, "gru",
            [value("x", kind, ["time", "batch", I]), value("h0", kind, [D, "batch", H])],
            [value("y", kind, ["time", "batch", D * H])],
            [numpy_helper.from_array(a, n) for n, a in (arrays | last).items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        data, given = model.SerializeToString(), {"x": x, "h0": h0}
        y = onnxruntime.InferenceSession(data).run(None, given)[0]
        if D == 1:  # ONNX's reference evaluator has no second direction
            np.testing.assert_allclose(y, ReferenceEvaluator(model).run(None, given)[0], atol=1e-6)
        cases.append({"name": name, "model.onnx": packed(data), "x": x.tolist(), "h0": h0.tolist(),
                      "y": numbers(y)})  # fmt: skip
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
    "keras_reset_before": ("keras-team/keras", "Apache-2.0", ["keras", "torch"], keras_reset_before_cases),
    "onnx_reset_before": ("microsoft/onnxruntime", "MIT", ["onnxruntime", "onnx"], onnx_reset_before_cases),
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
            "keras on its torch backend. Files as the libraries wrote them (graphs by torch.onnx.export, of "
            "GRU with linear_before_reset=0 by onnx.helper), in zlib and base64.",
        }
        lines = ",\n    ".join(json.dumps(case) for case in make())
        head = json.dumps({"provenance": provenance}, indent=2)[:-2]
        (ORACLES / f"io_{form}.json").write_text(f'{head},\n  "cases": [\n    {lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
