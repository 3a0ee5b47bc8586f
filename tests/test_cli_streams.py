"""stdout and stderr that are closed, full, slow or gone: one line at most, and no run is lost."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from runs import FILES, SMALL, write_book

import fusedrnn as fr
from fusedrnn.cli import main
from fusedrnn.cli.printable import printable, printable_lines, printable_stream
from fusedrnn.cli.streams import Stream

TRAIN = "train {book} --output {out} --epochs 0.1 " + " ".join(SMALL)


def shell(command: str, redirection: str, **places: object) -> subprocess.CompletedProcess[str]:
    """The command with streams as a shell redirects them."""
    words = f"exec {sys.executable} -m fusedrnn {command.format(**places)} {redirection}"
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    environment.pop("PYTHONUNBUFFERED", None)  # what is left in a buffer is part of the matter
    return subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize(
    ("redirection", "status", "error"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 1, "cannot write to stdout: the disk is full; the run itself is done and saved"),
    ],
)
def test_a_run_is_done_whatever_becomes_of_its_output(
    redirection: str, status: int, error: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = shell(TRAIN, redirection, book=write_book(tmp_path), out=out)
    assert (result.returncode, result.stderr) == (status, error and f"fusedrnn train: {error}\n")
    assert {p.name for p in out.iterdir()} == FILES


@pytest.mark.parametrize("command", ["doctor", "--help"])
@pytest.mark.parametrize(
    ("redirection", "error"),
    [
        ("> /dev/full", "cannot write to stdout: the disk is full\n"),
        (">&-", "stdout is closed, so there is nowhere to write\n"),
        (">&- 2>&-", ""),
        ("> /dev/full 2> /dev/full", ""),
    ],
)
def test_results_that_cannot_be_written_fail(command: str, redirection: str, error: str) -> None:
    result = shell(command, redirection)
    assert result.returncode == 1
    name = "fusedrnn" if command == "--help" else f"fusedrnn {command}"
    assert result.stderr == (error and f"{name}: {error}")


def test_sample_stops_where_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            ["train", str(write_book(tmp_path)), "--output", str(tmp_path / "out"), *SMALL, "--epochs", "0.1"]
        )
        == 0
    )
    capsys.readouterr()
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["sample", str(tmp_path / "out"), "--length", str(10**12), "--seed", "1"]) == 1
        assert capsys.readouterr().err == "fusedrnn sample: cannot write to stdout: the disk is full\n"
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["sample", str(tmp_path / "out"), "--length", str(10**12), "--seed", "1"]) == 1
    assert "stdout is closed" in capsys.readouterr().err


def pipe() -> tuple[int, TextIO]:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    return read, io.TextIOWrapper(os.fdopen(write, "wb"), encoding="utf-8")


def unblocked_terminal() -> tuple[int, TextIO]:
    """Ready before there is room for all that is written at once, unlike a pipe."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    return master, io.TextIOWrapper(os.fdopen(slave, "wb"), encoding="utf-8")


@pytest.mark.parametrize("make", [pipe, unblocked_terminal])
def test_a_slow_reader_gets_everything(make: Callable[[], tuple[int, TextIO]]) -> None:
    read, file = make()
    text = "".join(chr(0x100 + i % 5000) for i in range(100_000))
    got: list[bytes] = []

    def reader() -> None:
        with contextlib.suppress(OSError):  # how a terminal says that the other end is closed
            while piece := os.read(read, 700):
                got.append(piece)
                time.sleep(0.0005)

    thread = threading.Thread(target=reader)
    thread.start()
    stream = Stream(file)
    stream.write(text)
    assert stream.error is None
    deadline = time.monotonic() + 60
    while sum(map(len, got)) < len(text.encode()) and time.monotonic() < deadline:
        time.sleep(0.01)  # a terminal that is closed forgets what was not read
    file.close()
    thread.join()
    os.close(read)
    assert b"".join(got).decode() == text


def test_a_pipe_that_another_process_fills_in_between_is_waited_for() -> None:
    """It was ready, and is not any more: what is in the buffer is tried again."""

    class Contended(io.StringIO):
        refusals = 3

        def flush(self) -> None:
            if self.refusals:
                self.refusals -= 1
                raise BlockingIOError(errno.EAGAIN, "write could not complete without blocking")

    file = Contended()
    stream = Stream(file)
    stream.write("all of it")
    assert stream.error is None
    assert file.getvalue() == "all of it"
    assert file.refusals == 0


def test_a_reader_that_never_reads_is_given_up_when_there_is_hurry() -> None:
    read, file = pipe()
    stream = Stream(file)
    begin = time.monotonic()
    stream.hurried = lambda: time.monotonic() > begin + 0.3
    stream.write("x" * 100_000)
    assert isinstance(stream.error, TimeoutError)
    assert 0.2 < time.monotonic() - begin < 30
    stream.write("y")  # dropped
    stream.finish()
    file.close()  # nothing is left in its buffer that would block here
    os.close(read)


class Broken(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.raised = error

    def write(self, _: str) -> int:
        raise self.raised


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), ValueError("I/O operation on closed file")]
)
def test_a_stream_that_fails_is_not_tried_again(error: Exception) -> None:
    file = Broken(error)
    stream = Stream(file)
    stream.write("a")
    assert stream.error is error
    file.raised = AssertionError("tried again")
    stream.write("b")
    stream.finish()
    assert not stream.isatty()


def test_streams_that_are_absent_or_closed() -> None:
    absent = Stream(None)
    absent.write("a")
    absent.finish()
    assert absent.error is None
    assert absent.absent
    with pytest.raises(OSError, match="Bad file descriptor"):
        absent.fileno()
    file = io.StringIO()
    file.close()
    closed = Stream(file)
    closed.write("a")
    assert isinstance(closed.error, ValueError)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MPLBACKEND", "nonsense", "matplotlib cannot be loaded: ValueError"),
        ("TQDM_MININTERVAL", "soon", ""),
    ],
)
def test_settings_of_other_packages(variable: str, value: str, message: str, tmp_path: Path) -> None:
    """A setting that makes a package fail is named, not shown as a traceback."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1]), variable: value}
    words = TRAIN.format(book=write_book(tmp_path), out=tmp_path / "out").split()
    command = [sys.executable, "-m", "fusedrnn", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode in (0, 1)
    assert "Traceback" not in result.stderr
    assert message in result.stderr


def test_what_a_terminal_would_obey_is_escaped() -> None:
    text = "a\x1b[31m\tb\r\nc\rd\x7f\x9b\u202e\udc80é😀\n"
    assert printable(text) == r"a\x1b[31m\tb\r\nc\rd\x7f\x9b\u202e\udc80é😀\n"
    assert printable_lines(text) == "a\\x1b[31m\tb\r\nc\\rd\\x7f\\x9b\\u202e\\udc80é😀\n"
    assert "".join(printable_stream(text)) == printable_lines(text)
    assert "".join(printable_stream("a\r")) == "a\\r"


def test_wrong_options_are_shown_without_being_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--nothing=\x1b[31m"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"\x1b[31m" in err
