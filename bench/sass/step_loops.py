"""How often the code of a step runs: loops are known by their source lines, and their turns by a shape.

A kernel of clusters is a loop over steps; counted is one turn of it. A kernel of the plan `step` is one step.
Executions are those of all warps of a block together.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from machine_code import Block, Frame, Kernel, Loop, source

WARP = 32


@dataclass(frozen=True)
class Shape:
    """What loops are multiplied by.

    Attributes:
        blocks, rows, units, gates, handed, tiles, splits, jobs, job_depth, held, bytes: as `ClusterShape` has
            them (cuda/recurrent/cluster/cluster.hpp).
        resident: bytes of R in shared memory.
        element: bytes of a value of the state.
        clocks: what the plan thinks a step takes.
        warps: of a block.
        turns: of the loop along k of a tile of the plan `step`.
        most_held: fragments that a kernel has registers for.
        slot: fragments of the state that a warp of the plan `grid` reads at a time; 0 for other plans.
    """

    blocks: int
    rows: int
    units: int
    gates: int
    handed: int
    tiles: int
    splits: int
    jobs: int
    job_depth: int
    held: int
    bytes: int
    resident: int
    element: int
    clocks: int
    warps: int
    turns: int = 0
    most_held: int = 32
    slot: int = 0

    @property
    def items(self) -> int:
        """Rows and units of a block."""
        return self.rows * self.units

    @property
    def sent(self) -> int:
        """Vectors of 16 bytes that a block sends."""
        return (self.blocks - 1) * self.handed * self.items * self.element // 16

    @property
    def text(self) -> str:
        """For a table."""
        if self.turns:
            return f"tile of {self.rows} x {self.units}, {self.turns} turns"
        return (
            f"{self.blocks} blocks of {self.units} units x {self.rows} rows, "
            f"{self.tiles} x {self.splits} jobs of {self.job_depth}"
        )


def _warps(things: int) -> int:
    return -(-things // WARP)


@dataclass(frozen=True)
class Rule:
    """Turns of a loop by its source line, for so many executions of what is around it."""

    line: str
    turns: Callable[[Shape, float], float]


RULES = (
    Rule(r"for \(uint32_t turn = 0", lambda shape, outer: shape.warps),
    Rule(r"i < items\(\)", lambda shape, outer: _warps(shape.items)),
    Rule(r"job < shape_\.jobs", lambda shape, outer: shape.jobs),
    Rule(r"for \(int f = held\(job\)", lambda shape, outer: shape.resident / 512 / 4),
    Rule(r"i < shape_\.splits", lambda shape, outer: outer * (shape.splits - 1)),
    Rule(r"i < \(shape_\.blocks - 1\) \* vectors", lambda shape, outer: _warps(shape.sent)),
    Rule(r"while \(|\(ended != 0\)|posted - value", lambda shape, outer: outer),  # over at once
    Rule(r"q < shape_\.blocks", lambda shape, outer: outer),
    Rule(r"slot \* kSlot < count_", lambda shape, outer: outer * (shape.job_depth - shape.held) / shape.slot),
    Rule(r"for \(int step = 0; step < steps", lambda shape, outer: outer * shape.turns),
    Rule(r"k < kDepth<E>; k \+= kStep", lambda shape, outer: 2 * outer),  # of tf32x3; others are unrolled
    Rule(r"j < Items::kEach", lambda shape, outer: _warps(shape.items) / 2),  # two at a time
    Rule(r"i < G \* kRuns", lambda shape, outer: _warps(shape.gates * shape.units // 4)),
)
STEPS = RULES[0].line
# What a usual step of training does not run: ends of rows and of k, absent options, units that make no whole
# vectors.
RARE = re.compile(
    r"d\.hn\b|d\.cn\b|hn_stride|cn_stride|carry0|d\.dhn|d\.dcn|load_or_zero|finish_initial|dh0|dc0|"
    r"before_time == 0|d\.hidden|resets|walk\.cut\(|lengths\[b\]|n < 0 \?|in_vain|"
    r"copy\(to \+ place\(i\), rows_|copy_async16\(to, any, 0\)|there \? words|u \+ i < a\.H\)|y\[i\] = out"
)
# Fragments in registers: of a warp's first job, or of its run of k. There is room for `most_held`, and `held`
# are used, and slots of the state for them fetched.
HELD = re.compile(r"\.add\(held_\[|= arrive\(slot\)")


def line_of(kernel: Kernel, loop: Loop) -> tuple[str, tuple[Frame, ...]]:
    """The source line that a loop is written in, and where that is: found by the branch that goes back."""
    frames = kernel.blocks[loop.latches[0]].instructions[-1].frames
    for i, frame in enumerate(frames):
        if re.search(r"\bfor \(|\bwhile \(", source(frame)):
            return source(frame), frames[i:]
    return (source(frames[0]) if frames else ""), frames


def _rule(kernel: Kernel, loop: Loop) -> Rule | None:
    text = line_of(kernel, loop)[0]
    return next((rule for rule in RULES if re.search(rule.line, text)), None)


def executions(kernel: Kernel, shape: Shape) -> tuple[Loop | None, dict[int, float]]:
    """The loop over steps, if there is one, and for each loop in it, by id, how often a step runs it."""
    over_steps = [loop for loop in kernel.loops if re.search(STEPS, line_of(kernel, loop)[0])]
    step = max(over_steps, key=lambda loop: len(loop.blocks), default=None)
    loops = [loop for loop in kernel.loops if step is None or loop.blocks <= step.blocks]
    times: dict[int, float] = {}
    for loop in sorted(loops, key=lambda loop: -len(loop.blocks)):
        outer = times.get(id(loop.parent), shape.warps)
        rule = _rule(kernel, loop)
        if rule is None:
            text, frames = line_of(kernel, loop)
            print(f"{kernel.name}: a loop without a rule counts once: {frames[:1]} {text}", file=sys.stderr)
            times[id(loop)] = outer
        else:
            times[id(loop)] = rule.turns(shape, outer)
    return step, times


def weight(kernel: Kernel, block: Block, around: Loop | None, texts: Sequence[str], shape: Shape) -> float:
    """How much of its loop's executions an instruction has, which comes from the given source lines."""
    if any(i.opcode.startswith("CALL") for i in block.instructions):
        return 0.0
    if any(RARE.search(text) for text in texts):
        return 0.0
    if any(HELD.search(text) for text in texts):
        busy = shape.splits / shape.warps if shape.slot else min(shape.jobs, shape.warps) / shape.jobs
        return busy * shape.held / shape.most_held
    return 1.0
