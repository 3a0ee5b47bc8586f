"""What the names in a weights dict say: layers, directions, bias. Needs nothing built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

MAX_LAYERS = 1 << 16  # csrc/bindings/ops/sequence.hpp has it, too
_NAME = re.compile(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?")


class StackShape(NamedTuple):
    """What a weights dict says of its stack."""

    num_layers: int
    num_directions: int
    bias: bool

    def names(self) -> list[str]:
        """The names of all weights, in the order of PyTorch's ``named_parameters``."""
        kinds = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        directions = ["", "_reverse"][: self.num_directions]
        return [f"{k}_l{n}{d}" for n in range(self.num_layers) for d in directions for k in kinds]


def stack_shape(weights: Iterable[str]) -> StackShape:
    """Layers, directions and bias of a weights dict, read off its names.

    Raises:
        ValueError: a name is unknown, or one is missing.
    """
    matches = {name: _NAME.fullmatch(name) for name in weights}
    for name, match in matches.items():
        if match is None:
            raise ValueError(
                f"weights: {name!r} is no weight of a recurrent stack; expected a name like 'weight_ih_l0'"
            )
    found = [m for m in matches.values() if m is not None]
    shape = StackShape(
        num_layers=1 + max((int(m[3]) for m in found), default=0),
        num_directions=2 if any(m[4] for m in found) else 1,
        bias=any(m[1] == "bias" for m in found),
    )
    for name in shape.names():
        if name not in matches:
            raise ValueError(f"weights: {name!r} is missing (found {sorted(matches)})")
    return shape
