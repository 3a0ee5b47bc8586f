"""What the PyTorch examples share: the same training before and after ``ft.replace(model)``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fusedrnn.examples import _shared


@dataclass(frozen=True)
class Comparison:
    """Losses of the same training with PyTorch's layers and with this package's, and how long each took."""

    losses_before: list[float]
    losses_after: list[float]
    seconds_before: float
    seconds_after: float

    @property
    def difference(self) -> float:
        """The largest of the two curves' differences, as a part of the first loss."""
        pairs = zip(self.losses_before, self.losses_after, strict=True)
        return max(abs(a - b) for a, b in pairs) / abs(self.losses_before[0])


def compare(build: Callable[[], Any], train: Callable[[Any], list[float]]) -> Comparison:
    """Trains a model as it is, and a second one, built alike, with its recurrent layers replaced."""
    import fusedrnn.torch as ft

    theirs, ours = build(), build()
    ft.replace(ours)
    start = time.perf_counter()
    before = train(theirs)
    middle = time.perf_counter()
    after = train(ours)
    return Comparison(before, after, middle - start, time.perf_counter() - middle)


def main(text: str, run: Callable[[int], Comparison], steps: int, argv: Sequence[str] | None = None) -> int:
    """The command line of an example: runs it and prints both curves and both times."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help=f"training steps (default: {steps})")
    options = parser.parse_args(argv)
    try:
        _shared.need("torch")
    except _shared.MissingPackageError:
        print("this example needs PyTorch: pip install torch")
        return 1
    result = run(options.steps)
    print(f"{'step':>6}  {'torch.nn':>10}  {'fusedrnn':>10}")
    shown = range(0, len(result.losses_before), max(1, len(result.losses_before) // 10))
    for i in shown:
        print(f"{i:6d}  {result.losses_before[i]:10.6f}  {result.losses_after[i]:10.6f}")
    print(f"largest difference of the curves: {result.difference:.1e} of the first loss")
    ratio = result.seconds_before / result.seconds_after
    print(f"{result.seconds_before:.2f} s with torch.nn, {result.seconds_after:.2f} s swapped: {ratio:.1f}x")
    return 0
