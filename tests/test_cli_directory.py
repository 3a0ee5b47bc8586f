"""One run a directory, and no file of another run, or of another program, is touched."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from runs import FILES, SMALL, failure, metrics, write_book

import fusedrnn.cli.plot
from fusedrnn._core.files import open_regular, remove_temporaries
from fusedrnn.cli import main
from fusedrnn.cli.directory import RunDirectory, claim_next
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.invocation import program, quoted
from fusedrnn.cli.metrics import HEADER, MetricsLog, Row


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusedrnn.cli.plot, "_drawn", lambda *_: b"a picture")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_book(tmp_path)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def start(book: Path, out: Path, *more: str) -> int:
    return main(["train", str(book), "--output", str(out), "--epochs", "0.1", *SMALL, *more])


def test_resume_into_a_directory_with_a_run_is_refused(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert start(book, a) == start(book, b, "--seed", "1") == 0
    before = contents(b)
    resume = ["--resume", str(a), "--epochs", "0.2"]
    line = failure(capsys, *resume, "--output", str(b), status=2)
    assert f"{b} already holds a run: continue it with --resume {b}, or choose another --output" in line
    assert contents(b) == before
    assert main(["train", *resume, "--output", str(tmp_path / "new")]) == 0
    assert {p.name for p in (tmp_path / "new").iterdir()} == FILES
    assert main(["train", *resume, "--output", str(a)]) == 0  # its own
    assert len(metrics(a)) > len(metrics(tmp_path / "new"))


def test_a_copy_of_a_checkpoint_does_not_replace_the_run_beside_it(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert start(book, out) == 0
    (out / "early.safetensors").write_bytes((out / "checkpoint.safetensors").read_bytes())
    before = contents(out)
    resume = ["--resume", str(out / "early.safetensors"), "--epochs", "0.2"]
    assert "already holds a run" in failure(capsys, *resume, status=2)
    assert contents(out) == before
    assert main(["train", *resume, "--output", str(tmp_path / "new")]) == 0


@pytest.mark.parametrize("name", ["metrics.csv", "training.png", "samples.txt"])
@pytest.mark.parametrize("text", ["name,age\nada,36\n", "name,age\n", HEADER + "\r\n1,1,1,1,1,,1,1\r\n"])
def test_files_of_others_are_left_alone(
    text: str, name: str, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text)
    assert main(["train", str(book), "--output", str(out), "--epochs", "0.1", *SMALL]) in (1, 2)
    line = capsys.readouterr().err
    assert str(out / name) in line
    assert "move it away" in line or "move the file away" in line
    assert contents(out) == {name: text.encode()}


def test_what_a_run_that_never_began_left_is_no_obstacle(book: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.csv").write_text(HEADER + "\r\n")
    assert start(book, tmp_path / "out") == 0


def test_foreign_metrics_end_a_resumed_run(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert start(book, out) == 0
    (out / "metrics.csv").write_text("a,b\n")
    assert "line 1 is no line of metrics" in failure(capsys, "--resume", str(out), "--epochs", "1")
    assert (out / "metrics.csv").read_text() == "a,b\n"


def test_a_directory_in_use_is_refused(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert start(book, out) == 0
    before = contents(out)
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    message = f"another run is writing to {out}"
    assert message in failure(capsys, "--resume", str(out), "--epochs", "1")
    assert message in failure(capsys, str(book), "--output", str(out), *SMALL)
    os.close(handle)
    assert contents(out) == before
    assert main(["train", "--resume", str(out), "--epochs", "0.2"]) == 0  # and let go of again
    assert main(["train", "--resume", str(out), "--epochs", "0.3"]) == 0


def test_two_at_once_with_one_output(book: Path, tmp_path: Path) -> None:
    """Processes of their own: one has the directory, the other leaves it alone."""
    words = [sys.executable, "-m", "fusedrnn", "train", str(book), "--output", str(tmp_path / "out")]
    command = [*words, "--epochs", "2", *SMALL]
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) in ([0, 1], [0, 2]), errors
    assert "another run is writing" in "".join(errors) or "already holds a run" in "".join(errors)
    steps = [int(row["step"]) for row in metrics(tmp_path / "out")]
    assert steps == list(range(1, len(steps) + 1))


def test_a_file_system_without_locks_is_named(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    assert start(book, tmp_path / "out") == 0
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_numbered_directories_are_made_by_one_run_each(tmp_path: Path) -> None:
    """Many threads at once stand for many processes; names that only look like numbers do not count."""
    for name in ("007", "1²", "１２", "-3", "9" * 40, "12x"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    claimed: list[RunDirectory] = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        barrier.wait()
        for _ in range(5):
            claimed.append(claim_next(tmp_path / "runs", lambda _: None))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(c.path.name for c in claimed) == [f"{n:03d}" for n in range(8, 48)]
    for directory in claimed:
        directory.close()


def test_temporary_files_of_killed_runs_are_removed(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert start(book, out) == 0
    for name in FILES:
        (out / f".{name}.0123abcd.tmp").write_bytes(b"half")
    others = {".other.txt.0123abcd.tmp", ".metrics.csv.0123abcg.tmp", "metrics.csv.tmp", ".training.png.tmp"}
    for name in others:
        (out / name).write_bytes(b"of others")
    (out / ".metrics.csv.01234567.tmp").mkdir()
    assert main(["train", "--resume", str(out), "--epochs", "0.2"]) == 0
    assert {p.name for p in out.iterdir()} == FILES | others | {".metrics.csv.01234567.tmp"}


def test_only_names_that_are_asked_for_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.00000000.tmp").touch()
    (tmp_path / ".b.00000000.tmp").touch()
    remove_temporaries(tmp_path, frozenset({"b"}))
    assert [p.name for p in tmp_path.iterdir()] == [".a.00000000.tmp"]


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "a\0b", "\ud800"])
def test_names_no_directory_can_have(
    name: str, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / name)
    for arguments in ([str(book), "--output", path, *SMALL], ["--resume", path], [path]):
        assert "cannot " in failure(capsys, *arguments)
    assert main(["sample", path]) == 1
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--resume"])
def test_an_empty_name_is_refused(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{option} is empty" in failure(capsys, option, "", "--minutes", "1e-9", status=2)


def test_a_directory_that_may_not_be_looked_into(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the system says to users other than root, who is told no such thing."""
    stat, mkdir = os.stat, os.mkdir

    def refuse(path: object, *rest: object, **more: object) -> object:
        if "locked" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *rest, **more)  # type: ignore[arg-type]

    def refuse_making(path: object, *rest: object) -> None:
        refuse(path)
        mkdir(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "mkdir", refuse_making)
    path = str(tmp_path / "locked" / "run")
    for arguments in ([str(book), "--output", path, *SMALL], ["--resume", path], [path]):
        assert "Permission denied" in failure(capsys, *arguments)
    assert main(["sample", path]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_names_are_shown_on_one_line_and_quoted_for_a_shell(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "-a\nb\x1b[31m 'q\udcff"
    assert main(["train", str(book), f"--output={name}", "--minutes", "1e-9", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"output  -a\nb\x1b[31m 'q\udcff" in out
    words = r"$'./-a\x0ab\x1b[31m \x27q\xff'"
    assert f"to continue: {program()} train --resume {words}\n" in out
    named = subprocess.run(["bash", "-c", f"printf %s {words}"], capture_output=True, check=True).stdout
    assert os.path.samefile(os.fsdecode(named), name)


def test_plain_names_are_quoted_as_usual() -> None:
    for text in ("runs/001", "a b", "it's", "ü$x"):
        assert quoted(text) == shlex.quote(text)
    assert quoted("-x") == "./-x"


def test_metrics_of_many_updates_come_back(tmp_path: Path) -> None:
    """Steps are whole numbers however many; eight digits would not do."""
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path, 0)
    for step in (99_999_999, 123_456_789, 123_456_790):
        log.add(Row(step, 1.0, 0.1, 2.0, 0.5, None, 1e6, 10.0))
    log.close()
    log = MetricsLog(path, 123_456_789)
    log.close()
    assert [row.step for row in log.rows] == [99_999_999, 123_456_789]


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)
    (tmp_path / "metrics.csv").symlink_to("/dev/zero")
    with pytest.raises(CommandError, match="not a regular file"):
        MetricsLog(tmp_path / "metrics.csv", 5)
