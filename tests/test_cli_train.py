"""`fusedrnn train`: what it writes, that resuming changes no bit, what it says when something is wrong."""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import importlib
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.cli import main
from fusedrnn.cli import train as train_module
from fusedrnn.cli.checkpoint import Checkpoint, load
from fusedrnn.cli.config import LEARNING_RATES, TrainConfig
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.invocation import program
from fusedrnn.cli.metrics import MetricsLog, Row
from fusedrnn.cli.text import Streams, Text, Vocabulary, split
from fusedrnn.cli.training import Training

SMALL = ["--hidden", "16", "--embedding", "8", "--batch", "4", "--seq-len", "16", "--every", "40"]
FILES = {"checkpoint.safetensors", "metrics.csv", "samples.txt", "training.png"}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A small text with structure to learn: 2016 characters, 29 windows of 4 x 16 to a pass, and a tail."""
    path = tmp_path / "book.txt"
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


# ------------------------------------------------------------------------------- what a run does
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
    assert saved.vocabulary == "\nabxyz€"


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


# ------------------------------------------------------------------------------- resuming
def small_training(**changes: Any) -> Training:
    text = Text("".join(chr(97 + (i * i + i // 7) % 23) for i in range(3000)), ())
    config = TrainConfig(hidden=12, embedding=5, seq_len=11, batch=3, epochs=1, warmup=5)
    return Training(replace(config, **changes).resolved(), text)


CASES: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"cell": "gru", "layers": 2, "dropout": 0.3},
    {"cell": "rnn", "dtype": "float64"},
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
    train_module.checkpoints.save(path, first.checkpoint(1.0))
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
        train_module._sample(watched, 5)
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
    with train_module._stop_requests() as stop:
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


# ------------------------------------------------------------------------------- errors
def test_an_existing_run_is_not_overwritten(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [str(book), "--output", str(out), "--epochs", "0.2", *SMALL]
    assert main(["train", *arguments]) == 0
    before = (out / "checkpoint.safetensors").read_bytes()
    assert f"already holds a run: continue it with --resume {out}" in failure(capsys, *arguments, status=2)
    assert (out / "checkpoint.safetensors").read_bytes() == before


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, str(tmp_path / "no.txt"), "--output", str(tmp_path / "out"))
    assert line == f"fusedrnn train: cannot read {tmp_path}/no.txt: No such file or directory"
    assert not (tmp_path / "out").exists()


def test_directory_as_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Is a directory" in failure(capsys, str(tmp_path), "--output", str(tmp_path / "out"))


def test_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "e.txt"
    path.touch()
    assert failure(capsys, str(path)) == f"fusedrnn train: {path} is empty"


def test_file_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes("Grüße".encode("latin-1"))
    assert f"{path} is not UTF-8 text: byte 2 is 0xfc" in failure(capsys, str(path))


def test_too_short_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.txt"
    path.write_text("short " * 20, "utf-8")
    line = failure(capsys, str(path), "--output", str(tmp_path / "out"))
    needed = int(re.search(r"it has 120 characters, .* need about (\d+)", line)[1])  # type: ignore[index]
    assert not (tmp_path / "out").exists()
    split(np.zeros(needed, np.int64), 0.05, 32, 64)  # and with as many it works
    with pytest.raises(CommandError):
        split(np.zeros(needed - 45, np.int64), 0.05, 32, 64)


@pytest.mark.parametrize("share", [0, 0.5])
def test_checkpoint_cut_in_half(
    share: float, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", str(book), "--output", str(out), "--epochs", "0.2", *SMALL]) == 0
    path = out / "checkpoint.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    line = failure(capsys, "--resume", str(out))
    assert f"{path} is damaged or no checkpoint" in line
    assert path.read_bytes() == raw[: int(len(raw) * share)]


def test_output_that_cannot_be_written(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failure(capsys, str(book), "--output", str(book / "sub"), *SMALL)
    assert line == f"fusedrnn train: cannot create {book}/sub: Not a directory"
    line = failure(capsys, str(book), "--output", "/proc/nothing/sub", *SMALL)
    assert line.startswith("fusedrnn train: cannot create /proc/nothing/sub: ")


def test_file_size_limit_leaves_the_earlier_checkpoint(book: Path, tmp_path: Path) -> None:
    """A real failing write in a real process: the checkpoint grows past the limit on file sizes."""
    out = tmp_path / "out"
    assert main(["train", str(book), "--output", str(out), "--epochs", "0.5", *SMALL]) == 0
    path = out / "checkpoint.safetensors"
    before = path.read_bytes()

    command = shlex.join([sys.executable, "-m", "fusedrnn", "train", "--resume", str(out), "--epochs", "1"])
    limited = f"ulimit -f {len(before) // 2048}; exec {command}"
    result = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    line = error_line(result)
    assert line.startswith(f"fusedrnn train: cannot write {path}: ")
    assert line.endswith("; the earlier checkpoint is unchanged")
    assert path.read_bytes() == before
    assert {p.name for p in out.iterdir()} == FILES


@pytest.mark.parametrize("victim", ["checkpoint.safetensors", "training.png", "metrics.csv", "samples.txt"])
def test_full_disk_in_the_middle_of_a_run(
    victim: str,
    book: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever file it is that no longer fits, the checkpoint of before can be loaded."""
    out = tmp_path / "out"
    out.mkdir()
    if victim in (
        "metrics.csv",
        "samples.txt",
    ):  # these grow: every write to /dev/full fails as on a full disk
        if victim == "samples.txt":
            (out / victim).symlink_to("/dev/full")
        else:
            monkeypatch.setattr(
                MetricsLog, "_open", lambda log: os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
            )
        line = failure(capsys, str(book), "--output", str(out), "--epochs", "4", *SMALL)
        assert line == f"fusedrnn train: cannot write {out / victim}: the disk is full"
        return
    replace_file = os.replace
    calls = 0

    def fail(source: Path, target: Path) -> None:
        nonlocal calls
        calls += Path(target).name == victim
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", fail)
    line = failure(capsys, str(book), "--output", str(out), "--epochs", "4", *SMALL)
    assert line.startswith(f"fusedrnn train: cannot write {out / victim}: the disk is full")
    assert load(out / "checkpoint.safetensors").progress["step"] >= 40
    assert not [p for p in out.iterdir() if p.name.endswith(".tmp")]


