"""Compiles every CUDA kernel for sm_90 and holds what ptxas says of it to its budget in cuda_budgets.json.

  python tests/cuda_budgets.py                    a table, and what is wrong; status 1 if anything is
  python tests/cuda_budgets.py --launches FILE    also: every kernel is in FILE, within its budget. The host
                                                  emulator notes there how it launched kernels
                                                  (FUSEDRNN_SIMT_LAUNCHES=FILE)

Needs c++filt and a compiler of CUDA, which cuda_compiler.py says how it looks for; no GPU.

A budget is of one kernel template, a family, and says for all its instances: "threads" of a block at most;
"blocks" that a multiprocessor of sm_90 must have room for at once; "shared", bytes of dynamic shared memory
of a block at most; "registers" of a thread at most, by element type; "clusters", if it runs in clusters and
so on sm_90 only; "fitted", if its blocks are made as large as the device has them, "shared" being sm_90's.
No instance spills, has local or static shared memory, or is without a budget, and no budget is without an
instance. "banks", 1 if it is not there, is how many passes through shared memory an access of a warp takes
at most, as the emulator counts them (tests/simt/banks.hpp): those beyond the first are bank conflicts.
"divides" is false where no float is divided by IEEE's routine, which has branches (cuda/math.cuh).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cuda_compiler import ROOT, compile_source

BUDGETS = Path(__file__).with_suffix(".json")
ELEMENTS = ("float", "double", "Tf32", "Bf16", "Fp16", "Tf32x3")

# A multiprocessor of sm_90. A warp gets registers by the unit, a block some shared memory beside its own.
REGISTERS, REGISTER_UNIT = 65536, 256
SHARED, SHARED_OVERHEAD = 228 * 1024, 1024
THREADS, BLOCKS = 2048, 32
# The most shared memory of a block on sm_80, which of the wheel's architectures has the least, and on sm_90,
# where kernels of clusters run.
BLOCK_SHARED, CLUSTER_SHARED = 163 * 1024, 227 * 1024


@dataclass
class Kernel:
    """One instance as ptxas reports it; launch bounds are 0 where the source has none.

    `divisions` are IEEE's of floats in the PTX: a routine with branches each.
    """

    name: str
    registers: int
    spilled: int
    stack: int
    static_shared: int
    bound_threads: int = 0
    bound_blocks: int = 0
    divisions: int = 0

    @property
    def family(self) -> str:
        return self.name.partition("<")[0]

    @property
    def element(self) -> str:
        """The element type in a name such as "gemm_tiles<Bf16, 0, 1>": the last one among its arguments."""
        return ([part for part in arguments(self.name) if part in ELEMENTS] or [""])[-1]


@dataclass
class Launches:
    """How the emulator saw a kernel launched: the most of each.

    `passes` is of an access to shared memory, `site` where the one with the most is in the emulator's plugin.
    """

    threads: int
    shared: int
    passes: int = 0
    site: str = ""


@dataclass
class Budget:
    """What all instances of a family keep to."""

    threads: int
    blocks: int
    shared: int
    registers: Mapping[str, int]
    clusters: bool = False
    fitted: bool = False
    banks: int = 1
    divides: bool = True
    seen: set[str] = field(default_factory=set)


def arguments(name: str) -> list[str]:
    """The outermost template arguments of a name."""
    parts, depth = [""], 0
    for character in name.partition("<")[2].removesuffix(">"):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def short_name(demangled: str) -> str:
    """A kernel's name and template arguments, without what it returns, takes, and the namespaces it is in."""
    text = re.sub(r"\(anonymous namespace\)::|\(\w+(?:::\w+)*\)(?=\d)", "", demangled).removeprefix("void ")
    depth, end = 0, len(text)
    for i, character in enumerate(text):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "(" and depth == 0:
            end = i
            break
    return re.sub(r"\w+::", "", text[:end]).replace(" >", ">")


def demangle(names: Iterable[str]) -> list[str]:
    """The names as C++ writes them."""
    text = "".join(f"{name}\n" for name in names)
    result = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def instances(folder: Path) -> list[Path]:
    """The sources that CMake makes of csrc's lists, written below a folder."""
    cmake = shutil.which("cmake") or shutil.which(str(Path(sys.executable).with_name("cmake")))
    if cmake is None:
        sys.exit("no cmake, which writes the instances' sources: put it on the PATH, or pip install cmake")
    command = [cmake, f"-DOUT={folder}", "-P", str(ROOT / "cuda" / "instances.cmake")]
    subprocess.run(command, check=True)
    return sorted(folder.rglob("*.cu"))


