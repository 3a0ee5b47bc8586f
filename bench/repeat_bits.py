"""The same bits every time: recurrent stacks forward and backward on the GPU, run after run.

  python bench/repeat_bits.py --runs 100

Every cell, arithmetic and plan, float64 as well; a line for each, status 1 if any run differs from the first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn import _native

STACKS: dict[str, Any] = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}
PLANS = ("reference", "step", "cluster", "grid")
NUMBERS = [(np.float64, "ieee"), *((np.float32, name) for name in ("ieee", "tf32", "tf32x3", "bf16", "fp16"))]


def digests(cell: str, dtype: Any, arithmetic: str, sizes: tuple[int, int, int, int], runs: int) -> set[str]:
    """Of all results of each run, those that differ."""
    T, B, I, H = sizes
    rng = np.random.default_rng(0)
    options = {"bidirectional": True, "device": "cuda", "precision": arithmetic, "dtype": dtype, "seed": 0}
    module = STACKS[cell](I, H, 2, **options)
    x = fr.asarray(rng.standard_normal((T, B, I)).astype(dtype))
    dy = fr.asarray(rng.standard_normal((T, B, 2 * H)).astype(dtype))
    lengths = fr.asarray(rng.integers(1, T, B, endpoint=True))
    found = set()
    for _ in range(runs):
        module.zero_grad()
        digest = hashlib.sha256()
        y = module(x, lengths=lengths)[0]
        dx = module.backward(dy)[0]
        for result in (y, dx, *(parameter.grad for parameter in module.parameters())):
            digest.update(np.ascontiguousarray(result.numpy()).tobytes())
        found.add(digest.hexdigest())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="of each stack (default: 100)")
    parser.add_argument(
        "--sizes", type=int, nargs=4, default=(64, 70, 66, 200), metavar=("T", "B", "I", "H"),
        help="odd against tiles and chunks (default: 64 70 66 200)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args()
    rows = []
    for plan in PLANS:
        _native.force_plan(plan)
        for cell in STACKS:
            for dtype, arithmetic in NUMBERS:
                differ = len(digests(cell, dtype, arithmetic, options.sizes, options.runs))
                name = f"{cell}, {np.dtype(dtype).name} {arithmetic}, plan {plan}"
                rows.append({"name": name, "runs": options.runs, "different_results": differ})
                print(f"{name:36} {options.runs} runs, {differ} result{'s' * (differ > 1)}", flush=True)
    if options.output:
        found = {"device": _native.cuda_device(), "sizes": list(options.sizes), "rows": rows}
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(row["different_results"] != 1 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
