"""Pairs of modules, PyTorch's and this package's on equal weights, and what both make of the same call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch as ft  # noqa: E402  behind importorskip

torch.set_num_threads(1)  # PyTorch's threads spin beside other tests' work
KINDS = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def pair(kind: str, *args: Any, dtype: Any = None, **options: Any) -> tuple[Any, Any]:
    """torch.nn's module and this package's, with equal weights."""
    theirs = getattr(torch.nn, kind)(*args, dtype=dtype, **options)
    ours = getattr(ft, kind)(*args, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tensors(result: Any) -> list[Any]:
    """The tensors of a nest, in order."""
    if isinstance(result, torch.nn.utils.rnn.PackedSequence):
        return [result.data]
    if isinstance(result, (tuple, list)):
        return [t for part in result for t in tensors(part)]
    return [] if result is None else [result]


@dataclass
class Run:
    """What a call gave: outputs, and the gradients of a fixed random objective."""

    outputs: list[Any]
    gradients: list[Any]


def run(module: Any, inputs: tuple[Any, ...], leaves: list[Any], **options: Any) -> Run:
    """A call and the gradients of `leaves` and of all parameters."""
    for leaf in leaves:
        leaf.grad = None
    module.zero_grad()
    outputs = tensors(module(*inputs, **options))
    generator = torch.Generator().manual_seed(1)
    objective = sum(
        (out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum() for out in outputs
    )
    objective.backward()
    found = [leaf.grad for leaf in (*leaves, *module.parameters())]
    return Run([out.detach() for out in outputs], [g if g is None else g.clone() for g in found])


def assert_close(ours: Any, theirs: Any) -> None:
    """Within what rounding does to sums of this size, as a part of the largest value; None matches None."""
    assert (ours is None) == (theirs is None)
    if ours is None:
        return
    ours, theirs = ours.detach(), theirs.detach()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    eps = torch.finfo(ours.dtype).eps
    scale = float(theirs.abs().max()) if theirs.numel() else 0.0
    error = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
    assert error <= 64 * eps * max(scale, 1e-3), f"off by {error:.2e} of {scale:.2e}"


def assert_same(ours: Run, theirs: Run) -> None:
    """Outputs and gradients are equal to rounding."""
    for a, b in zip(ours.outputs + ours.gradients, theirs.outputs + theirs.gradients, strict=True):
        assert_close(a, b)


def state_for(module: Any, rows: int, dtype: Any) -> Any:
    """A random initial state that wants gradients."""
    directions = 2 if module.bidirectional else 1
    sizes = (module.num_layers * directions, rows, module.hidden_size)
    states = [torch.randn(sizes, dtype=dtype, requires_grad=True) for _ in range(2)]
    return tuple(states) if isinstance(module, (torch.nn.LSTM, ft.LSTM)) else states[0]
