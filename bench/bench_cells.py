"""Options of cells beside the plain cell and PyTorch, where it has them: a training pass of each, in turn.

  python bench/bench_cells.py                              prints a table; needs torch
  python bench/bench_cells.py --threads 1 --seconds 30     longer, on one thread

Calls alternate, so that whatever else runs slows all alike: ratios are those of the medians over all calls.
`share` is the cell's multiply-adds as a part of the plain one's, `time` its time likewise: the overhead is
what `time` is above `share`. `torch` is how many times as long PyTorch takes, of options that it has;
bench_composites.py has what a user must write in its operations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

import fusedrnn as fr

# cell, and what it is called with beyond sizes; a float of proj_size is a part of H
CELLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("LSTM", {"proj_size": 0.5}),
    ("LSTM", {"proj_size": 0.25}),
    ("LSTM", {"peephole": True}),
    ("LSTM", {"layer_norm": True}),
    ("GRU", {"reset_after": False}),
    *(
        (cell, option)
        for option in ({"recurrent_dropout": 0.25}, {"zoneout": 0.1}, {"weight_dropout": 0.5})
        for cell in ("LSTM", "GRU", "RNN")
    ),
)
PYTORCH_HAS = {"proj_size"}
SHAPES = ((128, 16, 64, 128, 1), (35, 20, 200, 200, 2), (128, 32, 128, 256, 1))  # T, B, I, H, layers


def options_of(given: dict[str, Any], H: int) -> dict[str, Any]:
    """Parts of H as units."""
    return {name: int(value * H) if name == "proj_size" else value for name, value in given.items()}


def ours(module: Any, x: np.ndarray) -> Callable[[], None]:
    """A training pass of this package's module."""
    dy = np.ones_like(module(x)[0])

    def run() -> None:
        module(x)
        module.backward(dy)

    return run


def theirs(module: Any, x: np.ndarray) -> Callable[[], None]:
    """The same of PyTorch's, which gives the gradient of x as well."""
    tensor = torch.from_numpy(x).requires_grad_()

    def run() -> None:
        module.zero_grad()
        tensor.grad = None
        module(tensor)[0].sum().backward()

    return run


def multiply_adds(module: Any) -> int:
    """Of a step and row: every element of a matrix meets one."""
    return sum(p.size for p in module.parameters() if p.data.ndim == 2)


def medians(calls: list[Callable[[], None]], seconds: float) -> list[float]:
    """Seconds of each call."""
    times: list[list[float]] = [[] for _ in calls]
    begin = perf_counter()
    while perf_counter() - begin < seconds or len(times[0]) < 3:
        for call, taken in zip(calls, times, strict=True):
            at = perf_counter()
            call()
            taken.append(perf_counter() - at)
    return [median(taken[1:]) for taken in times]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=fr.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row")
    arguments = parser.parse_args()
    fr.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    print(f"{'cell':<28} {'T B I H layers':<22} {'ms':>8} {'share':>6} {'time':>6} {'torch':>6}")
    for kind, given in CELLS:
        for T, B, I, H, layers in SHAPES:
            options = options_of(given, H)
            x = np.random.default_rng(0).standard_normal((T, B, I), np.float32)
            module, plain = (getattr(fr.nn, kind)(I, H, layers, seed=0, **o) for o in (options, {}))
            calls = [ours(module, x), ours(plain, x)]
            if set(options) <= PYTORCH_HAS:
                calls.append(theirs(getattr(torch.nn, kind)(I, H, layers, **options), x))
            mine, base, *other = medians(calls, arguments.seconds)
            beside = f"{other[0] / mine:6.2f}" if other else f"{'-':>6}"
            name = f"{kind}({', '.join(f'{k}={v}' for k, v in options.items())})"
            share = multiply_adds(module) / multiply_adds(plain)
            print(
                f"{name:<28} {f'{T} {B} {I} {H} {layers}':<22} {1e3 * mine:8.2f} {share:6.2f} "
                f"{mine / base:6.2f} {beside}"
            )


if __name__ == "__main__":
    main()
