"""Calls under the transforms of torch.func: grad, vjp, jacrev, and vmap over anything but weights.

These need functions apart from their context, and a batching rule for each. The rule of forward puts the
mapped axis into the batch: one call for all. Gradients of weights by sample are computed sample by sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fusedrnn.torch.function import NO_DOUBLE_BACKWARD, wanted_of
from fusedrnn.torch.packing import Packing
from fusedrnn.torch.stack import Call, Marks, Wanted, backward, infer, readable, train_forward

NO_MAPPED_WEIGHTS = (
    "torch.vmap over weights of a recurrent module is not supported by fusedrnn.torch: call each model in a "
    "loop, or restore torch.nn's modules with fusedrnn.torch.restore(model)"
)
NO_MAPPED_DROPOUT = (
    "torch.vmap of a recurrent module that draws masks (dropout, recurrent_dropout, zoneout, weight_dropout) "
    "is not supported by fusedrnn.torch: masks belong to the rows of a whole batch. Call eval(), set them to "
    "0, or call the module in a loop"
)


class Recurrence(Function):
    """y, hn, cn where the cell has it, and the block that backward reads."""

    @staticmethod
    def forward(
        call: Call,
        train: bool,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        batch_sizes: Tensor | None,
        *weights: Tensor,
    ) -> Any:
        x, h0, c0 = readable(x), readable(h0), readable(c0)
        marks = Marks(lengths, resets, batch_sizes)
        if train:
            results = train_forward(call, x, h0, c0, marks, list(weights))
        else:
            block = Packing(call.stack, list(weights), list(weights)).block
            results = (*infer(call, x, h0, c0, marks, block), block)
        return tuple(result for result in results if result is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        call, _, *tensors = inputs
        block = output[-1]
        ctx.call = call
        ctx.mark_non_differentiable(block)
        ctx.save_for_backward(*tensors[:6], block, *tensors[6:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, *rest: Tensor | None) -> Any:
        saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        wanted = wanted_of(needs)
        dcn = rest[0] if len(rest) == 2 else None
        dx, dh0, dc0, *dweights = RecurrenceBackward.apply(
            ctx.call, wanted, *saved[:7], dy, dhn, dcn, *saved[7:]
        )
        keep = (wanted.x, needs[1], needs[2], False, False, False, *wanted.weights)
        all_ = (dx, dh0, dc0, None, None, None, *dweights)
        return (None, None, *(g if want else None for g, want in zip(all_, keep, strict=True)))

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, train: bool, *tensors: Any) -> Any:
        dims = in_dims[2:]
        _check_mapped(call, dims[6:])
        fold = _Fold(call, info.batch_size)
        results = Recurrence.apply(call, train, *fold.inputs(tensors[:6], dims[:6]), *tensors[6:])
        *outputs, block = results
        unfolded = [fold.sequence_back(outputs[0]), *(fold.state_back(state) for state in outputs[1:])]
        return (*unfolded, block), (fold.row_axis, *(1 for _ in outputs[1:]), None)


class RecurrenceBackward(Function):
    """dx, dh0, dc0 and the gradients of weights, empty tensors where not wanted."""

    @staticmethod
    def forward(
        call: Call,
        wanted: Wanted,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        batch_sizes: Tensor | None,
        block: Tensor,
        dy: Tensor | None,
        dhn: Tensor | None,
        dcn: Tensor | None,
        *weights: Tensor,
    ) -> Any:
        x, h0, c0 = readable(x), readable(h0), readable(c0)
        dx, dh0, dc0, dweights = backward(
            call, x, h0, c0, Marks(lengths, resets, batch_sizes), block, list(weights), (dy, dhn, dcn), wanted
        )
        return tuple(x.new_empty(0) if g is None else g for g in (dx, dh0, dc0, *dweights))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(NO_DOUBLE_BACKWARD)

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, wanted: Wanted, *tensors: Any) -> Any:
        dims = in_dims[2:]
        _check_mapped(call, dims[10:])
        inputs, block, gradients, weights = tensors[:6], tensors[6], tensors[7:10], tensors[10:]
        mapped = any(d is not None for d in dims[:6])
        fold = _Fold(call, info.batch_size)
        if mapped and not any(wanted.weights):
            dy, dhn, dcn = gradients
            folded = (
                fold.sequence(dy, dims[7]),
                fold.state(dhn, dims[8]),
                fold.state(dcn, dims[9]),
            )
            results = RecurrenceBackward.apply(
                call, wanted, *fold.inputs(inputs, dims[:6]), block, *folded, *weights
            )
            back = [fold.sequence_back(results[0]) if wanted.x else results[0]]
            back += [fold.state_back(g) if g.numel() else g for g in results[1:3]]
            axes = (fold.row_axis if wanted.x else None, *(1 if g.numel() else None for g in results[1:3]))
            return (*back, *results[3:]), (*axes, *(None for _ in weights))
        each = []
        for i in range(info.batch_size):
            own = [_sample(t, d, i) for t, d in zip(inputs, dims[:6], strict=True)]
            own_gradients = [_sample(t, d, i) for t, d in zip(gradients, dims[7:10], strict=True)]
            own_block = block
            if mapped:  # the block is that of all samples at once
                own_block = Recurrence.apply(call, True, *own, *weights)[-1]
            each.append(RecurrenceBackward.apply(call, wanted, *own, own_block, *own_gradients, *weights))
        return tuple(torch.stack(results) for results in zip(*each, strict=True)), (0,) * len(each[0])


class _Fold:
    """A mapped axis as part of the batch: V samples of B rows are V * B rows."""

    def __init__(self, call: Call, samples: int) -> None:
        self.samples = samples
        self.row_axis = 0 if call.batch_first else 1

    def inputs(self, tensors: Iterable[Any], dims: Iterable[int | None]) -> list[Any]:
        """x, h0, c0, lengths, resets and batch_sizes, which must be None."""
        x, h0, c0, lengths, resets, batch_sizes = tensors
        dx, dh, dc, dl, dr, _ = dims
        if batch_sizes is not None:
            raise NotImplementedError(
                "torch.vmap over a PackedSequence is not supported: use a padded tensor and lengths="
            )
        return [
            self.sequence(x, dx),
            self.state(h0, dh),
            self.state(c0, dc),
            self._into(lengths, dl, 0),
            self.sequence(resets, dr),
            None,
        ]

    def sequence(self, t: Any, dim: int | None) -> Any:
        return self._into(t, dim, self.row_axis)

    def state(self, t: Any, dim: int | None) -> Any:
        return self._into(t, dim, 1)

    def _into(self, t: Any, dim: int | None, axis: int) -> Any:
        if t is None:
            return None
        if dim is None:
            t = t.unsqueeze(axis)
            sizes = list(t.shape)
            sizes[axis] = self.samples
            t = t.expand(sizes)
        else:
            t = t.movedim(dim, axis)
        return t.flatten(axis, axis + 1)

    def sequence_back(self, t: Tensor) -> Tensor:
        return t.unflatten(self.row_axis, (self.samples, -1))

    def state_back(self, t: Tensor) -> Tensor:
        return t.unflatten(1, (self.samples, -1))


def _sample(t: Any, dim: int | None, i: int) -> Any:
    return t if t is None or dim is None else t.select(dim, i)


def _check_mapped(call: Call, weight_dims: Iterable[int | None]) -> None:
    if any(d is not None for d in weight_dims):
        raise NotImplementedError(NO_MAPPED_WEIGHTS)
    if call.key is not None:
        raise NotImplementedError(NO_MAPPED_DROPOUT)
