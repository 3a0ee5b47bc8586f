"""Machine code of kernels: instructions with the source they come from, and the loops they are in.

nvdisasm prints the code of a cubin with, before each instruction, the source line it was made from and the
lines that this was inlined at. From its branches come basic blocks, and from those the natural loops.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from cuda_budgets import demangle, short_name  # noqa: E402

Frame = tuple[str, int]  # a source file and a line


@dataclass(frozen=True)
class Instruction:
    """One instruction: `frames` is where it comes from, innermost first.

    From the control bits that ptxas gives it: clocks until the warp's next instruction (`stall`), the
    scoreboards that it waits for (`waits`, a bit each), and which of them its result and the end of its
    operands release.
    """

    address: int
    predicate: str
    opcode: str
    operands: str
    frames: tuple[Frame, ...]
    stall: int = 0
    waits: int = 0
    result: int | None = None
    read: int | None = None

    @property
    def target(self) -> str | None:
        """The label a branch goes to."""
        found = re.search(r"`\((\.\w+)\)", self.operands)
        return found[1] if found else None


@dataclass
class Block:
    """Instructions that run one after the other, and the blocks that may come next."""

    instructions: list[Instruction]
    successors: list[int] = field(default_factory=list)


@dataclass
class Loop:
    """A natural loop: its header, all its blocks, the branches that go back, and the loop around it."""

    header: int
    blocks: set[int]
    latches: list[int]
    parent: Loop | None = None


@dataclass
class Kernel:
    """A kernel's code."""

    name: str
    blocks: list[Block]
    loops: list[Loop]

    def loops_of(self, block: int) -> Iterator[Loop]:
        """The loops that a block is in, innermost first."""
        inside = [loop for loop in self.loops if block in loop.blocks]
        return iter(sorted(inside, key=lambda loop: len(loop.blocks)))


def find_nvdisasm() -> str:
    """nvdisasm of the PATH, CUDA's folder or the package nvidia-cuda-nvdisasm."""
    if found := shutil.which("nvdisasm") or shutil.which("/usr/local/cuda/bin/nvdisasm"):
        return found
    spec = find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(place).glob("*/bin/nvdisasm"), reverse=True):
            return str(path)
    sys.exit("no nvdisasm: put it on the PATH, or pip install nvidia-cuda-nvdisasm")


