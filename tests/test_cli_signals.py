"""Signals: what ends a run from outside, or halts it for a while, loses nothing; what is ignored stays so."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from runs import FILES, SMALL, write_book

import fusedrnn as fr
from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import load
from fusedrnn.cli.signals import STOPPING, stop_requests


@pytest.fixture(autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Under nohup SIGHUP is ignored, by the processes that are started here, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def begin(tmp_path: Path, *before: str, **streams: object) -> subprocess.Popen[bytes]:
    """A run without an end, as far as it has saved once."""
    out = tmp_path / "out"
    words = ["train", str(write_book(tmp_path)), "--output", str(out), "--minutes", "5", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [*before, sys.executable, "-m", "fusedrnn", *words]
    process = subprocess.Popen(command, env=environment, **streams)  # type: ignore[call-overload]
    deadline = time.monotonic() + 60
    while not (out / "samples.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
        assert process.poll() is None
    assert isinstance(process, subprocess.Popen)
    return process


def assert_saved(tmp_path: Path, line: str) -> None:
    saved = load(tmp_path / "out" / "checkpoint.safetensors")
    assert f"saved at update {saved.progress['step']}; to continue: " in line
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES


def test_a_run_that_was_halted_goes_on_and_saves_at_a_hangup(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with begin(tmp_path, stdout=subprocess.DEVNULL, stderr=pipe, start_new_session=True) as process:
        os.kill(process.pid, signal.SIGSTOP)  # what SIGTSTP does; an orphaned session ignores that
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    (line,) = stderr.decode().splitlines()
    assert line.startswith("fusedrnn train: stopped by SIGHUP, saved at update")
    assert_saved(tmp_path, line)


def test_a_terminal_that_is_closed_loses_nothing(tmp_path: Path) -> None:
    """The bar, the report and the last line all fail: the run saves and ends as SIGHUP has it."""
    master, slave = pty.openpty()
    process = begin(tmp_path, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert load(tmp_path / "out" / "checkpoint.safetensors").progress["step"] >= 40


def test_a_reader_that_does_not_read_keeps_no_run_from_saving(tmp_path: Path) -> None:
    """stdout is a pipe that is full from the start: the run waits for its reader until it is told to end."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    out = tmp_path / "out"
    words = ["train", str(write_book(tmp_path)), "--output", str(out), "--minutes", "5", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [sys.executable, "-m", "fusedrnn", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=write, stderr=pipe, env=environment) as process:
        while not (out / "metrics.csv").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    os.close(read)
    os.close(write)
    assert process.returncode == 128 + signal.SIGTERM
    (line,) = stderr.decode().splitlines()
    saved = load(out / "checkpoint.safetensors")
    assert f"stopped by SIGTERM, saved at update {saved.progress['step']}; to continue: " in line


@pytest.mark.parametrize("place", ["command.standard_streams", "command._finished", "doctor.doctor"])
def test_ctrl_c_at_any_moment_is_no_traceback(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after a command, and during it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    import_module(f"fusedrnn.cli.{place.partition('.')[0]}")
    monkeypatch.setattr(f"fusedrnn.cli.{place}", interrupted)
    assert main(["doctor"]) == 130


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOPPING)
def test_each_signal_asks_once(number: signal.Signals) -> None:
    def second(signum: int, _: object) -> None:
        raise InterruptedError(signum)

    for each in STOPPING:
        signal.signal(each, second)
    with stop_requests() as stop:
        assert (stop.signum, stop.name) == (None, "nothing")
        os.kill(os.getpid(), number)
        assert stop.signum == number
        assert stop.name == ("Ctrl-C" if number == signal.SIGINT else number.name)
        with pytest.raises(InterruptedError):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is second


@pytest.mark.usefixtures("handlers")
def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signum is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
