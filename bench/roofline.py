"""What this machine could do at best, measured in the same run as the figures it is compared with.

The loops are C++ (roofline/), compiled with $CXX or g++ at first use and kept under $XDG_CACHE_HOME; they run
on the package's own thread team, whose sources they are built with. `python bench/roofline.py` prints the
limits.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from measure import Contender, compare
from numpy.typing import NDArray

import fusedrnn as fr

Array = NDArray[Any]
HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
SGEMM_SIZE = 2048
ISA_FLAGS = {  # as CMakeLists.txt has them
    "x86_64": {"scalar": "-march=x86-64", "avx2": "-march=x86-64-v3", "avx512": "-march=x86-64-v4"},
    "aarch64": {"scalar": "-march=armv8-a", "neon": "-march=armv8-a"},
}
BF16_FLAGS = ("-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16")


@dataclass(frozen=True)
class Roof:
    """Limits with a number of threads, all of them together.

    Attributes:
        threads: how many.
        fma_gflops: float32 multiply-adds from registers, two operations each, by instruction set.
        l1_gbytes, l2_gbytes, l3_gbytes, memory_gbytes: reading what lies there, each thread its own, in
            GB/s.
        barrier_us: a barrier among threads that arrive together; 0 for one thread.
        fork_us: calling the team to work that ends at once; 0 for one thread.
        tile_gflops: bfloat16 by tiles of AMX, and
        dot_gflops: by VDPBF16PS, from registers, two operations each; 0 where there are none.
    """

    threads: int
    fma_gflops: dict[str, float]
    l1_gbytes: float
    l2_gbytes: float
    l3_gbytes: float
    memory_gbytes: float
    barrier_us: float
    fork_us: float
    tile_gflops: float = 0.0
    dot_gflops: float = 0.0


@dataclass(frozen=True)
class Limits:
    """A machine's limits.

    Attributes:
        isa: the instruction set that fusedrnn uses, of its vectors.
        l1_bytes, l2_bytes: data caches of one core; l3_bytes: shared.
        one, all: the roofs with one thread, and with as many as fusedrnn uses.
        sgemm_gflops: PyTorch's product of two 2048 x 2048 matrices, the median; a yardstick, no limit.
    """

    isa: str
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    one: Roof
    all: Roof
    sgemm_gflops: float

    @property
    def fma_gflops(self) -> float:
        """The roof of all threads on fusedrnn's path."""
        return self.all.fma_gflops[self.isa]


def measure_limits(threads: int, every_isa: bool = False) -> Limits:
    """Measures the limits, in a few seconds; of other paths than fusedrnn's only where asked to.

    Raises:
        subprocess.CalledProcessError: the library cannot be compiled.
    """
    info = fr._native.cpu_info()
    isas = list(dict.fromkeys(map(lanes_of, info["available_isas"] if every_isa else [info["isa"]])))
    sizes = [info[f"{level}_bytes"] for level in ("l1d", "l2", "l3")]
    isa = lanes_of(info["isa"])
    one = _roof(1, isa, isas, sizes)
    all_threads = one if threads == 1 else _roof(threads, isa, isas, sizes)
    return Limits(isa, *sizes, one, all_threads, _sgemm(threads))


def lanes_of(isa: str) -> str:
    """The instruction set of a backend's vectors: beside its tiles `amx` is `avx512`."""
    return "avx512" if isa == "amx" else isa


