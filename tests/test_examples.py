"""Every example learns what it claims, runs as a program, and draws its picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.examples import authorship, bare_rnn, digits, forecast, gradient_flow, waveforms

NAMES = ("forecast", "waveforms", "bare_rnn", "authorship", "digits", "gradient_flow")
# A few updates of each as a program; learning is tested below.
SHORT = {"forecast": 2, "waveforms": 1, "bare_rnn": 20, "authorship": 1, "digits": 2, "gradient_flow": 2}


def test_forecast_is_the_system_it_says() -> None:
    """LSTM(50) -> LSTM(50) -> Linear(1), lengths of 10, batches of 10, Adam 0.01, 100 passes."""
    assert (forecast.LENGTH, forecast.HIDDEN, forecast.BATCH) == (10, 50, 10)
    assert (forecast.LEARNING_RATE, forecast.EPOCHS) == (0.01, 100)
    years, series = forecast.sunspots()
    assert (years[0], years[-1], len(series)) == (1700, 2008, 309)
    inputs, targets = forecast.windows(series)
    assert inputs.shape == (10, 299, 1)
    np.testing.assert_array_equal(inputs[:, 7, 0], series[7:17])
    assert targets[7, 0] == series[17]


def test_forecast_beats_next_year_as_this_year() -> None:
    result = forecast.train(epochs=30)
    assert result.losses[-1] < 0.15 * result.losses[0]
    assert result.error < 0.8 * result.naive_error
    assert result.free.std() > 20, "the forecast on its own has lost the cycle"


def test_waveforms_are_told_apart() -> None:
    result = waveforms.train(epochs=8)
    assert result.accuracies[-1] > 0.75
    assert result.confusion.sum() == waveforms.TEST_WAVES
    assert np.trace(result.confusion) / result.confusion.sum() == result.accuracies[-1]


def test_bare_rnn_has_right_gradients_and_remembers() -> None:
    result = bare_rnn.train(updates=1500)
    assert result.gradient_error < 1e-7
    assert result.recalled == 1.0
    # Everything but the key can be had without memory; below this the gradient went back all the way.
    assert result.losses[-1] < 0.5 * np.log(bare_rnn.KEYS) / (bare_rnn.DOTS + 2)
    assert result.gradient_after[0] / result.gradient_after[-1] > 0.1
    assert result.gradient_before[0] / result.gradient_before[-1] < 0.1


@pytest.mark.parametrize("way", authorship.WAYS)
def test_authorship_is_learned_with_every_way_of_clipping(way: str) -> None:
    result = authorship.train(way, epochs=5)
    assert result.accuracy > 0.5  # of five modules
    if way == authorship.WAYS[0]:
        assert result.clipped_norms == result.norms
    else:
        assert max(result.norms) > 1
        assert max(result.clipped_norms) < 0.7 * max(result.norms)
    if way == authorship.WAYS[1]:
        assert max(result.clipped_norms) <= authorship.MAX_NORM * (1 + 1e-6)


def test_authorship_lines_are_encoded_with_their_lengths() -> None:
    lines, held_out = authorship.read_lines(np.random.default_rng(0))
    for part in (lines, held_out):
        steps = np.arange(part.x.shape[0])[:, None]
        np.testing.assert_array_equal(part.x.sum(axis=2), steps < part.lengths)
        assert set(np.unique(part.labels)) == set(range(len(authorship.MODULES)))
    assert len(held_out.labels) == pytest.approx(0.25 * len(lines.labels), rel=0.01)


def test_digits_are_told_odd_or_even() -> None:
    result = digits.train(epochs=15)
    assert result.losses[-1] < 0.15
    assert result.accuracies[-1] > 0.93
    assert len(result.mistakes) == round((1 - result.accuracies[-1]) * 450)


def test_gradient_flow_vanishes_where_it_says() -> None:
    results = {name: gradient_flow.train(name, updates=1) for name in gradient_flow.NETWORKS}
    reach = {name: r.before["h"][0, 0, 0] / r.before["h"][0, 0, -1] for name, r in results.items()}
    assert reach["Elman"] < 1e-9 < 1e-3 < reach["Elman, orthogonal"]
    assert reach["LSTM"] < 1e-3 * reach["LSTM, forget bias 1"]
    assert set(results["LSTM"].after) == {"h", "c"}


def test_gradient_flow_arrives_where_a_key_is_learned() -> None:
    result = gradient_flow.train("Elman, orthogonal")
    assert result.recalled == 1.0
    assert result.after["h"][0, 0, 0] > 0.1 * result.after["h"][0, 0, -1]


@pytest.mark.parametrize("name", NAMES)
def test_runs_as_a_program(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [sys.executable, "-m", f"fusedrnn.examples.{name}", "--epochs", str(SHORT[name])]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert f"picture: {name}.png" in result.stdout
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "epoch/s" in result.stderr or "update/s" in result.stderr, "no progress was shown"


def test_help_explains(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        forecast.main(["--help"])
    text = capsys.readouterr().out
    for words in ("LSTM(50, all steps) -> LSTM(50, last step) -> Linear(1)", "--epochs", "(default: 100)"):
        assert words in text


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "0", "must be at least 1, it is 0"),
        ("--epochs", "many", "must be a whole number, it is 'many'"),
        ("--seed", "-1", "must be at least 0, it is -1"),
        ("--plot", "/no/x.png", "cannot write /no/x.png: there is no directory /no"),
    ],
)
def test_wrong_options(option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        digits.main([option, value])
    assert caught.value.code == 2
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_missing_package_and_unwritable_picture(tmp_path: Path) -> None:
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise ModuleNotFoundError('none', name='sklearn')\n")
    places = os.pathsep.join([str(tmp_path), str(Path(fr.__file__).parents[1])])
    picture = tmp_path / "x.png"
    picture.mkdir()

    def error(name: str) -> str:
        command = [sys.executable, "-m", f"fusedrnn.examples.{name}", "--epochs", "1", "--plot", str(picture)]
        environment = {**os.environ, "PYTHONPATH": places}
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        return result.stderr.splitlines()[-1]

    missing = "this example needs sklearn, which is not installed: pip install 'fusedrnn[examples]'"
    assert error("digits") == f"error: {missing}"
    assert error("bare_rnn") == f"error: cannot write {picture}: Is a directory"
