"""`fusedrnn train`: what a run does and writes."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import re
import struct
import subprocess
import sys
import termios
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from runs import FILES, SMALL, failure, metrics, run, write_book

import fusedrnn as fr
from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import load
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.fields import spelled
from fusedrnn.cli.text import Text


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_book(tmp_path)


def test_a_run_in_bf16_learns_and_resumes_in_it(book: Path, tmp_path: Path) -> None:
    runs = {}
    for precision in ("ieee", "bf16"):
        out = tmp_path / precision
        words = ["train", str(book), "--output", str(out), "--epochs", "4", "--lr", "0.01", *SMALL]
        result = run(*words, "--precision", precision)
        assert result.returncode == 0, result.stderr
        runs[precision] = [float(row["bits_per_char"]) for row in metrics(out)]
        assert load(out / "checkpoint.safetensors").config.precision == precision
    assert runs["bf16"] != runs["ieee"]
    assert np.mean(runs["bf16"][-5:]) < 0.7 * np.mean(runs["bf16"][:5])
    np.testing.assert_allclose(runs["bf16"], runs["ieee"], rtol=0.05)


def test_a_run_learns_and_writes_its_files(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("train", str(book), "--output", str(out), "--epochs", "4", "--lr", "0.01", *SMALL)
    assert result.returncode == 0, result.stderr
    assert {p.name for p in out.iterdir()} == FILES
    rows = metrics(out)
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    first = np.mean([float(row["bits_per_char"]) for row in rows[:5]])
    last = np.mean([float(row["bits_per_char"]) for row in rows[-5:]])
    assert last < 0.7 * first
    held_out = [float(row["validation_bits_per_char"]) for row in rows if row["validation_bits_per_char"]]
    assert len(held_out) >= 2
    assert held_out[-1] < held_out[0]
    assert all(float(row["grad_norm"]) > 0 and float(row["chars_per_second"]) > 0 for row in rows)
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "samples.txt").read_text().count("==== update") == len(held_out)
    assert "held out" in result.stdout
    assert f"sample {out}" in result.stdout


def test_progress_bar_shows_speed_loss_and_norm(book: Path, tmp_path: Path) -> None:
    """On a terminal: a pseudo-terminal stands in for one."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [sys.executable, "-m", "fusedrnn", "train", str(book), "--output", str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--epochs", "1", *SMALL], stdout=subprocess.DEVNULL, stderr=slave
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            shown += piece
        process.wait(60)
    os.close(master)
    assert process.returncode == 0
    assert re.search(rb"[\d.]+k?char/s.*bits/char \d\.\d+.*grad norm \d+\.\d+", shown), shown[-500:]


def test_runs_are_numbered(book: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "007").mkdir(parents=True)
    result = run("train", str(book), "--epochs", "0.1", *SMALL, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {p.name for p in (tmp_path / "runs" / "008").iterdir()} == FILES


def test_default_text_and_its_hash(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--epochs", "0.002", "--hidden", "8", "--embedding", "8"]
    assert main(["train", "--output", str(out), *options]) == 0
    text = load(out / "checkpoint.safetensors").text
    assert text["sources"] == []
    topics = importlib.import_module("pydoc_data.topics").topics
    whole = "".join(topics[name] for name in sorted(topics))
    assert text["sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    assert text["length"] == len(whole) > 300_000


def test_files_are_joined_in_order(tmp_path: Path) -> None:
    one, two = tmp_path / "1.txt", tmp_path / "2.txt"
    one.write_text("ab\n" * 300, "utf-8")
    two.write_text("xyz€\n" * 300, "utf-8")
    out = tmp_path / "out"
    assert main(["train", str(two), str(one), "--output", str(out), "--epochs", "0.1", *SMALL]) == 0
    saved = load(out / "checkpoint.safetensors")
    assert saved.text["sha256"] == Text(two.read_text("utf-8") + one.read_text("utf-8"), ()).sha256
    assert saved.text["sources"] == [str(two), str(one)]
    assert saved.vocabulary.to_json() == "\nabxyz€"


def test_minutes_end_a_run_that_can_be_continued(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("train", str(book), "--output", str(out), "--minutes", "0.01", *SMALL)
    assert result.returncode == 0, result.stderr
    saved = load(out / "checkpoint.safetensors")
    assert saved.config.epochs is None
    assert saved.progress["step"] >= 1
    assert "to continue: " in result.stdout
    assert main(["train", "--resume", str(out), "--minutes", "0.001"]) == 0
    assert load(out / "checkpoint.safetensors").progress["step"] > saved.progress["step"]


def test_minutes_alone_do_not_go_with_a_falling_rate(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(book), "--minutes", "1", "--schedule", "cosine", "--output", str(tmp_path / "out")]
    assert "needs --epochs" in failure(capsys, *arguments, status=2)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for item in fields(TrainConfig):
        flag = spelled(item.name, item.default)
        value = flag if isinstance(item.default, bool) else item.metadata.get("shown", item.default)
        assert f"{flag.split()[0]} " in text
        assert f"(default: {value})" in text.replace("- ", "-")  # where a line ends
    for words in ("examples:", "--resume runs/001", "checkpoint.safetensors", "bits per character"):
        assert words in text


def test_a_terminal_that_cannot_show_the_text_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("日本語テキスト😀 é\n" * 200, "utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    train = ("train", str(tmp_path / "book.txt"), "--output", str(tmp_path / "out"), "--epochs", "1", *SMALL)
    for arguments in (train, ("sample", str(tmp_path / "out"), "--seed", "1", "--length", "20")):
        command = [sys.executable, "-m", "fusedrnn", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert ran.returncode == 0, ran.stderr
        assert "\\u" in ran.stdout
    assert "日" in (tmp_path / "out" / "samples.txt").read_text("utf-8")
