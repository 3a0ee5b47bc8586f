"""fusedrnn against PyTorch's cuDNN on a GPU: microseconds a step of recurrent stacks, in every arithmetic.

  python bench/bench_rnn.py --device cuda --list                   what rows there are
  python bench/bench_rnn.py --device cuda --quick --only 'lstm train*bf16'
  python bench/bench_rnn.py --device cuda --resume --budget 420    in parts; exit status 75: some remain
  python bench/bench_rnn.py --device cuda --rehearse               without a GPU: that it works, no more

Rows are cell, what, T B I H, arithmetic, variant. "infer" is a forward pass that keeps nothing, "train" is
forward and backward, to the input and every weight, with weights that changed since the call before. Arrays
stay on the GPU. README.md says what is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cuda_peers
import numpy as np
import torch
from cuda_limits import CudaLimits, CudaStack, measure_limits, stack_limit
from harness import Case, Place
from measure import OURS, Contender, best, compare, machine
from numpy.typing import NDArray
from report import Row, make_row

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn._core.cells import PRECISIONS_OF

Array = NDArray[Any]
STACKS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU}
PLANS = ("step", "cluster", "grid")
BATCHES, HIDDEN, LARGE = (1, 16, 64, 256), (128, 256, 512), (768, 1024, 2048)
T, INPUTS = 512, 128
VARIANTS = {"2 layers": (2, 1, False), "bidirectional": (1, 2, False), "ragged": (1, 1, True)}  # L, D, ragged
# How far results may be apart as a fraction of their norm: PyTorch keeps 16-bit arrays, we 32-bit ones.
APART = {"ieee": 1e-4, "tf32": 1e-2, "tf32x3": 1e-4, "bf16": 0.1, "fp16": 2e-2}
SECONDS, QUICK_SECONDS = 0.15, 0.03  # timed calls of each contender
BLOCK_SECONDS, REST_SECONDS = 0.05, 0.0
QUEUED_SECONDS = 5e-3  # work begun before the host waits for it


@dataclass(frozen=True)
class Shape:
    """A row."""

    stack: CudaStack
    variant: str

    @property
    def group(self) -> str:
        """What a mean is taken over."""
        size = " large" if self.stack.H in LARGE else ""
        return f"{self.stack.cell} {'train' if self.stack.train else 'infer'} {self.stack.precision}{size}"

    @property
    def name(self) -> str:
        s = self.stack
        what = "train" if s.train else "infer"
        end = f" {self.variant}" if self.variant else ""
        return f"{s.cell} {what} {s.T} {s.B} {s.I} {s.H} {s.precision}{end}"


def shapes() -> list[Shape]:
    """All rows, those of the issue's table first."""
    found = []
    for H, variant in (*((H, "") for H in HIDDEN), *((256, v) for v in VARIANTS), *((H, "") for H in LARGE)):
        layers, directions, ragged = VARIANTS.get(variant, (1, 1, False))
        for precision in PRECISIONS_OF["cuda"]:
            for cell in STACKS:
                for B in (16, 64) if variant else BATCHES:
                    inputs = H if H in LARGE else INPUTS
                    rows = int(lengths_of(B, T).sum()) if ragged else None
                    for train in (False, True):
                        stack = CudaStack(cell, T, B, inputs, H, layers, train, rows, precision, D=directions)
                        found.append(Shape(stack, variant))
    return found


def tiny_shapes() -> list[Shape]:
    """A row of every kind, for a rehearsal."""
    found = []
    for cell in STACKS:
        for precision in PRECISIONS_OF["cuda"]:
            for variant in ("", *VARIANTS):
                layers, directions, ragged = VARIANTS.get(variant, (1, 1, False))
                rows = int(lengths_of(2, 3).sum()) if ragged else None
                for train in (False, True):
                    stack = CudaStack(cell, 3, 2, 4, 5, layers, train, rows, precision, D=directions)
                    found.append(Shape(stack, variant))
    return found