def disassemble(cubin: Path, wanted: re.Pattern[str]) -> list[Kernel]:
    """The kernels of a cubin whose short name matches."""
    process = subprocess.Popen(
        [find_nvdisasm(), "-c", "-gi", "-hex", str(cubin)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    kernels = [
        kernel(name, lines)
        for name, lines in _functions(process.stdout)
        if wanted.search(name) and not name.startswith("$")
    ]
    if process.wait() != 0:
        raise RuntimeError(f"nvdisasm of {cubin} failed")
    return kernels


def _functions(lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
    """Each function's short name and its lines."""
    name, body = "", []
    for line in lines:
        if line.startswith(".text."):
            name, body = short_name(demangle([line.strip().removeprefix(".text.").rstrip(":")])[0]), []
        elif line.startswith("//----") and name:
            yield name, body
            name = ""
        elif name:
            body.append(line)
    if name:
        yield name, body


def kernel(name: str, lines: list[str]) -> Kernel:
    """A kernel from nvdisasm's lines of it."""
    blocks, labels = _blocks(lines)
    for i, block in enumerate(blocks):
        last = block.instructions[-1] if block.instructions else None
        if last is not None and last.opcode.startswith("BRA") and last.target in labels:
            block.successors.append(labels[last.target])
        falls_through = last is None or not _ends_block(last) or _conditional(last)
        if falls_through and i + 1 < len(blocks):
            block.successors.append(i + 1)
    return Kernel(name, blocks, _loops(blocks))


def _ends_block(instruction: Instruction) -> bool:
    return instruction.opcode.split(".")[0] in ("BRA", "EXIT", "RET", "BRX")


def _conditional(branch: Instruction) -> bool:
    """Whether the code behind a branch is reached through it: it has a predicate of either kind."""
    return bool(branch.predicate) or re.match(r"!?U?P\d", branch.operands) is not None


def _blocks(lines: list[str]) -> tuple[list[Block], dict[str, int]]:
    blocks, labels = [Block([])], {}
    frames: tuple[Frame, ...] = ()
    above: list[Frame] = []
    upper = False  # whether the upper half of the last instruction comes next
    for line in lines:
        text = line.strip()
        if text.startswith("//## File"):
            file, number = re.match(r'//## File "([^"]+)", line (\d+)', text).groups()  # type: ignore[union-attr]
            above.append((file, int(number)))
            continue
        if above:
            frames, above = tuple(above), []
        if found := re.match(r"(\.L_\w+|\$\w+):", text):
            if blocks[-1].instructions:
                blocks.append(Block([]))
            labels[found[1]] = len(blocks) - 1
        elif found := re.match(r"/\*([0-9a-f]+)\*/\s+(?:@(!?U?P\w+)\s+)?(\S+)\s*(.*?)\s*;", text):
            address, predicate, opcode, operands = found.groups()
            blocks[-1].instructions.append(
                Instruction(int(address, 16), predicate or "", opcode, operands, frames)
            )
            upper = True
            if _ends_block(blocks[-1].instructions[-1]):
                blocks.append(Block([]))
        elif upper and (found := re.match(r"/\* 0x([0-9a-f]{16}) \*/$", text)):
            upper = False
            block = blocks[-1] if blocks[-1].instructions else blocks[-2]
            block.instructions[-1] = _controlled(block.instructions[-1], int(found[1], 16))
    return blocks, labels


def _controlled(instruction: Instruction, upper: int) -> Instruction:
    """With the control bits, the upper 23 but two of an instruction's 128."""
    result, read = upper >> 46 & 7, upper >> 49 & 7
    return replace(
        instruction,
        stall=upper >> 41 & 15,
        waits=upper >> 52 & 63,
        result=None if result == 7 else result,
        read=None if read == 7 else read,
    )


def _loops(blocks: list[Block]) -> list[Loop]:
    before: list[list[int]] = [[] for _ in blocks]
    for i, block in enumerate(blocks):
        for j in block.successors:
            before[j].append(i)
    dominators = _dominators(blocks, before)
    loops: dict[int, Loop] = {}
    for i, block in enumerate(blocks):
        for header in block.successors:
            if header not in dominators[i]:
                continue
            loop = loops.setdefault(header, Loop(header, {header}, []))
            loop.latches.append(i)
            todo = [i]
            while todo:
                j = todo.pop()
                if j not in loop.blocks:
                    loop.blocks.add(j)
                    todo += before[j]
    found = sorted(loops.values(), key=lambda loop: len(loop.blocks))
    for i, loop in enumerate(found):
        loop.parent = next((outer for outer in found[i + 1 :] if loop.header in outer.blocks), None)
    return sorted(found, key=lambda loop: loop.header)


def _dominators(blocks: list[Block], before: list[list[int]]) -> list[set[int]]:
    """For each block those that every way to it passes; nothing for one that no way leads to."""
    reached, todo = {0}, [0]
    while todo:
        for j in blocks[todo.pop()].successors:
            if j not in reached:
                reached.add(j)
                todo.append(j)
    dominators = [set(reached) if i in reached else set() for i in range(len(blocks))]
    dominators[0] = {0}
    changed = True
    while changed:
        changed = False
        for i in sorted(reached - {0}):
            new = {i} | set.intersection(*(dominators[j] for j in before[i] if j in reached))
            if new != dominators[i]:
                dominators[i], changed = new, True
    return dominators


@cache
def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []


def source(frame: Frame) -> str:
    """A source line's text."""
    lines = _lines(frame[0])
    return lines[frame[1] - 1].strip() if 0 < frame[1] <= len(lines) else ""
