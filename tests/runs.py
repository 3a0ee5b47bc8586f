"""What the tests of `fusedrnn train` share: a small text, small runs, and what to look at after them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import Checkpoint
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.text import Text
from fusedrnn.cli.training import Training

SMALL = ["--hidden", "16", "--embedding", "8", "--batch", "4", "--seq-len", "16", "--every", "40"]
FILES = {"checkpoint.safetensors", "metrics.csv", "samples.txt", "training.png"}


def write_book(directory: Path) -> Path:
    """A small text with structure to learn: 2016 characters, 29 windows of 4 x 16 to a pass, and a tail."""
    path = directory / "book.txt"
    path.write_text("the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 28, "utf-8")
    return path


def run(*arguments: str, path: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; modules in `path` hide others of the same name."""
    command = [sys.executable, "-m", "fusedrnn", *arguments]
    package = str(Path(fr.__file__).parents[1])
    places = os.pathsep.join([*([str(path)] if path else []), package])
    environment = {**os.environ, "PYTHONPATH": places}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, **options)


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line a failed command must leave on stderr."""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("fusedrnn train: ")
    return line


def failure(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """Runs a command that must fail with one line, here; returns the line."""
    capsys.readouterr()
    assert main(["train", *arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fusedrnn train: ")
    return line


def metrics(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_bits(left: Checkpoint, right: Checkpoint) -> None:
    """Equal weights, optimizer, carried state, random state and position."""

    def compare(a: Any, b: Any, name: str) -> None:
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            assert a.tobytes() == b.tobytes(), name
        elif isinstance(a, dict):
            assert list(a) == list(b), name
            for key in a:
                compare(a[key], b[key], f"{name}.{key}")
        elif isinstance(a, (list, tuple)):
            assert len(a) == len(b), name
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                compare(x, y, f"{name}.{i}")
        else:
            assert a == b, name

    assert left.trees["model"], "nothing to compare"
    compare(left.trees, right.trees, "trees")
    assert left.progress["step"] == right.progress["step"]
    assert left.config == right.config


def small_training(device: str = "cpu", **changes: Any) -> Training:
    text = Text("".join(chr(97 + (i * i + i // 7) % 23) for i in range(3000)), ())
    config = TrainConfig(hidden=12, embedding=5, seq_len=11, batch=3, epochs=1, warmup=5)
    return Training(replace(config, **changes).resolved(), text, device)
