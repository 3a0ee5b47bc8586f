"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

import torch

from fusedrnn.torch.optim.fused import Fused, Group


class Adam(Fused, torch.optim.Adam):
    """`torch.optim.Adam` (Kingma & Ba 2015) with clipping and update of all parameters in one pass.

        opt = ft.optim.Adam(model.parameters(), lr=1e-3, clip_norm=1.0)
        opt.step()
        print(opt.grad_norm)

    Args:
        params, lr, betas, eps, weight_decay, amsgrad: as of `torch.optim.Adam`.
        clip_norm, skip_nonfinite: see `Fused`.
        foreach, fused, capturable: accepted, without effect.

    Raises:
        NotImplementedError: ``maximize`` or ``differentiable``.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        clip_norm: float | None = None,
        skip_nonfinite: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)
        self._clipping(clip_norm, skip_nonfinite)

    def _rule(self, group: Group) -> str:
        return "adamw" if group["decoupled_weight_decay"] else "adam"

    def _options(self, group: Group) -> Group:
        beta1, beta2 = group["betas"]
        return {**group, "beta1": beta1, "beta2": beta2, "bias_correction": True}


class AdamW(Adam):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019) with clipping and update of all parameters in one pass.

        opt = ft.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, clip_norm=1.0)

    Arguments and errors as `Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options
        )
