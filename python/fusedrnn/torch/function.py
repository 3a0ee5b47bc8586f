"""A call of a stack under autograd: the function of eager mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fusedrnn.torch.stack import Call, Marks, Wanted, backward, train_forward

NO_DOUBLE_BACKWARD = (
    "fusedrnn.torch has no double backward: gradients of recurrent layers cannot be differentiated again "
    "(create_graph=True). Use torch.nn's module for that: fusedrnn.torch.restore(model) brings it back"
)


def wanted_of(needs: tuple[bool, ...]) -> Wanted:
    """Of ``needs_input_grad`` of x, h0, c0, three marks, and the weights."""
    return Wanted(needs[0], needs[1] or needs[2], tuple(needs[6:]))


class Recurrence(Function):
    """Forward with a tape, in a block that autograd saves beside the inputs."""

    @classmethod
    def connected(cls, *inputs: Any) -> Any:
        """`apply` without its looks at what `dispatch` has looked at, a third of its time."""
        return super(Function, cls).apply(*inputs)

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        batch_sizes: Tensor | None,
        *weights: Tensor,
    ) -> Any:
        y, hn, cn, block = train_forward(call, x, h0, c0, Marks(lengths, resets, batch_sizes), list(weights))
        ctx.call = call
        ctx.save_for_backward(x, h0, c0, lengths, resets, batch_sizes, block, *weights)
        ctx.set_materialize_grads(False)
        return (y, hn) if cn is None else (y, hn, cn)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None = None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(NO_DOUBLE_BACKWARD)
        x, h0, c0, lengths, resets, batch_sizes, block, *weights = ctx.saved_tensors
        marks = Marks(lengths, resets, batch_sizes)
        needs = ctx.needs_input_grad[1:]
        dx, dh0, dc0, dweights = backward(
            ctx.call, x, h0, c0, marks, block, weights, (dy, dhn, dcn), wanted_of(needs)
        )
        return (
            None,
            dx,
            dh0 if needs[1] else None,
            dc0 if needs[2] else None,
            None,
            None,
            None,
            *dweights,
        )
