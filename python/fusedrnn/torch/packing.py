"""Packed weights of a module, kept between calls that want no gradients.

A call that wants gradients packs in its native call. Others may find the weights packed, if nothing has
written to them. What shows that are the tensors and where they lie, PyTorch's version of each, and how many
steps any optimizer has made, since fused optimizers write without a new version. What writes
through ``.data`` or NumPy leaves no trace: see `Recurrent.repack`. Nothing is kept of weights that other
processes may write to: those in shared memory, and all where torch.distributed is initialised.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim.optimizer import register_optimizer_step_post_hook

from fusedrnn.torch import threads
from fusedrnn.torch.stack import Stack, new_block

_CAN_DISTRIBUTE = distributed.is_available()
_CHECKS = os.environ.get("FUSEDRNN_TORCH_CHECK") == "1"
_steps = {"made": 0}  # of all optimizers
WRITTEN = (_steps, "made")  # for native calls that write to weights, to count with the write


def _count_step(*_: Any) -> None:
    _steps["made"] += 1


register_optimizer_step_post_hook(_count_step)


class Packing:
    """A block of packed weights with what the weights were.

    It holds those weights and their memory. Else a new tensor could come to lie where one was freed, with its
    version, and would be taken for it: parametrizations and `torch.func.functional_call` make new ones in
    every call.
    """

    __slots__ = ("block", "bytes", "held", "memory", "stack", "steps")

    def __init__(self, stack: Stack, given: list[Tensor], weights: list[Tensor]) -> None:
        self.stack = stack
        self.steps = _steps["made"]
        self.held = _noted(given)
        self.memory = [w.detach() for w in given]
        self.block = new_block(stack.packed)
        self.bytes = _bytes_of(given) if _CHECKS else None
        threads.follow()
        stack.native.pack(weights, self.block)

    def is_of(self, given: list[Tensor]) -> bool:
        """Whether these are the weights, and nothing that PyTorch knows of has written to them."""
        if self.held is None or self.steps != _steps["made"] or _is_distributed():
            return False
        for w, (held, version, pointer) in zip(given, self.held, strict=True):
            if w is not held or w._version != version or w.data_ptr() != pointer:
                return False
        return True


def packed(cached: Packing | None, stack: Stack, given: list[Tensor], weights: list[Tensor]) -> Packing:
    """`cached` where it holds these weights as they are now, else a new one.

    Args:
        cached: what the module has kept.
        stack: of the call.
        given: the weights as the module has them.
        weights: the same, contiguous.

    Raises:
        RuntimeError: with FUSEDRNN_TORCH_CHECK=1, a weight was written to in a way that leaves no trace.
    """
    if cached is None or cached.stack is not stack or not cached.is_of(given):
        return Packing(stack, given, weights)
    if _CHECKS and cached.bytes != _bytes_of(given):
        raise RuntimeError(
            "a weight was written to through .data, NumPy or a fused kernel, which PyTorch does not note: "
            "call repack() of the module after such a write"
        )
    return cached


def _noted(given: list[Tensor]) -> list[tuple[Tensor, int, int]] | None:
    """The weights, their versions and places; None where writes leave no trace, so that nothing is kept.

    Inference tensors have no version, and other processes write to shared memory.
    """
    if any(w.is_inference() or w.is_shared() for w in given):
        return None
    return [(w, w._version, w.data_ptr()) for w in given]


def _is_distributed() -> bool:
    """Collectives write without a new version."""
    return _CAN_DISTRIBUTE and distributed.is_initialized()


def _bytes_of(weights: list[Tensor]) -> list[bytes]:
    return [w.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() for w in weights]
