"""Calls on CUDA tensors: by DLPack, on PyTorch's current stream, where this package's plugin runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fusedrnn import _native, cuda
from fusedrnn._core.arrays import as_device_array
from fusedrnn._core.cells import CELLS
from fusedrnn.torch.function import NO_DOUBLE_BACKWARD
from fusedrnn.torch.ops import Settings


def _forward(
    settings: Settings,
    key: int,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    weights: list[Tensor],
    train: bool,
) -> Any:
    """y, hn, cn and the tape as they come from the kernels."""
    s = settings
    with cuda.stream(torch.cuda.current_stream(x.device)):
        arrays = [_array(w) for w in weights]
        packed = _native.pack_weights(s.layers, s.directions, s.bias, arrays, s.precision, "auto", s.cell)
        options = _native.SequenceOptions(
            _array(lengths), _array(resets), s.batch_first, s.masks.dropout, key, train
        )
        return _native.sequence_forward(s.cell, packed, _array(x), _array(h0), _array(c0), options)


class Recurrence(Function):
    """Forward with a native tape, which the context holds."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: Settings,
        key: int,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        *weights: Tensor,
    ) -> Any:
        y, hn, cn, ctx.tape = _forward(settings, key, x, h0, c0, lengths, resets, list(weights), True)
        ctx.save_for_backward(x, h0, c0, lengths, resets, *weights)
        ctx.set_materialize_grads(False)
        return tuple(_tensor(t) for t in (y, hn, cn) if t is not None)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None = None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(NO_DOUBLE_BACKWARD)
        x, _, _, _, _, *weights = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        dweights = [torch.zeros_like(w) if need else None for w, need in zip(weights, needs[5:], strict=True)]
        with cuda.stream(torch.cuda.current_stream(x.device)):
            dx, dh0, dc0, _ = _native.sequence_backward(
                ctx.tape, _array(dy), _array(dhn), _array(dcn), [_array(d) for d in dweights], needs[0]
            )
            pairs = zip((dx, dh0, dc0), needs[:3], strict=True)
            found = [_tensor(d) if d is not None and need else None for d, need in pairs]
        return (None, None, *found, None, None, *dweights)


def missing(what: str, fix: str) -> str:
    """What is wrong with what CUDA has no kernel for."""
    return f"{what} is not on CUDA yet: {fix}, or move the model to the CPU"


def run(
    settings: Settings,
    key: int,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    weights: list[Tensor],
    train: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, hn and cn (None without cell states).

    Raises:
        NotImplementedError: the module has a cell or an option that has no CUDA kernel.
        RuntimeError: this package's CUDA kernels cannot run; the message says why.
    """
    if not CELLS[settings.cell].on_cuda:
        raise NotImplementedError(missing(f"the cell {settings.cell}", "make a plain one"))
    if settings.recompute:
        raise NotImplementedError(missing("recompute", "set it to 0"))
    if any(settings.masks[1:]):
        raise NotImplementedError(
            "recurrent_dropout, zoneout, weight_dropout and dropout_mode='sequence' are not on CUDA yet: set "
            "them to 0 and 'step', or move the model to the CPU"
        )
    reason = cuda.why_not()
    if reason is not None:
        raise RuntimeError(
            f"tensors are on {x.device}, where fusedrnn.torch cannot compute: {reason}. Move the model to "
            "the CPU, or use fusedrnn.torch.restore(model)"
        )
    if train:
        y, hn, *rest = Recurrence.apply(settings, key, x, h0, c0, lengths, resets, *weights)
        return y, hn, rest[0] if rest else None
    y, hn, cn, _ = _forward(settings, key, x, h0, c0, lengths, resets, weights, False)
    return _tensor(y), _tensor(hn), None if cn is None else _tensor(cn)


def _array(t: Tensor | None) -> Any:
    if t is None:
        return None
    t = t.detach()
    return as_device_array(t if t.stride()[-1:] == (1,) and 0 not in t.stride() else t.contiguous())


def _tensor(array: Any) -> Tensor:
    return torch.from_dlpack(array)
