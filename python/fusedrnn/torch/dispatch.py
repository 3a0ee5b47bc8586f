"""Which way a call goes: straight to the kernels, by autograd, through functorch, or as an op of a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from fusedrnn.torch import functorch
from fusedrnn.torch.function import Recurrence
from fusedrnn.torch.stack import Call, Marks

_PLAIN = frozenset({Tensor, Parameter, torch.nn.Buffer})


def in_graph() -> bool:
    """Whether a graph is being made of what runs: compile, export, trace."""
    return bool(torch.compiler.is_compiling() or torch._C._get_tracing_state())


def transformed() -> bool:
    """Whether a transform of torch.func is under way."""
    return torch._C._are_functorch_transforms_active()


def dual() -> bool:
    """Whether forward-mode differentiation is under way: a call without autograd would lose tangents."""
    return forward_ad._current_level >= 0


def outlived(t: Tensor | None) -> Any:
    """The tensor behind one that a transform of torch.func, since ended, has wrapped; else t itself."""
    return None if t is None else torch._C._functorch.unwrap_if_dead(t)


def plain(t: Tensor) -> bool:
    """Whether a tensor is PyTorch's own, on the CPU, and means what lies there."""
    return type(t) in _PLAIN and t.is_cpu and not t.is_neg()


def looked_at(
    weights: list[Tensor], x: Tensor, h0: Tensor | None, c0: Tensor | None
) -> tuple[list[Tensor], bool, bool]:
    """The weights, contiguous; whether kernels can read all tensors as they lie; whether any wants gradients.

    Tensors of a subclass with a life of its own (fake, distributed) and those of other devices cannot be.

    Raises:
        TypeError: a weight is sparse.
    """
    plain = type(x) in _PLAIN and x.is_cpu
    wants = x.requires_grad
    for state in (h0, c0):
        if state is not None:
            plain = plain and type(state) in _PLAIN
            wants = wants or state.requires_grad
    for w in weights:
        plain = plain and type(w) in _PLAIN and w.layout is torch.strided
        wants = wants or w.requires_grad
    if not plain:
        for w in weights:
            require_dense("each weight", w)
    if not all(map(Tensor.is_contiguous, weights)):
        weights = [w.contiguous() for w in weights]
    return weights, plain, wants and torch.is_grad_enabled()


def require_dense(what: str, t: Tensor) -> None:
    """Raises TypeError for a tensor of another layout than kernels read, sparse ones among them."""
    if t.layout is not torch.strided:
        raise TypeError(f"{what} must be a dense tensor, there is one of {t.layout}: use to_dense() of it")


def differentiated(
    call: Call,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    marks: Marks,
    weights: list[Tensor],
) -> Any:
    """y, hn and with cell states cn, connected to the inputs that want gradients."""
    if transformed():
        return functorch.Recurrence.apply(call, True, x, h0, c0, *marks, *weights)[:-1]
    return Recurrence.connected(call, x, h0, c0, *marks, *weights)
