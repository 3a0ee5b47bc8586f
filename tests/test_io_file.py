"""Our own files: a model comes back as it was, and a file that lies is refused before it costs memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_models import H, I, draw_input, masked, outputs, zoo

import fusedrnn as fr
from fusedrnn.io import safetensors_file

MODELS = zoo() | masked() | {"batch first": zoo(True)["classifier"]}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model, path = MODELS[name], tmp_path / "model.safetensors"
    fr.io.save(model, path)
    back = fr.io.load(path)
    assert type(back) is type(model)
    assert repr(back) == repr(model)
    assert not back.training
    assert back.random_state() == model.random_state()
    x = draw_input(model)
    assert (outputs(back, x) == outputs(model, x)).all()


def test_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    model = zoo()["classifier"].train()
    x, target = draw_input(model), np.array([0, 1, 2, 0])

    def step(m: Any) -> tuple[float, Any]:
        optimizer = fr.optim.SGD(m.parameters(), lr=0.1)
        return m.train_step(x, target, "cross_entropy", optimizer)[0], m.state_dict()

    fr.io.save(model, tmp_path / "m.safetensors")
    back = fr.io.load(tmp_path / "m.safetensors")
    assert back.training
    (loss, after), (ours, again) = step(model), step(back)
    assert loss == ours
    assert all((after[name] == again[name]).all() for name in after)


def test_dtype_and_options_are_kept(tmp_path: Path) -> None:
    model = fr.nn.Sequential(
        fr.nn.RNN(I, H, nonlinearity="relu", bias=False, dtype=np.float64),
        fr.nn.LayerNorm(H, 1e-3, bias=False, dtype=np.float64), fr.nn.LayerNorm(H, elementwise_affine=False),
    )  # fmt: skip
    fr.io.save(model, tmp_path / "m.safetensors")
    back = fr.io.load(tmp_path / "m.safetensors")
    assert repr(back) == repr(model)
    assert back[0].dtype == np.float64
    assert [(a.eps, a.weight is None, a.bias is None) for a in (back[1], back[2])] == [
        (1e-3, False, True), (1e-5, True, True)
    ]  # fmt: skip


class Tagger(fr.nn.Module):
    """A module of a user's own."""

    def __init__(self, seed: int) -> None:
        self.gru = fr.nn.GRU(I, H, seed=seed)
        self.head = fr.nn.Linear(H, 2, seed=seed)


def test_a_module_of_ones_own_is_filled(tmp_path: Path) -> None:
    path, model, other = tmp_path / "m.safetensors", Tagger(0), Tagger(1)
    fr.io.save(model, path)
    with pytest.raises(fr.io.UnsupportedError, match="holds a Tagger, a module of its writer's own"):
        fr.io.load(path)
    assert fr.io.load(path, other) is other
    assert all(
        (a == b).all() for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )
    with pytest.raises(fr.io.FormatError, match="state_dict does not fit this LSTM"):
        fr.io.load(path, fr.nn.LSTM(I, H))


def test_shared_parameters_are_refused(tmp_path: Path) -> None:
    layer = fr.nn.Linear(I, I)
    with pytest.raises(fr.io.UnsupportedError, match="parameters are shared"):
        fr.io.save(fr.nn.Sequential(layer, layer), tmp_path / "m.safetensors")


def test_weights_have_the_names_that_pytorch_gives_them(tmp_path: Path) -> None:
    model = zoo()["LSTM, 2 layers, both ways"]
    fr.io.save(model, tmp_path / "m.safetensors")
    arrays, _ = safetensors_file.read(tmp_path / "m.safetensors")
    assert arrays.keys() == model.state_dict().keys()


