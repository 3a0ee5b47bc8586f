"""Our own precisions on every instruction set of this machine, in turn: what one costs beside float32.

  python bench/bench_isas.py                       writes results/bench_isas.{json,md}
  python bench/bench_isas.py --only 'lstm train' --precisions ieee bf16
  python bench/bench_isas.py --threads 1 --clock processor      beside other work

All contenders of a row, an instruction set with a precision each, take turns in one process. The table has
milliseconds of a call and, in brackets, how much of the speed of the same set's ieee a precision reaches.
Without tiles the aim is half of it in bf16.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bench_rnn import STACKS, our_inference, our_training
from measure import CLOCKS, Contender, Timing, compare, machine, use_clock
from tqdm import tqdm

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn._core.cells import PRECISIONS_OF

SHAPES = ((100, 1, 256, 256), (64, 32, 256, 256), (32, 128, 256, 256), (16, 32, 650, 650))  # T B I H
SLOW = ("scalar",)  # calls fmaf: right, and slow
SIDE, BLOCK = 0.6, 0.15  # seconds of timed calls of each contender, of a block


def row(cell: str, train: bool, shape: tuple[int, int, int, int], chosen: Any) -> dict[str, Timing]:
    """Timings by instruction set and precision."""
    T, B, I, H = shape
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((T, B, I), np.float32), rng.standard_normal((T, B, H), np.float32)
    contenders = []
    for isa in chosen.isas:
        for precision in chosen.precisions:
            module = STACKS[cell](I, H, precision=precision, seed=0)
            call = our_training(module, x, dy) if train else our_inference(module, x)
            name = f"{isa} {precision}"
            contenders.append(Contender(name, call, lambda isa=isa: _native.set_backend(isa), library=name))
    return compare(contenders, SIDE, BLOCK)


def shown(timings: dict[str, Timing], name: str) -> str:
    """A cell of the table."""
    isa, precision = name.split()
    ms = f"{1e3 * timings[name].median:.2f}"
    base = timings.get(f"{isa} ieee")
    return ms if base is None or precision == "ieee" else f"{ms} ({base.median / timings[name].median:.2f})"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    isas = [isa for isa in fr.cpu.available_isas() if isa not in SLOW]
    precisions = PRECISIONS_OF["cpu"]
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose name has it")
    parser.add_argument("--isas", nargs="+", choices=fr.cpu.available_isas(), default=isas)
    parser.add_argument("--precisions", nargs="+", choices=precisions, default=list(precisions))
    parser.add_argument("--threads", type=int, default=fr.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: see bench_rnn.py --help")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "bench_isas")
    chosen = parser.parse_args()
    fr.set_num_threads(chosen.threads)
    use_clock(chosen.clock)
    cases = {
        f"{cell} {'train' if train else 'infer'} {' '.join(map(str, shape))}": (cell, train, shape)
        for cell in STACKS
        for train in (True, False)
        for shape in SHAPES
    }
    wanted = {name: case for name, case in cases.items() if chosen.only in name}
    found = {name: row(*case, chosen) for name, case in tqdm(wanted.items(), disable=None)}
    facts = machine()
    command = shlex.join(["python", "bench/bench_isas.py", *sys.argv[1:]])
    names = list(next(iter(found.values())))
    lines = ["# Precisions on every instruction set", "", *(f"- {k}: {v}" for k, v in facts.items())]
    lines += [f"- threads: {fr.get_num_threads()}", f"- command: `{command}`", ""]
    lines += ["ms a call (speed of the same set's ieee that is reached); T B I H behind a name.", ""]
    lines += ["| row | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    lines += [f"| {k} | " + " | ".join(shown(t, n) for n in names) + " |" for k, t in found.items()]
    least = {
        name: min(found, key=lambda k, n=name: found[k][f"{n.split()[0]} ieee"].median / found[k][n].median)
        for name in names
        if not name.endswith("ieee") and f"{name.split()[0]} ieee" in names
    }
    lines += [
        "",
        *(f"Least of {name}: {shown(found[k], name)}, {k}." for name, k in least.items()),
    ]
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    rows = {name: {n: asdict(t) for n, t in timings.items()} for name, timings in found.items()}
    contents = {"machine": facts, "command": command, "rows": rows}
    chosen.output.with_suffix(".json").write_text(json.dumps(contents, indent=1) + "\n")
    chosen.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
