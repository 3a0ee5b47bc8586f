"""fusedrnn.torch swapped in against torch.nn: training steps, inference, packed sequences, single steps.

  python bench/bench_torch.py --list                       what rows there are
  python bench/bench_torch.py --quick --only 'gru step'    a first look at some
  python bench/bench_torch.py --fresh                      every row, from nothing; stores results/

A training step is forward, loss, backward, clipping of the global norm and Adam. PyTorch competes at its
best: eager and compiled (inductor), Adam fused and not, with every number of threads. Of a compiled model
only what is around nn.LSTM is compiled: graphs break there. "autograd" rows compare the swapped layer with
fr.nn's separate calls instead of PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import peers
import torch
from harness import Case, main
from limits import Stack, stack_limit
from measure import OURS, Contender, compare
from report import Row, make_row
from roofline import Limits

import fusedrnn as fr
import fusedrnn.torch as ft

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
SHAPES = (  # T B I H L
    (20, 16, 32, 64, 1),
    (100, 1, 256, 256, 1),
    (128, 32, 128, 256, 1),
    (35, 20, 200, 200, 2),
    (64, 64, 512, 512, 1),
)
STEP = (1, 1, 50, 50, 1)
PACKED = (128, 32, 128, 256, 1)
CLIP = 1.0


class Model(torch.nn.Module):
    """A recurrent stack and a Linear."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = getattr(torch.nn, CELLS[stack.cell])(stack.I, stack.H, stack.L)
        self.out = torch.nn.Linear(stack.H, 1)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(x)[0])


def swapped(module: torch.nn.Module) -> torch.nn.Module:
    """The same with this package's layers."""
    ft.replace(module)
    return module


def training_step(
    model: torch.nn.Module, optimizer: Any, x: torch.Tensor, target: torch.Tensor, clips: bool
) -> Callable[[], float]:
    """A whole step; returns the loss. `clips`: the optimizer does it."""

    def call() -> float:
        loss = torch.nn.functional.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        if not clips:
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return float(loss.detach())

    return call


def training_row(stack: Stack, limits: Limits, seconds: float) -> Row:
    """A model's whole training steps, before and after the swap."""
    threads = limits.all.threads
    x = torch.randn(stack.T, stack.B, stack.I)
    target = torch.randn(stack.T, stack.B, 1)
    ours = swapped(Model(stack))
    contenders = [
        Contender(
            OURS,
            training_step(ours, ft.optim.Adam(ours.parameters(), lr=1e-4, clip_norm=CLIP), x, target, True),
            lambda: torch.set_num_threads(threads),
        )
    ]
    for setting, options, compiled in (
        ("fused Adam", {"fused": True}, False),
        ("foreach Adam", {"foreach": True}, False),
        ("compiled, fused Adam", {"fused": True}, True),
    ):
        model = Model(stack)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, **options)
        runs = torch.compile(model) if compiled else model
        contenders += peers.with_threads(setting, training_step(runs, optimizer, x, target, False), threads)
    return result(training_name(stack), f"{stack.cell} training", stack, contenders, limits, seconds)


def call_of(module: torch.nn.Module, x: Any, train: bool) -> Callable[[], Any]:
    """Forward and backward from a gradient of y, without a loss and an optimizer, or inference."""

    def outputs() -> torch.Tensor:
        y = module(x)[0]
        return y.data if isinstance(y, torch.nn.utils.rnn.PackedSequence) else y

    dy = torch.randn_like(outputs())

    def training() -> Any:
        module.zero_grad()
        y = outputs()
        y.backward(dy)
        return y.detach()

    def inference() -> Any:
        with torch.no_grad():
            return module(x)[0]

    return training if train else inference


def layer_row(name: str, stack: Stack, packed: bool, limits: Limits, seconds: float) -> Row:
    """The layer alone: dense, packed, or a single step."""
    threads = limits.all.threads
    torch.manual_seed(0)
    x: Any = torch.randn(stack.T, stack.B, stack.I)
    if packed:
        lengths = packed_lengths(stack)
        x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        stack = Stack(
            stack.cell, stack.T, stack.B, stack.I, stack.H, stack.L, stack.train, int(lengths.sum())
        )
    theirs = getattr(torch.nn, CELLS[stack.cell])(stack.I, stack.H, stack.L)
    ours = swapped(getattr(torch.nn, CELLS[stack.cell])(stack.I, stack.H, stack.L))
    ours.load_state_dict(theirs.state_dict())
    contenders = [Contender(OURS, call_of(ours, x, stack.train), lambda: torch.set_num_threads(threads))]
    contenders += peers.with_threads("", call_of(theirs, x, stack.train), threads)
    return result(name, name.rpartition(" T=")[0], stack, contenders, limits, seconds)


