"""What a training step takes for a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native, losses
from fusedrnn._core import keywords
from fusedrnn._core.torch_hints import TRAIN_STEP
from fusedrnn._native import LossSpec
from fusedrnn.nn.sequential import Sequential

Array = NDArray[Any]
Loss = Callable[..., tuple[Any, Array]]

_SPECS = {name: LossSpec(name) for name in _native.losses()}
_NAMES = {id(getattr(losses, name)): name for name in _SPECS}
_OBJECTS: dict[str, type[losses.Loss]] = {
    cls._function: cls
    for cls in (getattr(losses, name) for name in losses.__all__)
    if isinstance(cls, type) and issubclass(cls, losses.Loss) and cls is not losses.Loss
}
_STEP = keywords.names(Sequential.train_step)[0]
_NEAR = 0.8  # as near as "clipnorm" and "lenghts" are; options like "rate" and "scale" are farther off


def resolved(loss: Loss | str | LossSpec, ignore_index: int | None) -> Loss | LossSpec:
    """The loss of a step with its options: a spec, or a function of the caller's own.

    Args:
        loss: a function, the name of one of `fusedrnn.losses`, one of its objects, or a spec.
        ignore_index: the option of that name; only a spec has its own.

    Raises:
        ValueError: there is no loss of that name, or the spec is given an option.
        TypeError: ignore_index is no integer, or loss is a class.
    """
    if isinstance(loss, (LossSpec, losses.Loss)):
        if ignore_index is not None:
            raise ValueError(f"ignore_index must be None with {loss!r}, it is {ignore_index}")
        return loss if isinstance(loss, LossSpec) else loss.spec
    if isinstance(loss, type):
        raise TypeError(f"loss must be a function, a name or an object, it is a class: use {loss.__name__}()")
    name = loss if isinstance(loss, str) else _NAMES.get(id(loss))
    if name is None:
        assert not isinstance(loss, str)
        if not callable(loss):
            raise TypeError(f"loss must be a function, a name or an object, it is a {type(loss).__name__}")
        return loss if ignore_index is None else partial(loss, ignore_index=ignore_index)
    if name not in _SPECS:
        names = ", ".join(map(repr, _SPECS))
        raise ValueError(f"loss must be a function or one of {names}, it is {loss!r}")
    if ignore_index is None:
        return _SPECS[name]
    if type(ignore_index) is not int:
        return LossSpec(name, ignore_index=ignore_index)  # which looks at what it is
    return _ignoring(name, ignore_index)


def with_options(
    loss: Loss | str | LossSpec, ignore_index: int | None, options: dict[str, Any]
) -> Loss | losses.Loss | LossSpec:
    """A loss with more options than ignore_index: an object of `fusedrnn.losses`, or the caller's function.

    Raises:
        TypeError: the loss has no such option, or is an object, whose options do not change, or the name is
            nearly that of another argument of train_step.
    """
    if ignore_index is not None:
        options = {**options, "ignore_index": ignore_index}
    if isinstance(loss, (LossSpec, losses.Loss, type)):
        name = next(iter(options))
        _refuse_misspelled(options, ())
        raise TypeError(f"train_step takes no {name} with {loss!r}: give it to the loss itself")
    kind = loss if isinstance(loss, str) else _NAMES.get(id(loss), "")
    cls = _OBJECTS.get(kind)
    if cls is not None:
        _refuse_misspelled(options, keywords.options_of(cls)[0])  # type: ignore[arg-type]
        plain = all(type(value) in _PLAIN for value in options.values())
        return _made_once(kind, **options) if plain else cls(**options)
    if not callable(loss):
        return resolved(loss, None)
    taken, any_other = keywords.names(loss)
    if not all(name in taken for name in options):
        _refuse_misspelled(options, taken)
        if not any_other:
            keywords.refuse_arguments(getattr(loss, "__name__", type(loss).__name__), loss, options)
    return partial(loss, **options)


def _refuse_misspelled(options: Iterable[str], taken: tuple[str, ...]) -> None:
    """TypeError for a name that the loss does not take and that is nearly one of train_step's own."""
    for name in options:
        if name not in taken and (meant := _meant(name)):
            raise TypeError(f"train_step has no argument {name!r}: write {meant}")


@lru_cache(maxsize=64)
def _meant(name: str) -> str | None:
    """The argument of train_step that a name is nearly, or that other libraries call so."""
    return TRAIN_STEP.get(name) or next(iter(get_close_matches(name, _STEP, 1, _NEAR)), None)


_PLAIN = (bool, float, int, str, type(None))  # of which equal ones stay equal


@lru_cache(maxsize=64, typed=True)  # True is no 1 here
def _made_once(kind: str, /, **options: Any) -> losses.Loss:
    """As `_ignoring`, of options that cannot change."""
    return _OBJECTS[kind](**options)


@lru_cache(maxsize=64)
def _ignoring(name: str, ignore_index: int) -> LossSpec:
    """Made once: a loop asks for it in every step."""
    return LossSpec(name, ignore_index=ignore_index)


def evaluate(loss: Loss | LossSpec, pred: Array, target: Array, mask: Array | None) -> tuple[Any, Array]:
    """The loss of a prediction and its gradient. A function gets the mask only where there is one."""
    if isinstance(loss, LossSpec):
        return losses.evaluate(loss, pred, target, mask)
    return loss(pred, target) if mask is None else loss(pred, target, mask=mask)
