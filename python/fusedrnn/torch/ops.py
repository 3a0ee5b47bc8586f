"""The ops ``fusedrnn::forward`` and ``fusedrnn::backward``, as graphs hold them: compile, export, trace.

Defined by `torch.library` without an autograd of their own; `Compiled` connects them. What backward needs of
forward is the tensor `block`, whose length is a formula in T and B. With batch_sizes x is a packed sequence;
then h0 must be given, from which a graph has B.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.library import Library, register_fake

from fusedrnn import _native
from fusedrnn._core.cells import CELLS
from fusedrnn.torch.function import NO_DOUBLE_BACKWARD
from fusedrnn.torch.masks import Masks
from fusedrnn.torch.packing import Packing
from fusedrnn.torch.stack import (
    Call,
    Marks,
    Stack,
    Wanted,
    backward,
    infer,
    readable,
    stack_of,
    train_forward,
)

_SETTINGS = (
    "str cell, int layers, int directions, bool bias, bool batch_first, str precision, int recompute, "
    + ", ".join(f"{type(value).__name__} {name}" for name, value in Masks()._asdict().items())
)
_INPUTS = (
    "Tensor x, Tensor? h0, Tensor? c0, Tensor? lengths, Tensor? resets, Tensor? batch_sizes, Tensor? key, "
    "Tensor[] weights"
)
_library = Library("fusedrnn", "DEF")
_library.define(
    f"forward({_INPUTS}, {_SETTINGS}, bool train, str sizes='') "
    "-> (Tensor y, Tensor hn, Tensor cn, Tensor block)"
)
_library.define(
    f"backward({_INPUTS}, Tensor block, Tensor? dy, Tensor? dhn, Tensor? dcn, {_SETTINGS}, "
    "bool need_x, bool need_states, bool[] need_weights) -> Tensor[]"
)


def _sizes() -> str:
    """Tells formulas of the block's length apart: they depend on fusedrnn and on the instruction set.

    Graphs have it, for torch.compile keeps on the disk what it makes of a graph, that length in it, and finds
    it again by the graph.
    """
    sample = _native.Stack("lstm", 1, 1, True, 3, 5)
    return " ".join(map(str, (_native.__version__, *sample.block_bytes, sample.chunk_rows)))


SIZES = _sizes()


class Settings(NamedTuple):
    """Arguments of an op besides tensors."""

    cell: str
    layers: int
    directions: int
    bias: bool
    batch_first: bool
    precision: str
    recompute: int
    masks: Masks

    @classmethod
    def of(cls, given: tuple[Any, ...]) -> Settings:
        """From what an op is given."""
        cell, layers, directions, bias, batch_first, precision, recompute, *masks = given
        return cls(cell, layers, directions, bias, batch_first, precision, recompute, Masks(*masks))

    @property
    def given(self) -> tuple[Any, ...]:
        """What an op is given."""
        return (*self[:-1], *self.masks)


def _settings_of(rest: tuple[Any, ...]) -> tuple[Settings, bool]:
    """Settings and `train` from what forward is given beside tensors, with `sizes` or without."""
    count = len(Settings._fields) - 1 + len(Masks._fields)
    return Settings.of(rest[:count]), rest[count]


def _stack(settings: Settings, weights: list[Tensor]) -> Stack:
    s = settings
    cell = CELLS[s.cell]
    inputs, state = int(weights[0].shape[1]), int(weights[1].shape[1])  # of a graph: no symbols
    return stack_of(
        s.cell,
        s.layers,
        s.directions,
        s.bias,
        inputs,
        int(weights[1].shape[0]) // len(cell.gates),
        weights[0].dtype,
        s.precision,
        _native.backend(),
        s.masks.weight,
        state if cell.projects else 0,
    )


def _call(settings: Settings, weights: list[Tensor], key: Tensor | None) -> Call:
    stack = _stack(settings, weights)
    keyed = None if key is None else int(key)
    return Call(stack, settings.batch_first, settings.masks, keyed, settings.recompute)


def _forward(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    batch_sizes: Tensor | None,
    key: Tensor | None,
    weights: list[Tensor],
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    settings, train = _settings_of(rest)
    call = _call(settings, weights, key)
    x, h0, c0 = readable(x), readable(h0), readable(c0)
    weights = [readable(w) for w in weights]
    if train:
        marks = Marks(lengths, resets, batch_sizes)
        y, hn, cn, block = train_forward(call, x, h0, c0, marks, weights, repeatable=True)
    else:
        packing = Packing(call.stack, weights, weights)
        y, hn, cn = infer(call, x, h0, c0, Marks(lengths, resets, batch_sizes), packing.block)
        block = x.new_empty(0, dtype=torch.uint8)
    return y, hn, x.new_empty(0) if cn is None else cn, block


def _backward(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    batch_sizes: Tensor | None,
    key: Tensor | None,
    weights: list[Tensor],
    block: Tensor,
    dy: Tensor | None,
    dhn: Tensor | None,
    dcn: Tensor | None,
    *rest: Any,
) -> list[Tensor]:
    settings, wanted = Settings.of(rest[:-3]), Wanted(rest[-3], rest[-2], tuple(rest[-1]))
    call = _call(settings, weights, key)
    x, h0, c0 = readable(x), readable(h0), readable(c0)
    dx, dh0, dc0, dweights = backward(
        call, x, h0, c0, Marks(lengths, resets, batch_sizes), block, weights, (dy, dhn, dcn), wanted
    )
    return [x.new_empty(0) if g is None else g for g in (dx, dh0, dc0, *dweights)]


def _rows(settings: Settings, x: Tensor, h0: Tensor | None, batch_sizes: Tensor | None) -> Any:
    """B of a graph: a symbol, so that of a packed sequence cannot be read from its batch_sizes."""
    if batch_sizes is None:
        return x.shape[0 if settings.batch_first else 1]
    assert h0 is not None
    return h0.shape[1]


def _block_bytes(settings: Settings, stack: Stack, steps: list[Any]) -> Any:
    """Of a graph: symbols; of packed rows, as `Call.block_bytes` has it."""
    if len(steps) == 1:
        return stack.block_bytes(steps[0], 1, 0)
    T, B = reversed(steps) if settings.batch_first else steps
    return stack.block_bytes(T, B, settings.recompute)


def _forward_fake(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    batch_sizes: Tensor | None,
    key: Tensor | None,
    weights: list[Tensor],
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    settings, train = _settings_of(rest)
    stack = _stack(settings, weights)
    rows = _rows(settings, x, h0, batch_sizes)
    stacks, units = stack.state
    *steps, _ = x.shape  # T and B, or the rows of a packed sequence
    cells = CELLS[settings.cell].cell_state
    return (
        x.new_empty((*steps, stack.width)),
        x.new_empty((stacks, rows, units)),
        x.new_empty((stacks, rows, stack.cells) if cells else (0,)),
        x.new_empty(_block_bytes(settings, stack, steps) if train else 0, dtype=torch.uint8),
    )


def _backward_fake(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    batch_sizes: Tensor | None,
    key: Tensor | None,
    weights: list[Tensor],
    *rest: Any,
) -> list[Tensor]:
    settings, (need_x, need_states, need_weights) = Settings.of(rest[4:-3]), rest[-3:]
    stack = _stack(settings, weights)
    rows = _rows(settings, x, h0, batch_sizes)
    stacks, units = stack.state
    cells = CELLS[settings.cell].cell_state
    return [
        x.new_empty(x.shape if need_x else (0,)),
        x.new_empty((stacks, rows, units) if need_states else (0,)),
        x.new_empty((stacks, rows, stack.cells) if need_states and cells else (0,)),
        *(w.new_empty(w.shape if need else (0,)) for w, need in zip(weights, need_weights, strict=True)),
    ]


_library.impl("forward", _forward, "CPU")
_library.impl("backward", _backward, "CPU")
register_fake("fusedrnn::forward", _forward_fake, lib=_library)
register_fake("fusedrnn::backward", _backward_fake, lib=_library)


class Compiled(Function):
    """The two ops as a function that autograd, and what traces it, understands."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: Settings,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        batch_sizes: Tensor | None,
        key: Tensor | None,
        *weights: Tensor,
    ) -> Any:
        y, hn, cn, block = torch.ops.fusedrnn.forward(
            x, h0, c0, lengths, resets, batch_sizes, key, weights, *settings.given, True, SIZES
        )
        ctx.settings = settings
        ctx.save_for_backward(x, h0, c0, lengths, resets, batch_sizes, key, block, *weights)
        ctx.set_materialize_grads(False)
        return y, hn, cn

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None) -> Any:
        if not torch.compiler.is_compiling() and torch.is_grad_enabled():
            raise RuntimeError(NO_DOUBLE_BACKWARD)
        x, h0, c0, lengths, resets, batch_sizes, key, block, *weights = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        wanted = Wanted(needs[0], needs[1] or needs[2], tuple(needs[7:]))
        if not CELLS[ctx.settings.cell].cell_state:
            dcn = None
        dx, dh0, dc0, *dweights = torch.ops.fusedrnn.backward(
            x,
            h0,
            c0,
            lengths,
            resets,
            batch_sizes,
            key,
            weights,
            block,
            dy,
            dhn,
            dcn,
            *ctx.settings.given,
            wanted.x,
            wanted.states,
            list(wanted.weights),
        )
        return (
            None,
            dx if wanted.x else None,
            dh0 if needs[1] else None,
            dc0 if needs[2] else None,
            None,
            None,
            None,
            None,
            *(g if want else None for g, want in zip(dweights, wanted.weights, strict=True)),
        )


def call(
    settings: Settings,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    marks: Marks,
    key: Tensor | None,
    weights: list[Tensor],
    train: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, hn and cn (None without cell states) as nodes of the graph under way."""
    if c0 is not None and c0 is h0:
        c0 = h0.clone()  # Dynamo gives no function a tensor twice
    if train:
        y, hn, cn = Compiled.apply(settings, x, h0, c0, *marks, key, *weights)
    else:
        y, hn, cn, _ = torch.ops.fusedrnn.forward(
            x, h0, c0, *marks, key, weights, *settings.given, False, SIZES
        )
    return y, hn, cn if CELLS[settings.cell].cell_state else None
