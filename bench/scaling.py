"""How the time of a layer grows with T, B, H and threads: fusedrnn in several precisions beside PyTorch.

  python bench/scaling.py                          writes results/scaling.{json,md,png}
  python bench/scaling.py --cell gru --infer --precisions ieee bf16x3 --output /tmp/scaling
  python bench/scaling.py --quick --axes B         0.2 s a side: a first look

One of the four is varied, the others stay as BASE has them; I is H. Contenders of a point take turns, as in
all benchmarks; PyTorch (float32) has as many threads as we.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from bench_rnn import STACKS, our_inference, our_training
from harness import QUICK_SECONDS
from limits import Stack
from measure import CLOCKS, SIDE_SECONDS, Contender, Timing, compare, machine, use_clock
from peers import TORCH
from tqdm import tqdm

import fusedrnn as fr
from fusedrnn._core.cells import PRECISIONS_OF

BASE = {"T": 64, "B": 32, "H": 256}
AXES = {
    "T": (8, 16, 32, 64, 128, 256, 512, 1024),
    "B": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "H": (16, 32, 64, 128, 256, 512, 1024),
}
COLORS = {"ieee": "tab:blue", "bf16": "tab:red", "bf16x3": "tab:purple", "bf16x6": "tab:green"}


def points(axis: str) -> list[int]:
    """What is measured along an axis."""
    if axis == "threads":
        return peers.thread_counts(len(os.sched_getaffinity(0)))
    return list(AXES[axis])


def point(stack: Stack, threads: int, precisions: list[str], seconds: float) -> dict[str, Timing]:
    """Timings of all contenders, by precision, and of PyTorch."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((stack.T, stack.B, stack.I), np.float32)
    dy = rng.standard_normal((stack.T, stack.B, stack.H), np.float32)
    contenders = []
    for precision in precisions:
        module = STACKS[stack.cell](stack.I, stack.H, precision=precision, seed=0)
        call = our_training(module, x, dy) if stack.train else our_inference(module, x)
        contenders.append(Contender(precision, call, lambda: fr.set_num_threads(threads), library=precision))
    peer = peers.stack(stack.cell, STACKS[stack.cell](stack.I, stack.H, seed=0).state_dict())
    theirs = peers.training(peer, x, dy) if stack.train else peers.inference(peer, x)
    contenders.append(Contender(TORCH, theirs, lambda: torch.set_num_threads(threads), library=TORCH))
    return compare(contenders, seconds)


def measure(chosen: argparse.Namespace) -> dict[str, dict[int, dict[str, Timing]]]:
    """Timings by axis, point and contender."""
    use_clock(chosen.clock)
    seconds = QUICK_SECONDS if chosen.quick else SIDE_SECONDS
    todo = [(axis, value) for axis in chosen.axes for value in points(axis)]
    found: dict[str, dict[int, dict[str, Timing]]] = {axis: {} for axis in chosen.axes}
    for axis, value in tqdm(todo, disable=None, unit="point", leave=False):
        sizes = BASE | ({} if axis == "threads" else {axis: value})
        stack = Stack(chosen.cell, sizes["T"], sizes["B"], sizes["H"], sizes["H"], 1, not chosen.infer)
        threads = value if axis == "threads" else chosen.threads
        found[axis][value] = point(stack, threads, chosen.precisions, seconds)
    return found


def table(
    found: dict[str, dict[int, dict[str, Timing]]], heading: str, facts: dict[str, Any], command: str
) -> str:
    """The results as Markdown: milliseconds a call, and how many times as fast as PyTorch."""
    lines = [f"# {heading}", "", *(f"- {name}: {value}" for name, value in facts.items())]
    lines += [f"- command: `{command}`", "", "Milliseconds a call (times as fast as PyTorch's float32)."]
    for axis, by_value in found.items():
        names = list(next(iter(by_value.values())))
        lines += [
            "",
            f"## {axis}",
            "",
            "| " + " | ".join([axis, *names]) + " |",
            "|---" * (1 + len(names)) + "|",
        ]
        for value, timings in by_value.items():
            cells = [str(value)]
            for name, timing in timings.items():
                times = "" if name == TORCH else f" ({timings[TORCH].median / timing.median:.2f})"
                cells.append(f"{1e3 * timing.median:.3f}{times}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, dict[int, dict[str, Timing]]], heading: str, path: Path) -> None:
    """A picture for each axis: time over what is varied, quartiles as a band, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(found), 4.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axes_of, (axis, by_value) in zip(axes, found.items(), strict=True):
        values = list(by_value)
        for name in next(iter(by_value.values())):
            timings = [by_value[value][name] for value in values]
            color = COLORS.get(name, "black")
            axes_of.plot(
                values, [1e3 * t.median for t in timings], "o-", markersize=3, color=color, label=name
            )
            axes_of.fill_between(
                values,
                [1e3 * t.low for t in timings],
                [1e3 * t.high for t in timings],
                color=color,
                alpha=0.15,
            )
        axes_of.set_xscale("log", base=2)
        axes_of.set_yscale("log")
        axes_of.set_xticks(values, [str(value) for value in values], fontsize=8)
        axes_of.set_xlabel(axis)
        axes_of.set_ylabel("ms a call")
        axes_of.grid(alpha=0.3)
        others = {name: value for name, value in BASE.items() if name != axis}
        axes_of.set_title(", ".join(f"{name} {value}" for name, value in others.items()), fontsize=9)
    axes[0].legend(fontsize=8)
    figure.suptitle(heading, fontsize=10)
    figure.savefig(path)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=STACKS, default="lstm")
    parser.add_argument("--infer", action="store_true", help="forward alone; default: forward and backward")
    parser.add_argument("--axes", nargs="+", choices=[*AXES, "threads"], default=[*AXES, "threads"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS_OF["cpu"], default=["ieee", "bf16"])
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: %(default)s"
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: see bench_rnn.py --help")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS} s a side; not for publishing")
    parser.add_argument("--output", type=Path, help="stem of the files (default: results/scaling)")
    chosen = parser.parse_args()
    stem = chosen.output or Path(__file__).parent / "results" / "scaling"
    found = measure(chosen)
    facts = machine()
    command = shlex.join(["python", "bench/scaling.py", *sys.argv[1:]])
    what = "forward" if chosen.infer else "forward and backward"
    heading = f"{chosen.cell.upper()}, {what}: time over T, B, H and threads ({facts['cpu']}, {facts['isa']})"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        axis: {value: {name: asdict(t) for name, t in timings.items()} for value, timings in by_value.items()}
        for axis, by_value in found.items()
    }
    contents = {"machine": facts, "command": command, "base": BASE, "points": stored}
    stem.with_name(stem.name + ".json").write_text(json.dumps(contents, indent=1) + "\n")
    text = table(found, heading, facts, command)
    stem.with_name(stem.name + ".md").write_text(text)
    draw(found, heading, stem.with_name(stem.name + ".png"))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
