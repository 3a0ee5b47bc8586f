"""Training that has exploded says so, stops with a failure, and leaves the last good checkpoint."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import floating_point
import numpy as np
import pytest
from runs import SMALL, failure, metrics, small_training, write_book

import fusedrnn.cli.plot
from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import load
from fusedrnn.cli.config import LEARNING_RATES
from fusedrnn.cli.errors import CommandError, ExplodedError
from fusedrnn.cli.generate import choose


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusedrnn.cli.plot, "_drawn", lambda *_: b"")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_book(tmp_path)


@pytest.mark.parametrize("optimizer", sorted(LEARNING_RATES))
@pytest.mark.parametrize("epochs", ["0.1", "3"])
def test_a_rate_beyond_reason(
    optimizer: str, epochs: str, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As short a run as ends before many updates have gone wrong, and a longer one."""
    out = tmp_path / "out"
    options = ["--optimizer", optimizer, "--epochs", epochs, "--lr", "1e30"]
    line = failure(capsys, str(book), "--output", str(out), *SMALL, *options)
    assert line.startswith("fusedrnn train: training has exploded: ")
    assert "train again with a lower --lr (it is 1e+30)" in line
    assert line.endswith("; nothing was saved")
    assert not (out / "checkpoint.safetensors").exists()
    assert (out / "metrics.csv").stat().st_size > 100


def test_the_last_good_checkpoint_is_kept(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(["train", str(book), "--output", str(out), "--epochs", "2", *SMALL]) == 0
    before = (out / "checkpoint.safetensors").read_bytes()
    monkeypatch.setattr("fusedrnn.cli.training.build_schedule", lambda *_: lambda step: 1e10)
    line = failure(capsys, "--resume", str(out), "--epochs", "4")
    step = load(out / "checkpoint.safetensors").progress["step"]
    assert "training has exploded" in line
    assert line.endswith(f"; update {step} is saved")
    assert (out / "checkpoint.safetensors").read_bytes() == before
    assert int(metrics(out)[-1]["step"]) > step  # what went wrong can be looked at


def test_an_absurd_loss_ends_the_run_after_some_updates() -> None:
    training = small_training(optimizer="sgd", lr=1e-30, warmup=0)
    with training.model[3].bias.writable() as bias:
        bias[0] = 1e4
    for _ in range(19):
        assert np.isfinite(training.step().grad_norm)
    with pytest.raises(ExplodedError, match="bits per character and has been absurd for 20 updates"):
        training.step()
    with pytest.raises(ExplodedError, match="bits per character held out at update 20"):
        training.validation_bits()


def test_a_text_of_one_character_is_not_absurd(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 3000)
    assert (
        main(["train", str(tmp_path / "a.txt"), "--output", str(tmp_path / "out"), "--epochs", "0.2", *SMALL])
        == 0
    )


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-320, 1e-300, 1e-3, 1.0, 1e308])
def test_any_temperature(temperature: float, flush: bool) -> None:
    """Where another library lets the processor take denormals for 0, too."""
    scores = np.array([1e30, -3e38, 2e30, 0], np.float32)
    rng = np.random.default_rng(0)
    control = floating_point.Control() if flush and floating_point.SUPPORTED else None
    with control.set_to(floating_point.DEFAULT | floating_point.FLUSH) if control else nullcontext():
        chosen = {choose(scores, temperature, rng) for _ in range(50)}
    assert chosen == {2} if temperature <= 1 else chosen == {0, 1, 2, 3}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(value: float) -> None:
    with pytest.raises(CommandError, match="scores are not finite, its training has exploded"):
        choose(np.array([1, value], np.float32), 1.0, np.random.default_rng(0))


def test_a_draw_at_the_very_end_is_the_last_class() -> None:
    """random() below 1 times the sum may be rounded up to the sum."""

    class Highest(np.random.Generator):
        def random(self, *_: object) -> float:  # type: ignore[override]
            return 1.0

    assert choose(np.zeros(3, np.float32), 1.0, Highest(np.random.PCG64())) == 2
