"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusedrnn._core.parameter import Parameter
from fusedrnn.functional.optim import check_betas
from fusedrnn.optim.optimizer import Group, Optimizer


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015).

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, p' = p - lr m' / c1 / (sqrt(v' / c2) + eps), where
    c1 and c2 are 1 - b^step, or 1 without bias correction.

    Args:
        params: parameters or groups of them, see `Optimizer`.
        lr: learning rate.
        betas: (b1, b2), each in [0, 1).
        eps: >= 0.
        weight_decay: added to the gradient times the parameter.
        bias_correction: whether c1 and c2 make up for the states' starting at zero.
        amsgrad: whether the largest v' so far stands for v' (Reddi et al. 2018), kept as "max_exp_avg_sq".

    Raises:
        ValueError: an option is negative or not finite, or a beta is not below 1.
    """

    kind = "adam"
    _added = {"amsgrad": False}  # noqa: RUF012 (the base declares it)

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        bias_correction: bool = True,
        amsgrad: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "amsgrad": amsgrad,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        check_betas(group["betas"])
        super()._check(group)

    def _options(self, group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {**{name: group[name] for name in self.defaults}, "beta1": beta1, "beta2": beta2}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): p shrinks by 1 - lr weight_decay first.

    Arguments and errors as `Adam`, with a weight_decay of 0.01 by default.
    """

    kind = "adamw"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        bias_correction: bool = True,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, bias_correction=bias_correction, amsgrad=amsgrad
        )
