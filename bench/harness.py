"""What both benchmarks share: the command line, limits, the loop over rows, storing as it goes."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from measure import CLOCKS, SIDE_SECONDS, machine, use_clock
from picture import pictures
from report import Results, Row, line
from roofline import measure_limits
from tqdm import tqdm

import fusedrnn as fr

QUICK_SECONDS = 0.2
ROWS_REMAIN = 75  # exit status: the budget was spent before the rows were
NOTHING_TO_MEASURE_ON = 3  # exit status


@dataclass(frozen=True)
class Case:
    """A row to measure: `run(limits, seconds a side)`, on a CPU with as many threads as the limits say."""

    name: str
    run: Callable[[Any, float], Row]


@dataclass(frozen=True)
class Place:
    """What rows are measured on: a CPU, if nothing else is said.

    Attributes:
        limits: measures what it could do at best, with so many threads, as a dataclass.
        machine: what it is, and what runs on it; "build" is what stored rows must share to be taken over.
        seconds, quick_seconds: of timed calls for each side.
        threads: whether rows are measured with a number of threads; else that is 0.
        why_not: why nothing can be measured here, if so.
    """

    limits: Callable[[int], Any] = measure_limits
    machine: Callable[[], dict[str, Any]] = machine
    seconds: float = SIDE_SECONDS
    quick_seconds: float = QUICK_SECONDS
    threads: bool = True
    why_not: Callable[[], str | None] = lambda: None


def main(
    description: str,
    stem: str,
    title: str,
    cases: Sequence[Case],
    place: Place = Place(),
) -> int:
    """Measures the rows asked for; returns the exit status.

    Args:
        description: what `--help` says above the options.
        stem: name of the files in results/.
        title: heading of table and picture.
        cases: all rows there are.
        place: where to measure.
    """
    chosen = _arguments(description, cases, place)
    wanted = [case for case in cases if _selected(case.name, chosen.only)]
    if not wanted:
        print(f"no row matches {' '.join(chosen.only)}: --list shows them all", file=sys.stderr)
        return 2
    if chosen.list:
        print("\n".join(case.name for case in wanted))
        return 0
    if (reason := place.why_not()) is not None:
        print(reason, file=sys.stderr)
        return NOTHING_TO_MEASURE_ON
    use_clock(chosen.clock)
    store = chosen.output is not None or not chosen.quick
    path = chosen.output or Path(__file__).parent / "results" / stem
    results = Results(path, title, [case.name for case in cases], chosen.fresh or not store)
    todo = [(threads, case) for threads in chosen.threads for case in wanted]
    if chosen.resume:
        this = place.machine()["build"]
        todo = [(t, case) for t, case in todo if not results.has(case.name, t, this)]
    status = _measure(todo, results, chosen, store, place) if todo else 0
    if store and results.rows:
        for written in (results.path, results.write_table(), *pictures(results)):
            print(f"wrote {written}")
    return status


def _measure(
    todo: Sequence[tuple[int, Case]],
    results: Results,
    chosen: argparse.Namespace,
    store: bool,
    place: Place,
) -> int:
    started = time.monotonic()
    command = shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    facts = place.machine()
    seconds = place.quick_seconds if chosen.quick else place.seconds
    limits: dict[int, Any] = {}
    failed: list[str] = []
    with tqdm(todo, disable=None, unit="row", leave=False) as bar:
        for done, (threads, case) in enumerate(todo):
            if chosen.budget is not None and time.monotonic() - started > chosen.budget:
                tqdm.write(f"{len(todo) - done} rows remain: go on with --resume")
                return ROWS_REMAIN
            bar.set_description(case.name + (f", {threads} thread{'s' * (threads > 1)}" if threads else ""))
            if threads:
                fr.set_num_threads(threads)
            if threads not in limits:
                limits[threads] = place.limits(threads)
            try:
                row = case.run(limits[threads], seconds)
            except AssertionError as error:  # contenders that do not agree: no row, and no end of the others
                failed.append(case.name)
                tqdm.write(f"{case.name}: {error}")
                continue
            if store:
                run = {"command": command, "machine": facts, "limits": asdict(limits[threads])}
                results.add(row, run)
            tqdm.write(line(row))
            bar.update()
    if failed:
        tqdm.write(f"contenders disagree in {len(failed)} rows: {', '.join(failed)}")
    return int(bool(failed))


def _selected(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(p in name or fnmatchcase(name, p) for p in patterns)


def device_of(words: Sequence[str]) -> argparse.Namespace:
    """The options that say what rows there are, ahead of all others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _device_arguments(parser)
    return parser.parse_known_args(words)[0]


def _device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--rehearse", action="store_true",
        help="with --device cuda: tiny shapes on whatever fusedrnn takes for a GPU, PyTorch on the CPU where "
        "it has no other, made-up limits; shows that the script works, no more",
    )  # fmt: skip


def _arguments(description: str, cases: Sequence[Case], place: Place) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN",
        help="rows whose name contains PATTERN, or matches it as a glob; default: all "
        f"({len(cases)}, from {cases[0].name!r} to {cases[-1].name!r})",
    )  # fmt: skip
    _device_arguments(parser)
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N",
        default=[fr.get_num_threads() if place.threads else 0],
        help="of fusedrnn; peers get as many or fewer, what is best for them; several numbers give a table "
        "each (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true",
        help=f"{place.quick_seconds} s a side instead of {place.seconds:g}, nothing stored unless --output "
        "says where; not for publishing",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="leave out rows that the output file has from this very build: goes on where a run stopped",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS",
        help=f"begin no row after so long; if rows remain the exit status is {ROWS_REMAIN}",
    )  # fmt: skip
    parser.add_argument(
        "--fresh", action="store_true", help="forget the rows that the output file has; default: keep them"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall",
        help="processor: time in which this process has a core, for --threads 1 on a busy machine",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="stem of the files to write (default: in results/)")
    return parser.parse_args()
