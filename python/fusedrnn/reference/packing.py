"""Weights copied once, for many calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.weight_names import cell_by_names, stack_shape
from fusedrnn.reference.cells import CELLS, gate_weights
from fusedrnn.reference.masks import drop_weight
from fusedrnn.reference.rounding import PRECISIONS, round_operand

Array = NDArray[Any]


class PackedWeights:
    """A snapshot of a weights dict; later writes to its arrays are not seen. Matrices are operands."""

    def __init__(
        self,
        weights: Mapping[str, Array],
        precision: str = "ieee",
        cell: str | None = None,
        weight_dropout: float = 0.0,
        dropout_key: int = 0,
    ) -> None:
        if cell is not None and cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}, it is {cell!r}")
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(map(repr, PRECISIONS))}, it is {precision!r}"
            )
        self.cell = cell_by_names(weights, CELLS.items()) if cell is None else cell
        specs = gate_weights(1) if self.cell is None else CELLS[self.cell].weights  # names of all cells
        self.shape = stack_shape(weights, specs)
        self.precision = precision
        self.weight_dropout, self.dropout_key = weight_dropout, dropout_key
        self.arrays = {}
        for name, (layer, spec) in self.shape.weights(specs).items():
            array = np.array(weights[name])
            if spec.role == "recurrent":
                array = self.drop(layer * self.shape.num_directions + name.endswith("_reverse"), array)
            self.arrays[name] = round_operand(array, precision) if spec.is_matrix else array

    def drop(self, index: int, array: Array) -> Array:
        """Weight dropout of weight_hh of a layer and direction, or of its gradient."""
        return drop_weight(array, self.weight_dropout, self.dropout_key, index)

    @property
    def nbytes(self) -> int:
        """Size of the copy in bytes."""
        return sum(a.nbytes for a in self.arrays.values())


def pack_weights(
    weights: Mapping[str, Array],
    *,
    precision: str = "ieee",
    algo: str = "auto",
    cell: str | None = None,
    weight_dropout: float = 0.0,
    dropout_key: int = 0,
) -> PackedWeights:
    """Copies a weights dict, for use in place of it in the forward functions. Only "auto" computes here."""
    if algo != "auto":
        raise ValueError(f"algo={algo!r} is a plan of CUDA devices: the reference has only 'auto'")
    return PackedWeights(weights, precision, cell, weight_dropout, dropout_key)
