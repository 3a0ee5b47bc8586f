"""Two builds of fusedrnn against each other: does a change of the code cost time?

  python bench/two_builds.py OLD NEW                      folders with a package `fusedrnn` in them, built
  python bench/two_builds.py OLD NEW --rounds 8 --threads 1 --output bench/results/NAME.md

Each build runs in a process of its own, which waits while the other one measures. Both processes are started
anew for each round: which pages of memory a process gets alone makes small rows some per cent faster or
slower, as OLD against OLD shows. In a round a row has blocks of calls of old, new, new and old, in every
other round of new, old, old and new, after some that warm up. A row's times are medians over all blocks, its
speed is the median over rounds of old's time by new's, which a machine that grows slower for a while disturbs
least. Rows are those of bench_rnn.py, and a step of the two-layer example.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from datetime import date
from operator import add, truediv
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from tqdm import tqdm

SHAPES = ((100, 1, 256, 256, 1), (128, 32, 128, 256, 1), (64, 64, 512, 512, 1), (64, 32, 1024, 1024, 1))
LSTM_SHAPES = ((100, 1, 64, 64, 1), (128, 16, 64, 128, 1), (35, 20, 200, 200, 2), (35, 20, 650, 650, 2))
ROWS = [
    (cell, what, shape)
    for cell in ("LSTM", "GRU", "RNN")
    for shape in SHAPES + (LSTM_SHAPES if cell == "LSTM" else ())
    for what in ("train", "infer")
] + [("LSTM", "train_step", (10, 10, 1, 50, 2)), ("LSTM", "separate calls", (10, 10, 1, 50, 2))]
BLOCK = 0.12  # seconds of calls, at least 3
WARM_UP = 0.03  # seconds of calls before a row's first block, at least 2
TURNS = ((0, 1, 1, 0), (1, 0, 0, 1))  # which build measures, block by block, in even and in odd rounds


def call_of(row: tuple[str, str, tuple[int, ...]]) -> Any:
    """A function that makes one call of a row."""
    import numpy as np

    import fusedrnn as fr

    cell, what, (T, B, I, H, L) = row
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, I), np.float32)
    if what in ("train_step", "separate calls"):
        model = fr.nn.Sequential(
            fr.nn.LSTM(I, H, seed=0), fr.nn.LSTM(H, H, seed=1), fr.nn.Last(), fr.nn.Linear(H, 1, seed=2)
        )
        optimizer = fr.optim.Adam(model.parameters())
        target = rng.standard_normal((B, 1), np.float32)

        def separate() -> None:
            _, dpred = fr.losses.mse(model(x), target)
            model.zero_grad()
            model.backward(dpred)
            optimizer.step(clip_norm=1.0)

        return (
            separate
            if what == "separate calls"
            else lambda: model.train_step(x, target, fr.losses.mse, optimizer, clip_norm=1.0)
        )
    module = getattr(fr.nn, cell)(I, H, L, seed=0)
    if what == "infer":
        module.eval()
        return lambda: module(x)
    dy = rng.standard_normal((T, B, H), np.float32)

    def train() -> None:
        with next(module.parameters()).writable():  # an update would have changed the weights
            pass
        module(x)
        module.backward(dy)

    return train


def serve() -> None:
    """The process of one build: reads the number of a row, answers with the seconds of a call in a block."""
    import fusedrnn as fr

    fr.set_num_threads(int(os.environ["FUSEDRNN_NUM_THREADS"]))
    calls: dict[int, Any] = {}
    for line in sys.stdin:
        i = int(line)
        if i not in calls:
            calls = {i: call_of(ROWS[i])}  # of one row at a time, as in a program that has one model
            timed(calls[i], WARM_UP, 2)
        print(json.dumps(median(timed(calls[i], BLOCK, 3))), flush=True)


def timed(call: Any, seconds: float, least: int) -> list[float]:
    """Seconds of each of the calls made in about as many seconds, behind one that is not counted."""
    call()
    times: list[float] = []
    begin = perf_counter()
    while len(times) < least or perf_counter() - begin < seconds:
        at = perf_counter()
        call()
        times.append(perf_counter() - at)
    return times


def start(folder: Path, threads: int) -> subprocess.Popen[str]:
    """A process that measures the build in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "FUSEDRNN_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(build: subprocess.Popen[str], i: int) -> float:
    """Seconds of a call of row i in one block."""
    assert build.stdin is not None
    assert build.stdout is not None
    build.stdin.write(f"{i}\n")
    build.stdin.flush()
    return float(json.loads(build.stdout.readline()))


def name(row: tuple[str, str, tuple[int, ...]]) -> str:
    """A row's, as the table has it."""
    return f"{row[0]} {row[1]} {' '.join(map(str, row[2]))}"


def cpu_model() -> str:
    """The processor's name, as Linux has it."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return f"{len(models)} x {models[0].partition(':')[2].strip()}" if models else "an unknown processor"


def main() -> int:
    """Runs the comparison and prints its table."""
    if "--serve" in sys.argv:
        serve()
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rounds",
        type=int,
        default=6,
        help="how often both are started, an even number: which one begins takes turns (default: 6)",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has it: '100 1', say")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the table as Markdown, too")
    options = parser.parse_args()
    if options.rounds < 2 or options.rounds % 2:
        parser.error(
            f"--rounds must be an even number, 2 or more, it is {options.rounds}: say {options.rounds + 1}"
        )
    chosen = [i for i in range(len(ROWS)) if options.only in name(ROWS[i])]
    if not chosen:
        parser.error(
            f"--only must be part of a row's name, of 'LSTM train 100 1 64 64 1', say, it is {options.only!r}"
        )
    blocks: list[list[list[float]]] = [[[], []] for _ in ROWS]  # seconds of a call, by row and build
    with tqdm(total=options.rounds * len(chosen), disable=None, unit="row", leave=False) as bar:
        for round_ in range(options.rounds):
            builds = [start(folder, options.threads) for folder in (options.old, options.new)]
            for i in chosen:
                for which in TURNS[round_ % 2]:
                    blocks[i][which].append(ask(builds[which], i))
                bar.update()
            for build in builds:
                build.terminate()
                build.wait()
    lines = ["| row | old, ms | new, ms | new's speed, old = 1 |", "|---|---:|---:|---:|"]
    ratios = []
    for i in chosen:
        old, new = map(median, blocks[i])
        rounds = [list(map(add, build[::2], build[1::2])) for build in blocks[i]]
        ratios.append(median(map(truediv, *rounds)))
        lines.append(f"| {name(ROWS[i])} | {1e3 * old:.3f} | {1e3 * new:.3f} | {ratios[-1]:.3f} |")
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    lines.append(f"\nGeometric mean {mean:.3f}, least {min(ratios):.3f}; T B I H layers behind a name.")
    print("\n".join(lines))
    if options.output is not None:
        command = f"python bench/two_builds.py OLD NEW --threads {options.threads} --rounds {options.rounds}"
        command += f" --only '{options.only}'" if options.only else ""
        head = f"# Two builds in turn\n\n`{command}`, {date.today()}, {cpu_model()}.\n\n"
        options.output.write_text(head + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
