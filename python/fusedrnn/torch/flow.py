"""Gradient flow under autograd: where backward puts the norms that it has measured on its way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusedrnn.functional.recurrent import named_flow

NOT_IN_GRAPH = (
    "collect_flow must be False where a graph is exported or traced: norms are measured in eager mode, and "
    "where torch.compile breaks its graph at the layer. Set collect_flow to False, or gradients off"
)
NOT_TRANSFORMED = (
    "collect_flow must be False under the transforms of torch.func: a call stands for several there. "
    "Set it to False, or call backward() of a loss"
)


class Flow:
    """A module's place for the norms of the newest backward; calls hold it, and not the module."""

    __slots__ = ("norms",)

    def __init__(self) -> None:
        self.norms: dict[str, Tensor] | None = None

    def keep(self, measured: Any) -> None:
        """Takes over what a native backward has measured."""
        norms = named_flow(measured)
        self.norms = None if norms is None else {name: torch.from_numpy(a) for name, a in norms.items()}
