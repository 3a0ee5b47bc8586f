"""What the LSTM rows of results/bench_rnn.json would take if nothing came between the kernels' inner pieces.

  python bench/pieces.py

A sharper bound than limits.py's where arithmetic binds: products at the rate that the register tile reaches
alone, with vectors filled up as the packing does; the cell at the time it takes alone; weights packed, since
every training step changes them. The pieces are measured first, in a few seconds, so run it on the machine of
the results. Left out are barriers, biases, the tape's way to memory, and packing gradients.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from limits import CELLS, FLOAT, Stack
from roofline import Limits, inner_pieces, measure_limits

import fusedrnn as fr

RESULTS = Path(__file__).parent / "results" / "bench_rnn.json"
LANES = {"avx512": 16, "avx2": 8, "neon": 4, "scalar": 1}


@dataclass(frozen=True)
class Pieces:
    """How fast the inner pieces are on all threads together.

    Attributes:
        lanes: floats in a vector.
        tile_flops: operations a second of the register tile, panels in the second-level cache.
        cell_seconds: of one unit of one row, forward.
        slot_flops: operations a second of multiply-adds in registers.
        copy_bytes: bytes a second between the caches and what lies beyond.
    """

    lanes: int
    tile_flops: float
    cell_seconds: float
    slot_flops: float
    copy_bytes: float


def measure(limits: Limits) -> Pieces:
    """The pieces on as many threads as `limits.all` has: those of one, in proportion to multiply-adds."""
    tile_gflops, cell_seconds = inner_pieces(limits)
    one, every = limits.one.fma_gflops[limits.isa], limits.all.fma_gflops[limits.isa]
    return Pieces(
        LANES[limits.isa],
        1e9 * tile_gflops * every / one,
        cell_seconds * one / every,
        1e9 * every,
        1e9 * limits.all.l3_gbytes,
    )


def seconds(stack: Stack, pieces: Pieces) -> float:
    """Of an LSTM stack in one direction: its pieces one after another."""

    def whole(count: int) -> int:
        return ceil(count / pieces.lanes) * pieces.lanes

    cell, H = CELLS[stack.cell], stack.H
    full, rest = divmod(H, pieces.lanes)
    gates = cell.gates * full * pieces.lanes + whole(cell.gates * rest)
    flops = 0
    for layer in range(stack.L):
        inputs = H if layer else stack.I
        flops += 2 * gates * (inputs + H)
        if stack.train:
            flops += 2 * 2 * cell.gates * H * (whole(inputs) + whole(H))
    units = stack.row_steps * whole(H) * stack.L
    total = stack.row_steps * flops / pieces.tile_flops + units * pieces.cell_seconds
    if stack.train:
        # Packed for forward and for backward; a line that is written is read first.
        total += units * 2 * cell.backward_slots / pieces.slot_flops
        total += 2 * 3 * FLOAT * stack.weights / pieces.copy_bytes
    return total


def stack_of(name: str) -> Stack | None:
    """The stack of a row "lstm train T B I H L" with more rows than fit one tile; None for other rows."""
    cell, what, *sizes = name.split()
    if cell != "lstm" or what not in ("train", "infer") or len(sizes) != 5 or int(sizes[1]) < 16:
        return None
    T, B, I, H, L = map(int, sizes)
    return Stack(cell, T, B, I, H, L, train=what == "train")


def table(rows: list[dict[str, Any]], pieces: Pieces) -> list[str]:
    """A line for each LSTM row with B >= 16, and the means of each group."""
    lines = ["row                             ours ms  pieces ms   share   PyTorch / ours   / pieces"]
    ratios: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        stack = stack_of(row["name"])
        if stack is None:
            continue
        ours, least = row["ours"]["median"], seconds(stack, pieces)
        peer = min(timing["median"] for timing in row["peers"]["PyTorch"].values())
        ratios.setdefault(row["group"], []).append((peer / ours, peer / least))
        lines.append(
            f"{row['name']:<29} {1e3 * ours:9.3f} {1e3 * least:10.3f} {least / ours:7.0%}"
            f" {peer / ours:16.2f} {peer / least:10.2f}"
        )
    for group, pairs in ratios.items():
        at_ours, at_pieces = map(geometric_mean, zip(*pairs, strict=True))
        lines.append(f"{group + ', geometric mean':<58} {at_ours:16.2f} {at_pieces:10.2f}")
    return lines


def main() -> None:
    """Measures the pieces and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=fr.get_num_threads(), help="default: %(default)s")
    chosen = parser.parse_args()
    rows = [r for r in json.loads(chosen.results.read_text())["rows"] if r["threads"] == chosen.threads]
    limits = measure_limits(chosen.threads)
    pieces = measure(limits)
    rates = f"tile {pieces.tile_flops / 1e9:.0f} GFLOP/s of {pieces.slot_flops / 1e9:.0f}"
    cell = f"cell {1e9 * pieces.cell_seconds:.2f} ns a unit"
    print(f"{chosen.threads} threads: {rates}, {cell}, copies {pieces.copy_bytes / 1e9:.0f} GB/s")
    print("\n".join(table(rows, pieces)))


if __name__ == "__main__":
    main()