# ------------------------------------------------------------------------------------------ safetensors
def raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(shape: list[Any], start: int, end: int, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


BAD = [
    (b"", b"", 1 << 60, "no length of a header"),
    (b"{}", b"", 1, "no length of a header"),
    (b"{]", b"", None, "its header is no JSON"),
    (b"[" * 50_000, b"", None, "its header is no JSON"),
    (b'{"a": ' + b"9" * 5000 + b"}", b"", None, "its header is no JSON"),
    (b'{"a": 1, "a": 2}', b"", None, "a name comes twice"),
    (b"\xff\xfe", b"", None, "its header is no JSON"),
    ([1], b"", None, "no JSON object"),
    ({"__metadata__": {"a": 1}}, b"", None, "metadata is not text"),
    ({"a": [1]}, b"", None, "has not dtype, shape and data_offsets"),
    ({"a": entry([1 << 40, 1 << 20], 0, 4)}, b"1234", None, "needs 4611686018427387904 bytes"),
    ({"a": entry([2], 0, 4)}, b"1234", None, "needs 8 bytes for its shape, it has 4"),
    ({"a": entry([1], 0, 4)}, b"123", None, "its arrays take 4 bytes, there are 3"),
    ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234", None, "'b' starts at byte 0"),
    ({"a": entry([1], 4, 8)}, b"12345678", None, "starts at byte 4"),
    ({"a": entry([-1], 0, 4)}, b"1234", None, "no shape"),
    ({"a": entry([True], 0, 4)}, b"1234", None, "no shape"),
    ({"a": entry([1] * 40, 0, 4)}, b"1234", None, "no shape of at most 32 axes"),
    ({"a": entry([1], 0, 4, "F31")}, b"1234", None, "unknown dtype 'F31'"),
    ({"a": entry([1], 4, 0)}, b"1234", None, "no pair of data_offsets"),
]


@pytest.mark.parametrize(("header", "data", "length", "message"), BAD)
def test_headers_that_lie_are_refused(
    header: Any, data: bytes, length: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(fr.io.FormatError, match=message):
        safetensors_file.read(raw(tmp_path / "m.safetensors", header, data, length))


def test_types_that_numpy_has_not(tmp_path: Path) -> None:
    path = raw(tmp_path / "m.safetensors", {"a": entry([2], 0, 4, "BF16")}, b"1234")
    with pytest.raises(fr.io.UnsupportedError, match="'a' is BF16"):
        safetensors_file.read(path)


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3).T, np.zeros((0, 3), np.float32), np.float64(3).reshape(()),
     np.arange(4, dtype=">f4"), np.array([True, False]), np.arange(8, dtype=np.int64)[::2]],
    ids=["transposed", "empty", "scalar", "big endian", "bool", "strided"],
)  # fmt: skip
def test_arrays_come_back(array: Any, tmp_path: Path) -> None:
    safetensors_file.write(tmp_path / "a", {"a": array}, {"note": "ä"})
    arrays, metadata = safetensors_file.read(tmp_path / "a")
    assert metadata == {"note": "ä"}
    assert arrays["a"].shape == array.shape
    assert (arrays["a"] == array).all()
    arrays["a"][...] = 0  # its own memory
    header = safetensors_file.read_header(tmp_path / "a")
    assert header.entries["a"].shape == array.shape


