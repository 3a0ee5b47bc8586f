"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusedrnn._core.parameter import Parameter
from fusedrnn.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011), at step k = 1, 2, ..

    s' = s + g^2, p' = p - lr / (1 + (k - 1) lr_decay) g / (sqrt(s') + eps).

    Args:
        params: parameters or groups of them, see `Optimizer`.
        lr: learning rate.
        lr_decay: its decay.
        weight_decay: added to the gradient times the parameter.
        eps: >= 0.

    Raises:
        ValueError: an option is negative or not finite.
    """

    kind = "adagrad"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Mapping[str, Any]],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        *,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps})
