"""The commands convert and inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_models import draw_input, zoo
from io_oracles import ORACLES, unpacked
from runs import SMALL, write_book

import fusedrnn as fr
from fusedrnn.cli import checkpoint as checkpoints
from fusedrnn.cli import main
from fusedrnn.io import safetensors_file


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A classifier, which is in model.safetensors of the folder that tests run in."""
    monkeypatch.chdir(tmp_path)
    made = zoo(True)["forecaster"]
    fr.io.save(made, "model.safetensors")
    return made


def stored(name: str) -> dict[str, Any]:
    content = json.loads((ORACLES / "io_keras.json").read_text())
    return next(case for case in content["cases"] if case["name"] == name)


def test_there_and_back(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="onnx, of the extra io, reads and writes these files")
    assert main(["convert", "model.safetensors", "model.onnx", "--lengths"]) == 0
    assert "model.onnx: " in capsys.readouterr().out
    assert main(["convert", "model.onnx", "back.safetensors"]) == 0
    x = draw_input(model)
    assert (fr.io.load("back.safetensors")(x) == model(x)).all()
    assert main(["inspect", "model.onnx"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "ONNX graph",
        "x, h0_0, c0_0, h0_1, c0_1, lengths",
        "y, hn_0",
        "2 LSTM",
        "(3): Linear(4, 2)",
    ):
        assert text in shown


def test_from_keras(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py", reason="h5py, of the extra io, reads Keras's files")
    case = stored("stacked")
    for name in ("model.keras", "model.weights.h5"):
        Path(name).write_bytes(unpacked(case[name]))
    assert main(["convert", "model.keras", "a.safetensors"]) == 0
    import zipfile

    with zipfile.ZipFile("model.keras") as archive:
        Path("model.json").write_bytes(archive.read("config.json"))
    assert main(["convert", "model.json", "b.safetensors", "--weights", "model.weights.h5"]) == 0
    x = np.array(case["x"], np.float32)
    assert (fr.io.load("a.safetensors")(x) == fr.io.load("b.safetensors")(x)).all()
    capsys.readouterr()
    assert main(["inspect", "model.keras"]) == 0
    shown = capsys.readouterr().out
    assert "keras_version" in shown
    assert "layers/lstm_1/cell/vars/2" in shown
    assert "(6): Linear(3, 4)" in shown
    assert main(["inspect", "model.weights.h5"]) == 0
    assert "layers/dense/vars/0" in capsys.readouterr().out


def test_the_model_of_a_run(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(write_book(Path())), *SMALL, "--epochs", "0.1", "--output", "run"]) == 0
    assert main(["convert", "run", "a.safetensors"]) == 0
    assert main(["convert", "run/checkpoint.safetensors", "b.safetensors"]) == 0
    ids = np.arange(6).reshape(3, 2)
    found, again = fr.io.load("a.safetensors"), fr.io.load("b.safetensors")
    weights = checkpoints.load(Path("run/checkpoint.safetensors")).trees["model"]
    assert all((found.state_dict()[name] == array).all() for name, array in weights.items())
    assert found(ids).shape == (3, 2, len(weights["0.weight"]))
    assert (again(ids) == found(ids)).all()
    assert main(["inspect", "run/checkpoint.safetensors"]) == 0
    assert "(0): Embedding(" in capsys.readouterr().out


def test_state_dict_of_a_layer(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gru = zoo()["GRU, 2 layers"]
    safetensors_file.write("layer.safetensors", gru.state_dict(), {"format": "pt"})
    assert main(["convert", "layer.safetensors", "gru.safetensors"]) == 0
    x = draw_input(gru)
    assert (fr.io.load("gru.safetensors")(x)[0] == gru(x)[0]).all()


def test_inspect_shows_what_cannot_be_read(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"a.weight": np.zeros((2, 3), np.float32), "b\x1b[2J.x": np.zeros((), np.float32)}
    safetensors_file.write("other.safetensors", arrays, {"note": "text \x1b]0;title\x07"})
    assert main(["inspect", "other.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert "2 x 3" in shown
    assert "a number" in shown
    assert "not read by fusedrnn: the state dict is of 2 layers" in shown
    assert "\x1b" not in shown
    assert main(["inspect", "model.safetensors"]) == 0
    assert "as fusedrnn reads it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "model.pt", "a.onnx"], "model.pt is a pickle, and reading one executes what it holds"),
        (["convert", "none.onnx", "a.onnx"], "cannot read none.onnx: No such file or directory"),
        (["convert", "model.safetensors", "a.pt"], "cannot write a.pt: a.pt: .safetensors, .onnx"),
        (["convert", "model.safetensors", "no/a.safetensors"], "cannot write no/a.safetensors: No such file"),
        (["convert", "model.safetensors", "a.safetensors", "--lengths"], "lengths must be False"),
        (["convert", "model.safetensors", "a.onnx", "--weights", "w.h5"], "weights must be None"),
        (["convert", "char.safetensors", "a.onnx"], "char.safetensors"),
        (["convert", "folder", "a.onnx"], "cannot read folder/checkpoint.safetensors: No such file"),
        (["convert", "model.xyz", "a.onnx"], ".safetensors, .keras, .onnx and .json"),
        (["inspect", "model.xyz"], ".safetensors, .keras, .weights.h5 and .onnx files are shown"),
        (["inspect", "bad.safetensors"], "bad.safetensors is damaged or no safetensors file"),
    ],
)
def test_errors_are_one_line(
    model: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    safetensors_file.write("char.safetensors", {}, {"format": "fusedrnn-char"})
    Path("bad.safetensors").write_bytes(b"none")
    Path("folder").mkdir()
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("a.onnx").exists()


def test_the_checkpoint_of_a_run_is_not_replaced(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    book = str(write_book(Path()))
    assert main(["train", book, "--output", "run", "--epochs", "0.1", *SMALL]) == 0
    checkpoint = Path("run") / checkpoints.FILE_NAME
    before = checkpoint.read_bytes()
    capsys.readouterr()
    assert main(["convert", "model.safetensors", str(checkpoint)]) == 1
    assert "is the checkpoint of a run of fusedrnn train: choose another name" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before
    for text in (b"", b"of another program"):
        Path("other.safetensors").write_bytes(text)
        assert main(["convert", "model.safetensors", "other.safetensors"]) == 0
    assert main(["convert", "run", "other.safetensors"]) == 0
