"""Results: rows that are merged into one file, as JSON and a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from measure import OURS, Timed, Timing


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was measured.
        group: rows that a mean is taken of.
        threads: that fusedrnn had, and peers at most; 0 on a GPU.
        ours: timing of fusedrnn.
        peers: timings of every contender by library and name; a library is taken at its fastest.
        work, unit: arithmetic (GFLOP) or traffic (GB) of a call by its definition; "GFLOP/s" or "GB/s".
        limit: seconds that the machine needs at least.
        bound: what that limit is made of.
        shares: of measured rates, what fusedrnn reached, by their names.
        run: index into the file's runs; set when the row is stored.
        steps: of the sequence where times are told as microseconds a step, else 0: milliseconds a call.
        notes: what else was seen, by name; those that are text have a column of the table.
    """

    name: str
    group: str
    threads: int
    ours: Timing
    peers: dict[str, dict[str, Timing]]
    work: float
    unit: str
    limit: float
    bound: str
    shares: dict[str, float]
    run: int = -1
    steps: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    def shown(self, seconds: float) -> str:
        """A time in the row's unit."""
        return f"{1e6 * seconds / self.steps:.3g}" if self.steps else f"{1e3 * seconds:.3f}"

    def best(self, library: str) -> tuple[str, float]:
        """A library's fastest contender and its median."""
        timings = self.peers[library]
        name = min(timings, key=lambda n: timings[n].median)
        return name, timings[name].median

    def ratio(self, library: str) -> float:
        """How many times as fast as a library, medians of both."""
        return self.best(library)[1] / self.ours.median


def make_row(
    name: str,
    group: str,
    threads: int,
    contenders: Sequence[Timed],
    timings: Mapping[str, Timing],
    **rest: Any,
) -> Row:
    """A row of what `compare` returned."""
    peers: dict[str, dict[str, Timing]] = {}
    for contender in contenders:
        if contender.library != OURS:
            peers.setdefault(contender.library, {})[contender.name] = timings[contender.name]
    return Row(name, group, threads, timings[OURS], peers, **rest)


