"""Keywords that a class or a function does not take: errors that say what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, wraps
from typing import Any, TypeVar

from fusedrnn._core.torch_hints import ARGUMENTS

F = TypeVar("F", bound=Callable[..., Any])


@cache
def _taken(function: Any) -> tuple[str, ...] | None:
    """The names that a function takes by keyword, None where it takes any."""
    if function is object.__init__:
        return ()
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _unknown(function: Any, given: Iterable[str]) -> Iterator[str]:
    taken = _taken(function)
    return iter(()) if taken is None else (name for name in given if name not in taken)


def refuse(owner: type, given: Iterable[str], options: Mapping[str, str], base: type) -> None:
    """TypeError for an option that the owner does not take, with what to write instead.

    Args:
        owner: a class, of which an object is made.
        given: the names of the options.
        options: hints by name.
        base: of all classes that may have the option in the owner's place.
    """
    for name in _unknown(owner.__init__, given):  # type: ignore[misc]
        hint = options.get(name) or _owners(name, base) or _nearest(name, owner.__init__)  # type: ignore[misc]
        raise TypeError(f"{owner.__name__} has no option {name!r}: {hint}")


def refuse_arguments(name: str, function: Any, given: Iterable[str]) -> None:
    """TypeError for an argument that a function does not take, with what to write instead."""
    for argument in _unknown(function, given):
        raise TypeError(
            f"{name} has no argument {argument!r}: {ARGUMENTS.get(argument) or _nearest(argument, function)}"
        ) from None


def hinted(function: F) -> F:
    """The function, which says of an argument that it does not take what to write instead."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            refuse_arguments(function.__name__, function, kwargs)
            raise

    return call  # type: ignore[return-value]


def refuse_option(owner: str, name: str, value: object, instead: str) -> None:
    """TypeError where an option of PyTorch's is given, None being not, with what there is instead."""
    if value is not None:
        raise TypeError(f"{owner} has no option {name!r}: {instead}")


def _nearest(name: str, function: Any) -> str:
    taken = [each for each in _taken(function) or () if each != "self"]
    near = get_close_matches(name, taken, 1)
    return f"write {near[0]}" if near else f"it takes {', '.join(taken) or 'none'}"


def _owners(name: str, base: type) -> str:
    """The classes of this package that take an option, in words; "" where there are none."""
    owners: set[str] = set()
    for owner in _derived(base):
        if name in (_taken(owner.__init__) or ()):  # type: ignore[misc]
            owners.add(owner.__name__)
    *others, last = sorted(owners) or [""]
    if not others:
        return last and f"{last} has it"
    return f"{', '.join(others)} and {last} have it"


def _derived(base: type) -> Iterator[type]:
    """The classes of this package that derive from one, without those that are the base of several."""
    subclasses: list[type] = type.__subclasses__(base)
    derived = [each for each in subclasses if each.__module__.startswith("fusedrnn.")]
    for each in derived:
        yield from _derived(each)
    if len(derived) <= 1:
        yield base