def lengths_of(B: int, steps: int) -> Array:
    """Lengths drawn uniformly from [T/4, T], one of them T, in no order."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(steps // 4 or 1, steps, B, endpoint=True)
    lengths[rng.integers(B)] = steps
    return lengths


def row(shape: Shape, limits: CudaLimits, seconds: float) -> Row:
    """One comparison: fusedrnn with the plan it chooses and with each there is, PyTorch in all settings."""
    stack = shape.stack
    rng = np.random.default_rng(0)
    x = rng.standard_normal((stack.T, stack.B, stack.I), np.float32)
    dy = rng.standard_normal((stack.T, stack.B, stack.D * stack.H), np.float32)
    lengths = None
    if shape.variant == "ragged":
        lengths = lengths_of(stack.B, stack.T)
        dy *= (np.arange(stack.T)[:, None] < lengths)[..., None]
    module = STACKS[stack.cell](
        stack.I,
        stack.H,
        stack.L,
        bidirectional=stack.D == 2,
        device="cuda",
        precision=stack.precision,
        seed=0,
    )
    mine = Ours(module, x, dy, lengths)
    call = mine.train if stack.train else mine.infer
    plans = {"": ""} | {f" {plan}": plan for plan in available_plans(stack)}
    ours = [
        Contender(OURS + name, call, partial(_native.force_plan, plan), OURS, mine.view, synchronize)
        for name, plan in plans.items()
    ]
    theirs = cuda_peers.contenders(stack, module.state_dict(), x, dy, lengths, synchronize)
    contenders = [queued(contender) for contender in (*ours, *theirs)]
    check_equal_work(shape, contenders)
    timings = compare(contenders, seconds, BLOCK_SECONDS, REST_SECONDS)
    notes = what_else(stack, mine, contenders, timings)
    _native.force_plan("")
    # The row's figure is that of the plan fusedrnn chooses; the others are in the notes.
    chosen = [c for c in contenders if c.library != OURS or c.name == OURS]
    limit = stack_limit(stack, limits)
    return make_row(
        shape.name, shape.group, 0, chosen, timings,
        work=stack.gflop, unit="GFLOP/s", limit=limit.seconds, bound=limit.bound, shares={},
        steps=stack.T, notes=notes,
    )  # fmt: skip


def what_else(
    stack: CudaStack, mine: Ours, contenders: Sequence[Contender], timings: Mapping[str, Any]
) -> dict[str, Any]:
    """Each plan's time, each pass, and the kernels of both sides, by the profiler."""
    scale = 1e6 / stack.T
    plans = {
        c.name.removeprefix(OURS).strip() or "chosen": scale * timings[c.name].median
        for c in contenders
        if c.library == OURS
    }
    swept = {plan: time for plan, time in plans.items() if plan != "chosen"} or plans
    notes: dict[str, Any] = {
        "best plan": min(swept, key=lambda plan: swept[plan]),
        "plans": plans,
        "shape": {"cell": stack.cell, "precision": stack.precision, "H": stack.H, "B": stack.B},
    }
    theirs = best({c.name: timings[c.name] for c in contenders if c.library == cuda_peers.TORCH})
    sides = {"ours": OURS, "peer": theirs}
    for side, name in sides.items():
        contender = next(c for c in contenders if c.name == name)
        contender.prepare()
        kernels = cuda_peers.kernels_of(contender)
        if not kernels:
            continue
        notes[f"{side} kernels"] = kernels
        loop = sum(k["us"] for k in kernels if cuda_peers.in_recurrence(k, stack.T))
        notes[f"{side} without products of whole sequences"] = f"{loop / stack.T:.3g}"
        notes[f"{side} most"] = max(kernels, key=lambda k: k["us"])["name"][:60]
    return notes


def queued(contender: Contender) -> Contender:
    """The contender with as many calls between two waits as keep the GPU busy while Python makes the next."""
    contender.prepare()
    contender.call()
    contender.finish()
    once = contender.block(0.0)[0]
    repeat = max(1, min(20, int(QUEUED_SECONDS / max(once, 1e-9))))
    return Contender(**{**contender.__dict__, "repeat": repeat})


