"""fusedrnn against PyTorch, and against a bare loop, on optimizer steps with and without clipping by norm.

  python bench/bench_optim.py --list                        what rows there are: rule, clipping, parameters
  python bench/bench_optim.py --quick --only 'adam + clip'  a first look at some
  python bench/bench_optim.py --fresh                       every row, from nothing; stores results/

On a shared machine, in parts of a minute until all rows are there (exit status 75: some remain):

  python bench/bench_optim.py --resume --budget 40

On a GPU: --device cuda; all arrays stay there, and the limit is the bandwidth of a copy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import peers
from harness import Case, device_of, main
from measure import OURS, Contender, compare
from report import Row, make_row
from roofline import BareStep, Limits

import fusedrnn as fr

CLIP_NORM = 1.0
SAME, JOINED = "bare loop", "bare loop, arrays joined"
SETS = {"16.8 M in 1": [2**24], "10 k in each of 200": [10_000] * 200}
# Arrays an update reads and writes, by its definition: parameter (read, written), gradient (read), states
# (read, written). Clipping by norm reads the gradient once more.
STATES = {"adam": 2, "adamw": 2, "rmsprop": 1, "adagrad": 1, "sgd": 1}
KINDS: dict[str, Callable[..., Any]] = {
    "adam": lambda p: fr.optim.Adam(p, lr=1e-4),
    "adamw": lambda p: fr.optim.AdamW(p, lr=1e-4),
    "rmsprop": lambda p: fr.optim.RMSprop(p, lr=1e-4),
    "adagrad": lambda p: fr.optim.Adagrad(p, lr=1e-4),
    "sgd": lambda p: fr.optim.SGD(p, lr=1e-4, momentum=0.9),
}


def optimizer_row(
    name: str, kind: str, sizes: Sequence[int], clip: bool, limits: Limits, seconds: float
) -> Row:
    """One comparison."""
    rng = np.random.default_rng(0)
    threads = limits.all.threads
    clip_norm = CLIP_NORM if clip else None
    parameters = [fr.nn.Parameter(rng.standard_normal(n, np.float32)) for n in sizes]
    for parameter in parameters:
        parameter.grad = rng.standard_normal(parameter.size, np.float32)
    optimizer = KINDS[kind](parameters)
    optimizer.step()  # makes the states
    contenders = [Contender(OURS, lambda: optimizer.step(clip_norm=clip_norm))]
    bare = {SAME: same_arrays(parameters, optimizer), JOINED: joined_arrays(sum(sizes), STATES[kind])}
    contenders += [
        Contender(name, BareStep(pieces, clip, threads), library=name) for name, pieces in bare.items()
    ]
    for setting, call in peers.optimizer_steps(kind, sizes, rng, clip_norm).items():
        contenders += peers.with_threads(setting, call, threads)
    timings = compare(contenders, seconds)
    gbytes = 1e-9 * 4 * (3 + 2 * STATES[kind] + clip) * sum(sizes)
    theirs = [contender for contender in contenders if contender.library not in bare]
    same, joined = (timings.pop(name).median for name in bare)
    return make_row(
        name, f"{kind}{' + clip' if clip else ''}", threads, theirs, timings, work=gbytes, unit="GB/s",
        limit=same, bound=SAME, shares={JOINED: joined / timings[OURS].median},
    )  # fmt: skip


def same_arrays(parameters: Sequence[Any], optimizer: Any) -> list[Any]:
    """Pieces of a bare loop: the very memory that the optimizer works on."""
    return [
        (p.data.reshape(-1), p.grad.reshape(-1), [s.reshape(-1) for s in optimizer.state[p].values()])
        for p in parameters
    ]


def joined_arrays(total: int, states: int) -> list[Any]:
    """Pieces of a bare loop: as many elements in one piece of memory for each of its arrays."""
    rng = np.random.default_rng(0)
    param, grad, *state = (rng.standard_normal(total, np.float32) for _ in range(2 + states))
    return [(param, grad, state)]


def cases() -> list[Case]:
    """All rows."""
    found = []
    for kind in KINDS:
        for clip in (True, False):
            for parameters, sizes in SETS.items():
                name = f"{kind} {'+ clip ' if clip else ''}{parameters}"
                found.append(Case(name, partial(optimizer_row, name, kind, sizes, clip)))
    return found


def on_gpu(rehearse: bool) -> int:
    """The table of a GPU."""
    import cuda_optim

    return main(str(cuda_optim.__doc__), *cuda_optim.table(rehearse))


if __name__ == "__main__":
    device = device_of(sys.argv[1:])
    if device.device == "cuda":
        sys.exit(on_gpu(device.rehearse))
    sys.exit(main(__doc__, "bench_optim", "Optimizer steps, float32", cases()))
