"""fusedrnn against PyTorch on optimizer updates, with and without clipping by global norm.

python bench/bench_optim.py --quick      a first look
python bench/bench_optim.py              every row; stores results/
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers
from measure import SIDE_SECONDS, Contender, best, compare, machine
from report import Row, print_heading, print_row, save
from roofline import Limits, measure_limits

import fusedrnn as fr

OURS = "fusedrnn"
CLIP_NORM = 1.0
SETS = {
    "16.8 M in 8": [2**21] * 8,  # two layers of a large LSTM, about
    "2 M in 200": [10_000] * 200,
    "32 k in 8": [4096] * 8,
}
# Arrays an update reads and writes, by its definition: parameter (read, written), gradient (read), states
# (read, written). Clipping by norm reads the gradient once more.
STATES = {"sgd": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
KINDS: dict[str, Callable[..., Any]] = {
    "sgd": lambda p: fr.optim.SGD(p, lr=1e-4, momentum=0.9),
    "adagrad": lambda p: fr.optim.Adagrad(p, lr=1e-4),
    "rmsprop": lambda p: fr.optim.RMSprop(p, lr=1e-4),
    "adam": lambda p: fr.optim.Adam(p, lr=1e-4),
    "adamw": lambda p: fr.optim.AdamW(p, lr=1e-4),
}


def our_step(
    kind: str, sizes: Sequence[int], rng: np.random.Generator, clip_norm: float | None
) -> Callable[[], Any]:
    """One step over parameters of the given sizes with random gradients."""
    parameters = [fr.nn.Parameter(rng.standard_normal(n, np.float32)) for n in sizes]
    for parameter in parameters:
        parameter.grad = rng.standard_normal(parameter.size, np.float32)
    optimizer = KINDS[kind](parameters)
    return lambda: optimizer.step(clip_norm=clip_norm)


def optimizer_row(kind: str, name: str, clip_norm: float | None, limits: Limits, seconds: float) -> Row:
    """One comparison."""
    rng = np.random.default_rng(0)
    sizes = SETS[name]
    ours = Contender(OURS, our_step(kind, sizes, rng, clip_norm))
    theirs = [
        contender
        for label, call in peers.optimizer_steps(kind, sizes, rng, clip_norm).items()
        for contender in peers.with_threads(label, call, limits.threads)
    ]
    timings = compare([ours, *theirs], seconds)
    timing = timings.pop(OURS)
    fastest = best(timings)
    arrays = 3 + 2 * STATES[kind] + (clip_norm is not None)
    gbytes = 1e-9 * 4 * arrays * sum(sizes)
    fractions = {"memory": gbytes / timing.median / limits.memory_gbytes}
    label = f"{kind} {'+ clip ' if clip_norm else ''}{name}"
    return Row(label, timing, timings[fastest], fastest, gbytes, "GB/s", fractions)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS), help="default: all")
    names = list(SETS)
    numbered = "; ".join(f"{i}: {name}" for i, name in enumerate(names))
    parser.add_argument(
        "--rows", type=int, nargs="+", choices=range(len(names)), default=list(range(len(names))),
        metavar="ROW", help=f"parameter sets by number ({numbered}); default: all",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=fr.get_num_threads(),
        help="of fusedrnn; PyTorch gets as many or fewer, what is best for it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="0.2 s instead of 1 s a side; not for publishing"
    )
    parser.add_argument(
        "--output", type=Path, help="stem of the files to write (default: results/bench_optim)"
    )
    return parser.parse_args()


def main() -> None:
    """Runs the chosen rows, prints them as they come, stores them."""
    chosen = arguments()
    fr.set_num_threads(chosen.threads)
    seconds = 0.2 if chosen.quick else SIDE_SECONDS
    limits = measure_limits(chosen.threads)
    print(f"{limits}\nrows: optimizer, clipping, parameters in tensors")
    print_heading()
    rows = []
    for kind in chosen.kinds:
        for index in chosen.rows:
            for clip_norm in (None, CLIP_NORM):
                rows.append(optimizer_row(kind, list(SETS)[index], clip_norm, limits, seconds))
                print_row(rows[-1])
    if chosen.output or not chosen.quick:
        stem = chosen.output or Path(__file__).parent / "results" / "bench_optim"
        for path in save(stem, "Optimizer steps, float32", rows, [limits], machine()):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
