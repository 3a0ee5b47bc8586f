"""What measuring gradient flow costs: a training pass with `flow=True` and without, in turn.

  python bench/bench_flow.py                              prints a table
  python bench/bench_flow.py --threads 1 --seconds 30     longer, on one thread
  valgrind --tool=callgrind python bench/bench_flow.py --count 20 [--flow]         instructions

Calls alternate, so that whatever else runs slows both alike: the ratio is that of the medians over all calls.
With --count so many passes of each row are made and nothing is timed: the difference of two such runs is the
instructions of flow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np

import fusedrnn as fr

# T, B, I, H, layers: those of bench/two_builds.py that train in less than 0.1 s, and a small one
SHAPES = ((128, 16, 64, 32, 1), (128, 16, 64, 128, 1), (35, 20, 200, 200, 2), (128, 32, 128, 256, 1))
CELLS = ("LSTM", "GRU", "RNN")


def pass_of(cell: str, shape: tuple[int, ...]) -> Callable[[bool], None]:
    """A function that runs forward and backward, and measures flow if it is asked to."""
    T, B, I, H, layers = shape
    module = getattr(fr.nn, cell)(I, H, layers, seed=0)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((T, B, n), np.float32) for n in (I, H))

    def run(flow: bool) -> None:
        module(x)
        module.backward(dy, flow=flow)

    return run


def ratio(run: Callable[[bool], None], seconds: float) -> tuple[float, float]:
    """Seconds of a pass without flow, and how many times as long it takes with it."""
    times: dict[bool, list[float]] = {False: [], True: []}
    begin = perf_counter()
    while perf_counter() - begin < seconds:
        for flow in (False, True) if len(times[True]) % 2 else (True, False):
            at = perf_counter()
            run(flow)
            times[flow].append(perf_counter() - at)
    plain = median(times[False][1:])
    return plain, median(times[True][1:]) / plain


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="of each row (default: 10)")
    parser.add_argument("--count", type=int, metavar="N", help="make N passes of each row, time nothing")
    parser.add_argument("--flow", action="store_true", help="with --count: measure flow in them")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--hidden", type=int, nargs="+", help="shapes with these H alone")
    options = parser.parse_args()
    fr.set_num_threads(options.threads)
    shapes = [shape for shape in SHAPES if not options.hidden or shape[3] in options.hidden]
    rows = [(cell, shape, pass_of(cell, shape)) for cell in options.cells for shape in shapes]
    if options.count is not None:
        for call in (partial(run, options.flow) for _, _, run in rows for _ in range(options.count)):
            call()
        return
    print("| cell, T B I H layers | forward and backward, ms | with flow, as a multiple |\n|---|---:|---:|")
    for cell, shape, run in rows:
        plain, multiple = ratio(run, options.seconds)
        print(f"| {cell} {' '.join(map(str, shape))} | {1e3 * plain:.3f} | {multiple:.3f} |", flush=True)


if __name__ == "__main__":
    main()
