"""`fusedrnn train` says in one line what is wrong, and leaves what was there as it was."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import FILES, SMALL, error_line, failure, run, small_training, write_book

import fusedrnn as fr
from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import load
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.metrics import MetricsLog
from fusedrnn.cli.text import split


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_book(tmp_path)


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
    assert f"{path} is damaged or no safetensors file" in line
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
    assert "--threads must be" in failure(capsys, str(book), "--threads", "1000000", status=2)
