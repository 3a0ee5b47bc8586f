"""A call on a PackedSequence, which kernels read as it lies: row b of step t is row offset[t] + b."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fusedrnn.torch import dispatch, recurrence

if TYPE_CHECKING:
    from fusedrnn.torch.modules import Recurrent


def forward(module: Recurrent, packed: PackedSequence, hx: Any) -> Any:
    """Output, packed alike, and the final state in the order of the user's rows.

    A graph takes its number of rows from hx or the indices of sorting. A compiled one breaks where there are
    neither: it would have to read the number, which is data.
    """
    if dispatch.in_graph() and _is_padded(module):
        return _outside(module, packed, hx)
    if dispatch.in_graph() and hx is None:
        if packed.sorted_indices is None:
            return _outside(module, packed, None)
        hx = _zeros(module, packed.data, packed.sorted_indices.shape[0])
    return _forward(module, packed, hx)


@torch.compiler.disable
def _outside(module: Recurrent, packed: PackedSequence, hx: Any) -> Any:
    return _forward(module, packed, hx)


def _is_padded(module: Recurrent) -> bool:
    """Whether pieces of the sequences are computed again, which needs all rows at all steps."""
    return bool(module.recompute) and (module.training or torch.is_grad_enabled())


def _zeros(module: Recurrent, data: Tensor, rows: int) -> Any:
    stacks = module.num_layers * (2 if module.bidirectional else 1)
    h0 = data.new_zeros((stacks, rows, module.proj_size or module.hidden_size))
    return (h0, data.new_zeros((stacks, rows, module.hidden_size))) if module._pair else h0


def _forward(module: Recurrent, packed: PackedSequence, hx: Any) -> Any:
    data, batch_sizes, sorted_indices, unsorted_indices = packed
    if data.dim() != 2:
        raise RuntimeError(f"input must have 2 dimensions, got {data.dim()}")
    if data.is_cuda:  # whose kernels read padded batches
        padded, lengths = pad_packed_sequence(packed, batch_first=module.batch_first)
        y, end = module._batched(padded, hx, lengths.to(data.device), None)
        return pack_padded_sequence(y, lengths, module.batch_first, enforce_sorted=False), end
    states = (None, None) if hx is None else hx if module._pair else (hx, None)
    h0, c0 = (_permuted(state, sorted_indices) for state in states)
    if _is_padded(module):
        sequences = PackedSequence(data, batch_sizes)  # in the order of the packed rows
        padded, lengths = pad_packed_sequence(sequences, batch_first=module.batch_first)
        y, hn, cn = recurrence.run(module, padded, h0, c0, lengths)
        y = pack_padded_sequence(y, lengths, module.batch_first).data
    else:
        y, hn, cn = recurrence.run(module, data, h0, c0, batch_sizes=batch_sizes)
    hn, cn = _permuted(hn, unsorted_indices), _permuted(cn, unsorted_indices)
    y = PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices)
    return y, (hn, cn) if module._pair else hn


def _permuted(state: Tensor | None, order: Tensor | None) -> Tensor | None:
    return state if state is None or order is None else state.index_select(1, order)
