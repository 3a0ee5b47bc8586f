"""What a training step takes for a loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native, losses
from fusedrnn._native import LossSpec

Array = NDArray[Any]
Loss = Callable[..., tuple[Any, Array]]

_SPECS = {name: LossSpec(name) for name in _native.losses()}
_NAMES = {id(getattr(losses, name)): name for name in _SPECS}


def resolved(loss: Loss | str | LossSpec, ignore_index: int | None) -> Loss | LossSpec:
    """The loss of a step with its options: a spec, or a function of the caller's own.

    Args:
        loss: a function, the name of one of `fusedrnn.losses`, one of its objects, or a spec.
        ignore_index: the option of that name; only a spec has its own.

    Raises:
        ValueError: there is no loss of that name, or the spec is given an option.
        TypeError: ignore_index is no integer.
    """
    if isinstance(loss, (LossSpec, losses.Loss)):
        if ignore_index is not None:
            raise ValueError(f"ignore_index must be None with {loss!r}, it is {ignore_index}")
        return loss if isinstance(loss, LossSpec) else loss.spec
    name = loss if isinstance(loss, str) else _NAMES.get(id(loss))
    if name is None:
        assert not isinstance(loss, str)
        return loss if ignore_index is None else partial(loss, ignore_index=ignore_index)
    if name not in _SPECS:
        names = ", ".join(map(repr, _SPECS))
        raise ValueError(f"loss must be a function or one of {names}, it is {loss!r}")
    return _SPECS[name] if ignore_index is None else LossSpec(name, ignore_index=ignore_index)


def evaluate(loss: Loss | LossSpec, pred: Array, target: Array, mask: Array | None) -> tuple[Any, Array]:
    """The loss of a prediction and its gradient. A function gets the mask only where there is one."""
    if isinstance(loss, LossSpec):
        return losses.evaluate(loss, pred, target, mask)
    return loss(pred, target) if mask is None else loss(pred, target, mask=mask)