class Results:
    """The rows of a JSON file: new ones take the place of old ones of the same name and threads.

    Args:
        stem: path of the files without their endings.
        title: heading of table and picture.
        order: names of all rows there can be, in the order to list them.
        fresh: forget what the file holds.
    """

    def __init__(self, stem: Path, title: str, order: Sequence[str], fresh: bool) -> None:
        self.stem, self.title, self._order = stem, title, list(order)
        self.runs: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        if self.path.exists() and not fresh:
            stored = json.loads(self.path.read_text())
            self.runs = stored["runs"]
            self.rows = [_row(row) for row in stored["rows"] if row["name"] in self._order]

    @property
    def path(self) -> Path:
        """The JSON file."""
        return self.stem.with_name(self.stem.name + ".json")

    def has(self, name: str, threads: int, build: str) -> bool:
        """Whether a row is there that was measured with this build."""
        return any(
            (row.name, row.threads) == (name, threads) and self.runs[row.run]["machine"]["build"] == build
            for row in self.rows
        )

    def add(self, row: Row, run: dict[str, Any]) -> None:
        """Puts a row in its place and writes the JSON file, so that a run may be cut off at any time."""
        if run not in self.runs:
            self.runs.append(run)
        row = Row(**{**row.__dict__, "run": self.runs.index(run)})
        others = [old for old in self.rows if (old.name, old.threads) != (row.name, row.threads)]
        self.rows = sorted([*others, row], key=lambda r: (-r.threads, self._order.index(r.name)))
        self._forget_unused_runs()
        contents = {"title": self.title, "runs": self.runs, "rows": [asdict(row) for row in self.rows]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        writing = self.path.with_suffix(".tmp")
        writing.write_text(json.dumps(contents, indent=1) + "\n")
        os.replace(writing, self.path)

    def _forget_unused_runs(self) -> None:
        used = sorted({row.run for row in self.rows})
        self.runs = [self.runs[i] for i in used]
        self.rows = [Row(**{**row.__dict__, "run": used.index(row.run)}) for row in self.rows]

    def write_table(self) -> Path:
        """The Markdown file."""
        path = self.path.with_suffix(".md")
        path.write_text(self._markdown())
        return path

    def _markdown(self) -> str:
        lines = [f"# {self.title}", ""]
        newest = self.runs[max(row.run for row in self.rows)]
        lines += [f"- {name}: {value}" for name, value in newest["machine"].items()]
        builds = {run["machine"]["build"] for run in self.runs}
        lines.append(f"- parts: {len(self.runs)}" + (f", of {len(builds)} builds" if len(builds) > 1 else ""))
        lines += [f"- command: `{command}`" for command in dict.fromkeys(r["command"] for r in self.runs)]
        for threads in thread_counts(self.rows):
            rows = [row for row in self.rows if row.threads == threads]
            lines += ["", f"## {where(newest['machine'], threads)}", ""]
            lines += _roofs([self.runs[i]["limits"] for i in sorted({row.run for row in rows})])
            lines += ["", *_summary(rows), "", *self._table(rows)]
        return "\n".join(lines) + "\n"

    def _table(self, rows: Sequence[Row]) -> list[str]:
        libraries = _libraries(rows)
        shares = list(dict.fromkeys(name for row in rows for name in row.shares))
        most = {row.name: row for row in self.rows if row.threads > rows[0].threads}
        unit = "us a step" if rows[0].steps else "ms"
        notes = list(dict.fromkeys(k for row in rows for k, v in row.notes.items() if isinstance(v, str)))
        heading = ["row", f"ours {unit}", f"limit {unit}", "of limit", "bound by", rows[0].unit]
        heading += [f"of {name}" for name in shares]
        for library in libraries:
            heading += [f"{library} {unit}", "times"]
        heading += notes
        if most:
            heading.append(f"ratio, of that with {self.rows[0].threads} threads")
        table = [heading, ["---"] * len(heading)]
        for row in rows:
            cells = [row.name, row.shown(row.ours.median), row.shown(row.limit)]
            cells += [f"{row.limit / row.ours.median:.0%}", row.bound, f"{row.work / row.ours.median:.1f}"]
            cells += [f"{row.shares[name]:.0%}" if name in row.shares else "" for name in shares]
            for library in libraries:
                if library in row.peers:
                    name, seconds = row.best(library)
                    setting = name.removeprefix(library).strip(" ,")
                    shown = row.shown(seconds) + (f" ({setting})" if setting else "")
                    cells += [shown, f"{row.ratio(library):.2f}"]
                else:
                    cells += ["", ""]
            cells += [row.notes.get(name, "") for name in notes]
            if most:
                other = most.get(row.name)
                cells.append(f"{row.ratio(libraries[0]) / other.ratio(libraries[0]):.0%}" if other else "")
            table.append(cells)
        return ["| " + " | ".join(cells) + " |" for cells in table]


def line(row: Row) -> str:
    """The row for the screen."""
    unit = "us a step" if row.steps else "ms"
    text = f"{row.name:<38}{row.shown(row.ours.median):>10} {unit}"
    text += f" {row.limit / row.ours.median:>4.0%} of limit ({row.bound})"
    text += "".join(f", {share:.0%} of {name}" for name, share in row.shares.items())
    for library in row.peers:
        name, seconds = row.best(library)
        text += f"; {row.ratio(library):.2f} x {name} ({row.shown(seconds)} {unit})"
    return text


def where(machine: Mapping[str, Any], threads: int) -> str:
    """What rows were measured on: so many threads, or a GPU."""
    return f"{threads} thread{'s' if threads > 1 else ''}" if threads else str(machine["device"])


def _row(stored: dict[str, Any]) -> Row:
    peers = {
        library: {name: Timing(**timing) for name, timing in timings.items()}
        for library, timings in stored["peers"].items()
    }
    return Row(**{**stored, "ours": Timing(**stored["ours"]), "peers": peers})


def thread_counts(rows: Iterable[Row]) -> list[int]:
    """The numbers of threads that rows were measured with, most first."""
    return sorted({row.threads for row in rows}, reverse=True)


def _libraries(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(library for row in rows for library in row.peers))


def _roofs(limits: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measured limits; where there were several parts, from the least to the most."""
    if "rates" in limits[0]:
        return [
            "Limits, of the first part: " + ", ".join(f"{k} {v:.4g}" for k, v in limits[0]["rates"].items())
        ]

    def span(values: Iterable[float], form: str = ".0f") -> str:
        low, high = min(found := list(values)), max(found)
        return f"{low:{form}}" if f"{low:{form}}" == f"{high:{form}}" else f"{low:{form}} to {high:{form}}"

    roofs = [x["all"] for x in limits]
    text = f"Limits: {span(x['all']['fma_gflops'][x['isa']] for x in limits)} GFLOP/s FMA; GB/s read from "
    text += ", ".join(f"{n.upper()} {span(r[n + '_gbytes'] for r in roofs)}" for n in ("l1", "l2", "l3"))
    text += f", memory {span(r['memory_gbytes'] for r in roofs)}"
    if roofs[0]["threads"] > 1:
        text += f"; barrier {span((r['barrier_us'] for r in roofs), '.2f')} us"
        text += f", fork {span((r['fork_us'] for r in roofs), '.2f')} us"
    return [text + f". PyTorch's sgemm: {span(x['sgemm_gflops'] for x in limits)} GFLOP/s."]


def _summary(rows: Sequence[Row]) -> list[str]:
    libraries = _libraries(rows)
    table = [["group", "rows", *(f"times {library}: least, mean, most" for library in libraries)]]
    table.append(["---"] * len(table[0]))
    for group in dict.fromkeys(row.group for row in rows):
        members = [row for row in rows if row.group == group]
        cells = [group, str(len(members))]
        for library in libraries:
            ratios = [row.ratio(library) for row in members if library in row.peers]
            cells.append(
                f"{min(ratios):.2f}, {geometric_mean(ratios):.2f}, {max(ratios):.2f}" if ratios else ""
            )
        table.append(cells)
    return ["| " + " | ".join(cells) + " |" for cells in table]
