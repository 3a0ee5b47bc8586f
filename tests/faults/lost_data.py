"""Kind 2: runs of the command line that overwrote, mixed up or lost what there was."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from command import SMALL, TEXT, contents, here, shell, start, wait_for
from fault import Found, fault, write


def steps(run: Path) -> list[int]:
    with (run / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@fault("2.1", "train --resume a --output b, where b holds a run", "refused, b as it was", needs=True)
def _(run: Path) -> Found:
    other = run.parent / "b"
    shutil.copytree(run, other)
    before = contents(other)
    ended = here(["train", "--resume", str(run), "--output", str(other), "--epochs", "0.2"])
    kept = contents(other) == before
    return Found(f"{ended.words}; b {'as it was' if kept else 'replaced'}", bool(ended.status) and kept)


def foreign(name: str, text: str) -> Found:
    folder = Path(tempfile.mkdtemp())
    out = folder / "out"
    out.mkdir()
    write(out / name, text)
    ended = here(
        ["train", str(write(folder / "book.txt", TEXT)), "--output", str(out), "--epochs", "0.1", *SMALL]
    )
    kept = (out / name).exists() and (out / name).read_text() == text
    return Found(
        f"{ended.words}; the file is {'as it was' if kept else 'overwritten'}", bool(ended.status) and kept
    )


for name, text in (
    ("metrics.csv", "name,age\n"),
    ("metrics.csv", "name,age\nada,36\n"),
    ("training.png", "mine\n"),
    ("samples.txt", "mine\n"),
):
    fault("2.2", f"--output with a foreign {name}: {text!r}", "refused, the file as it was")(
        partial(foreign, name, text)
    )


def slow(function: Any) -> Any:
    def call(*args: Any) -> Any:
        time.sleep(0.3)
        return function(*args)

    return call


def together(same: bool) -> Found:
    """Six runs that begin at one moment where directories are slow to make."""
    folder, count = Path(tempfile.mkdtemp()), 6
    book = write(folder / "book.txt", TEXT)
    os.chdir(folder)
    here(["train", str(book), "--output", "before", "--epochs", "0.1", *SMALL])
    words = ["train", str(book), "--epochs", "0.5", *SMALL, *(["--output", "out"] if same else [])]
    ready, go = os.pipe()
    children = []
    for i in range(count):
        children.append(os.fork())
        if not children[-1]:
            os.close(go)
            os.mkdir = slow(os.mkdir)
            os.read(ready, 1)
            os._exit(here([*words, "--seed", str(i)]).status)
    os.close(go)
    statuses = sorted(os.waitpid(child, 0)[1] >> 8 for child in children)
    runs = [folder / "out"] if same else sorted((folder / "runs").iterdir())
    mixed = [run.name for run in runs if (found := steps(run)) != sorted(set(found))]
    good = not mixed and (
        statuses.count(0) == 1 if same else (statuses == [0] * count and len(runs) == count)
    )
    return Found(f"status {statuses}, directories {len(runs)}, metrics mixed in {mixed or 'none'}", good)


fault("2.3", "six runs started at once without --output", "a directory each")(partial(together, False))
fault("2.3", "six runs started at once with one --output", "one trains, five are refused")(
    partial(together, True)
)


def stopped(number: signal.Signals) -> Found:
    folder = Path(tempfile.mkdtemp())
    book, run = write(folder / "book.txt", TEXT), folder / "out"
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    words = ["train", str(book), "--output", str(run), "--minutes", "5", *SMALL]
    process = start(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(run / "samples.txt")
    before = (run / "checkpoint.safetensors").stat().st_mtime_ns
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    saved = (run / "checkpoint.safetensors").stat().st_mtime_ns > before
    return Found(
        f"status {process.returncode}, {'saved' if saved else 'not saved'}",
        saved and process.returncode == 128 + number and "saved at update" in err,
    )


for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
    fault("2.4", f"{number.name} to a run", f"saved, status {128 + number}", seconds=40, slow=True)(
        partial(stopped, number)
    )


@fault(
    "2.5",
    "resume where a killed run left .checkpoint.safetensors.0123abcd.tmp",
    "the file is removed",
    needs=True,
)
def _(run: Path) -> Found:
    own = left_by_a_kill(run)
    before = set(os.listdir(run))
    ended = shell(["train", "--resume", str(run), "--epochs", "0.2"])
    left = set(os.listdir(run)) & own
    return Found(
        f"{ended.words}; {len(left)} of {len(own)} left", own <= before and not left and not ended.status
    )


def left_by_a_kill(run: Path) -> set[str]:
    """A temporary file as the package itself names one, of a process that dies while it writes."""
    before = set(os.listdir(run))
    child = os.fork()
    if not child:
        try:
            from fusedrnn._core import files
        except ImportError:
            from fusedrnn.cli import files  # type: ignore[no-redef,attr-defined]
        files.write_atomically(
            run / "checkpoint.safetensors", lambda file: os.kill(os.getpid(), signal.SIGKILL)
        )
    os.waitpid(child, 0)
    return set(os.listdir(run)) - before
