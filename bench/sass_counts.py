"""What a step of a sequence kernel costs: instructions and bytes off the machine code, beside the models.

  python bench/sass_counts.py                        LSTM, all plans, the shapes of the table
  python bench/sass_counts.py --cell gru --shapes bf16:64:256 tf32:1:512     others: arithmetic:B:H
  python bench/sass_counts.py --phases --loops       also the parts of a step, and its loops
  python bench/sass_counts.py --latency              instead how long a warp takes through a step
  python bench/sass_counts.py --budgets              of the shapes in sass/budgets.json: status 1 if one is
                                                     above its budget

Needs a compiler of CUDA (tests/cuda_compiler.py says how it is looked for), nvdisasm (pip install
nvidia-cuda-nvdisasm) and a C++ compiler, no GPU. README.md says how it counts and what the columns mean.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BUDGETS = HERE / "sass" / "budgets.json"
sys.path.insert(0, str(HERE / "sass"))
from latency import latencies  # noqa: E402
from machine_code import ROOT, Kernel, disassemble, source  # noqa: E402
from step_loops import Shape, executions, line_of, weight  # noqa: E402

from cuda_budgets import instances  # isort: skip  # noqa: E402, machine_code makes it known
from cuda_compiler import compile_source  # isort: skip  # noqa: E402

ELEMENTS = {
    "ieee": ("float", 4),
    "tf32": ("Tf32", 4),
    "tf32x3": ("Tf32x3", 4),
    "bf16": ("Bf16", 2),
    "fp16": ("Fp16", 2),
}
CELLS = {"lstm": ("Lstm", 4), "gru": ("Gru", 3)}
PLANS = ("cluster", "grid", "step")
SHAPES = [
    f"{e}:{B}:{H}" for e in ("ieee", "tf32", "tf32x3", "bf16") for H in (128, 256, 512) for B in (1, 64)
]
LANES, SCHEDULERS, SHARED_BYTES = 32, 4, 128  # of a warp, of a multiprocessor; shared memory's a clock

# Kinds of instructions by the first part of their opcode, and for how many clocks one of a warp takes a unit
# of its scheduler. The last kind is all that is left, branches, uniform registers, constants: one of issue.
KINDS = {
    "mma": ("HMMA", 4),
    "fma": ("FFMA|FMUL|FADD", 1),
    "imad": ("IMAD", 2),
    "alu": (
        "IADD3|VIADD|LOP3|ISETP|LEA|SHF|SEL|PRMT|MOV|IABS|IMNMX|VIMNMX|P2R|PLOP3|FSETP|FSEL|FMNMX|FSET",
        2,
    ),
    "mufu": ("MUFU|F2I|I2F|F2F|F2FP|FRND|FCHK", 8),
    "lds": ("LDS|LDSM", 0),
    "sts": ("STS", 0),
    "global": ("LDG|STG|LDGSTS|LD|ST|RED|ATOM|ATOMG", 0),
    "exchange": ("STAS|SYNCS|MAPA", 0),
    "barrier": (r"BAR|DEPBAR|LDGDEPBAR|UCGABAR\w*|MEMBAR|WARPSYNC", 0),
    "rest": (".*", 0),
}
PHASES = [  # the first whose pattern is in one of the source lines that an instruction comes from
    ("fetch", r"\bfetch\("),
    ("wait", r"mbarrier_wait|wait_copies"),
    ("product", r"block\.multiply|T::multiply"),
    ("sums", r"block\.sums?\(|sums\.pair\(|sum\.v\["),
    ("send", r"block\.send\("),
    ("tape", r"\bleave<|finish_forward|finish_backward"),
    ("cell", r"each_item|forward_cell|backward_cell|gradients_into|Items::run"),
]

# Of these a step's latency is made; what a step asks for beforehand is not among them.
LATENT = ("wait", "product", "sums", "cell", "tape", "send", "around")


@dataclass
class Counts:
    """Instructions by kind and bytes by kind: a step of a block, all its warps together."""

    kinds: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)

    def add(self, opcode: str, times: float) -> None:
        kind = kind_of(opcode)
        self.kinds[kind] += times  # type: ignore[assignment]
        self.moved[kind] += times * LANES * width(opcode)  # type: ignore[assignment]

    def include(self, other: Counts) -> None:
        self.kinds.update(other.kinds)
        self.moved.update(other.moved)

    @property
    def instructions(self) -> float:
        return sum(self.kinds.values())

    def busy(self) -> dict[str, float]:
        """Clocks that each unit is busy at least."""
        clocks = {kind: self.kinds[kind] * each / SCHEDULERS for kind, (_, each) in KINDS.items() if each}
        clocks["issue"] = self.instructions / SCHEDULERS
        clocks["shared"] = (self.moved["lds"] + self.moved["sts"]) / SHARED_BYTES
        return clocks


def kind_of(opcode: str) -> str:
    """The kind that an opcode belongs to."""
    base = opcode.split(".")[0]
    return next(kind for kind, (pattern, _) in KINDS.items() if re.fullmatch(pattern, base))


def width(opcode: str) -> int:
    """Bytes that a lane of a memory instruction moves."""
    if not re.match(r"LD|ST", opcode):
        return 0
    if found := re.search(r"\.(64|128)\b", opcode):
        return int(found[1]) // 8
    return 2 if re.search(r"\.[US]16", opcode) else 1 if re.search(r"\.[US]8", opcode) else 4


def phase_of(texts: Sequence[str]) -> str:
    """The part of a step that an instruction from these source lines belongs to."""
    matches = (name for name, pattern in PHASES if any(re.search(pattern, text) for text in texts))
    return next(matches, "around")


def count(kernel: Kernel, shape: Shape) -> tuple[dict[str, Counts], list[str]]:
    """A step's counts by phase, and its loops as lines of text."""
    step, times = executions(kernel, shape)
    phases: dict[str, Counts] = {}
    for b, block in enumerate(kernel.blocks):
        if step is not None and b not in step.blocks:
            continue
        around = next(kernel.loops_of(b), None)
        runs = shape.warps if around is None else times[id(around)]
        for instruction in block.instructions:
            texts = [source(frame) for frame in instruction.frames]
            share = weight(kernel, block, around, texts, shape)
            phases.setdefault(phase_of(texts), Counts()).add(instruction.opcode, runs * share)
    lines = []
    for loop in kernel.loops:
        if id(loop) in times:
            text, frames = line_of(kernel, loop)
            size = sum(len(kernel.blocks[b].instructions) for b in loop.blocks)
            where = f"{Path(frames[0][0]).name}:{frames[0][1]}"
            lines.append(f"{times[id(loop)]:8.1f} times {size:5} instructions  {where}  {text}")
    return phases, lines


