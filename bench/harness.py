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

from measure import SIDE_SECONDS, build, machine
from picture import pictures
from report import Results, Row, line
from roofline import Limits, measure_limits
from tqdm import tqdm

import fusedrnn as fr

QUICK_SECONDS = 0.2
ROWS_REMAIN = 75  # exit status: the budget was spent before the rows were


@dataclass(frozen=True)
class Case:
    """A row to measure: `run(limits, seconds a side)` with as many threads as the limits say."""

    name: str
    run: Callable[[Limits, float], Row]


def main(description: str, stem: str, title: str, cases: Sequence[Case]) -> int:
    """Measures the rows asked for; returns the exit status.

    Args:
        description: what `--help` says above the options.
        stem: name of the files in results/.
        title: heading of table and picture.
        cases: all rows there are.
    """
    chosen = _arguments(description, cases)
    wanted = [case for case in cases if _selected(case.name, chosen.only)]
    if not wanted:
        print(f"no row matches {' '.join(chosen.only)}: --list shows them all", file=sys.stderr)
        return 2
    if chosen.list:
        print("\n".join(case.name for case in wanted))
        return 0
    store = chosen.output is not None or not chosen.quick
    path = chosen.output or Path(__file__).parent / "results" / stem
    results = Results(path, title, [case.name for case in cases], chosen.fresh or not store)
    todo = [(threads, case) for threads in chosen.threads for case in wanted]
    if chosen.resume:
        todo = [(t, case) for t, case in todo if not results.has(case.name, t, build())]
    status = _measure(todo, results, chosen, store) if todo else 0
    if store and results.rows:
        for written in (results.path, results.write_table(), *pictures(results)):
            print(f"wrote {written}")
    return status


def _measure(
    todo: Sequence[tuple[int, Case]], results: Results, chosen: argparse.Namespace, store: bool
) -> int:
    started = time.monotonic()
    command = shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    facts = machine()
    seconds = QUICK_SECONDS if chosen.quick else SIDE_SECONDS
    limits: dict[int, Limits] = {}
    with tqdm(todo, disable=None, unit="row", leave=False) as bar:
        for done, (threads, case) in enumerate(todo):
            if chosen.budget is not None and time.monotonic() - started > chosen.budget:
                tqdm.write(f"{len(todo) - done} rows remain: go on with --resume")
                return ROWS_REMAIN
            bar.set_description(f"{case.name}, {threads} thread{'s' if threads > 1 else ''}")
            fr.set_num_threads(threads)
            if threads not in limits:
                limits[threads] = measure_limits(threads)
            row = case.run(limits[threads], seconds)
            if store:
                run = {"command": command, "machine": facts, "limits": asdict(limits[threads])}
                results.add(row, run)
            tqdm.write(line(row))
            bar.update()
    return 0


def _selected(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(p in name or fnmatchcase(name, p) for p in patterns)


def _arguments(description: str, cases: Sequence[Case]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN",
        help="rows whose name contains PATTERN, or matches it as a glob; default: all "
        f"({len(cases)}, from {cases[0].name!r} to {cases[-1].name!r})",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[fr.get_num_threads()], metavar="N",
        help="of fusedrnn; peers get as many or fewer, what is best for them; several numbers give a table "
        "each (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true",
        help=f"{QUICK_SECONDS} s a side instead of {SIDE_SECONDS:g}, nothing stored unless --output says "
        "where; not for publishing",
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
    parser.add_argument("--output", type=Path, help="stem of the files to write (default: in results/)")
    return parser.parse_args()
