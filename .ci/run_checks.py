"""Runs the checks of checks.py on a copy of the checkout, as many at once as there are cores.

The copy has the files that git knows or would add, so builds lying about are not seen, and an edit does not
reach a run. What a check prints comes whole when it ends. The first one that fails ends the run, unless
--keep-going: its output and its name come last, and the status is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True  # nothing of a run stays in the checkout

from checks import CHECKS, SETUP, SIZES, Check, variables, with_tools  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MOST_AT_ONCE = 4  # checks; with more cores than that each gets several
CLOSING = re.compile(
    r"(passed|failed|errors?)\b.* in [\d.]+s|tests (passed|failed)|^\d+ kernels, |^Success: |^not run: "
)

EPILOG = """\
sizes:
  --quick   before every commit: README's install and test command without the CUDA plugin
            (FUSEDRNN_CUDA=OFF), lint, and the CUDA sources compiled for the emulator
  (none)    what lands: README's command as it stands, and every check that can fail for a change
  --all     what runs over night: more orders of threads, examples drawn anew, faults planted

examples:
  .ci/run --list              what a run would do, in which order, at which cost
  .ci/run --quick
  .ci/run --only asan tsan    these and what they need
  .ci/run --keep --only wheel leaves the work folder, which has the builds, and names it

Costs are seconds of one core without a compiler cache. ccache is used, and installed with the other
packages where it is missing. `nox -s NAME` runs one check in an environment that stays.
"""


def chosen(size: str, only: Sequence[str] = ()) -> list[Check]:
    """The checks of a size or, instead, those named in `only`, with all that they need.

    Raises:
        SystemExit: there is no check of a name.
    """
    checks = {check.name: check for check in (*SETUP, *CHECKS)}
    if unknown := [name for name in only if name not in checks]:
        sys.exit(f".ci/run: there is no check {unknown[0]!r}; there are {', '.join(checks)}")
    wanted = list(only) or [c.name for c in checks.values() if SIZES.index(c.size) <= SIZES.index(size)]
    for name in wanted:  # which grows
        wanted += [needed for needed in checks[name].after if needed not in wanted]
    return [check for check in checks.values() if check.name in wanted]


def chains(checks: Sequence[Check]) -> dict[str, int]:
    """For each check its cost and that of the longest chain of checks that wait for it."""
    costs: dict[str, int] = {}
    for check in reversed(checks):  # each stands behind those it is after
        behind = [costs[other.name] for other in checks if check.name in other.after]
        costs[check.name] = check.cost + max(behind, default=0)
    return costs


def after(name: str, checks: Sequence[Check]) -> list[Check]:
    """Those of the checks that use the results of one, or of one that does."""
    found = [check for check in checks if name in check.after]
    return [check for check in checks if check in found or any(check in after(c.name, checks) for c in found)]


def takes_long(check: Check) -> bool:
    """More than a minute."""
    return check.cost > 60


def in_order(checks: Sequence[Check]) -> list[Check]:
    """First what is known within a minute, then what most waits for."""
    costs = chains(checks)
    return sorted(checks, key=lambda check: (takes_long(check), -costs[check.name]))


def session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
            if int(its) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found


@dataclass
class Ran:
    """A check under way, and in the end what it took."""

    check: Check
    process: subprocess.Popen[bytes]
    log: Path
    begin: float
    status: int = 0
    wall: float = 0.0
    processor: float = 0.0

    def end(self, status: int, processor: float) -> None:
        self.process.returncode = self.status = os.waitstatus_to_exitcode(status)
        self.wall, self.processor = time.monotonic() - self.begin, processor

    def stop(self) -> None:
        """Kills it and all that it started: its session, for Ninja gives each compiler a process group."""
        while members := session(self.process.pid):
            for member in members:
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        self.process.wait()

    def closing(self) -> str:
        """The last line of its output that sums it up, as pytest and ctest write one."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return next((line.strip(" =") for line in reversed(lines) if CLOSING.search(line)), "")


def start(check: Check, folder: Path, logs: Path, environment: dict[str, str]) -> Ran:
    log = logs / f"{check.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", check.command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Ran(check, process, log, time.monotonic())


