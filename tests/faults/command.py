"""The command line of the installed package: in a process of its own, or in this one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fault import Found

import fusedrnn as fr

SMALL = ["--hidden", "16", "--embedding", "8", "--batch", "4", "--seq-len", "16", "--every", "40"]
PACKAGE = str(Path(fr.__file__).parents[1])
TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 28


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def in_one_line(self) -> bool:
        """Whether it failed as a command should: by its status, and a line on stderr that is no traceback."""
        return self.status in (1, 2) and self.err.count("\n") == 1 and "Traceback" not in self.err

    @property
    def words(self) -> str:
        lines = [line for line in self.err.strip().splitlines() if line.strip()]
        how = "a traceback: " if "Traceback" in self.err else ""
        return f"status {self.status}, {how}{lines[-1] if lines else 'stderr empty'}"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PACKAGE, "MPLBACKEND": "Agg"}


def shell(words: list[str], redirection: str = "", seconds: float = 60, **options: Any) -> Ended:
    """A command with streams as a shell redirects them."""
    line = " ".join(["exec", '"$0"', "-m", "fusedrnn", '"$@"', redirection])
    command = ["bash", "-c", line, sys.executable, *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        env=environment(),
        **options,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def here(words: list[str]) -> Ended:
    """A command in this process."""
    import fusedrnn.cli.plot
    from fusedrnn import cli

    fusedrnn.cli.plot._drawn = lambda *_: b""  # no pictures, which take a second each
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc(file=err)
            status = 1
    return Ended(status or 0, out.getvalue(), err.getvalue())


def start(words: list[str], **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fusedrnn", *words]
    return subprocess.Popen(command, env=environment(), text=True, **options)


def wait_for(path: Path, seconds: float = 20) -> bool:
    stop = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < stop:
        time.sleep(0.01)
    return path.exists()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def trained(directory: Path, *more: str) -> Path:
    """A run of three updates."""
    book = directory / "book.txt"
    book.write_text(TEXT, "utf-8")
    done = here(["train", str(book), "--output", str(directory / "run"), "--epochs", "0.1", *SMALL, *more])
    if done.status:
        raise RuntimeError(done.err)
    return directory / "run"


def altered(run: Path, to: Path, change: Callable[[Any], Any], **header: str) -> Path:
    """A copy of a run whose checkpoint has other contents, under a checksum that fits where there is one."""
    from safetensors.numpy import load, save

    from fusedrnn.cli import checkpoint

    raw = (run / "checkpoint.safetensors").read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    tree, arrays = json.loads(metadata["contents"]), load(raw)
    changed = change(tree)
    text = changed if isinstance(changed, str) else json.dumps(tree)
    metadata = {**metadata, "contents": text, **header}
    if "sha256" in metadata and "sha256" not in header:
        metadata["sha256"] = checkpoint.checksum(text, arrays)
    to.mkdir(exist_ok=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    (to / "checkpoint.safetensors").write_bytes(save(arrays, metadata))
    return to


def in_one_line(ended: Ended, *words: str) -> Found:
    """Right where the command failed in one line that has these words."""
    return Found(ended.words, ended.in_one_line and all(word in ended.err for word in words))