def _flags_of_cpu() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _roof(threads: int, isa: str, isas: Sequence[str], sizes: Sequence[int]) -> Roof:
    library = load()
    l1, l2, l3 = sizes
    # Each thread's own piece: well inside a level, well beyond the one before. What several threads have in
    # the shared third level must fit it together; that of the memory must be far more than it.
    pieces = [l1 // 2, (l1 + l2) // 2, max(l3 // 2 // threads, 2 * l2), max(3 * l3, 1 << 26) // threads]
    read = [library.roofline_read(isa.encode(), piece, threads) for piece in pieces]
    return Roof(
        threads,
        {name: library.roofline_fma(name.encode(), threads) for name in isas},
        *read,
        barrier_us=1e6 * library.roofline_barrier(threads) if threads > 1 else 0.0,
        fork_us=1e6 * library.roofline_fork(threads) if threads > 1 else 0.0,
        tile_gflops=library.roofline_bf16(1, threads) if fr.cpu.engine("bf16") == "amx" else 0.0,
        dot_gflops=library.roofline_bf16(0, threads) if "avx512_bf16" in _flags_of_cpu() else 0.0,
    )


def _sgemm(threads: int) -> float:
    import torch

    a, b = torch.randn(SGEMM_SIZE, SGEMM_SIZE), torch.randn(SGEMM_SIZE, SGEMM_SIZE)
    out = torch.empty(SGEMM_SIZE, SGEMM_SIZE)
    work = Contender("sgemm", lambda: torch.mm(a, b, out=out), lambda: torch.set_num_threads(threads))
    return 2e-9 * SGEMM_SIZE**3 / compare([work])["sgemm"].median


class BareArrays(ctypes.Structure):
    """bare_loop.hpp's BareArrays."""

    _fields_ = (
        ("param", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("state", ctypes.c_void_p * 2),
        ("states", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )


class BareStep:
    """The reads and writes of an optimizer step, and nothing else; values stay as they are.

    Args:
        pieces: of each parameter its values, gradient and states, float32, contiguous and of one size.
        norm: read all gradients first, as clipping by norm must.
        threads: how many take part.
    """

    def __init__(
        self, pieces: Sequence[tuple[Array, Array, Sequence[Array]]], norm: bool, threads: int
    ) -> None:
        self._kept = pieces
        self._arrays = (BareArrays * len(pieces))()
        for into, (param, grad, states) in zip(self._arrays, pieces, strict=True):
            into.param, into.grad = param.ctypes.data, grad.ctypes.data
            into.state[: len(states)] = [state.ctypes.data for state in states]
            into.states, into.count = len(states), param.size
        self._norm, self._threads, self._isa = norm, threads, lanes_of(fr.cpu.isa()).encode()
        self._update = load().roofline_update

    def __call__(self) -> None:
        self._update(self._isa, self._arrays, len(self._arrays), self._norm, self._threads)


@cache
def load() -> ctypes.CDLL:
    """The library, compiled if it is not there yet.

    Raises:
        subprocess.CalledProcessError: it cannot be compiled.
    """
    runtime = [CSRC / "runtime" / f"{name}.cpp" for name in ("fpenv", "team", "threads")]
    runtime += sorted([*CSRC.glob("runtime/cpu*.cpp"), *CSRC.glob("runtime/os_*.cpp")])
    sources = [*runtime, *(HERE / "roofline" / f"{name}.cpp" for name in ("team", "lanes", "bf16"))]
    headers = [
        *CSRC.glob("backend/*.hpp"),
        *CSRC.glob("runtime/*.hpp"),
        *CSRC.glob("simd/*.hpp"),
        *CSRC.glob("cells/*.hpp"),
    ]
    headers += CSRC.glob("gemm/*.hpp")
    headers.append(HERE / "roofline" / "bare_loop.hpp")
    compiler = os.environ.get("CXX", "g++")
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(version + b"".join(p.read_bytes() for p in [Path(__file__), *sources, *headers]))
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fusedrnn"
    path = folder / f"roofline-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(compiler, runtime, path)
    library = ctypes.CDLL(str(path))
    for name in ("fma", "read", "tile", "lstm", "bf16", "barrier", "fork"):
        getattr(library, f"roofline_{name}").restype = ctypes.c_double
    library.roofline_fma.argtypes = (ctypes.c_char_p, ctypes.c_int32)
    library.roofline_read.argtypes = (ctypes.c_char_p, ctypes.c_int64, ctypes.c_int32)
    library.roofline_tile.argtypes = (ctypes.c_char_p, ctypes.c_int64)
    library.roofline_lstm.argtypes = (ctypes.c_char_p,)
    library.roofline_update.argtypes = (
        ctypes.c_char_p, ctypes.POINTER(BareArrays), ctypes.c_int64, ctypes.c_int32, ctypes.c_int32
    )  # fmt: skip
    library.roofline_update.restype = None
    return library


def _compile(compiler: str, runtime: Sequence[Path], path: Path) -> None:
    isas = ISA_FLAGS[os.uname().machine]
    common = [
        "-O3",
        "-std=c++17",
        "-fPIC",
        "-pthread",
        "-fvisibility=hidden",
        "-ffp-contract=off",
        f"-I{CSRC}",
    ]
    building = path.with_suffix(f".{os.getpid()}")
    objects: list[str] = []
    commands = []
    if _compiles_bf16(compiler):
        common.append("-DROOFLINE_HAS_BF16")
        objects.append(f"{building}-bf16.o")
        commands.append(
            [compiler, *common, *BF16_FLAGS, "-c", str(HERE / "roofline" / "bf16.cpp"), "-o", objects[-1]]
        )
    for source in [*runtime, HERE / "roofline" / "team.cpp"]:
        objects.append(f"{building}-{source.stem}{'-limits' if source.parent == HERE / 'roofline' else ''}.o")
        commands.append([compiler, *common, isas["scalar"], "-c", str(source), "-o", objects[-1]])
    for isa, march in isas.items():
        objects.append(f"{building}-{isa}.o")
        defines = [f"-DFUSEDRNN_ISA={isa}", f"-DFUSEDRNN_ISA_{isa.upper()}"]
        lanes = str(HERE / "roofline" / "lanes.cpp")
        commands.append(
            [compiler, *common, march, *defines, "-fno-math-errno", "-c", lanes, "-o", objects[-1]]
        )
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(lambda command: subprocess.run(command, check=True), commands))
        subprocess.run([compiler, "-shared", "-pthread", *objects, "-o", str(building)], check=True)
        building.replace(path)
    finally:
        for leftover in (*objects, building):
            Path(leftover).unlink(missing_ok=True)


def _compiles_bf16(compiler: str) -> bool:
    """Whether the compiler and its assembler have tiles and AVX512_BF16."""
    source = str(HERE / "roofline" / "bf16.cpp")
    command = [compiler, "-std=c++17", *BF16_FLAGS, "-c", source, "-o", os.devnull]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def inner_pieces(limits: Limits) -> tuple[float, float]:
    """GFLOP/s of the register tile with panels in L2, and seconds of an LSTM's cell a unit; on one thread."""
    library, isa = load(), limits.isa.encode()
    return library.roofline_tile(isa, limits.l2_bytes // 2), library.roofline_lstm(isa)


def print_pieces(limits: Limits) -> None:
    """Prints how fast the kernels' inner pieces are alone, on one thread and fusedrnn's path."""
    library, isa = load(), limits.isa.encode()
    fma = limits.one.fma_gflops[limits.isa]
    print(f"kernels' inner pieces, 1 thread, {limits.isa}")
    places = {"L2": limits.l2_bytes // 2, "L3": limits.l3_bytes // 4}
    for level, size in places.items():
        rate = library.roofline_tile(isa, size)
        print(f"  {'tile ' + level:<12} {rate:10.1f} GFLOP/s   ({rate / fma:.0%} of FMA, {size >> 10} KiB)")
    print(f"  {'LSTM cell':<12} {1e9 * library.roofline_lstm(isa):10.2f} ns a unit")


def main() -> None:
    """Prints the limits."""
    parser = argparse.ArgumentParser(description="The limits of this machine, as the benchmarks use them.")
    parser.add_argument("--threads", type=int, default=fr.get_num_threads(), help="default: %(default)s")
    limits = measure_limits(parser.parse_args().threads, every_isa=True)
    for roof in (limits.one, limits.all)[: 1 if limits.all.threads == 1 else 2]:
        print(f"{roof.threads} thread{'s' if roof.threads > 1 else ''}")
        for isa, rate in roof.fma_gflops.items():
            print(f"  {'FMA ' + isa:<12} {rate:10.1f} GFLOP/s")
        for name, rate in (("AMX tiles", roof.tile_gflops), ("VDPBF16PS", roof.dot_gflops)):
            print(f"  {name:<12} " + (f"{rate:10.1f} GFLOP/s" if rate else "      none here"))
        for level, size in (("l1", limits.l1_bytes), ("l2", limits.l2_bytes), ("l3", limits.l3_bytes)):
            rate = asdict(roof)[f"{level}_gbytes"]
            print(f"  {'read ' + level.upper():<12} {rate:10.1f} GB/s   ({size >> 10} KiB)")
        print(f"  {'read memory':<12} {roof.memory_gbytes:10.1f} GB/s")
        if roof.threads > 1:
            print(f"  {'barrier':<12} {roof.barrier_us:10.2f} us\n  {'fork':<12} {roof.fork_us:10.2f} us")
    print_pieces(limits)
    print(
        f"PyTorch's sgemm {SGEMM_SIZE}: {limits.sgemm_gflops:.0f} GFLOP/s with {limits.all.threads} threads"
    )


if __name__ == "__main__":
    main()