def packed_lengths(stack: Stack) -> torch.Tensor:
    """Lengths drawn uniformly from [T/4, T], in no order."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(stack.T // 4, stack.T + 1, (stack.B,), generator=generator)
    lengths[0] = stack.T
    return lengths


def autograd_row(stack: Stack, limits: Limits, seconds: float) -> Row:
    """Forward and backward through autograd against fr.nn's separate calls, both of this package."""
    threads = limits.all.threads
    module = getattr(ft, CELLS[stack.cell])(stack.I, stack.H, stack.L)
    own = getattr(fr.nn, CELLS[stack.cell])(stack.I, stack.H, stack.L, seed=0)
    x = torch.randn(stack.T, stack.B, stack.I, requires_grad=True)
    dy = torch.randn(stack.T, stack.B, stack.H)
    array, gradient = x.detach().numpy(), dy.numpy()
    buffer = next(own.parameters())._buffer

    def through_autograd() -> None:
        module.zero_grad()
        x.grad = None
        module(x)[0].backward(dy)

    def separate() -> None:
        buffer.touch()  # weights that changed, as in every step
        own.zero_grad()
        own(array)
        own.backward(gradient)

    prepare = partial(torch.set_num_threads, threads)
    contenders = [
        Contender(OURS, through_autograd, prepare),
        Contender("fr.nn, separate calls", separate, prepare, "fr.nn"),
    ]
    return result(autograd_name(stack), "autograd", stack, contenders, limits, seconds)


def optimizer_row(limits: Limits, seconds: float) -> Row:
    """Adam with clipping over 200 tensors of 10 k."""
    threads = limits.all.threads

    def parameters() -> list[Any]:
        made = [torch.nn.Parameter(torch.randn(10_000)) for _ in range(200)]
        for p in made:
            p.grad = torch.randn_like(p)
        return made

    mine = parameters()
    ours = ft.optim.Adam(mine, lr=1e-4, clip_norm=CLIP)
    contenders = [Contender(OURS, ours.step, lambda: torch.set_num_threads(threads))]
    for setting in ("fused", "foreach"):
        theirs = parameters()
        optimizer = torch.optim.Adam(theirs, lr=1e-4, **{setting: True})

        def step(theirs: Any = theirs, optimizer: Any = optimizer) -> None:
            torch.nn.utils.clip_grad_norm_(theirs, CLIP)
            optimizer.step()

        contenders += peers.with_threads(setting, step, threads)
    timings = compare(contenders, seconds)
    gbytes = 1e-9 * 4 * 8 * 200 * 10_000
    memory = gbytes / limits.all.memory_gbytes
    return make_row(
        OPTIMIZER, "optimizer", threads, contenders, timings, work=gbytes, unit="GB/s",
        limit=memory, bound="memory", shares={},
    )  # fmt: skip


def result(
    name: str, group: str, stack: Stack, contenders: list[Contender], limits: Limits, seconds: float
) -> Row:
    """Times the contenders against each other."""
    timings = compare(contenders, seconds)
    limit = stack_limit(stack, limits)
    rate = stack.gflop / timings[OURS].median
    return make_row(
        name, group, limits.all.threads, contenders, timings,
        work=stack.gflop, unit="GFLOP/s", limit=limit.seconds, bound=limit.bound,
        shares={"FMA": rate / limits.fma_gflops},
    )  # fmt: skip


OPTIMIZER = "Adam + clip, 200 tensors of 10 k"


def sizes(stack: Stack) -> str:
    """The sizes in a row's name."""
    return f"T={stack.T} B={stack.B} I={stack.I} H={stack.H} L={stack.L}"


def training_name(stack: Stack) -> str:
    """The row's name."""
    return f"{stack.cell} training step {sizes(stack)}"


def autograd_name(stack: Stack) -> str:
    """The row's name."""
    return f"{stack.cell} autograd {sizes(stack)}"


def cases() -> Iterator[Case]:
    """All rows."""
    for cell in CELLS:
        for shape in SHAPES:
            train, infer = Stack(cell, *shape, train=True), Stack(cell, *shape, train=False)
            yield Case(training_name(train), partial(training_row, train))
            name = f"{cell} inference {sizes(infer)}"
            yield Case(name, partial(layer_row, name, infer, False))
        for train_ in (True, False):
            stack = Stack(cell, *STEP, train=train_)
            name = f"{cell} single {'forward + backward' if train_ else 'inference'} {sizes(stack)}"
            yield Case(name, partial(layer_row, name, stack, False))
        stack = Stack(cell, *PACKED, train=True)
        name = f"{cell} packed forward + backward {sizes(stack)}"
        yield Case(name, partial(layer_row, name, stack, True))
        for shape in SHAPES[2:]:
            stack = Stack(cell, *shape, train=True)
            yield Case(autograd_name(stack), partial(autograd_row, stack))
    yield Case(OPTIMIZER, optimizer_row)


if __name__ == "__main__":
    title = "fusedrnn.torch swapped in for torch.nn, float32"
    sys.exit(main(__doc__, "bench_torch", title, list(cases())))
