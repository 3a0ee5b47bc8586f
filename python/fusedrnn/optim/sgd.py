"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusedrnn._core.parameter import Parameter
from fusedrnn.functional.optim import check_nesterov
from fusedrnn.optim.optimizer import Group, Optimizer


class SGD(Optimizer):
    """p' = p - lr g; with momentum (Polyak 1964) v' = momentum v + (1 - dampening) g and p' = p - lr v'.

    Args:
        params: parameters or groups of them, see `Optimizer`.
        lr: learning rate.
        momentum: >= 0; 0 keeps no state.
        dampening: what is kept from v of a new gradient, >= 0. A group's first update is not dampened.
            PyTorch asks each parameter whether it has a v, so its numbers are others where one joins a group
            after that (thawed, say) or momentum is set later; `fusedrnn.torch.optim.SGD` has PyTorch's.
        nesterov: p' = p - lr (g + momentum v') (Sutskever et al. 2013); needs momentum without dampening.
        weight_decay: added to the gradient times the parameter.

    Raises:
        ValueError: an option is negative or not finite, or nesterov comes without momentum or with
            dampening.
    """

    kind = "sgd"
    _added = {"dampening": 0.0}  # noqa: RUF012 (the base declares it)

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_nesterov(group["nesterov"], group["momentum"], group["dampening"])
