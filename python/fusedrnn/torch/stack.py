"""What all calls of a stack have in common: the native description, made once, and its calls over tensors."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusedrnn import _native
from fusedrnn._core.cells import CELLS
from fusedrnn.torch import masks, threads
from fusedrnn.torch.flow import Flow
from fusedrnn.torch.masks import Masks

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_ALIGNMENT = 64  # of a block, in bytes
_KEPT_BYTES = 128 << 10  # blocks from here on come from memory that is kept for the next step


class Stack(NamedTuple):
    """A recurrent stack, described natively for the backend that runs.

    Attributes:
        native: its calls.
        cell_state: whether its state is a pair.
        state: (L * D, P), the sizes of h beside B; P is H, but where h is projected.
        cells: H, units of a cell state.
        width: D * P, features of y.
        packed: bytes of its weights as kernels read them.
        fixed, each: a block for training takes at most fixed + T * B * each bytes.
        between: bytes of a row's states, which are kept between pieces that are computed again.
        chunk_rows: such pieces are whole chunks of max(1, chunk_rows // B) steps.
    """

    native: _native.Stack
    cell_state: bool
    state: tuple[int, int]
    cells: int
    width: int
    packed: int
    fixed: int
    each: int
    between: int
    chunk_rows: int

    def block_bytes(self, T: Any, B: Any, recompute: int) -> Any:
        """What a block for training takes, of symbols where a graph is made.

        Args:
            recompute: steps of a piece, -1: the root of T, 0: the whole sequence is kept.
        """
        if recompute:
            chunk = torch.sym_max(self.chunk_rows // B, 1) if B > 0 else 1
            steps = recompute if recompute > 0 else math.ceil(torch.sym_sqrt(T))
            steps = (steps + chunk - 1) // chunk * chunk
            if steps < T:
                return self.packed + (-(-T // steps) - 1) * B * self.between
        return self.fixed + T * B * self.each


@lru_cache(maxsize=256)
def stack_of(
    cell: str,
    layers: int,
    directions: int,
    bias: bool,
    inputs: int,
    hidden: int,
    dtype: torch.dtype,
    precision: str,
    backend: str,
    weight_dropout: float = 0.0,
    projected: int = 0,
) -> Stack:
    """The stack, made once for a backend.

    Raises:
        TypeError: dtype is neither float32 nor float64.
        ValueError: the backend has no such precision.
    """
    if dtype not in _DTYPES:
        raise TypeError(
            f"fusedrnn.torch takes weights of torch.float32 and torch.float64, these are {dtype}: "
            "use module.float(); torch.autocast gives the speed of narrow types with such weights"
        )
    native = _native.Stack(
        cell, layers, directions, bias, inputs, hidden, _DTYPES[dtype], precision, weight_dropout, projected
    )
    cell_state = CELLS[cell].cell_state
    stacks, units = layers * directions, projected or hidden
    between = layers * (units + hidden * cell_state) * dtype.itemsize
    return Stack(
        native, cell_state, (stacks, units), hidden, directions * units, *native.block_bytes, between,
        native.chunk_rows,
    )  # fmt: skip


@cache
def plain_options(batch_first: bool, train: bool) -> _native.SequenceOptions:
    """Those of a call without lengths, resets and masks, made once."""
    return _native.SequenceOptions(batch_first=batch_first, train=train)


class Marks(NamedTuple):
    """Where the rows of a batch end, begin anew, or lie: int lengths (B,), bool resets, batch_sizes (T,).

    With batch_sizes, on the CPU, sequences are packed: x is (rows of all steps, I).
    """

    lengths: Tensor | None
    resets: Tensor | None
    batch_sizes: Tensor | None


NO_MARKS = Marks(None, None, None)


class Call(NamedTuple):
    """Arguments of a call besides tensors: kept from forward to backward."""

    stack: Stack
    batch_first: bool
    masks: Masks = masks.NONE
    key: int | None = None  # of the masks; without one zoneout is its expectation
    recompute: int = 0  # steps of the pieces that backward computes again, -1: the root of T
    flow: Flow | None = None  # where backward puts the norms of states' gradients

    def options(self, marks: Marks, train: bool) -> _native.SequenceOptions:
        """The native form."""
        m = self.masks
        if marks.lengths is None and marks.resets is None and m == masks.NONE and not self.recompute:
            return plain_options(self.batch_first, train)
        return _native.SequenceOptions(
            marks.lengths, marks.resets, self.batch_first, m.dropout, self.key or 0, train, m.recurrent,
            m.zoneout_c, m.zoneout_h, m.per_sequence, recompute=self.recompute, zoneout_mean=self.key is None,
        )  # fmt: skip

    def rows(self, x: Tensor, marks: Marks) -> int:
        """B."""
        if marks.batch_sizes is not None:
            return int(marks.batch_sizes[0])
        return x.shape[0 if self.batch_first else 1]

    def block_bytes(self, x: Tensor, marks: Marks) -> int:
        """What a block for training on x takes."""
        rows = x.shape[0], 1  # packed ones, which are not computed again: as many sequences of a step
        T, B = rows if marks.batch_sizes is not None else x.shape[1::-1] if self.batch_first else x.shape[:2]
        found: int = self.stack.block_bytes(T, B, self.recompute)
        return found


def new_block(bytes_: int) -> Tensor:
    """A tensor of so many bytes, aligned for kernels; a large one from memory that a step before has used.

    Kernels leave gaps in it. PyTorch fills those in deterministic mode, as it does of its own memory.
    """
    if bytes_ < _KEPT_BYTES or torch.are_deterministic_algorithms_enabled():
        return torch.empty(bytes_, dtype=torch.uint8)
    return torch.from_numpy(_native.host_bytes(bytes_))


def _outputs(call: Call, x: Tensor, marks: Marks) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, hn and cn (None for a cell without cell states), not initialised."""
    stack = call.stack
    *steps, _ = x.shape
    rows = steps[0 if call.batch_first else 1] if marks.batch_sizes is None else int(marks.batch_sizes[0])
    stacks, units = stack.state
    # Sizes one by one: PyTorch reads a tuple of them slowly.
    y, hn = x.new_empty(*steps, stack.width), x.new_empty(stacks, rows, units)
    return y, hn, x.new_empty(stacks, rows, stack.cells) if stack.cell_state else None


def infer(
    call: Call,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    marks: Marks,
    block: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, hn, cn by weights that are packed in `block`; nothing is kept for backward."""
    threads.follow()
    y, hn, cn = _outputs(call, x, marks)
    options = call.options(marks, False)
    call.stack.native.forward_into(None, block, x, h0, c0, y, hn, cn, options, marks.batch_sizes)
    return y, hn, cn


def train_forward(
    call: Call,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    marks: Marks,
    weights: list[Tensor],
    repeatable: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """y, hn, cn and the block that backward reads; weights are packed on the way.

    With `repeatable` the gaps of a small block are zero, so that equal calls give equal bytes: of an op these
    are a result, which `torch.library.opcheck` compares.
    """
    threads.follow()
    y, hn, cn = _outputs(call, x, marks)
    block = new_block(call.block_bytes(x, marks))
    if repeatable and block.numel() < _KEPT_BYTES:
        block.zero_()
    options = call.options(marks, True)
    call.stack.native.forward_into(weights, block, x, h0, c0, y, hn, cn, options, marks.batch_sizes)
    return y, hn, cn, block


class Wanted(NamedTuple):
    """Which gradients are wanted."""

    x: bool
    states: bool
    weights: tuple[bool, ...]


def backward(
    call: Call,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    marks: Marks,
    block: Tensor,
    weights: list[Tensor],
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
    wanted: Wanted,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor | None]]:
    """dx, dh0, dc0 and those of the weights, None where not wanted."""
    threads.follow()
    stacks, units = call.stack.state
    rows = call.rows(x, marks)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted.x else None
    dh0 = x.new_empty(stacks, rows, units) if wanted.states else None
    dc0 = x.new_empty(stacks, rows, call.stack.cells) if wanted.states and call.stack.cell_state else None
    dweights = [
        torch.empty_like(w, memory_format=torch.contiguous_format) if want else None
        for w, want in zip(weights, wanted.weights, strict=True)
    ]
    if block.data_ptr() % _ALIGNMENT:  # hooks of saved tensors have moved it
        block = new_block(block.numel()).copy_(block)
    options = call.options(marks, True)
    dy, dhn, dcn = (readable(g) for g in gradients)
    wants_flow = call.flow is not None
    norms = call.stack.native.backward_into(
        block, x, h0, c0, dy, dhn, dcn, dx, dh0, dc0, dweights, options, marks.batch_sizes, wants_flow
    )
    if call.flow is not None:
        call.flow.keep(norms)
    return dx, dh0, dc0, dweights


def readable(t: Any) -> Any:
    """t, or a contiguous copy where kernels cannot walk it: they need unit stride on the last axis.

    Autograd hands in gradients of stride 0 (of ``y.sum()``), which other kernels of PyTorch copy as well.
    """
    if t is None:
        return t
    if not torch.compiler.is_compiling() and t.is_neg():  # a view that PyTorch negates when it reads
        t = t.resolve_neg()
    if t.is_contiguous():
        return t
    strides = t.stride()
    if strides[-1] == 1 and 0 not in strides:
        return t
    return t.contiguous()