def compile_all(sources: Iterable[Path], jobs: int) -> list[Kernel]:
    """Every kernel of the sources."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:

        def compiled(source: Path) -> list[Kernel]:
            made = compile_source(source, Path(tempfile.mkdtemp(dir=folder)))
            return parse(made.report, made.ptx)

        return [kernel for kernels in pool.map(compiled, sources) for kernel in kernels]


def parse(report: str, ptx: str) -> list[Kernel]:
    """The kernels of ptxas's report, with the launch bounds that the PTX gives them."""
    kernels = {}
    for section in report.split("Compiling entry function '")[1:]:

        def number(pattern: str, missing: int | None = None, section: str = section) -> int:
            found = re.search(pattern, section)
            if found is None and missing is None:
                raise ValueError(f"ptxas's report lacks {pattern!r}: {section}")
            return int(found[1]) if found else missing or 0

        stores = number(r"(\d+) bytes spill stores")
        kernels[section.partition("'")[0]] = Kernel(
            name="",
            registers=number(r"Used (\d+) registers"),
            spilled=stores + number(r"(\d+) bytes spill loads"),
            stack=number(r"(\d+) bytes stack frame"),
            static_shared=number(r"(\d+) bytes smem", 0),
        )
    for mangled, bounds in re.findall(r"\.entry (\w+)\([^)]*\)([^{]*)\{", ptx):
        for attribute, directive in (("bound_threads", "maxntid"), ("bound_blocks", "minnctapersm")):
            if found := re.search(rf"\.{directive} (\d+)", bounds):
                setattr(kernels[mangled], attribute, int(found[1]))
    for body in ptx.split(".entry ")[1:]:
        kernels[body.partition("(")[0]].divisions = body.count("div.rn.f32")
    for kernel, name in zip(kernels.values(), demangle(kernels), strict=True):
        kernel.name = short_name(name)
    return list(kernels.values())


