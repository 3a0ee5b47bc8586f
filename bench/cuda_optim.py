"""Optimizer steps on a GPU, against PyTorch's fused and foreach ones with clip_grad_norm_.

  python bench/bench_optim.py --device cuda --list
  python bench/bench_optim.py --device cuda --resume --budget 420
  python bench/bench_optim.py --device cuda --rehearse               without a GPU: that it works, no more

The limit is what the step must read and write at the bandwidth of a copy, measured in the same run: 28 bytes
a parameter for Adam, 32 with clipping by norm. PyTorch also runs as a CUDA graph where it can be captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cuda_peers
import numpy as np
import peers
import torch
from bench_optim import CLIP_NORM, KINDS, STATES
from cuda_limits import CudaLimits
from cuda_rows import BLOCK_SECONDS, REST_SECONDS, Table, gpu_table, queued, synchronize
from harness import Case
from measure import OURS, Contender, compare
from report import Row, make_row

import fusedrnn as fr

SETS = {
    "100 M in 8": [12_500_000] * 8,
    "LSTM 128 256": [4 * 256 * 128, 4 * 256 * 256, 1024, 1024],
    "10 k in each of 200": [10_000] * 200,
}
TINY_SETS = {"30 in 2": [10, 20]}
TIMED = ("adam", "adamw", "rmsprop")


def row(name: str, kind: str, sizes: Sequence[int], clip: bool, limits: CudaLimits, seconds: float) -> Row:
    """One comparison."""
    rng = np.random.default_rng(0)
    clip_norm = CLIP_NORM if clip else None
    drawn = (rng.standard_normal(n, np.float32) for n in sizes)
    parameters = [fr.nn.Parameter(fr.asarray(array, "cuda")) for array in drawn]
    for parameter in parameters:
        parameter.grad = fr.asarray(rng.standard_normal(parameter.size, np.float32), "cuda")
    optimizer = KINDS[kind](parameters)
    optimizer.step()  # makes the states
    contenders = [Contender(OURS, lambda: optimizer.step(clip_norm=clip_norm), finish=synchronize)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for setting, call in peers.optimizer_steps(kind, sizes, rng, clip_norm, device).items():
        named = f"{peers.TORCH} {setting}"
        contenders.append(Contender(named, call, library=peers.TORCH, finish=synchronize))
    if device == "cuda":
        for setting, call in peers.optimizer_steps(
            kind, sizes, rng, clip_norm, device, capturable=True
        ).items():
            graph = cuda_peers.captured(call)
            if graph is not None:
                named = f"{peers.TORCH} {setting} graph"
                contenders.append(Contender(named, graph, library=peers.TORCH, finish=synchronize))
    contenders = [queued(contender) for contender in contenders]
    timings = compare(contenders, seconds, BLOCK_SECONDS, REST_SECONDS)
    gbytes = 1e-9 * 4 * (3 + 2 * STATES[kind] + clip) * sum(sizes)
    kernels = cuda_peers.kernels_of(contenders[0])
    notes: dict[str, Any] = {"launches": f"{sum(k['launches'] for k in kernels):g}"} if kernels else {}
    notes["ours kernels"] = kernels
    return make_row(
        name, f"{kind}{' + clip' if clip else ''}", 0, contenders, timings, work=gbytes, unit="GB/s",
        limit=gbytes / limits.rates["copy_gbytes"], bound="copy", shares={}, notes=notes,
    )  # fmt: skip


def table(rehearse: bool) -> Table:
    """All rows."""
    cases = []
    for kind in TIMED:
        for clip in (True, False):
            for parameters, sizes in (TINY_SETS if rehearse else SETS).items():
                name = f"{kind} {'+ clip ' if clip else ''}{parameters}"
                cases.append(Case(name, partial(row, name, kind, sizes, clip)))
    return gpu_table("bench_optim_cuda", "Optimizer steps on a GPU, float32", cases, rehearse)
