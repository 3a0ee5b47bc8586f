"""torch.optim's optimizers with clipping folded into the update, and all parameters in one native call."""

from __future__ import annotations

from fusedrnn.torch.optim.adam import Adam, AdamW
from fusedrnn.torch.optim.fused import Fused
from fusedrnn.torch.optim.others import SGD, Adagrad, RMSprop

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Fused", "RMSprop"]
