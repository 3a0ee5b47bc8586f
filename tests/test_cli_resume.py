"""`fusedrnn train --resume`: a run that was stopped goes on to the same bits."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import SMALL, assert_same_bits, failure, metrics, small_training, write_book

from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import load, save
from fusedrnn.cli.config import LEARNING_RATES
from fusedrnn.cli.invocation import program
from fusedrnn.cli.report import sample_text
from fusedrnn.cli.signals import stop_requests


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_book(tmp_path)


CASES: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"cell": "gru", "layers": 2, "dropout": 0.3},
    {"recurrent_dropout": 0.3, "zoneout": 0.1, "weight_dropout": 0.2},
    {"cell": "rnn", "dtype": "float64"},
    {"layer_norm": True, "zoneout": 0.1, "init": "orthogonal", "forget_bias": 1.0},
    {"proj_size": 5, "layers": 2, "dropout": 0.3, "dropout_mode": "sequence"},
    {"peephole": True, "init": "chrono:20", "weight_dropout": 0.2},
    {"cell": "gru", "reset_after": False, "recompute": "auto", "recurrent_dropout": 0.3},
    {"cell": "rnn", "nonlinearity": "relu", "init": "identity", "recompute": 4},
    *({"optimizer": name} for name in LEARNING_RATES if name != "adam"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_resumed_run_is_the_same_run(case: dict[str, Any], tmp_path: Path) -> None:
    """N updates against k updates, a checkpoint on the disk, and N - k in a new object."""
    total, cut = 40, 17
    whole = small_training(**case)
    updates = [whole.step() for _ in range(total)]

    first = small_training(**case)
    for _ in range(cut):
        first.step()
    path = tmp_path / "c.safetensors"
    save(path, first.checkpoint(1.0))
    second = small_training(**case)
    second.restore(load(path))
    assert [second.step() for _ in range(total - cut)] == updates[cut:]
    assert_same_bits(whole.checkpoint(0), second.checkpoint(0))


def test_sampling_and_validation_change_nothing() -> None:
    plain, watched = small_training(dropout=0.2), small_training(dropout=0.2)
    for _ in range(10):
        plain.step()
        watched.step()
        watched.validation_bits()
        sample_text(watched, 5)
    assert_same_bits(plain.checkpoint(0), watched.checkpoint(0))


def test_ctrl_c_then_the_command_it_names_gives_the_same_bits(book: Path, tmp_path: Path) -> None:
    """The whole way: a process stopped by SIGINT, the very command it prints, against an undisturbed run."""
    options = [str(book), "--epochs", "12", "--dropout", "0.1", *SMALL]
    out, undisturbed = tmp_path / "stopped run", tmp_path / "whole"
    assert main(["train", "--output", str(undisturbed), *options]) == 0

    command = [sys.executable, "-m", "fusedrnn", "train", "--output", str(out), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        deadline = time.monotonic() + 60
        while not (out / "samples.txt").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = stderr.splitlines()
    stopped = load(out / "checkpoint.safetensors").progress["step"]
    whole = load(undisturbed / "checkpoint.safetensors")
    assert 0 < stopped < whole.progress["step"]
    assert f"saved at update {stopped}" in line

    words = shlex.split(line.partition("to continue: ")[2])
    assert shutil.which(words[0]) == sys.executable
    assert words[1:] == ["-m", "fusedrnn", "train", "--resume", str(out)]
    assert main(words[3:]) == 0
    assert_same_bits(load(out / "checkpoint.safetensors"), whole)
    steps = [int(row["step"]) for row in metrics(out)]
    assert steps == list(range(1, whole.progress["step"] + 1))
    for column in ("bits_per_char", "grad_norm", "learning_rate"):
        assert [r[column] for r in metrics(out)] == [r[column] for r in metrics(undisturbed)]


@pytest.fixture
def python_sigint() -> Iterator[None]:
    """Python's own handler of SIGINT; a job started in the background ignores it, and so may these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_sigint")
def test_second_ctrl_c_ends_at_once() -> None:
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_suggested_commands_start_as_this_one_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "my env" / "fusedrnn"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "fusedrnn"
    monkeypatch.setattr(sys, "argv", ["/somewhere/fusedrnn/__main__.py"])
    assert program() == f"{sys.executable} -m fusedrnn"


def test_resume_refuses_another_run(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["train", str(book), "--output", str(out), "--epochs", "1", *SMALL]) == 0
    before = (out / "checkpoint.safetensors").read_bytes()
    assert "--hidden 32 does not fit" in failure(capsys, "--resume", str(out), "--hidden", "32", status=2)
    assert "its last: more --epochs" in failure(capsys, "--resume", str(out), "--hidden", "16", status=2)
    book.write_text(book.read_text("utf-8") + "!", "utf-8")
    line = failure(capsys, "--resume", str(out), "--epochs", "2")
    assert "the text is not the one this run was trained on" in line
    book.unlink()
    assert f"cannot read {book}: No such file" in failure(capsys, "--resume", str(out), "--epochs", "2")
    assert (out / "checkpoint.safetensors").read_bytes() == before


def test_more_epochs_continue_a_finished_run(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["train", str(book), "--output", str(out), "--epochs", "1", *SMALL]) == 0
    step = load(out / "checkpoint.safetensors").progress["step"]
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 0
    assert load(out / "checkpoint.safetensors").progress["step"] == 2 * step
