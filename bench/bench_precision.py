"""The precisions of the CPU against PyTorch in float32 and bfloat16, and JAX, on recurrent stacks.

  python bench/bench_precision.py --fresh              every row of this machine; stores results/
  python bench/bench_precision.py --quick --only 'lstm train bf16 *'

A row's name is cell, what is done, precision, T B I H layers. On a processor with AMX the first command alone
measures all there is to know of the tiles; the results say which engine multiplied. PyTorch's bfloat16 is its
best of autocast and .bfloat16(). JAX takes part where it is installed, a jitted scan in float32 and with
bfloat16 operands. Every row but ieee's has our own float32 among the contenders. FUSEDRNN_ISA=avx2 measures
another instruction set; --output says where to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax_peer
import numpy as np
import peers
import torch
from bench_rnn import STACKS, our_inference, our_training
from harness import Case, main
from limits import Stack, stack_limit
from measure import OURS, Contender, compare
from numpy.typing import NDArray
from report import Row, make_row
from roofline import Limits

import fusedrnn as fr
from fusedrnn._core.cells import PRECISIONS_OF

Array = NDArray[Any]
SHAPES = {  # T B I H L: the prototype's for LSTM
    "lstm": (
        (100, 1, 256, 256, 1),
        (128, 16, 64, 128, 1),
        (128, 32, 128, 256, 1),
        (35, 20, 650, 650, 1),
        (64, 64, 512, 512, 1),
        (64, 32, 1024, 1024, 1),
    ),
    "gru": ((100, 1, 256, 256, 1), (128, 32, 128, 256, 1), (64, 64, 512, 512, 1)),
    "rnn": ((100, 1, 256, 256, 1), (128, 32, 128, 256, 1), (64, 64, 512, 512, 1)),
}
OUR_FLOAT32 = f"{OURS} ieee"
FLOAT32, BFLOAT16 = "PyTorch float32", "PyTorch bfloat16"
NEAR = 0.05  # of the largest: a check that the same work is done, not one of accuracy


def row(stack: Stack, precision: str, limits: Limits, seconds: float) -> Row:
    """One stack in one precision; "train" is forward and backward, with weights that change every time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((stack.T, stack.B, stack.I), np.float32)
    dy = rng.standard_normal((stack.T, stack.B, stack.H), np.float32)

    def ours(precision: str) -> tuple[Any, Callable[[], Array]]:
        module = STACKS[stack.cell](stack.I, stack.H, stack.L, precision=precision, seed=0)
        return module, our_training(module, x, dy) if stack.train else our_inference(module, x)

    module, call = ours(precision)
    weights = module.state_dict()
    contenders = [Contender(OURS, call)]
    for library, setting, call in rivals(stack, weights, x, dy):
        for contender in peers.with_threads(setting, call, limits.all.threads):
            contenders.append(replace(contender, library=library))
    if precision != "ieee":
        contenders.append(Contender(OUR_FLOAT32, ours("ieee")[1], library=OUR_FLOAT32))
    if jax_peer.available():
        contenders += jax_peer.contenders(stack.cell, weights, x, dy if stack.train else None)
    wanted = contenders[0].call()
    for contender in contenders[1:]:
        off = np.abs(contender.call() - wanted).max() / np.abs(wanted).max()
        assert off <= NEAR, f"{contender.name} is off by {off}"
    timings = compare(contenders, seconds)
    timed = replace(stack, precision=precision, tiles=fr.cpu.engine(precision) == "amx")
    rate, limit = stack.gflop / timings[OURS].median, stack_limit(timed, limits)
    return make_row(
        name(stack, precision), f"{stack.cell} {what(stack)} {precision}", limits.all.threads,
        contenders, timings,
        work=stack.gflop, unit="GFLOP/s", limit=limit.seconds, bound=f"float32: {limit.bound}",
        shares={"FMA": rate / limits.fma_gflops},
        notes={"precision": precision, "engine": fr.cpu.engine(precision)},
    )  # fmt: skip


def rivals(
    stack: Stack, weights: dict[str, Array], x: Array, dy: Array
) -> list[tuple[str, str, Callable[[], Array]]]:
    """PyTorch's ways to do a stack: library, setting, call; results are float32."""

    def call_of(module: torch.nn.Module, dtype: torch.dtype, autocast: bool) -> Callable[[], Array]:
        inputs, upstream = torch.from_numpy(x).to(dtype), torch.from_numpy(dy).to(dtype)
        module.train(stack.train)
        if not stack.train:

            def infer() -> Array:
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    y: Array = module(inputs)[0].float().numpy()
                    return y

            return infer
        inputs.requires_grad_()

        def train() -> Array:
            module.zero_grad(set_to_none=True)
            inputs.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y, _ = module(inputs)
            y.backward(upstream.to(y.dtype))
            assert inputs.grad is not None
            return inputs.grad.float().numpy()

        return train

    plain, mixed, narrow = (peers.stack(stack.cell, weights) for _ in range(3))
    return [
        (FLOAT32, "", call_of(plain, torch.float32, autocast=False)),
        (BFLOAT16, "autocast", call_of(mixed, torch.float32, autocast=True)),
        (BFLOAT16, ".bfloat16()", call_of(narrow.bfloat16(), torch.bfloat16, autocast=False)),
    ]


def what(stack: Stack) -> str:
    """What is done with a stack."""
    return "train" if stack.train else "infer"


def name(stack: Stack, precision: str) -> str:
    """The row's name."""
    return f"{stack.cell} {what(stack)} {precision} {stack.T} {stack.B} {stack.I} {stack.H} {stack.L}"


def cases() -> list[Case]:
    """All rows."""
    return [
        Case(name(stack, precision), partial(row, stack, precision))
        for cell, shapes in SHAPES.items()
        for train in (False, True)
        for shape in shapes
        for stack in [Stack(cell, *shape, train=train)]
        for precision in PRECISIONS_OF["cpu"]
    ]


if __name__ == "__main__":
    title = f"Precisions on a CPU (bfloat16 multiplied by {fr.cpu.engine('bf16')}): T B I H layers"
    sys.exit(main(str(__doc__), "bench_precision", title, cases()))
