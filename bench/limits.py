"""The least time a recurrent stack can take on a machine whose roofs were measured: a lower bound.

Every schedule of README.md's model is tried (how many layers and directions, rows and units are worked on at
once); the limit is the least of their times. Nothing here measures, so the arithmetic can be tested
(tests/test_bench_limits.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from roofline import Limits, Roof

FLOAT = 4  # bytes
PARTS = {"ieee": 1, "bf16": 1, "bf16x3": 2, "bf16x6": 3}  # of an operand; i-th times j-th while i + j < parts


@dataclass(frozen=True)
class Cell:
    """What a step of one unit of one row costs beside the matrix products.

    Attributes:
        gates: outputs of the matrix products.
        forward_slots, backward_slots: multiplications, fused multiply-adds and divisions of the cell and its
            activations (csrc/cells, csrc/simd/exp.hpp); each takes a slot of a multiply-add unit.
        tape: values kept for backward, beside the output.
    """

    gates: int
    forward_slots: int
    backward_slots: int
    tape: int


SIGMOID, TANH = 11, 18  # slots
CELLS = {
    "lstm": Cell(4, 3 * SIGMOID + 2 * TANH + 3, TANH + 16, 5),  # i f g o, c
    "gru": Cell(3, 2 * SIGMOID + TANH + 2, 11, 4),  # r z n q
    "rnn": Cell(1, TANH, 2, 0),
}


@dataclass(frozen=True)
class Stack:
    """A recurrent stack of one direction, run once.

    Attributes:
        cell: key of `CELLS`.
        T, B, I, H, L: steps, batch, inputs, hidden units, layers.
        train: forward and backward, to the input and all weights; else forward alone.
        rows: row-steps that are valid, the sum of lengths; None for T * B.
        precision: of the products, as fusedrnn names it.
        tiles: whether tiles multiply them.
    """

    cell: str
    T: int
    B: int
    I: int
    H: int
    L: int
    train: bool
    rows: int | None = None
    precision: str = "ieee"
    tiles: bool = False

    @property
    def products(self) -> int:
        """That are made of one, of parts of operands."""
        parts = PARTS[self.precision]
        return parts * (parts + 1) // 2

    @property
    def operand_bytes(self) -> int:
        """Of a packed weight, all parts together."""
        return PARTS[self.precision] * (2 if self.tiles else FLOAT)

    @property
    def row_steps(self) -> int:
        """Valid row-steps."""
        return self.T * self.B if self.rows is None else self.rows

    @property
    def weights(self) -> int:
        """Elements of all weight matrices."""
        gates = CELLS[self.cell].gates
        return sum(gates * self.H * ((self.H if layer else self.I) + self.H) for layer in range(self.L))

    @property
    def gflop(self) -> float:
        """Of the matrix products alone, two a multiply-add."""
        return (3 if self.train else 1) * 2e-9 * self.row_steps * self.weights


@dataclass(frozen=True)
class Limit:
    """A lower bound.

    Attributes:
        seconds: of one call.
        bound: what takes most of it: "arithmetic", "weights", "memory" or "barriers".
        plan: the schedule that would reach it, layers x rows x units at once.
    """

    seconds: float
    bound: str
    plan: str


def stack_limit(stack: Stack, limits: Limits) -> Limit:
    """The least time of any schedule on at most as many threads as `limits.all` has."""
    return min((_plan_limit(stack, limits, *plan) for plan in _plans(stack, limits)), key=lambda x: x.seconds)


def _plans(stack: Stack, limits: Limits) -> Iterator[tuple[int, int, int]]:
    most = limits.all.threads
    for layers in range(1, min(most, stack.L) + 1):
        for rows in range(1, min(most // layers, stack.B) + 1):
            for units in range(1, most // (layers * rows) + 1):
                yield layers, rows, units


def _plan_limit(stack: Stack, limits: Limits, layers: int, rows: int, units: int) -> Limit:
    threads = layers * rows * units
    roof = limits.one if threads == 1 else limits.all
    share = 1.0 if threads == 1 else threads / roof.threads  # of the roofs, which are those of all threads
    seconds = {"arithmetic": 0.0, "weights": 0.0, "memory": 0.0, "barriers": 0.0}
    for backward in (False, True) if stack.train else (False,):
        # A pass does its arithmetic while weights and activations stream by: the longest of the three counts.
        parts = {
            "arithmetic": _arithmetic(stack, backward, roof, limits.isa) / share,
            "weights": _recurrent_weights(stack, limits, roof, layers, units),
            "memory": _streaming(_traffic(stack, backward), _footprint(stack), limits, roof),
        }
        longest = max(parts, key=lambda name: parts[name])
        seconds[longest] += parts[longest]
        # Neither at a barrier nor while the team is called does any thread compute.
        meetings = stack.T * stack.L / layers if units > 1 else 0
        seconds["barriers"] += 1e-6 * (meetings * roof.barrier_us + (roof.fork_us if threads > 1 else 0))
    bound = max(seconds, key=lambda name: seconds[name])
    return Limit(sum(seconds.values()), bound, f"{layers}x{rows}x{units}")


def _arithmetic(stack: Stack, backward: bool, roof: Roof, isa: str) -> float:
    """Seconds of all threads. Backward has two products where forward has one.

    Tiles have a unit of their own, beside which a core computes cells.
    """
    cell = CELLS[stack.cell]
    slots = (cell.backward_slots if backward else cell.forward_slots) * stack.H * stack.L
    products = (2 if backward else 1) * stack.weights * stack.products
    each = 2e-9 * stack.row_steps  # two operations for every multiply-add slot
    if stack.tiles:
        return max(each * products / roof.tile_gflops, each * slots / roof.fma_gflops[isa])
    return each * (products + slots) / roof.fma_gflops[isa]


def _recurrent_weights(stack: Stack, limits: Limits, roof: Roof, layers: int, units: int) -> float:
    """Seconds to stream the recurrent weights, which every step needs anew, to the threads.

    A thread reads its slice once a step. What of the slice does not fit a cache must come from beyond it, at
    the speed of what lies there; the rest stays, as under the best replacement there could be.
    """
    slice_bytes = stack.operand_bytes * CELLS[stack.cell].gates * stack.H * stack.H / units
    beyond_l1 = max(0.0, slice_bytes - limits.l1_bytes)
    beyond_l2 = max(0.0, slice_bytes - limits.l1_bytes - limits.l2_bytes)
    distinct = slice_bytes * layers * units  # row groups read the same copy in the shared level
    beyond_l3 = slice_bytes * max(0.0, 1 - (limits.l3_bytes + limits.l2_bytes * roof.threads) / distinct)
    per_thread = 1e9 / roof.threads
    step = max(
        slice_bytes / (roof.l1_gbytes * per_thread),
        beyond_l1 / (roof.l2_gbytes * per_thread),
        beyond_l2 / (roof.l3_gbytes * per_thread),
        beyond_l3 / (roof.memory_gbytes * per_thread),
    )
    return step * stack.T * stack.L / layers


def _traffic(stack: Stack, backward: bool) -> float:
    """Bytes that a pass must read or write outside the threads' own caches, each once.

    Forward reads x and the weights and writes y and, to train, the tape. Backward reads dy, x, the tape and
    the weights, writes dx, and reads and writes the weights' gradients.
    """
    tape = CELLS[stack.cell].tape * stack.H * stack.L if stack.train else 0
    passing = stack.row_steps * (stack.I + stack.H + tape)
    if backward:
        return FLOAT * (passing + stack.row_steps * stack.I + 3 * stack.weights)
    return FLOAT * (passing + stack.weights)


def _footprint(stack: Stack) -> float:
    """Bytes of distinct memory that a call touches; what exceeds a cache is not there the next time."""
    forward = _traffic(stack, backward=False)
    if not stack.train:
        return forward
    return forward + FLOAT * (stack.row_steps * (stack.I + stack.H) + stack.weights)  # dx, dy, dweights


def _streaming(traffic: float, footprint: float, limits: Limits, roof: Roof) -> float:
    """Seconds to move `traffic` bytes of arrays that are `footprint` bytes together."""
    private = (limits.l1_bytes + limits.l2_bytes) * roof.threads
    outside = traffic * max(0.0, 1 - private / footprint)
    from_memory = traffic * max(0.0, 1 - (private + limits.l3_bytes) / footprint)
    return max(outside / roof.l3_gbytes, from_memory / roof.memory_gbytes) * 1e-9
