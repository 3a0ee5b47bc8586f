"""Optimizers with PyTorch's update rules and parameter groups, gradient clipping, learning rate schedules.

    optimizer = fr.optim.Adam(model.parameters(), lr=1e-3)
    schedule = fr.optim.schedules.warmup(fr.optim.schedules.cosine(1e-3, 10_000), 500)
    for step in range(10_500):
        ...
        optimizer.lr = schedule(step)
        norm = optimizer.step(clip_norm=1.0)

Setting an optimizer's `lr` sets that of each of its groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusedrnn._core import torch_hints
from fusedrnn.optim import schedules
from fusedrnn.optim.adagrad import Adagrad
from fusedrnn.optim.adam import Adam, AdamW
from fusedrnn.optim.clip import clip_grad_norm_, clip_grad_value_
from fusedrnn.optim.optimizer import Optimizer
from fusedrnn.optim.rmsprop import RMSprop
from fusedrnn.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "schedules",
]

BY_KIND: dict[str, Any] = {rule.kind: rule for rule in (SGD, Adagrad, RMSprop, Adam, AdamW)}

if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.optim'", name, torch_hints.OPTIM)
