"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusedrnn._core.parameter import Parameter
from fusedrnn.functional.optim import check_nesterov
from fusedrnn.optim.optimizer import Group, Optimizer


class SGD(Optimizer):
    """p' = p - lr g; with momentum (Polyak 1964) v' = momentum v + g and p' = p - lr v'.

    Args:
        params: parameters or groups of them, see `Optimizer`.
        lr: learning rate.
        momentum: >= 0; 0 keeps no state.
        nesterov: p' = p - lr (g + momentum v') (Sutskever et al. 2013); needs momentum.
        weight_decay: added to the gradient times the parameter.

    Raises:
        ValueError: an option is negative or not finite, or nesterov comes without momentum.
    """

    kind = "sgd"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_nesterov(group["nesterov"], group["momentum"])
