"""Initial weights of recurrent stacks: what the arguments `init` and `forget_bias` of `Recurrent` mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fusedrnn._core import checks
from fusedrnn._core.cells import Cell
from fusedrnn._core.parameter import Parameter
from fusedrnn._core.weight_names import NORMS, WeightSpec
from fusedrnn.nn import init


class Weight(NamedTuple):
    """A parameter of a stack, and what it is to the cell."""

    parameter: Parameter
    spec: WeightSpec
    hidden: int


Fill = Callable[[Weight, np.random.Generator], None]


def initialise(
    weights: Mapping[str, Weight],
    cell: Cell,
    scheme: Any,
    forget_bias: float | None,
    rng: np.random.Generator,
) -> None:
    """Fills a stack's parameters; see `Recurrent` for what the schemes are.

    Raises:
        ValueError, TypeError: there is no such scheme, or it or forget_bias is none for this cell.
    """
    name, steps = _checked(scheme, cell)
    biases = any(weight.spec.is_bias for weight in weights.values())
    forgets = "f" in cell.gates
    if forget_bias is not None and not (forgets and biases):
        reason = "bias=False leaves none" if forgets else f"a cell {cell.name} has no forget gate"
        raise ValueError(f"forget_bias must be None: {reason}")
    for weight in weights.values():
        norm = NORMS.get(weight.spec.name)
        if norm is None:
            SCHEMES[name](weight, rng)
        else:
            init.constant_(weight.parameter, norm)
    if name == "chrono":
        if not biases:
            raise ValueError('init must not be "chrono" with bias=False: it is about biases')
        _chrono(weights, cell, steps, rng)
    if name == "keras" and forgets and forget_bias is None:
        forget_bias = 1.0
    if forget_bias is not None:
        value = checks.real("forget_bias", forget_bias)
        if not math.isfinite(value):
            raise ValueError(f"forget_bias must be finite, it is {value}")
        _set_gate(weights, cell, "f", lambda hidden: np.full(hidden, value))


def _checked(scheme: Any, cell: Cell) -> tuple[str, int]:
    """Name and steps, 0 but for chrono."""
    name, steps = scheme if isinstance(scheme, tuple) and len(scheme) == 2 else (scheme, None)
    if not isinstance(name, str) or name not in SCHEMES:
        raise ValueError(f"init must be one of {', '.join(map(repr, SCHEMES))}, it is {scheme!r}")
    if (name == "chrono") != (steps is not None):
        want = '("chrono", steps), steps being the longest dependency' if name == "chrono" else repr(name)
        raise ValueError(f"init must be {want}, it is {scheme!r}")
    if name == "identity" and len(cell.gates) > 1:
        raise ValueError(f'init must not be "identity" for a cell {cell.name}: it is for RNN')
    if name == "chrono" and cell.keeping_gate is None:
        raise ValueError(f'init must not be "chrono" for a cell {cell.name}, which has no gate for it')
    if steps is not None and checks.positive_int("steps of init", steps) < 3:
        raise ValueError(f"steps of init must be at least 3, they are {steps}")
    return name, steps or 0


def _torch(weight: Weight, rng: np.random.Generator) -> None:
    init.uniform_(weight.parameter, 1 / math.sqrt(weight.hidden), rng)


def _zeros(weight: Weight, rng: np.random.Generator) -> None:
    init.constant_(weight.parameter, 0.0)


def by_role(inputs: Fill, recurrent: Fill) -> Fill:
    """One function for W, one for R, Glorot for projections; biases and weights of single units are 0."""
    fills = {"input": inputs, "recurrent": recurrent, "projection": _glorot}
    return lambda weight, rng: fills.get(weight.spec.role, _zeros)(weight, rng)


def _glorot(weight: Weight, rng: np.random.Generator) -> None:
    init.glorot_uniform_(weight.parameter, rng, weight.spec.blocks)


SCHEMES: dict[str, Fill] = {
    "torch": _torch,
    "keras": by_role(
        lambda weight, rng: init.glorot_uniform_(weight.parameter, rng),
        lambda weight, rng: init.orthogonal_(weight.parameter, rng),
    ),
    "glorot": by_role(_glorot, _glorot),
    "orthogonal": by_role(
        _glorot, lambda weight, rng: init.orthogonal_(weight.parameter, rng, weight.spec.blocks)
    ),
    "identity": by_role(
        lambda weight, rng: init.normal_(weight.parameter, 0.001, rng),
        lambda weight, rng: init.identity_(weight.parameter),
    ),
    "chrono": _torch,
}


def _chrono(weights: Mapping[str, Weight], cell: Cell, steps: int, rng: np.random.Generator) -> None:
    """Tallec & Ollivier 2018: the times over which units forget are uniform in [1, steps - 1]."""
    drawn: list[Any] = []

    def draw(hidden: int) -> Any:
        drawn.append(np.log(rng.uniform(1, steps - 1, hidden)))
        return drawn[-1]

    assert cell.keeping_gate is not None  # `_checked` has looked
    _set_gate(weights, cell, cell.keeping_gate, draw)
    if "i" in cell.gates:
        opposite = iter(drawn)
        _set_gate(weights, cell, "i", lambda hidden: -next(opposite))


def _set_gate(weights: Mapping[str, Weight], cell: Cell, gate: str, values: Callable[[int], Any]) -> None:
    """In each layer and direction the sum of a gate's two biases becomes `values(H)`."""
    for parameter, spec, hidden in weights.values():
        if not spec.is_bias:
            continue
        at = cell.gates.index(gate) * hidden
        with parameter.writable() as bias:
            bias[at : at + hidden] = values(hidden) if spec.role == "input_bias" else 0