def side_by_side(
    checks: Sequence[Check],
    at_once: int,
    begin: Callable[[Check], Ran],
    say: Callable[[str], None] = print,
    *,
    keep_going: bool = False,
) -> list[Ran]:
    """Runs checks, each as soon as those it is after have passed, until all have or one has failed.

    Args:
        checks: those it is after are among them, or are taken to have passed.
        at_once: how many may run.
        begin: starts one.
        say: where a line about what happens goes, and the output of a check.
        keep_going: whether a failure ends only the checks that are after the one that failed.

    Returns:
        Those that ended, in that order; if one failed it is the last, and the others were stopped, unless
        `keep_going`.
    """
    waiting, running, ended = in_order(checks), dict[int, Ran](), list[Ran]()
    try:
        while waiting or running:
            open_names = {c.name for c in waiting} | {ran.check.name for ran in running.values()}
            ready = [check for check in waiting if not open_names & set(check.after)]
            for check in ready[: at_once - len(running)]:
                waiting.remove(check)
                ran = begin(check)
                running[ran.process.pid] = ran
                say(f"---- {check.name} begins: {check.shows}")
            pid, status, usage = os.wait4(-1, 0)
            if pid not in running:  # a child of the program that calls this
                continue
            ran = running.pop(pid)
            ran.end(status, usage.ru_utime + usage.ru_stime)
            ended.append(ran)
            say(f"\n==== {ran.check.name}\n{ran.log.read_text('utf-8', 'replace')}")
            say(f"==== {ran.check.name}: {'passed' if ran.status == 0 else 'FAILED'}, {ran.wall:.0f} s\n")
            if ran.status != 0 and not keep_going:
                break
            if ran.status != 0:
                for check in (lost := after(ran.check.name, waiting)):
                    waiting.remove(check)
                if lost:
                    say(f"not run, for they are after {ran.check.name}: {', '.join(c.name for c in lost)}")
    finally:
        for ran in running.values():
            ran.stop()
    return ended


def copy_of_checkout(to: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, to / name
        if source.exists():  # not removed since
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def table(checks: Sequence[Check]) -> str:
    lines = [f"{'check':13} {'size':6} {'cost':>6}  shows"]
    for check in checks:
        after = f" (after {', '.join(check.after)})" if check.after else ""
        lines.append(f"{check.name:13} {check.size:6} {check.cost:4} s  {check.shows}{after}")
    total = sum(check.cost for check in checks)
    lines.append(f"{'together':13} {'':6} {total:4} s, on two cores {total / 120:.0f} minutes at best")
    return "\n".join(lines)


def summary(ended: Sequence[Ran], wall: float) -> str:
    lines = ["==== costs", f"{'check':13} {'wall':>6} {'cores':>7} {'said':>6}"]
    for ran in ended:
        numbers = f"{ran.wall:4.0f} s {ran.processor:5.0f} s {ran.check.cost:4} s"
        lines.append(f"{ran.check.name:13} {numbers}  {ran.closing()}".rstrip())
    lines.append(f"{'together':13} {wall:4.0f} s {sum(ran.processor for ran in ended):5.0f} s")
    return "\n".join(lines)


def run(size: str, only: Sequence[str], keep: bool, keep_going: bool) -> int:
    began = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    at_once = min(cores, MOST_AT_ONCE)
    checks = chosen(size, only)
    # Builds share the cores where long checks fill them; where there are few, cores would idle.
    jobs = cores if sum(map(takes_long, checks)) <= at_once else cores // at_once
    work = Path(tempfile.mkdtemp(prefix="fusedrnn-ci."))
    try:
        for folder in ("src", "logs"):
            (work / folder).mkdir()
        copy_of_checkout(work / "src")
        shared = variables(work, work / "src" / ".venv" / "bin" / "python", jobs)
        if size == "quick":
            shared["FUSEDRNN_CUDA"] = "OFF"

        def begin(check: Check) -> Ran:
            environment = dict(shared)
            if shutil.which("ccache"):
                environment |= {
                    f"CMAKE_{language}_COMPILER_LAUNCHER": "ccache" for language in ("CXX", "CUDA")
                }
            if check in CHECKS:  # README's command finds what a bare machine has
                environment["PATH"] = with_tools(environment["PATH"], work / "tools")
            return start(check, work / "src", work / "logs", environment)

        ended = side_by_side(
            checks, at_once, begin, lambda line: print(line, flush=True), keep_going=keep_going
        )
        print(summary(ended, time.monotonic() - began))
        failed = [ran for ran in ended if ran.status != 0]
        for ran in failed:
            name = ran.check.name
            print(f"\nFAILED: {name}, status {ran.status}. Its output is above the costs.")
            print(f"To run it alone: .ci/run --only {name}")
        return 1 if failed else 0
    finally:
        if keep:
            print(f"kept {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=".ci/run",
        description="Runs what a change must pass, on a copy of the checkout, from a bare machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", dest="size", action="store_const", const="quick", help="12 minutes on 2 cores"
    )
    size.add_argument("--all", dest="size", action="store_const", const="all", help="hours")
    size.add_argument("--only", nargs="+", default=[], metavar="CHECK", help="these and what they need")
    parser.add_argument("--list", action="store_true", help="print the checks that would run, and stop")
    parser.add_argument("--keep", action="store_true", help="leave the work folder, and name it")
    parser.add_argument("--keep-going", action="store_true", help="run what a failed check does not stop")
    parser.set_defaults(size="plain")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no check is left behind
    if arguments.list:
        print(table(in_order(chosen(arguments.size, arguments.only))))
        return 0
    return run(arguments.size, arguments.only, arguments.keep, arguments.keep_going)


if __name__ == "__main__":
    sys.exit(main())
