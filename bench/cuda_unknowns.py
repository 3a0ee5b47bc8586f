"""The numbers that plans for a GPU hang on and that no vendor publishes, in one command.

  python bench/cuda_unknowns.py --json FILE --budget 400
  python bench/cuda_unknowns.py --rehearse                  without a GPU: the last table, tiny, on the CPU

Printed are an exchange within a cluster by its size and the bytes of a slice; a meeting of the whole grid, by
barrier and by flags; clusters that fit with 215 KB of shared memory; the gap between kernels, launched and in
a graph; and for cuDNN through PyTorch by precision, cell, H and B microseconds a step, forward and in
training, with the kernels it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import cuda_peers
import numpy as np
import torch
from cuda_limits import CudaStack, measure_limits
from cuda_rows import synchronize
from measure import timed_block

PRECISIONS = ("ieee", "tf32", "bf16", "fp16")
HIDDEN, BATCHES, T = (128, 256, 512, 768, 1024, 2048), (1, 16, 64, 256), 512
SECONDS = 0.05  # of timed calls


def cudnn(stack: CudaStack) -> dict[str, Any]:
    """cuDNN's time a step, and the names of its kernels, longest first."""
    rng = np.random.default_rng(0)
    module = cuda_peers.peers.STACKS[stack.cell](stack.I, stack.H)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    x = rng.standard_normal((stack.T, stack.B, stack.I), np.float32)
    dy = rng.standard_normal((stack.T, stack.B, stack.H), np.float32)
    contender = cuda_peers.contenders(stack, weights, x, dy, None, synchronize)[0]
    contender.prepare()
    times = timed_block(lambda: (contender.call(), contender.finish()), SECONDS)
    kernels = cuda_peers.kernels_of(contender)
    return {
        "cell": stack.cell,
        "what": "train" if stack.train else "infer",
        "precision": stack.precision,
        "H": stack.H,
        "B": stack.B,
        "us_per_step": 1e6 * float(np.median(times)) / stack.T,
        "kernels": kernels,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--budget", type=float, default=float("inf"), metavar="SECONDS", help="begins no row after"
    )
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    begin = time.monotonic()
    if not (torch.cuda.is_available() or options.rehearse):
        print("this PyTorch finds no GPU", file=sys.stderr)
        return 3
    rates = {} if options.rehearse else measure_limits().rates
    for name, value in rates.items():
        print(f"{name:28} {value:10.4g}")
    sizes, batches, steps = ((5,), (2,), 3) if options.rehearse else (HIDDEN, BATCHES, T)
    rows: list[dict[str, Any]] = []
    for precision, cell, H, B, train in product(PRECISIONS, ("lstm", "gru"), sizes, batches, (False, True)):
        if time.monotonic() - begin > options.budget:
            print("the budget is spent: the rest of cuDNN's table was not measured")
            break
        row = cudnn(CudaStack(cell, steps, B, H, H, 1, train, precision=precision))
        rows.append(row)
        most = ", ".join(f"{kernel['launches']:g} {kernel['name'][:70]}" for kernel in row["kernels"][:2])
        print(
            f"{cell} {row['what']} {precision} H {H} B {B}: {row['us_per_step']:.3g} us a step; {most}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"rates": rates, "cudnn": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
