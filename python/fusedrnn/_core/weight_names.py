"""Names and shapes of a recurrent stack's weights. Needs nothing built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

_NAME = re.compile(r"(\w+)_l(\d+)(_reverse)?", re.ASCII)


class WeightSpec(NamedTuple):
    """A weight that a cell has in each layer and direction.

    Attributes:
        name: without the layer: "weight_ih".
        role: what it is to the cell: "input" (rows, inputs of the layer), "recurrent" (rows, H),
            "input_bias" and "recurrent_bias" (rows,), which a stack without bias lacks, "per_unit" (rows,).
        blocks: rows are blocks * H.
    """

    name: str
    role: str
    blocks: int

    @property
    def is_bias(self) -> bool:
        """Whether a stack without bias lacks it."""
        return self.role.endswith("bias")

    @property
    def is_matrix(self) -> bool:
        """Whether it is an operand of products."""
        return self.role in ("input", "recurrent")


class StackShape(NamedTuple):
    """What a weights dict says of its stack."""

    num_layers: int
    num_directions: int
    bias: bool

    def weights(self, specs: Sequence[WeightSpec]) -> dict[str, tuple[int, WeightSpec]]:
        """All weights by name, each with its layer, in the order of PyTorch's ``named_parameters``."""
        directions = ["", "_reverse"][: self.num_directions]
        kinds = [spec for spec in specs if self.bias or not spec.is_bias]
        return {
            f"{spec.name}_l{layer}{direction}": (layer, spec)
            for layer in range(self.num_layers)
            for direction in directions
            for spec in kinds
        }

    def shapes(self, specs: Sequence[WeightSpec], inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The shape of every weight."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (layer, spec) in self.weights(specs).items():
            columns = (
                hidden if spec.role == "recurrent" else self.num_directions * hidden if layer else inputs
            )
            shapes[name] = (spec.blocks * hidden, columns)[: 1 + spec.is_matrix]
        return shapes


class HasWeights(Protocol):
    """A cell, native or of the reference."""

    @property
    def weights(self) -> tuple[WeightSpec, ...]:
        """What a layer and direction has of weights."""
        ...


def cell_told(names: Iterable[str], cells: Iterable[tuple[str, HasWeights]]) -> str | None:
    """The cell whose units' own weights are among the names, None where there are none: it may be any."""
    stems = {match[1] for name in names if (match := _NAME.fullmatch(str(name)))}
    for cell, facts in cells:
        if any(spec.role == "per_unit" and spec.name in stems for spec in facts.weights):
            return cell
    return None


def stack_shape(weights: Iterable[str], specs: Sequence[WeightSpec]) -> StackShape:
    """Layers, directions and bias of a cell's weights dict, read off its names.

    Raises:
        ValueError: a name is unknown, or one is missing.
    """
    kinds = {spec.name: spec for spec in specs}
    found: dict[str, re.Match[str]] = {}
    for name in weights:
        match = _NAME.fullmatch(name)
        if match is None or match[1] not in kinds:
            raise ValueError(
                f"weights: {name!r} is no weight of a recurrent stack; expected a name like 'weight_ih_l0'"
            )
        found[name] = match
    shape = StackShape(
        num_layers=1 + max((int(m[2]) for m in found.values()), default=0),
        num_directions=2 if any(m[3] for m in found.values()) else 1,
        bias=any(kinds[m[1]].is_bias for m in found.values()),
    )
    for name in shape.weights(specs):
        if name not in found:
            raise ValueError(f"weights: {name!r} is missing (found {sorted(found)})")
    return shape
