"""Results as a table on the screen, JSON and a picture."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measure import Timing
from roofline import Limits


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was measured.
        ours: timing of fusedrnn.
        peer: timing of the fastest peer.
        peer_name: which one that was.
        work: arithmetic (GFLOP) or traffic (GB) of one call, counted from its definition.
        unit: "GFLOP/s" or "GB/s".
        fractions: share of each measured limit that fusedrnn reached, by the limit's name.
    """

    name: str
    ours: Timing
    peer: Timing
    peer_name: str
    work: float
    unit: str
    fractions: dict[str, float]

    @property
    def ratio(self) -> float:
        """How many times faster than the fastest peer, medians of both."""
        return self.peer.median / self.ours.median


HEADINGS = ("row", "ours ms", "peer ms", "ratio", "ours", "unit", "of the limit", "fastest peer")


def cells(row: Row) -> tuple[str, ...]:
    """The row as text."""
    return (
        row.name,
        f"{1e3 * row.ours.median:.3f}",
        f"{1e3 * row.peer.median:.3f}",
        f"{row.ratio:.2f}",
        f"{row.work / row.ours.median:.1f}",
        row.unit,
        ", ".join(f"{share:.0%} {name}" for name, share in row.fractions.items()),
        row.peer_name,
    )


def print_row(row: Row) -> None:
    """One line of the table."""
    name, *numbers, unit, limit, peer = cells(row)
    print(
        f"{name:<34}" + "".join(f"{n:>10}" for n in numbers) + f"  {unit:<8} {limit:<30} {peer}", flush=True
    )


def print_heading() -> None:
    """The table's first line."""
    name, *numbers, unit, limit, peer = HEADINGS
    print(
        f"{name:<34}" + "".join(f"{n:>10}" for n in numbers) + f"  {unit:<8} {limit:<30} {peer}", flush=True
    )


def save(
    stem: Path, title: str, rows: Sequence[Row], limits: Sequence[Limits], machine: dict[str, Any]
) -> list[Path]:
    """Writes stem.json, stem.md and stem.png; returns their paths."""
    command = shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + end) for end in (".json", ".md", ".png")]
    contents = {
        "title": title,
        "command": command,
        "machine": machine,
        "limits": [asdict(limit) for limit in limits],
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }
    paths[0].write_text(json.dumps(contents, indent=1) + "\n")
    paths[1].write_text(_markdown(contents, rows))
    _picture(paths[2], title, rows, machine)
    return paths


def _markdown(contents: dict[str, Any], rows: Sequence[Row]) -> str:
    facts = [f"- {name}: {value}" for name, value in contents["machine"].items()]
    facts += [
        f"- limits with {x['threads']} threads: FMA {x['fma_gflops']:.0f} GFLOP/s, PyTorch's sgemm "
        f"{x['sgemm_gflops']:.0f} GFLOP/s, memory {x['memory_gbytes']:.0f} GB/s"
        for x in contents["limits"]
    ]
    table = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    table += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join([f"# {contents['title']}", "", f"`{contents['command']}`", "", *facts, "", *table, ""])


def _picture(path: Path, title: str, rows: Sequence[Row], machine: dict[str, Any]) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained", dpi=120)
    axes = figure.subplots()
    places = range(len(rows), 0, -1)
    ratios = [row.ratio for row in rows]
    colors = ["tab:blue" if ratio >= 1 else "tab:red" for ratio in ratios]
    axes.barh(places, [ratio - 1 for ratio in ratios], left=1, color=colors)
    for place, ratio in zip(places, ratios, strict=True):
        side = "left" if ratio >= 1 else "right"
        axes.annotate(
            f"{ratio:.2f}", (ratio, place), (4 if ratio >= 1 else -4, 0),
            textcoords="offset points", ha=side, va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(places, [row.name for row in rows], fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *ratios) / 1.4, max(2.0, *ratios) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("times as fast as the fastest peer at its best settings (beyond 1: fusedrnn is faster)")
    axes.set_title(f"{title}\n{machine['cpu']}, {machine['cores']} cores, {machine['isa']}", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path)
