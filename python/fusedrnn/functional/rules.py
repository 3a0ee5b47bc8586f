"""What the compiled module says of each update rule (csrc/optim/list.hpp), and checks that follow from it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fusedrnn import _native
from fusedrnn._core import checks


class Scalar(NamedTuple):
    """A number that an update is given: the default of the optimizer's class, and the range in words."""

    default: float
    range: str


class Rule(NamedTuple):
    """A rule's states, by PyTorch's names and in the kernels' order, and its scalars, lr first.

    A state is only kept where the scalar that it names is not 0; None: always.
    """

    states: dict[str, str | None]
    scalars: dict[str, Scalar]

    def kept(self, scalars: Mapping[str, Any]) -> tuple[str | None, ...]:
        """The names of the states that an update by such scalars keeps, None in the place of each other."""
        return tuple(name if by is None or scalars[by] else None for name, by in self.states.items())


RULES = {
    kind: Rule(states, {name: Scalar(*facts) for name, facts in scalars.items()})
    for kind, (states, scalars) in _native.rules().items()
}
_RANGES: dict[str, Callable[[Any], bool]] = {
    "finite and >= 0": lambda value: math.isfinite(value) and value >= 0,
    "in [0, 1)": lambda value: 0 <= value < 1,
}


def check_range(name: str, value: Any, range_: str = "finite and >= 0") -> None:
    """Raises ValueError unless a number is in its range, TypeError if it is none."""
    if range_ == "True or False":
        checks.flag(name, value)
    elif not _RANGES[range_](checks.real(name, value)):
        raise ValueError(f"{name} must be {range_}, it is {value}")


def check_scalars(kind: str, scalars: Mapping[str, Any]) -> None:
    """Raises what `check_range` does unless all scalars of a rule are in their ranges."""
    for name, scalar in RULES[kind].scalars.items():
        check_range(name, scalars[name], scalar.range)


def check_count(step: Any) -> int:
    """The number of updates so far, an integer in 0 .. 2**63 - 2; TypeError or ValueError otherwise."""
    must = "step must be an integer in 0..2**63 - 2"
    if not isinstance(step, numbers.Integral):
        raise TypeError(f"{must}, it is of type {type(step).__name__}")
    count = int(step)
    if not 0 <= count <= 2**63 - 2:
        raise ValueError(f"{must}, it is {step}")
    return count
