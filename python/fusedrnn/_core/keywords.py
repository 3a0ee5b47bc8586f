"""Keywords that a class or a function does not take: errors that say what to write instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, wraps
from typing import Any, TypeVar

from fusedrnn._core.torch_hints import ANY, ARGUMENTS

Hints = Mapping[str, Mapping[str, str]]  # by owner and name
F = TypeVar("F", bound=Callable[..., Any])


def names(function: Any) -> tuple[tuple[str, ...], bool]:
    """The names that a function takes by keyword, and whether it takes all others."""
    if function is object.__init__:
        return (), False
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of some that are written in C nothing is known
        return (), True
    named = (p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return tuple(named), any(p.kind is p.VAR_KEYWORD for p in parameters)


@cache
def options_of(owner: type) -> tuple[tuple[str, ...], bool]:
    """The same of what makes an object of a class."""
    return names(owner.__init__)  # type: ignore[misc]


def refuse(owner: type, given: Iterable[str], hints: Hints, base: type) -> None:
    """TypeError for an option that the owner does not take, with what to write instead.

    Args:
        owner: a class, of which an object is made.
        given: the names of the options.
        hints: by the name of a class, for it and those that derive from it.
        base: of all classes that may have the option in the owner's place.
    """
    taken, any_other = options_of(owner)
    for name in () if any_other else given:
        if name not in taken:
            hint = _known([c.__name__ for c in owner.__mro__], name, hints, taken) or _owners(name, base)
            raise TypeError(f"{owner.__name__} has no option {name!r}: {hint or _nearest(name, taken)}")


def refuse_arguments(owner: str, function: Any, given: Iterable[str]) -> None:
    """TypeError for an argument that a function does not take, with what to write instead."""
    taken, any_other = names(function)  # kept nowhere: a bound method holds its object
    for name in () if any_other else given:
        if name not in taken:
            hint = _known([owner, ANY], name, ARGUMENTS, taken) or _nearest(name, taken)
            raise TypeError(f"{owner} has no argument {name!r}: {hint}") from None


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


def _known(owners: Iterable[str], name: str, hints: Hints, taken: tuple[str, ...]) -> str:
    """The hint for the first of the owners that has one, "write x" only where x is taken; "" for none."""
    for owner in owners:
        hint = hints.get(owner, {}).get(name, "")
        argument = re.match(r"write (\w+)", hint)
        if hint and (argument is None or argument[1] in taken):
            return hint
    return ""


def _nearest(name: str, taken: Iterable[str]) -> str:
    taken = [each for each in taken if each != "self"]
    near = get_close_matches(name, [each for each in taken if len(each) > 1], 1)  # "hx" is no "x"
    return f"write {near[0]}" if near else f"it takes {', '.join(taken) or 'none'}"


def _owners(name: str, base: type) -> str:
    """The classes of this package that take an option, in words; "" where there are none."""
    owners: set[str] = set()
    for owner in _derived(base):
        taken, any_other = options_of(owner)
        if name in taken and not any_other:
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
