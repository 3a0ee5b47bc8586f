"""Losses with their gradients: what `Module.backward` starts from.

    loss, dpred = fr.losses.cross_entropy(model(x), target)
    model.backward(dpred)

The functions are those of `fusedrnn.functional`, whose documentation has shapes, masks and reductions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusedrnn._core import torch_hints
from fusedrnn.functional.losses import binary_cross_entropy, cross_entropy, mse
from fusedrnn.functional.losses import evaluate as evaluate  # for training steps

__all__ = ["binary_cross_entropy", "cross_entropy", "mse"]

if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.losses'", name, torch_hints.LOSSES)
