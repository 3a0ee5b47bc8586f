"""What the compiled module says of cells, precisions and algorithms: csrc/cells has each fact once."""

from __future__ import annotations

from typing import NamedTuple

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.weight_names import BESIDE_GATES, WeightSpec


class Cell(NamedTuple):
    """The facts of a cell.

    Attributes:
        name: as in the native module: the family, and behind an underscore the variant if there is one.
        family: the name of its functions, `fusedrnn.functional.lstm_forward`, say.
        gates: names of its gates in the order of the weights' rows.
        tape: names of what it keeps of a step, in the order of ``tape.gates``.
        cell_state: whether its state is a pair (h, c).
        weights: what a layer and direction has of weights.
        on_cuda: whether CUDA has kernels for it.
    """

    name: str
    family: str
    gates: tuple[str, ...]
    tape: tuple[str, ...]
    cell_state: bool
    weights: tuple[WeightSpec, ...]
    on_cuda: bool

    @property
    def variant(self) -> str:
        """The rest of the name behind the family, "" where there is none."""
        return self.name[len(self.family) + 1 :]

    @property
    def keeping_gate(self) -> str | None:
        """The gate that says how much of the state goes on to the next step, None where there is none."""
        return next((gate for gate in self.gates if gate in ("f", "z")), None)

    @property
    def projects(self) -> bool:
        """Whether h is a projection of what the units make, of fewer units."""
        return any(spec.role == "projection" for spec in self.weights)


CELLS = {
    name: Cell(
        name,
        facts["family"],
        facts["gates"],
        facts["tape"],
        facts["cell_state"],
        tuple(WeightSpec(*weight) for weight in facts["weights"]),
        facts["on_cuda"],
    )
    for name, facts in _native.cells().items()
}
# What all cells have of weights, whatever else some have.
GATE_WEIGHTS = tuple(spec for spec in next(iter(CELLS.values())).weights if spec.role not in BESIDE_GATES)
PRECISIONS = _native.precisions()
PRECISIONS_OF = {"cpu": _native.cpu_precisions(), "cuda": _native.cuda_precisions()}
ALGOS = _native.algos()


def weights_of(cell: str | None) -> tuple[WeightSpec, ...]:
    """The weights of a cell, those that all cells have where it is None.

    Raises:
        ValueError: there is no such cell.
    """
    if cell is None:
        return GATE_WEIGHTS
    return CELLS[checks.choice("cell", cell, CELLS)].weights


def variants(family: str) -> tuple[str, ...]:
    """The variants of a family's cells."""
    return tuple(cell.variant for cell in CELLS.values() if cell.family == family)


def variant_named(family: str, argument: str, value: str) -> str:
    """The name of a family's cell of a variant that a caller names.

    Raises:
        ValueError: there is none; the message names the argument.
    """
    known = variants(family)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{argument} must be {' or '.join(map(repr, known))}, it is {value!r}")
    return f"{family}_{value}"
