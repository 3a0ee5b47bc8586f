"""What recomputation costs and saves: passes with `recompute` and without, in turn, and the peak of memory.

  python bench/bench_recompute.py                         time, T = 2000
  python bench/bench_recompute.py --peak 100000           the largest resident set of one pass, T = 100000

The peak is that of a process that makes the input (I = 8), runs forward, and goes back from the final state
alone: of arrays as long as the sequence there are x and y. "before" is its peak with x made.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

import fusedrnn as fr

B, H, I = 16, 128, 8
CELLS = ("LSTM", "GRU", "RNN")


def pass_of(cell: str, steps: int, recompute: int | str) -> Callable[[], None]:
    """A function that runs forward and backward, from dy."""
    module = getattr(fr.nn, cell)(H, H, seed=0, recompute=recompute)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((steps, B, H), np.float32) for _ in range(2))

    def run() -> None:
        module(x)
        module.backward(dy)

    return run


def megabytes() -> float:
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak(cell: str, steps: int, recompute: int | str) -> None:
    """Prints the memory of one pass, whose loss is of the final state."""
    module = getattr(fr.nn, cell)(I, H, seed=0, recompute=recompute)
    x = np.random.default_rng(0).standard_normal((steps, B, I), np.float32)
    arrays = (x.nbytes + 4 * steps * B * H) / 2**20
    before = megabytes()
    y_and_state = module(x)
    final = y_and_state[1]
    state = (np.ones_like(final[0]), None) if cell == "LSTM" else np.ones_like(final)
    begin = perf_counter()
    module.backward(None, state, need_dx=False)
    seconds = perf_counter() - begin
    tape = module.tape.nbytes / 2**20
    print(
        f"{cell} T = {steps}, B = {B}, H = {H}, recompute={recompute!r}: peak {megabytes():.0f} MiB "
        f"(before {before:.0f}; x and y {arrays:.0f}, tape {tape:.1f}), backward {seconds:.1f} s"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="of each row (default: 10)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--peak", type=int, metavar="T")
    parser.add_argument("--whole", action="store_true", help="with --peak: keep all steps")
    options = parser.parse_args()
    fr.set_num_threads(options.threads)
    if options.peak is not None:
        peak(options.cells[0], options.peak, 0 if options.whole else "auto")
        return
    print("| cell, T B I H | forward and backward, ms | recompute='auto', as a multiple |\n|---|---:|---:|")
    for cell in options.cells:
        runs = [pass_of(cell, options.steps, recompute) for recompute in (0, "auto")]
        times: list[list[float]] = [[], []]
        begin = perf_counter()
        while perf_counter() - begin < options.seconds or len(times[0]) < 4:
            for which in (0, 1) if len(times[0]) % 2 else (1, 0):
                at = perf_counter()
                runs[which]()
                times[which].append(perf_counter() - at)
        plain, again = (median(t[1:]) for t in times)
        row = f"{cell} {options.steps} {B} {H} {H}"
        print(f"| {row} | {1e3 * plain:.1f} | {again / plain:.3f} |", flush=True)


if __name__ == "__main__":
    main()