def plan_shapes(program: Path, cell: str, arithmetic: str, B: int, H: int) -> dict[str, Shape]:
    """What the plan `cluster` or `grid` takes, forward and backward, as far as it fits."""
    command = [str(program), cell, arithmetic, str(B), str(H)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {(values := json.loads(line)).pop("pass"): Shape(**values, warps=8) for line in lines}


def step_shapes(gates: int, size: int, H: int) -> dict[str, Shape]:
    """A tile of the plan `step`: four warps share its k, 64 bytes a turn.

    See cuda/recurrent/step.cuh and cuda/products/tile.cuh.
    """
    shapes = {}
    for which, k, units in (("forward", H, 16), ("backward", gates * H, 32)):
        buffers = (k * size + 63) // 64
        turns = (buffers + 3) // 4
        shapes[which] = Shape(1, 32, units, gates, 1, 1, 1, 1, 0, 0, 0, 0, size, 0, warps=4, turns=turns)
    return shapes


def build_shapes(folder: Path, plan: str) -> Path:
    """The program that asks a plan for its shapes."""
    program = folder / plan
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-DFUSEDRNN_SIMT"]
    command += [f"-I{ROOT}/{path}" for path in ("tests/simt", "cuda", "csrc")]
    command += ["-DFUSEDRNN_GRID"] if plan == "grid" else []
    subprocess.run([*command, str(HERE / "sass/shapes.cpp"), "-o", str(program)], check=True)
    return program


def polls_that_invalidate(kernel: Kernel) -> list[str]:
    """Loops that wait for others and throw the first-level cache away each time."""
    found = []
    for loop in kernel.loops:
        text, _ = line_of(kernel, loop)
        code = [i for b in loop.blocks for i in kernel.blocks[b].instructions]
        if re.search(r"posted - value", text) and any(i.opcode.startswith("CCTL") for i in code):
            found.append(f"{kernel.name} invalidates the cache in each turn of a poll: {text}")
    return found


def above_budget(clocks: Mapping[str, float], budgets: Mapping[str, float]) -> list[str]:
    """What is wrong with the latencies of shapes, a line each."""
    wrong = [
        f"{title} takes {clocks[title]:.0f} clocks, its budget is {budgets[title]}"
        for title in budgets
        if title in clocks and clocks[title] > budgets[title]
    ]
    wrong += [f"{title} has a budget and no kernel" for title in budgets if title not in clocks]
    return wrong + [f"{title} has no budget in {BUDGETS.name}" for title in clocks if title not in budgets]


def report(
    kernels: Mapping[str, Kernel], plans: Mapping[str, Mapping[str, Shape]], cell: str, shape_text: str,
    options: argparse.Namespace,
) -> dict[str, float]:  # fmt: skip
    """Prints a shape's rows; returns the clocks of each latency."""
    clocks_of: dict[str, float] = {}
    element = ELEMENTS[shape_text.split(":")[0]][0]
    template = f"{CELLS[cell][0]}<Math<float>>"
    for plan, shapes in plans.items():
        for which, shape in shapes.items():
            if plan != "step":
                name = f"{plan}_{which}<{template}, {element}, {shape.rows // 8}>"
            else:
                name = f"{which}_tiles<{template}, {element}>"
            if name not in kernels:
                print(f"{shape_text} {plan} {which}: there is no kernel {name}")
                continue
            title = f"{shape_text} {plan} {which}"
            if options.latency:
                parts = latencies(kernels[name], shape, phase_of)
                cells = "".join(f"{parts.get(phase, 0):9.0f}" for phase in LATENT)
                clocks_of[title] = sum(parts.get(phase, 0) for phase in LATENT)
                print(f"{title:28}{cells}{clocks_of[title]:9.0f}  {shape.text}")
                continue
            parts, loops = count(kernels[name], shape)
            total = Counts()
            for counts in parts.values():
                total.include(counts)
            clocks = sum(max(counts.busy().values()) for counts in parts.values())
            print(row(title, total, f"{clocks:8.0f}{shape.clocks or '':>8}  {shape.text}"))
            if options.phases:
                for phase, counts in parts.items():
                    unit, most = max(counts.busy().items(), key=lambda item: item[1])
                    print(row(f"  {phase}", counts, f"{most:8.0f}          {unit}"))
            if options.loops:
                print("\n".join(loops))
    return clocks_of


def row(title: str, counts: Counts, end: str) -> str:
    """A line of the table."""
    cells = [f"{counts.instructions:8.0f}", *(f"{counts.kinds[kind]:9.0f}" for kind in KINDS)]
    shared, outside = counts.moved["lds"] + counts.moved["sts"], counts.moved["global"]
    return f"{title:28}" + "".join([*cells, f"{shared:9.0f}", f"{outside:9.0f}", end])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="ARITHMETIC:B:H")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--phases", action="store_true", help="a line for each part of a step")
    parser.add_argument("--loops", action="store_true", help="a line for each loop of a step")
    parser.add_argument("--latency", action="store_true", help="clocks of a warp from the wait to the end")
    parser.add_argument("--budgets", action="store_true", help="of the shapes that have a budget")
    parser.add_argument(
        "--cubin", type=Path, nargs="+", help="the cell's, made before with -lineinfo, instead of compiling"
    )
    options = parser.parse_args()
    budgets: dict[str, float] = json.loads(BUDGETS.read_text())[options.cell] if options.budgets else {}
    if options.budgets:
        options.latency = True
        options.shapes = list(dict.fromkeys(title.split()[0] for title in budgets))
    clocks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = {plan: build_shapes(folder, plan) for plan in options.plans if plan != "step"}
        cubins = options.cubin
        if cubins is None:
            sources = [path for path in instances(folder / "instances") if path.stem == options.cell]
            made = [Path(tempfile.mkdtemp(dir=folder)) for _ in sources]
            cubins = [
                compile_source(path, own, lines=True).cubin for path, own in zip(sources, made, strict=True)
            ]
        template, gates = CELLS[options.cell]
        wanted = re.compile(rf"^((cluster|grid)_(forward|backward)|(forward|backward)_tiles)<{template}<")
        kernels = {kernel.name: kernel for cubin in cubins for kernel in disassemble(cubin, wanted)}
        heads = [*LATENT, "all"] if options.latency else [*KINDS, "shared B", "global B"]
        print(
            f"{'a step of a block':28}{'' if options.latency else '     all'}"
            + "".join(f"{head:>9}" for head in heads),
            end="",
        )
        print("" if options.latency else f"{'clocks':>8}{'plan':>8}")
        for text in options.shapes:
            arithmetic, B, H = text.split(":")
            plans: dict[str, dict[str, Shape]] = {}
            for plan, program in programs.items():
                plans[plan] = plan_shapes(program, options.cell, arithmetic, int(B), int(H))
            if "step" in options.plans:
                plans["step"] = step_shapes(gates, ELEMENTS[arithmetic][1], int(H))
            clocks |= report(kernels, plans, options.cell, text, options)
    if not options.budgets:
        return 0
    wrong = above_budget(clocks, budgets)
    wrong += [line for kernel in kernels.values() for line in polls_that_invalidate(kernel)]
    print(*wrong, f"{len(clocks)} latencies, {len(wrong) or 'nothing'} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
