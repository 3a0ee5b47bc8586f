"""How long one warp takes through a step, in the order of the code and by the control bits of ptxas.

An instruction begins when the one before it has stalled for as long as it says and the scoreboards that it
waits for have been released. What has no fixed latency releases its scoreboard after LATENCY clocks. Other
warps are not there: where a scheduler has one warp, as in the plan `step`, little else fills its waits. A
branch that may go either way goes through both; what a usual step does not run is left out (step_loops.py).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from machine_code import Instruction, Kernel, Loop, source
from step_loops import Shape, executions, weight

# Clocks of sm_90 from issue to release, as published measurements have them; none is ours.
LATENCY = {"LDS": 30, "LDSM": 33, "MUFU": 24, "LDC": 40, "S2R": 25, "SHFL": 25, "LDG": 600, "LD": 600}
OTHER = 20  # of everything else, and until operands have been read
L2 = 600  # of a copy on its way to shared memory
BARRIER = 20
# Where the clocks of a step begin in a kernel that is one step: behind the wait for the step before.
WAIT = "ACQBULK"


@dataclass
class Warp:
    """A warp on its way: its clock, when scoreboards are released, and when its groups of copies arrive."""

    clock: float = 0
    scoreboards: list[float] = field(default_factory=lambda: [0.0] * 6)
    copied: float = 0
    groups: deque[float] = field(default_factory=deque)

    def run(self, instruction: Instruction, share: float) -> float:
        """Goes on behind an instruction, of which `share` is run; returns how long that took."""
        begin = self.clock
        if share == 0:
            return 0
        for i, released in enumerate(self.scoreboards):
            if instruction.waits >> i & 1:
                self.clock = max(self.clock, released)
        base = instruction.opcode.split(".")[0]
        if base == "LDGSTS":
            self.copied = self.clock + L2
        elif base == "LDGDEPBAR":
            self.groups.append(self.copied)
        elif found := re.match(r"SB0, 0x(\w+)", instruction.operands) if base == "DEPBAR" else None:
            while len(self.groups) > int(found[1], 16):
                self.clock = max(self.clock, self.groups.popleft())
        elif base == "BAR":
            self.clock += BARRIER
        if instruction.read is not None:
            self.scoreboards[instruction.read] = self.clock + OTHER
        if instruction.result is not None:
            self.scoreboards[instruction.result] = self.clock + LATENCY.get(base, OTHER)
        self.clock += max(1, instruction.stall) * share
        return self.clock - begin


def order(kernel: Kernel, loop: Loop | None, turns: Mapping[int, int]) -> Iterator[int]:
    """The blocks of a loop, or of the kernel, as they stand in the code, each loop as often as it turns."""
    inner = [candidate for candidate in kernel.loops if candidate.parent is loop]
    passed: set[int] = set()
    for b in sorted(loop.blocks) if loop else range(len(kernel.blocks)):
        if b in passed:
            continue
        turning = next((candidate for candidate in inner if b in candidate.blocks), None)
        if turning is None:
            yield b
            continue
        passed |= turning.blocks
        for _ in range(turns.get(id(turning), 1)):
            yield from order(kernel, turning, turns)


def latencies(kernel: Kernel, shape: Shape, phase_of: Callable[[Sequence[str]], str]) -> dict[str, float]:
    """Clocks of a step by phase: of a kernel that is one step those behind its wait."""
    step, times = executions(kernel, shape)
    turns = {loop: max(1, round(count / shape.warps)) for loop, count in times.items()}
    warp, clocks = Warp(), dict[str, float]()
    for b in order(kernel, step, turns):
        block = kernel.blocks[b]
        for instruction in block.instructions:
            if step is None and instruction.opcode == WAIT:
                warp, clocks = Warp(), {}
            texts = [source(frame) for frame in instruction.frames]
            took = warp.run(instruction, weight(kernel, block, None, texts, shape))
            phase = phase_of(texts)
            clocks[phase] = clocks.get(phase, 0) + took
    return clocks
