"""Compiles CUDA sources one at a time, for sm_90, as the plugin's build does: by nvcc, or by clang.

By clang where CUDACXX names one, with the toolkit in CUDAToolkit_ROOT, as CMake takes them; else by nvcc of
the PATH, or of this Python's packages (pip install nvidia-cuda-nvcc).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# The plugin's own options (cuda/CMakeLists.txt), but one architecture.
FLAGS = ["-std=c++17", "-DNDEBUG", f"-I{ROOT}/cuda", f"-I{ROOT}/csrc"]
OF_NVCC = ["-arch=sm_90", "-fmad=false"]
OF_CLANG = ["-x", "cuda", "--offload-arch=sm_90", "-O3", "-ffp-contract=off", "-Wno-unknown-cuda-version"]
OF_CLANG += ["-mllvm", "-unroll-max-upperbound=64", "--cuda-feature=+ptx81"]


class Compiled(NamedTuple):
    """What became of a source: ptxas's report, the PTX, and the file of machine code."""

    report: str
    ptx: str
    cubin: Path


def find_nvcc() -> str:
    """nvcc of the PATH, else of the packages nvidia-cuda-*; SystemExit where there is none."""
    if found := shutil.which("nvcc"):
        return found
    spec = find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(place).glob("*/bin/nvcc"), reverse=True):
            return str(path)
    sys.exit("no nvcc: put it on the PATH, or pip install nvidia-cuda-nvcc nvidia-cuda-cccl")


def compile_source(source: Path, folder: Path, lines: bool = False) -> Compiled:
    """Compiles a source; what is made lies in the folder.

    Args:
        source: the file.
        folder: one for each source.
        lines: whether the machine code tells the source lines that it comes from.

    Raises:
        RuntimeError: the compiler refuses it.
    """
    ptx, cubin = folder / f"{source.stem}.ptx", folder / f"{source.stem}.cubin"
    named = os.environ.get("CUDACXX", "")
    if "clang" not in Path(named).name:
        kept = ["-Xptxas", "-v", "--keep", "--keep-dir", str(folder), *(["-lineinfo"] if lines else [])]
        report = _run(find_nvcc(), *OF_NVCC, *FLAGS, *kept, "-cubin", "-o", str(cubin), str(source))
    else:
        toolkit = Path(os.environ["CUDAToolkit_ROOT"])  # noqa: SIM112, as CMake spells it
        options = [*OF_CLANG, f"--cuda-path={toolkit}", *FLAGS, *(["-gline-tables-only"] if lines else [])]
        _run(named, *options, "--cuda-device-only", "-S", "-o", str(ptx), str(source))
        lineinfo = ["-lineinfo"] if lines else []
        report = _run(
            str(toolkit / "bin" / "ptxas"), "-arch=sm_90", "-v", *lineinfo, "-o", str(cubin), str(ptx)
        )
    return Compiled(report, ptx.read_text(), cubin)


def _run(*command: str) -> str:
    """What a command prints; RuntimeError, with it, where it fails."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr
