"""What this machine could do at best, measured in the same run as the figures it is compared with."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import Contender, compare

SGEMM_SIZE = 2048


@dataclass(frozen=True)
class Limits:
    """Measured limits: GFLOP/s of float32 FMA and of PyTorch's sgemm, GB/s of memory; all with `threads`."""

    threads: int
    fma_gflops: float
    sgemm_gflops: float
    memory_gbytes: float


def measure_limits(threads: int) -> Limits:
    """Compiles and runs roofline.cpp with $CXX or g++, and times a 2048 x 2048 x 2048 sgemm of PyTorch.

    Raises:
        subprocess.CalledProcessError: the program cannot be compiled.
    """
    fma, memory = _registers_and_memory(threads)
    return Limits(threads, fma, _sgemm(threads), memory)


def _registers_and_memory(threads: int) -> tuple[float, float]:
    source = Path(__file__).with_name("roofline.cpp")
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "roofline"
        compiler = os.environ.get("CXX", "g++")
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-std=c++17", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
        out = subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True).stdout
    fma, memory = map(float, out.split())
    return fma, memory


def _sgemm(threads: int) -> float:
    import torch

    a, b = torch.randn(SGEMM_SIZE, SGEMM_SIZE), torch.randn(SGEMM_SIZE, SGEMM_SIZE)
    out = torch.empty(SGEMM_SIZE, SGEMM_SIZE)
    work = Contender("sgemm", lambda: torch.mm(a, b, out=out), lambda: torch.set_num_threads(threads))
    return 2e-9 * SGEMM_SIZE**3 / compare([work])["sgemm"].median
