"""Models that other libraries saved, with what they computed: oracles/io_*.json, written by io_oracles.py."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_models import assert_agrees, outputs
from io_oracles import ORACLES, unpacked

import fusedrnn as fr
from fusedrnn.io import safetensors_file


def cases(form: str) -> list[Any]:
    content = json.loads((ORACLES / f"io_{form}.json").read_text())
    return [pytest.param(case, id=case["name"]) for case in content["cases"]]


def place(case: dict[str, Any], name: str, folder: Path) -> Path:
    (folder / name).write_bytes(unpacked(case[name]))
    return folder / name


def given(case: dict[str, Any]) -> Any:
    x = np.array(case["x"])
    return x.astype(np.float32) if x.dtype.kind == "f" else x


def check(model: Any, case: dict[str, Any]) -> Any:
    """Holds the stored numbers and ours to the reference; returns ours."""
    x = given(case)
    y, theirs = outputs(model, x), np.array(case["y"], np.float32)
    assert y.shape == theirs.shape
    assert_agrees(model, x, y, theirs)
    return y


@pytest.mark.parametrize("case", [*cases("keras"), *cases("keras_reset_before")])
def test_keras(case: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py, of the extra io, reads Keras's files")
    path = place(case, "model.keras", tmp_path)
    model = fr.io.from_keras(path)
    assert isinstance(model, fr.nn.Sequential)
    assert not model.training
    assert all(m.batch_first for m in model.modules() if isinstance(m, fr.nn.Recurrent))
    y = check(model, case)
    weights = place(case, "model.weights.h5", tmp_path)
    with zipfile.ZipFile(path) as archive:
        text = archive.read("config.json").decode()
    (tmp_path / "model.json").write_text(text)
    for config in (text, json.loads(text), json.loads(text)["config"], tmp_path / "model.json"):
        assert (fr.io.from_keras(config, weights)(given(case)) == y).all()
    fr.io.save(model, tmp_path / "m.safetensors")
    assert repr(fr.io.load(tmp_path / "m.safetensors")) == repr(model)


@pytest.mark.parametrize("case", cases("torch"))
def test_torch(case: dict[str, Any], tmp_path: Path) -> None:
    arrays, _ = safetensors_file.read(place(case, "state_dict.safetensors", tmp_path))
    options = {n: v for n, v in case["options"].items() if n in ("batch_first", "nonlinearity")}
    check(fr.io.from_torch(arrays, **options), case)


@pytest.mark.parametrize("case", cases("onnx"))
def test_onnx(case: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx, of the extra io, reads its graphs")
    check(fr.io.from_onnx(place(case, "model.onnx", tmp_path)), case)


@pytest.mark.parametrize("case", cases("onnx_reset_before"))
def test_onnx_with_the_reset_before_the_product(case: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx, of the extra io, reads its graphs")
    model = fr.io.from_onnx(place(case, "model.onnx", tmp_path))
    assert not model[0].reset_after
    x, h0 = given(case), np.array(case["h0"], np.float32)
    y, theirs = model(x, state=[h0]), np.array(case["y"], np.float32)
    assert y.shape == theirs.shape
    assert_agrees(model, x, y, theirs, states=[h0])
