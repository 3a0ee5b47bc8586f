"""Whole training steps of a model: what `fusedrnn.nn.Sequential.train_step` does.

`step` makes a step of separate calls, of model, loss and optimizer; `compiled` makes it one native call.
"""

from fusedrnn.training.step import train_step

__all__ = ["train_step"]
