"""What a lower layer calls and a higher one provides, so that imports go one way.

`fusedrnn/__init__.py`, which is imported before any part of the package, fills it in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# `fusedrnn.training.step.train_step`, for `fusedrnn.nn.Sequential`.
train_step: Callable[..., Any]
