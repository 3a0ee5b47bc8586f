"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusedrnn._core.parameter import Parameter
from fusedrnn.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop (Hinton 2012): s' = alpha s + (1 - alpha) g^2, p' = p - lr g / (sqrt(s') + eps).

    Args:
        params: parameters or groups of them, see `Optimizer`.
        lr: learning rate.
        alpha: decay of the running mean square, in [0, 1).
        eps: >= 0.
        weight_decay: added to the gradient times the parameter.
        momentum: >= 0; the fractions are summed up as gradients are in `SGD`.
        centered: divide by the standard deviation instead (Graves 2013): s' less the square of the running
            mean of g, taken as 0 where rounding makes that negative.

    Raises:
        ValueError: an option is negative or not finite, or alpha is not below 1.
    """

    kind = "rmsprop"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Mapping[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(params, defaults)