def blocks_at_once(registers: int, threads: int, shared: int) -> int:
    """How many such blocks a multiprocessor has room for."""
    warps = -(-threads // 32)
    warp_registers = -(-32 * registers // REGISTER_UNIT) * REGISTER_UNIT
    by_shared = SHARED // (shared + SHARED_OVERHEAD)
    return min(REGISTERS // (warp_registers * warps), by_shared, THREADS // threads, BLOCKS)


def faults_of(kernel: Kernel, budget: Budget) -> list[str]:
    """What a kernel does that its budget does not allow."""
    faults = []
    if kernel.spilled or kernel.stack:
        faults.append(f"spills {kernel.spilled} bytes and has a stack of {kernel.stack}: both must be 0")
    if kernel.static_shared:
        faults.append(f"has {kernel.static_shared} bytes of static shared memory: shared memory is dynamic")
    limit = budget.registers.get(kernel.element)
    if limit is None:
        faults.append(f"has no budget of registers for {kernel.element or 'a kernel without element type'}")
    elif kernel.registers > limit:
        faults.append(f"uses {kernel.registers} registers, its budget is {limit}")
    if kernel.divisions and not budget.divides:
        faults.append(f"divides floats {kernel.divisions} times by IEEE's routine, its budget has none")
    # A kernel may bind itself to more blocks, in one type, say.
    if kernel.bound_threads and (
        kernel.bound_threads != budget.threads or kernel.bound_blocks < budget.blocks
    ):
        faults.append(
            f"has launch bounds ({kernel.bound_threads}, {kernel.bound_blocks}), "
            f"its budget says ({budget.threads}, {budget.blocks})"
        )
    return faults


def faults_of_budget(budget: Budget) -> list[str]:
    """What a budget says that cannot be, or that nothing needs."""
    faults = []
    most = CLUSTER_SHARED if budget.clusters or budget.fitted else BLOCK_SHARED
    if budget.shared > most:
        faults.append(f"has {budget.shared} bytes of shared memory, a block can have {most}")
    for element, registers in budget.registers.items():
        room = blocks_at_once(registers, budget.threads, budget.shared)
        if room < budget.blocks:
            faults.append(f"leaves room for {room} blocks of {element or 'it'}, and says {budget.blocks}")
        if element not in budget.seen:
            faults.append(f"has registers for {element or 'no element type'}, which no kernel needs")
    return faults


def check(
    kernels: Iterable[Kernel], budgets: Mapping[str, Budget], launches: Mapping[str, Launches] | None = None
) -> list[str]:
    """Everything that is wrong, a line each."""
    wrong = []
    for kernel in kernels:
        budget = budgets.get(kernel.family)
        if budget is None:
            wrong.append(f"{kernel.name} has no budget: add {kernel.family} to {BUDGETS.name}")
            continue
        budget.seen.add(kernel.element)
        faults = faults_of(kernel, budget)
        if launches is not None:
            launched = launches.get(kernel.name)
            if launched is None:
                faults.append("was never launched by the tests that the emulator ran")
            elif launched.threads > budget.threads or launched.shared > budget.shared:
                faults.append(
                    f"was launched with {launched.threads} threads and {launched.shared} bytes of shared "
                    f"memory, its budget is {budget.threads} and {budget.shared}"
                )
            elif launched.passes > budget.banks:
                faults.append(
                    f"takes {launched.passes} passes through shared memory for an access, its budget is "
                    f"{budget.banks}; addr2line -i names the line of {launched.site} of the emulator's plugin"
                )
        wrong += [f"{kernel.name} {fault}" for fault in faults]
    for family, budget in budgets.items():
        wrong += [f"the budget of {family} {fault}" for fault in faults_of_budget(budget)]
    return wrong


def read_budgets(path: Path) -> dict[str, Budget]:
    return {family: Budget(**entry) for family, entry in json.loads(path.read_text()).items()}


def read_launches(paths: Iterable[Path]) -> dict[str, Launches]:
    """The emulator's notes, a line for each kernel (tests/simt/launches.cpp).

    A type with the kernel as template argument, threads, shared bytes, passes, a site.
    """
    rows = [line.split() for path in paths for line in path.read_text().splitlines()]
    most: dict[str, Launches] = {}
    for (_, *numbers, site), name in zip(rows, demangle(f"_ZTI{row[0]}" for row in rows), strict=True):
        # "Named<&(void kernel<float>(Args))>*", or "Named<&kernel>*" of one that is no template
        kernel = name.partition("Named<&")[2].removesuffix(">*")
        kernel = kernel[1:-1] if kernel.startswith("(") else kernel
        launch = most.setdefault(short_name(kernel), Launches(0, 0))
        threads, shared, passes = map(int, numbers)
        launch.threads, launch.shared = max(launch.threads, threads), max(launch.shared, shared)
        if passes > launch.passes:
            launch.passes, launch.site = passes, site
    return most


def table(kernels: Iterable[Kernel], budgets: Mapping[str, Budget]) -> str:
    """A line for each family and element type."""
    groups: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault((kernel.family, kernel.element), []).append(kernel)
    head = ("instances", "registers", "budget", "blocks", "room")
    lines = [" ".join([f"{'family':26} {'element':8}", *(f"{column:>9}" for column in head)])]
    for (family, element), members in sorted(groups.items()):
        most = max(kernel.registers for kernel in members)
        budget = budgets.get(family) or Budget(1024, 0, 0, {})
        room = blocks_at_once(most, budget.threads, budget.shared)
        cells = (len(members), most, budget.registers.get(element, "none"), budget.blocks, room)
        lines.append(" ".join([f"{family:26} {element:8}", *(f"{cell:>9}" for cell in cells)]))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launches", type=Path, nargs="+", metavar="FILE", help="notes of the emulator")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="files compiled at once (default: 2)"
    )
    options = parser.parse_args()
    launches = read_launches(options.launches) if options.launches else None
    with tempfile.TemporaryDirectory() as folder:
        sources = sorted((ROOT / "cuda").rglob("*.cu")) + instances(Path(folder))
        kernels = compile_all(sources, options.jobs)
    budgets = read_budgets(BUDGETS)
    print(table(kernels, budgets))
    wrong = check(kernels, budgets, launches)
    print(*wrong, f"{len(kernels)} kernels, {len(wrong) or 'nothing'} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
