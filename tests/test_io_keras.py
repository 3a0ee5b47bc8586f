"""Keras's models in and out. What needs no Keras reads stored files; the rest is held to Keras itself."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_models import NO_EQUAL, assert_agrees, draw_input, masked, outputs, taken, zoo
from io_oracles import ORACLES, unpacked

import fusedrnn as fr

h5py: Any = pytest.importorskip("h5py", reason="h5py, of the extra io, reads Keras's files")
os.environ.setdefault("KERAS_BACKEND", "torch")


@cache
def stored() -> dict[str, Any]:
    content = json.loads((ORACLES / "io_keras.json").read_text())
    return {case["name"]: case for case in content["cases"]}


def config_of(name: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(unpacked(stored()[name]["model.keras"]))) as archive:
        return json.loads(archive.read("config.json"))


def read(name: str, config: Any, folder: Path) -> Any:
    """The stored model of that name with another configuration."""
    (folder / "m.weights.h5").write_bytes(unpacked(stored()[name]["model.weights.h5"]))
    return fr.io.from_keras(config, folder / "m.weights.h5")


def layers(config: Any) -> Any:
    return config["config"]["layers"]


def change(layer: int, **options: Any) -> Callable[[Any], None]:
    def edit(config: Any) -> None:
        layers(config)[layer]["config"].update(options)

    return edit


def change_half(half: str, **options: Any) -> Callable[[Any], None]:
    def edit(config: Any) -> None:
        layers(config)[1]["config"][half]["config"].update(options)

    return edit


def rename(layer: int, kind: str) -> Callable[[Any], None]:
    def edit(config: Any) -> None:
        layers(config)[layer]["class_name"] = kind

    return edit


def lambda_layer(config: Any) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None, "closure": None}}
    layers(config).append({"class_name": "Lambda", "config": {"name": "run", "function": code}})


def second_input(config: Any) -> None:
    config["config"]["input_layers"] = [["a", 0, 0], ["b", 0, 0]]


def initial_state(config: Any) -> None:
    call = layers(config)[3]["inbound_nodes"][0]
    call["kwargs"]["initial_state"] = copy.deepcopy(call["args"][0])


def called_twice(config: Any) -> None:
    layers(config)[3]["inbound_nodes"] *= 2


def without_recurrent(config: Any) -> None:
    del layers(config)[2]


POLICY = {"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}
REFUSED: list[tuple[str, Callable[[Any], None], str]] = [
    ("LSTM", change(1, activation="relu"), r"LSTM\(activation='relu'\) has no cell here"),
    ("LSTM", change(1, recurrent_activation="hard_sigmoid"), r"recurrent_activation='hard_sigmoid'"),
    ("LSTM", change(1, activation={"class_name": "mine>act", "config": {}}), r"activation='mine>act'"),
    ("SimpleRNN", change(1, activation="selu"), r"SimpleRNN\(activation='selu'\)"),
    ("LSTM", change(1, stateful=True), r"LSTM\(stateful=True\) has no equal here: give model\(x, state="),
    ("LSTM", change(1, return_state=True), r"return_state=True"),
    ("LSTM", change(1, go_backwards=True), r"go_backwards=True"),
    ("LSTM", change(1, dtype=POLICY), "has the dtype 'mixed_float16'"),
    ("LSTM", rename(1, "ConvLSTM1D"), "layer 'lstm': ConvLSTM1D has no equal"),
    ("LSTM", rename(1, "RNN"), "RNN has no equal"),
    ("LSTM", lambda_layer, "layer 'run': Lambda has no equal"),
    ("LSTM, both ways", change(1, merge_mode="sum"), "merge_mode='sum'"),
    ("LSTM, both ways", change_half("backward_layer", go_backwards=False), "go_backwards=False"),
    ("LSTM, both ways", change_half("layer", return_sequences=False), "its two directions differ"),
    ("LSTM, both ways", change_half("layer", activation="relu"), r"activation='relu'"),
    ("stacked", change(6, activation="gelu"), "activation 'gelu' has no equal"),
    ("stacked", change(2, noise_shape=[1]), "Dropout with noise_shape"),
    ("stacked", change(4, axis=1), "LayerNormalization over axis 1"),
    ("TimeDistributed", change(3, max_value=6.0), "ReLU with a slope, threshold or maximum"),
    ("Embedding", change(4, axis=1), "Softmax over axis 1"),
    ("Masking, last state", without_recurrent, "Masking without a recurrent layer"),
    ("Masking, last state", change(2, zero_output_for_mask=True), "zero_output_for_mask without return_seq"),
    ("functional, Masking", second_input, "the model has 2 input_layers"),
    ("functional, mask_zero", initial_state, "layer 'lstm.*': a call with initial_state="),
    ("functional, mask_zero", called_twice, "is called 2 times"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edit", "message"), REFUSED)
def test_refused_by_name(name: str, edit: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    config = config_of(name)
    edit(config)
    with pytest.raises(fr.io.UnsupportedError, match=message):
        read(name, config, tmp_path)


def test_what_acts_in_training_alone_is_said(tmp_path: Path) -> None:
    config = config_of("LSTM")
    change(1, dropout=0.3, recurrent_dropout=0.1, kernel_regularizer={"class_name": "L2"})(config)
    with pytest.warns(UserWarning, match="dropout of 'lstm', kernel_regularizer"):
        model = read("LSTM", config, tmp_path)
    assert model[0].recurrent_dropout == 0.1


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        fr.io.UnsupportedError, match=r"weights alone: give from_keras\(config, weights=path\)"
    ):
        fr.io.from_keras(tmp_path / "m.weights.h5")
    with pytest.raises(fr.io.UnsupportedError, match=r"save an \.h5 file again as \.keras"):
        fr.io.from_keras(tmp_path / "m.h5")
    with pytest.raises(ValueError, match=r"weights must be the path of a \.weights\.h5 file"):
        fr.io.from_keras(config_of("LSTM"))
    with pytest.raises(
        TypeError, match="source must be a path, a Keras model or its configuration, it is int"
    ):
        fr.io.from_keras(3)
    changed = config_of("GRU")
    change(1, reset_after=False)(changed)
    with pytest.raises(fr.io.FormatError, match=r"layer 'gru': a bias of shape \(2, 15\) is no GRU's"):
        read("GRU", changed, tmp_path)
    with pytest.raises(fr.io.FormatError, match="layer 'gru' must have 3 arrays, it has 2"):
        read("GRU, no bias", config_of("GRU"), tmp_path)
    with pytest.raises(fr.io.FormatError, match=r"it has no layers/gru/cell/vars"):
        read("LSTM", config_of("GRU"), tmp_path)
    with pytest.raises(FileNotFoundError):
        fr.io.from_keras(tmp_path / "none.keras")


# ------------------------------------------------------------------------------------- hostile archives
def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def members(version: str = "3.15.1") -> dict[str, bytes]:
    return {
        "metadata.json": json.dumps({"keras_version": version}).encode(),
        "config.json": json.dumps(config_of("LSTM")).encode(),
        "model.weights.h5": unpacked(stored()["LSTM"]["model.weights.h5"]),
    }


def test_archives_that_are_bombs_or_none(tmp_path: Path) -> None:
    path, good = tmp_path / "m.keras", members()
    assert fr.io.from_keras(archive(path, good)) is not None
    zeros = b"\0" * (1 << 22)
    with pytest.raises(fr.io.FormatError, match=r"4194304 bytes of model\.weights\.h5 from \d+ are refused"):
        fr.io.from_keras(archive(path, good | {"model.weights.h5": zeros}, zipfile.ZIP_DEFLATED))
    with pytest.raises(fr.io.FormatError, match=r"bytes of config\.json from \d+ are refused"):
        fr.io.from_keras(archive(path, good | {"config.json": b" " * (1 << 25)}))
    with pytest.raises(fr.io.FormatError, match="compressed in a way that Keras never does"):
        fr.io.from_keras(archive(path, good, zipfile.ZIP_LZMA))
    with pytest.raises(fr.io.UnsupportedError, match=r"written by Keras 2\.15\.0"):
        fr.io.from_keras(archive(path, members("2.15.0")))
    with pytest.raises(fr.io.FormatError, match=r"it has no config\.json"):
        fr.io.from_keras(archive(path, {k: v for k, v in good.items() if k != "config.json"}))
    with pytest.raises(fr.io.FormatError, match=r"config\.json is no JSON"):
        fr.io.from_keras(archive(path, good | {"config.json": b"[" * 100_000}))
    path.write_bytes(b"no zip")
    with pytest.raises(fr.io.FormatError, match=r"damaged or no \.keras file"):
        fr.io.from_keras(path)


KERNEL = "layers/lstm/cell/vars/0"


def test_weights_that_do_not_lie_in_the_file(tmp_path: Path) -> None:
    """Arrays of 8 TB in a few bytes, and links to elsewhere."""
    path, config = tmp_path / "m.weights.h5", config_of("LSTM")

    def attempt(make: Callable[[Any], None], message: str) -> None:
        path.write_bytes(unpacked(stored()["LSTM"]["model.weights.h5"]))
        with h5py.File(path, "a") as file:
            del file[KERNEL]
            make(file)
        with pytest.raises(fr.io.FormatError, match=message):
            fr.io.from_keras(config, path)

    big, here = (1 << 20, 1 << 21), "does not lie in the file as it is"
    attempt(lambda f: f.create_dataset(KERNEL, big, "f4", chunks=(64, 64), compression="gzip"), here)
    attempt(lambda f: f.create_dataset(KERNEL, big, "f4"), here)
    attempt(lambda f: f.create_dataset(KERNEL, data=np.zeros((3, 20), "f4"), compression="gzip"), here)
    attempt(lambda f: f.create_dataset(KERNEL, (3, 20), "f4", external=[("/etc/passwd", 0, 240)]), here)
    attempt(lambda f: f.__setitem__(KERNEL, h5py.ExternalLink("/etc/passwd", "/a")), "is a link")
    attempt(lambda f: f.__setitem__(KERNEL, h5py.SoftLink("/layers/lstm/cell/vars/1")), "is a link")
    attempt(lambda f: f.create_dataset(KERNEL, data=np.zeros((3, 20), "i4")), "no array of float32")
    attempt(lambda f: f.create_dataset(KERNEL, data=["a", "b"]), "no array of float32")
    attempt(lambda f: f.create_dataset(KERNEL, data=np.zeros((3, 21), "f4")), "are no LSTM's")
    attempt(lambda f: f.create_group(KERNEL), "no array of float32")


def test_one_array_used_by_many_layers(tmp_path: Path) -> None:
    """Hard links: 200 layers of the same 256 KB must not become 50 MB."""
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((256, 256), "f4")
        for i in range(1, 200):
            file[f"layers/dense_{i}/vars/0"] = file["layers/dense/vars/0"]
    dense = {"class_name": "Dense", "config": {"name": "d", "use_bias": False, "activation": "linear"}}
    with pytest.raises(fr.io.FormatError, match="its arrays are larger than the file"):
        fr.io.from_keras({"layers": [dense] * 200}, path)


# -------------------------------------------------------------------------------------------- live Keras
PEER = pytest.mark.peer
KERAS_WARNS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # with NumPy 2


@pytest.fixture(scope="module")
def keras() -> Any:
    if find_spec("keras") is None:
        pytest.skip("keras is what these tests compare with: nox -s keras installs it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        return import_module("keras")


def predict(model: Any, x: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.predict(x, verbose=0))


@PEER
@KERAS_WARNS
@pytest.mark.parametrize("name", [*taken("keras"), *masked()])
def test_out_and_back(keras: Any, name: str, tmp_path: Path) -> None:
    model = (zoo(True) | masked())[name]
    x = draw_input(model)
    made = fr.io.to_keras(model, tmp_path / "m.keras")
    y = outputs(model, x)
    backs = [fr.io.from_keras(made), fr.io.from_keras(tmp_path / "m.keras")]
    fr.io.to_keras(model, tmp_path / "m.weights.h5")
    backs.append(fr.io.from_keras(made.to_json(), tmp_path / "m.weights.h5"))
    assert_agrees(model, x, y, predict(made, x), *(back(x) for back in backs))
    assert [type(m) for m in backs[0].modules()] == [type(m) for m in backs[1].modules()]


@PEER
@KERAS_WARNS
def test_live_models_are_read_as_files_are(keras: Any, tmp_path: Path) -> None:
    for name, case in stored().items():
        (tmp_path / "m.keras").write_bytes(unpacked(case["model.keras"]))
        live = keras.saving.load_model(tmp_path / "m.keras")
        model, read_back = fr.io.from_keras(live), fr.io.from_keras(tmp_path / "m.keras")
        assert repr(model) == repr(read_back), name
        ours, theirs = model.state_dict(), read_back.state_dict()
        assert all((ours[n] == theirs[n]).all() for n in theirs), name


@PEER
@KERAS_WARNS
def test_what_keras_has_no_equal_of(keras: Any) -> None:
    for model, message in (
        (fr.nn.Sequential(fr.nn.Linear(3, 3), fr.nn.Last(True)), "Last has an equal in Keras only behind"),
        (fr.nn.Sequential(fr.nn.LSTM(3, 3, bidirectional=True), fr.nn.Last()), "Last has an equal"),
        (fr.io.Masked(fr.nn.LSTM(3, 3, batch_first=True), fr.nn.Linear(3, 2)), "only where it ends in"),
        (
            fr.io.Masked(fr.nn.LSTM(3, 3, batch_first=True, bidirectional=True)),
            r"Masked\(fill='previous'\) around",
        ),
        (
            fr.io.Masked(fr.nn.Embedding(3, 3), fr.nn.LSTM(3, 3, batch_first=True), value=1),
            "masks id 0 alone",
        ),
    ):
        with pytest.raises(fr.io.UnsupportedError, match=message):
            fr.io.to_keras(model)
    for name, option in NO_EQUAL["keras"].items():
        with pytest.raises(fr.io.UnsupportedError, match=re.escape(option)):
            fr.io.to_keras(zoo(True)[name])
    with pytest.raises(ValueError, match=r"path must end in \.keras or \.weights\.h5"):
        fr.io.to_keras(fr.nn.Linear(3, 2), "m.h5")