@pytest.mark.parametrize("package", ["tqdm", "matplotlib", "safetensors"])
def test_missing_extra(package: str, book: Path, tmp_path: Path) -> None:
    """A stand-in package that raises what a missing one raises."""
    (tmp_path / "lib" / package).mkdir(parents=True)
    (tmp_path / "lib" / package / "__init__.py").write_text(
        f"raise ModuleNotFoundError('there is none', name={package!r})\n"
    )
    result = run("train", str(book), "--output", str(tmp_path / "out"), path=tmp_path / "lib")
    assert result.returncode == 1
    expected = f"this needs {package}, which is not installed: pip install 'fusedrnn[train]'"
    assert error_line(result) == f"fusedrnn train: {expected}"
    assert not (tmp_path / "out").exists()


def test_cuda_without_cuda_says_why(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if fr.cuda.is_available():
        return  # then there is nothing to explain
    line = failure(capsys, str(book), "--output", str(tmp_path / "out"), "--device", "cuda", *SMALL)
    assert str(fr.cuda.why_not()) in line


def test_one_bad_gradient_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    training = small_training()
    training.step()
    before = training.model.state_dict()
    loss = fr.losses.cross_entropy

    def spoiled(scores: Any, targets: Any) -> tuple[float, Any]:
        value, gradient = loss(scores, targets)
        gradient[0, 0, 0] = np.inf
        return value, gradient

    with monkeypatch.context() as patch:
        patch.setattr(fr.losses, "cross_entropy", spoiled)
        assert not np.isfinite(training.step().grad_norm)
    after = training.model.state_dict()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert np.isfinite(training.step().grad_norm)


def test_hopeless_gradients_end_the_run() -> None:
    training = small_training()
    with training.model[0].weight.writable() as w:
        w[...] = np.nan
    for _ in range(19):
        assert np.isnan(training.step().grad_norm)
    with pytest.raises(CommandError, match="gradient has not been finite for 20 updates"):
        training.step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "--hidden: must be at least 1, it is 0"),
        (["--hidden", "many"], "--hidden: must be a number, it is 'many'"),
        (["--lr", "0"], "--lr: must be above 0"),
        (["--lr", "nan"], "--lr: must be finite, it is nan"),
        (["--dropout", "1"], "--dropout: must be below 1"),
        (["--cell", "transformer"], "--cell: invalid choice"),
    ],
)
def test_options_out_of_range(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_more_threads_than_there_can_be(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--threads: n must be" in failure(capsys, str(book), "--threads", "1000000", status=2)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, value in TrainConfig().to_json().items():
        assert f"--{name.replace('_', '-')} " in text
        assert f"(default: {'by optimizer' if name == 'lr' else value})" in text
    for words in ("examples:", "--resume runs/001", "checkpoint.safetensors", "bits per character"):
        assert words in text


# ------------------------------------------------------------------------------- metrics
def row(step: int, held_out: float | None = None) -> Row:
    return Row(step, step / 7, 1 / 3, 2.5, 0.125, held_out, 1e6 / 3, step * 0.1)


def test_metrics_go_on_where_the_checkpoint_is(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path, 0)
    for step in range(1, 6):
        log.add(row(step, 1.75 if step == 2 else None))
    log.close()
    with path.open("a") as file:
        file.write("6,0.85")  # cut off by a crash
    log = MetricsLog(path, 3)  # the last checkpoint was before the crash
    log.add(row(4))
    log.close()
    assert [r["step"] for r in metrics(tmp_path)] == ["1", "2", "3", "4"]
    assert [r["validation_bits_per_char"] for r in metrics(tmp_path)] == ["", "1.75", "", ""]
    assert [r.step for r in log.rows] == [1, 2, 3, 4]
    assert log.rows[1].validation_bits_per_char == 1.75
    assert log.rows[0].learning_rate == pytest.approx(1 / 3, rel=1e-7)


def test_metrics_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("name,age\nada,36\ngrace,85\n")
    for step in (0, 3):
        with pytest.raises(CommandError, match="line 2 is no line of metrics"):
            MetricsLog(path, step)
    assert path.read_text() == "name,age\nada,36\ngrace,85\n"


# ------------------------------------------------------------------------------- text, batches
def test_streams_cover_the_text_in_order() -> None:
    ids = np.arange(101)
    streams = Streams(ids, batch=4, length=5)
    assert streams.windows == 5
    for row in range(4):
        inputs = np.concatenate([streams.window(k)[0][:, row] for k in range(5)])
        targets = np.concatenate([streams.window(k)[1][:, row] for k in range(5)])
        assert inputs.tolist() == list(range(25 * row, 25 * row + 25))
        assert targets.tolist() == (inputs + 1).tolist()


def test_tail_is_never_trained_on() -> None:
    train, tail = split(np.arange(10_000), 0.1, batch=4, length=8)
    seen = np.concatenate([np.concatenate(train.window(k)).ravel() for k in range(train.windows)])
    held = np.concatenate([tail.window(k)[0].ravel() for k in range(tail.windows)])
    assert seen.max() < 9000 <= held.min()
    assert len(held) > 900


def test_vocabulary_is_sorted_and_exact() -> None:
    vocabulary = Vocabulary.of("banana€😀\n")
    assert vocabulary.characters == "\nabn€😀"
    assert vocabulary.decode(vocabulary.encode("nab😀")) == "nab😀"
    for unknown in ("x", "😁", "\0", "\udc80"):  # between, above and below those it knows, and no text at all
        with pytest.raises(CommandError, match=f"does not know the character {re.escape(repr(unknown))}"):
            vocabulary.encode("ban" + unknown)


def test_schedules() -> None:
    for schedule, middle in (("cosine", 0.525), ("linear", 0.525), ("constant", 1.0)):
        training = small_training(schedule=schedule, lr=2.0, warmup=4)
        total = training.total_steps
        assert total is not None
        rates = [training.schedule(step) for step in range(total + 1)]
        assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
        assert rates[4] == 2.0
        assert rates[(total + 4) // 2] == pytest.approx(2 * middle, rel=0.05)
        assert rates[total] == pytest.approx(2.0 if schedule == "constant" else 0.1)
        assert np.all(np.diff(rates[4:]) <= 0)
