"""The command line and the examples with --device: what they compute is what they compute anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import FILES, SMALL, assert_same_bits, small_training, write_book
from test_device_functions import drawn, same_kernels

import fusedrnn as fr
from fusedrnn.cli import checkpoint as checkpoints
from fusedrnn.cli import main
from fusedrnn.examples import _shared, authorship, bare_rnn, digits, forecast, waveforms

cuda = pytest.mark.cuda


# ----------------------------------------------------------------------------------------- command line
@cuda
@pytest.mark.parametrize(("first", "second"), [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_elsewhere_to_the_same_bits(first: str, second: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"cell": "gru", "layers": 2, "dropout": 0.3, "epochs": 0.1}
    with same_kernels():
        whole = small_training(**options)
        updates = [whole.step() for _ in range(5)]
        training = small_training(first, **options)
        assert [training.step() for _ in range(3)] == updates[:3]
        bits = whole.validation_bits()
        checkpoints.save(tmp_path / "c.safetensors", training.checkpoint(1.0))
        resumed = small_training(second, **options)
        assert resumed.device == second
        resumed.restore(checkpoints.load(tmp_path / "c.safetensors"))
        assert [resumed.step() for _ in range(2)] == updates[3:]
        assert_same_bits(whole.checkpoint(0), resumed.checkpoint(0))
        assert resumed.validation_bits() == bits


@cuda
def test_train_and_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    book, out = write_book(tmp_path), tmp_path / "out"
    options = ["--epochs", "0.1", "--device", "cuda", *SMALL]
    assert main(["train", str(book), "--output", str(out), *options]) == 0
    text = capsys.readouterr().out
    assert f"adam 0.003, {fr._native.cuda_device()}" in text
    assert {p.name for p in out.iterdir()} == FILES
    arguments = ["sample", str(out), "--seed", "1", "--length", "5", "--temperature", "0.5"]
    assert main([*arguments, "--device", "cuda"]) == 0
    written = capsys.readouterr().out
    with same_kernels():
        assert main(arguments) == 0
    assert capsys.readouterr().out == written
    monkeypatch.setattr(fr.cuda, "why_not", lambda: "it is Sunday")
    assert main([*arguments, "--device", "cuda"]) == 1
    assert capsys.readouterr().err.endswith('device="cuda" cannot be used: it is Sunday\n')


@cuda
def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cuda"]) == 0
    assert f"device           {fr._native.cuda_device()}" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------- examples
def small_waveforms(patch: pytest.MonkeyPatch) -> Callable[..., Any]:
    patch.setattr(waveforms, "TRAIN_WAVES", 8)
    patch.setattr(waveforms, "TEST_WAVES", 12)
    patch.setattr(waveforms, "BATCH", 5)
    patch.setattr(waveforms, "STEPS", 4)
    return waveforms.train


def small_forecast(patch: pytest.MonkeyPatch) -> Callable[..., Any]:
    patch.setattr(forecast, "HIDDEN", 6)
    patch.setattr(forecast, "BATCH", 25)
    patch.setattr(forecast, "FREE_YEARS", 3)
    patch.setattr(forecast, "sunspots", lambda: (np.arange(60), 1 + np.sin(np.arange(60, dtype=np.float32))))
    return forecast.train


def small_digits(patch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def load(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        images, odd = drawn(8, 12, 8), (drawn(12, 1) > 0).astype(np.float32)
        return images, odd, images + 1, odd

    patch.setattr(digits, "BATCH", 7)
    patch.setattr(digits, "load", load)
    return digits.train


def small_authorship(patch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name, value in {"LINES": 6, "LONGEST": 24, "HIDDEN": 6, "BATCH": 11}.items():
        patch.setattr(authorship, name, value)
    return lambda **options: authorship.train(authorship.WAYS[2], **options)


@cuda
@pytest.mark.parametrize("small", [small_waveforms, small_forecast, small_digits, small_authorship])
def test_examples(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = small(monkeypatch)
    with same_kernels():
        expected = train(epochs=1)
    ours = train(epochs=1, place=_shared.Place("cuda"))
    for field in fields(ours):
        a, b = getattr(ours, field.name), getattr(expected, field.name)
        if field.name.endswith("norms"):  # a device adds up what lies side by side as one piece
            np.testing.assert_allclose(a, b, rtol=1e-13)
        else:
            np.testing.assert_array_equal(a, b)


@cuda
def test_bare_rnn() -> None:
    x, targets = bare_rnn.make_sequences()
    weights = bare_rnn.make_weights(np.random.default_rng(0))
    ours = bare_rnn.gradients(weights, x, targets, "cuda")
    with same_kernels():
        expected = bare_rnn.gradients(weights, x, targets)
        step = bare_rnn.gradient_by_step(weights, x, targets)
    assert ours[0] == expected[0]
    assert {name: g.tobytes() for name, g in ours[1].items()} == {
        name: g.tobytes() for name, g in expected[1].items()
    }
    np.testing.assert_array_equal(bare_rnn.gradient_by_step(weights, x, targets, "cuda"), step)


def test_an_example_says_why_there_is_no_device(tmp_path: Path) -> None:
    package = str(Path(fr.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package, "FUSEDRNN_CUDA_PLUGIN": str(tmp_path / "none.so")}
    command = [sys.executable, "-m", "fusedrnn.examples.waveforms", "--epochs", "1", "--device", "cuda"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path
    )
    assert result.returncode == 1
    assert result.stderr.startswith('error: --device: device="cuda" cannot be used: ')
    assert "Traceback" not in result.stderr
