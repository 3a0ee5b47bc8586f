"""The picture of a table: how many times as fast as each library, and how near the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import Results, Row, thread_counts, where

MARKERS = ("D", "s", "^")


def pictures(results: Results) -> list[Path]:
    """A picture for each number of threads, beside the results' other files."""
    paths = []
    for threads in thread_counts(results.rows):
        ending = "" if threads == results.rows[0].threads else f"_{threads}_thread{'s' * (threads > 1)}"
        paths.append(results.stem.with_name(f"{results.stem.name}{ending}.png"))
        rows = [row for row in results.rows if row.threads == threads]
        _draw(paths[-1], results.title, rows, results.runs[rows[0].run]["machine"])
    return paths


def _draw(path: Path, title: str, rows: Sequence[Row], machine: Mapping[str, Any]) -> None:
    """Bars against the first library, markers for the others; beside them bars of the share of the limit."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

    figure = Figure(figsize=(11, 1.6 + 0.27 * len(rows)), layout="constrained", dpi=120)
    times, near = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (3, 1)})
    libraries = list(dict.fromkeys(library for row in rows for library in row.peers))
    first = libraries[0]
    places = list(range(len(rows), 0, -1))
    ratios = [row.ratio(first) if first in row.peers else 1.0 for row in rows]
    colors = ["tab:blue" if ratio >= 1 else "tab:red" for ratio in ratios]
    times.barh(places, [ratio - 1 for ratio in ratios], left=1, color=colors, label=first)
    for place, ratio in zip(places, ratios, strict=True):
        inside = ratio > 1.25
        times.annotate(
            f"{ratio:.2f}", (ratio, place), (-4 if inside or ratio < 1 else 4, 0),
            textcoords="offset points", ha="right" if inside or ratio < 1 else "left", va="center",
            fontsize=8, color="white" if inside else "black",
        )  # fmt: skip
    most = max(ratios)
    for library, marker in zip(libraries[1:], MARKERS, strict=False):
        points = [
            (row.ratio(library), y) for row, y in zip(rows, places, strict=True) if library in row.peers
        ]
        most = max(most, *(x for x, _ in points))
        times.scatter(*zip(*points, strict=True), marker=marker, s=22, color="tab:orange", edgecolor="black",
                      linewidth=0.6, zorder=3, label=library)  # fmt: skip
    times.set_yticks(places, [row.name for row in rows], fontsize=8)
    times.set_ylim(0.3, len(rows) + 0.7)
    times.axvline(1, color="black", linewidth=1)
    times.set_xscale("log")
    times.set_xlim(min(0.8, *ratios) / 1.15, most * 1.3)
    times.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    times.xaxis.set_major_formatter("{x:g}")
    times.xaxis.set_minor_locator(NullLocator())
    times.set_xlabel(
        "times as fast as the peer at its best settings (beyond 1: fusedrnn is faster)", fontsize=9
    )
    times.legend(loc="upper right", fontsize=8)
    shares = [row.limit / row.ours.median for row in rows]
    near.barh(places, shares, color="tab:gray")
    for place, share in zip(places, shares, strict=True):
        near.annotate(
            f"{share:.0%}", (share, place), (3, 0), textcoords="offset points", va="center", fontsize=8
        )
    near.set_xlim(0, max(1.15, max(shares) * 1.12))
    near.axvline(1, color="black", linewidth=1)
    near.xaxis.set_major_formatter(PercentFormatter(1))
    near.set_xlabel("of the machine's limit", fontsize=9)
    for axes in (times, near):
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    threads = rows[0].threads
    place = f"{machine['cpu']}, {where(machine, threads)}, {machine['isa']}" if threads else machine["device"]
    figure.suptitle(f"{title}\n{place}", fontsize=10)
    figure.savefig(path)
