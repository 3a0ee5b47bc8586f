"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core import checks
from fusedrnn._core.arrays import on_host
from fusedrnn._core.parameter import Parameter
from fusedrnn.functional.optim import one_history, variance_of
from fusedrnn.optim.optimizer import Optimizer

Array = NDArray[Any]


class RMSprop(Optimizer):
    """RMSprop (Hinton 2012): s' = alpha s + (1 - alpha) g^2, p' = p - lr g / (sqrt(s') + eps).

    Args:
        params: parameters or groups of them, see `Optimizer`.
        lr: learning rate.
        alpha: decay of the running mean square, in [0, 1).
        eps: >= 0.
        weight_decay: added to the gradient times the parameter.
        momentum: >= 0; the fractions are summed up as gradients are in `SGD`.
        centered: divide by the standard deviation instead (Graves 2013). The variance is that of PyTorch, s'
            less the square of the running mean of g, but a state of its own, "grad_var", so that it is right
            where gradients vary little. A state_dict without it, PyTorch's for example, loads: the variance
            then begins as that difference, as it does where the state_dict has been through another program
            that updated the other two alone.

    Raises:
        ValueError: an option is negative or not finite, or alpha is not below 1.
    """

    kind = "rmsprop"
    _derived = frozenset({"grad_var"})

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

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        checks.mapping("state_dict", state_dict, "what state_dict returned")
        known = state_dict.get("state", {})
        states = dict(known) if isinstance(known, Mapping) else {}  # which is refused below
        for key, entry in states.items():
            if not isinstance(entry, Mapping):
                continue
            three = [on_host(entry[n]) for n in ("square_avg", "grad_avg", "grad_var") if n in entry]
            if len(three) == 3 and not one_history(*three, epsilon=float(np.finfo(three[0].dtype).eps)):
                states[key] = {name: array for name, array in entry.items() if name != "grad_var"}
        super().load_state_dict({**state_dict, "state": states if states else known})

    def _initial(self, p: Parameter, name: str) -> Array:
        if name in self._derived:
            return variance_of(self._state(p, "square_avg"), self._state(p, "grad_avg"))
        return super()._initial(p, name)