def test_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"arrays\['a'\] must be of numbers"):
        safetensors_file.write(tmp_path / "a", {"a": np.array([None])}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("array", [np.zeros((9, 9), np.float32), np.zeros(3)], ids=["shape", "dtype"])
def test_a_file_that_is_replaced_while_it_is_read(array: Any, tmp_path: Path) -> None:
    """What was looked at is what is read: no other shapes come past a check of memory."""
    path = tmp_path / "a.safetensors"
    safetensors_file.write(path, {"a": np.zeros(3, np.float32)}, {})
    with pytest.raises(fr.io.FormatError, match="'a' changed while the file was read"):
        safetensors_file.read(path, lambda _: safetensors_file.write(path, {"a": array}, {}))
    with pytest.raises(fr.io.FormatError, match=r"a\.safetensors is damaged"):
        safetensors_file.read(path, lambda _: safetensors_file.write(path, {"b": array}, {}))


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fr.io.load(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fr.io.FormatError, match="no regular file"):
        fr.io.load(tmp_path / "pipe")


# ---------------------------------------------------------------------------------------- configuration
def change(path: Path, edit: Any) -> None:
    """Writes the file again with another configuration."""
    arrays, metadata = safetensors_file.read(path)
    tree = json.loads(metadata["model"])
    metadata["model"] = json.dumps(edit(tree) or tree)
    safetensors_file.write(path, arrays, metadata)


def put(name: str, value: Any) -> Any:
    def edit(tree: Any) -> None:
        tree["arguments"][name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("hidden_size", 1 << 40), r"weight_ih_l0 must have shape \(3298534883328, 3\)"),
        (put("num_layers", 1 << 40), r"num_layers is 1099511627776, and there are 4 arrays"),
        (put("num_layers", 2), "weight_ih_l1 must have shape"),
        (put("num_layers", "2"), "num_layers is 2, and there are 4 arrays"),
        (put("input_size", None), r"weight_ih_l0 must have shape"),
        (put("bias", False), "unexpected: bias_hh_l0, bias_ih_l0"),
        (put("bias", 3), "bias must be True or False"),
        (put("dtype", "float64"), "weight_ih_l0 must be float64"),
        (put("dropout", 7), "dropout must be between 0 and 1"),
        (put("executable", "rm"), "has no option 'executable'"),
        (lambda tree: {"kind": "Popen", "arguments": {}}, "unknown kind 'Popen'"),
        (lambda tree: {"kind": "Sequential", "arguments": {}, "layers": []}, "layers must be at least one"),
        (lambda tree: {"kind": "Sequential", "arguments": {}}, "KeyError"),
        (lambda tree: {"kind": ["a"], "arguments": {}}, "do not fit"),
        (lambda tree: {"kind": "LSTM", "arguments": [1]}, "are no object"),
        (lambda tree: [tree], "no JSON object"),
    ],
)
def test_configurations_that_do_not_fit_the_arrays(edit: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    fr.io.save(fr.nn.GRU(I, H), path)
    change(path, edit)
    with pytest.raises(fr.io.FormatError, match=message):
        fr.io.load(path)


def test_deep_configurations(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    fr.io.save(fr.nn.GRU(I, H), path)
    arrays, metadata = safetensors_file.read(path)
    metadata["model"] = '{"kind": "Sequential", "arguments": {}, "layers": [' * 3000 + "]}" * 3000
    safetensors_file.write(path, arrays, metadata)
    with pytest.raises(fr.io.FormatError):
        fr.io.load(path)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("format", "pt", "FormatError", "none that fr.io.save wrote"),
        ("format_version", "2", "UnsupportedError", "format version 2, this fusedrnn reads 1"),
        ("model", "{", "FormatError", "no JSON"),
        (
            "state",
            '{"training": true, "random": {"dropout_key": 1}}',
            "FormatError",
            "its state does not fit",
        ),
    ],
)
def test_other_headers(key: str, value: str, error: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    fr.io.save(fr.nn.GRU(I, H), path)
    arrays, metadata = safetensors_file.read(path)
    safetensors_file.write(path, arrays, metadata | {key: value})
    with pytest.raises(getattr(fr.io, error), match=message):
        fr.io.load(path)


def test_what_is_not_installed_is_named() -> None:
    """And nothing of it is imported with the package, nor by looking at fr.io."""
    code = """
import sys
import fusedrnn as fr
fr.io.save, fr.io.from_keras, fr.io.to_onnx, fr.io.to_torch
found = [m for m in ("safetensors", "onnx", "h5py", "keras", "torch") if m in sys.modules]
assert found == [], found
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("safetensors", "onnx", "h5py", "keras", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Nothing())
model = fr.nn.Linear(2, 3)
calls = {
    "safetensors": lambda: fr.io.save(model, "m.safetensors"),
    "onnx": lambda: fr.io.to_onnx(model),
    "h5py": lambda: fr.io.from_keras({"layers": []}, __file__),
    "keras": lambda: fr.io.to_keras(model),
    "torch": lambda: fr.io.to_torch(model),
}
for name, call in calls.items():
    try:
        call()
    except ImportError as error:
        assert f"this needs {name}, which is not installed: pip install" in str(error), error
        print(name)
"""
    package = str(Path(fr.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package}
    script = [sys.executable, "-W", "error", "-c", code.replace("__file__", repr(__file__))]
    result = subprocess.run(script, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["safetensors", "onnx", "h5py", "keras", "torch"]
