"""Runs inputs on the installed package, each in a process under limits; prints a line of JSON each.

    PYTHONPATH=BUILD python tests/faults/worker.py [--quick] [KIND ...]

--quick leaves out what takes seconds and other tests hold, and what builds without an optimiser lack.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from fault import FAULTS, Absent, Fault, Found

MODULES = ("wrong_numbers", "lost_data", "crashes", "command_line", "arguments", "hardening")
RAISED = "a traceback: "


def virtual_memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def child(fault: Fault, run: Path | None, folder: Path, result: int) -> None:
    """Runs an input and writes what it found; does not return."""
    os.setsid()
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    most = virtual_memory() + int(fault.gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    arguments = ()
    if run is not None:
        arguments = (Path(shutil.copytree(run, folder / "run")),)
    try:
        found = fault.run(*arguments)
    except Absent as error:
        found = Found(f"not computed without {error}", False)
    except BaseException as error:
        found = Found(f"{RAISED}{type(error).__name__}: {error}", False)
    gives = found.gives.replace(str(folder), "DIR")[:1000]
    os.write(result, json.dumps([gives, bool(found.right)]).encode())
    os._exit(0)


def attempt(fault: Fault, run: Path | None) -> Found:
    """What a build makes of an input; a crash and a hang are results, too."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        read, write = os.pipe()
        process = os.fork()
        if not process:
            os.close(read)
            child(fault, run if fault.needs else None, Path(folder), write)
        os.close(write)
        raw, stop = b"", time.monotonic() + fault.seconds
        while (left := stop - time.monotonic()) > 0 and select.select([read], [], [], left)[0]:
            if not (piece := os.read(read, 65536)):
                break
            raw += piece
        os.close(read)
        hung = left <= 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    if raw:
        return Found(*json.loads(raw))
    if hung:
        return Found(f"hangs ({fault.seconds:g} s)", False)
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status >> 8}"
    return Found(f"crashes: {ended}", False)


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    from command import trained

    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)  # no threads that a child would miss
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # imports what it needs, which takes seconds
    kinds = [word for word in sys.argv[1:] if word != "--quick"]
    quick = "--quick" in sys.argv
    chosen = [f for f in FAULTS if (not kinds or f.kind in kinds) and not (quick and (f.slow or f.release))]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if any(f.needs for f in chosen):
            child_of = os.fork()
            if not child_of:
                trained(Path(folder))
                os._exit(0)
            assert os.waitpid(child_of, 0)[1] == 0
        for fault in chosen:
            start = time.monotonic()
            found = attempt(fault, run)
            seconds = round(time.monotonic() - start, 2)
            row = {
                "kind": fault.kind,
                "name": fault.name,
                "expected": fault.right,
                **found._asdict(),
                "seconds": seconds,
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
