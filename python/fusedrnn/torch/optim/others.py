"""SGD, RMSprop and Adagrad."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusedrnn.functional.optim import one_history
from fusedrnn.torch.optim.fused import Fused, Group


class SGD(Fused, torch.optim.SGD):
    """`torch.optim.SGD` with clipping and update of all parameters in one pass.

        opt = ft.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, clip_norm=1.0)

    Args:
        params, lr, momentum, dampening, weight_decay, nesterov: as of `torch.optim.SGD`.
        clip_norm, skip_nonfinite: see `Fused`.
        foreach, fused: accepted, without effect.

    Raises:
        NotImplementedError: ``maximize`` or ``differentiable``.
    """

    _counted = False

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        clip_norm: float | None = None,
        skip_nonfinite: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, **options)
        self._clipping(clip_norm, skip_nonfinite)

    def _rule(self, group: Group) -> str:
        return "sgd"


class RMSprop(Fused, torch.optim.RMSprop):
    """`torch.optim.RMSprop` with clipping and update of all parameters in one pass.

        opt = ft.optim.RMSprop(model.parameters(), lr=1e-2, clip_norm=1.0)

    Args:
        params, lr, alpha, eps, weight_decay, momentum, centered: as of `torch.optim.RMSprop`.
        clip_norm, skip_nonfinite: see `Fused`.
        capturable, foreach: accepted, without effect.

    Raises:
        NotImplementedError: ``maximize`` or ``differentiable``.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        *,
        clip_norm: float | None = None,
        skip_nonfinite: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, alpha, eps, weight_decay, momentum, centered, **options)
        self._clipping(clip_norm, skip_nonfinite)

    def _rule(self, group: Group) -> str:
        return "rmsprop"

    # The variance of a centred one is a state of its own here: see `fr.optim.RMSprop`.
    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            known = [state.get(name) for name in ("square_avg", "grad_avg", "grad_var")]
            if all(k is not None for k in known) and not one_history(
                *known, epsilon=torch.finfo(p.dtype).eps
            ):
                del state["grad_var"]

    def _initial(self, p: Tensor, name: str, entry: dict[str, Any]) -> Tensor:
        if name != "grad_var":
            return super()._initial(p, name, entry)
        return (entry["square_avg"] - entry["grad_avg"].square()).clamp_(min=0)


class Adagrad(Fused, torch.optim.Adagrad):
    """`torch.optim.Adagrad` with clipping and update of all parameters in one pass.

        opt = ft.optim.Adagrad(model.parameters(), lr=1e-2, clip_norm=1.0)

    Args:
        params, lr, lr_decay, weight_decay, initial_accumulator_value, eps: as of `torch.optim.Adagrad`.
        clip_norm, skip_nonfinite: see `Fused`.
        foreach, fused: accepted, without effect.

    Raises:
        NotImplementedError: ``maximize`` or ``differentiable``.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        clip_norm: float | None = None,
        skip_nonfinite: bool = False,
        fused: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, lr_decay, weight_decay, initial_accumulator_value, eps, **options)
        self._clipping(clip_norm, skip_nonfinite)

    def _rule(self, group: Group) -> str:
        return "adagrad"

    def _initial(self, p: Tensor, name: str, entry: dict[str, Any]) -> Tensor:
        start = self.defaults["initial_accumulator_value"]
        return super()._initial(p, name, entry).fill_(start if name == "sum" else 0.0)