def check_equal_work(shape: Shape, contenders: Sequence[Contender]) -> None:
    """Raises AssertionError unless all contenders' results are equal up to the arithmetic's rounding."""
    wanted = None
    for contender in contenders:
        contender.prepare()
        result = contender.call()
        contender.finish()
        found = contender.view(result)
        wanted = found if wanted is None else wanted
        apart = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        if not apart <= APART[shape.stack.precision]:
            raise AssertionError(f"{contender.name} is {apart:.2g} away from {OURS}")


class Ours:
    """fusedrnn's calls, on device arrays."""

    def __init__(self, module: Any, x: Array, dy: Array, lengths: Array | None) -> None:
        self._module = module
        self._x, self._dy = fr.asarray(x, "cuda"), fr.asarray(dy, "cuda")
        self._lengths = None if lengths is None else fr.asarray(lengths, "cuda")
        self._buffer = next(module.parameters())._buffer

    def infer(self) -> Any:
        """One forward pass; returns y."""
        self._module.eval()
        return self._module(self._x, lengths=self._lengths)[0]

    def train(self) -> Any:
        """Gradients from zero for weights that changed; returns dx."""
        self._module.train()
        self._buffer.touch()
        self._module.zero_grad()
        self._module(self._x, lengths=self._lengths)
        return self._module.backward(self._dy)[0]

    @staticmethod
    def view(result: Any) -> Array:
        """The result on the host."""
        return np.asarray(result.numpy(), np.float32)


def available_plans(stack: CudaStack) -> list[str]:
    """Plans that, when forced, run this stack: each is asked what it would do."""
    found = []
    try:
        for plan in PLANS:
            try:
                _native.force_plan(plan)
            except ValueError:  # this build has no such plan
                continue
            chosen = _native.sequence_plan(
                stack.cell, "float32", num_layers=stack.L, num_directions=stack.D, T=stack.T, B=stack.B,
                I=stack.I, H=stack.H, threads=1, precision=stack.precision,
                device="cuda",
            )  # fmt: skip
            found += [plan] if chosen["name"] == plan else []
    finally:
        _native.force_plan("")
    return found


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def facts() -> dict[str, Any]:
    """What is measured on and with."""
    found = machine()
    found["device"] = _native.cuda_device()
    plugin = Path(_native.cuda_info()["path"])
    found["build"] += " " + hashlib.sha256(plugin.read_bytes()).hexdigest()[:12]
    found["peer_device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found["torch_cuda"], found["cudnn"] = str(torch.version.cuda), str(torch.backends.cudnn.version())
    return found


def made_up_limits(_: int) -> CudaLimits:
    """For a rehearsal: every rate is 1."""
    names = ("fma_tflops", "copy_gbytes", "read_gbytes", "l2_gbytes", "exchange_ns 2 128")
    names += tuple(f"mma_{name}_tflops" for name in ("tf32", "bf16", "fp16"))
    return CudaLimits(dict.fromkeys(names, 1.0), 1)


Table = tuple[str, str, list[Case], Place]


def gpu_table(stem: str, title: str, cases: list[Case], rehearse: bool) -> Table:
    """Arguments of `harness.main` for a GPU."""

    def why_not() -> str | None:
        if (reason := fr.cuda.why_not()) is not None:
            return f"fusedrnn cannot use CUDA: {reason}"
        if torch.cuda.is_available() or rehearse:
            return None
        return "this PyTorch finds no GPU: nothing to compare with"

    limits: Callable[[int], Any] = made_up_limits if rehearse else (lambda _: measure_limits())
    place = Place(limits, facts, SECONDS, QUICK_SECONDS, threads=False, why_not=why_not)
    return stem, "Rehearsal: these figures mean nothing" if rehearse else title, cases, place


def table(rehearse: bool) -> Table:
    """The table of recurrent stacks."""
    cases = [Case(s.name, partial(row, s)) for s in (tiny_shapes() if rehearse else shapes())]
    return gpu_table("bench_rnn_cuda", "Recurrent stacks on a GPU (T B I H)", cases, rehearse)
