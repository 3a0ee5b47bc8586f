"""Whether this machine can run and time everything that bench/gpu.sh does; if not, a list of what is missing.

  python bench/gpu_machine.py

It asks nvidia-smi, nvcc and the modules that are needed, changes nothing, and uses no GPU. Status 0: all is
there.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys

LEAST_CAPABILITY, LEAST_FREE_MIB, LEAST_NVCC = 8.0, 16 << 10, (12, 1)
MODULES = (
    "torch",
    "onnxruntime",
    "numpy",
    "tqdm",
    "matplotlib",
    "safetensors",
    "pytest",
    "hypothesis",
    "pybind11",
    "scikit_build_core",
)
PROGRAMS = ("nvcc", "cmake", "ninja", "c++", "compute-sanitizer")
HELD_DOWN = ("clocks_throttle_reasons.hw_slowdown", "clocks_throttle_reasons.sw_thermal_slowdown")
FIELDS = (
    "name",
    "driver_version",
    "compute_cap",
    "memory.total",
    "memory.free",
    "mig.mode.current",
    "compute_mode",
    "clocks.sm",
    "clocks.max.sm",
    *HELD_DOWN,
    "power.limit",
    "power.default_limit",
)


def said(*command: str) -> str:
    """What a command prints; empty where it is not there or fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""


def number(text: str) -> float | None:
    """A number of nvidia-smi's, which has units or is "[N/A]"."""
    found = re.match(r"[0-9.]+", text.strip())
    return float(found[0]) if found else None


def version(pattern: str, text: str) -> tuple[int, int] | None:
    """Major and minor number behind a pattern."""
    found = re.search(pattern + r"\s*(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def gpu() -> dict[str, str]:
    """What nvidia-smi says of the first GPU, by field."""
    line = said("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    values = [value.strip() for value in line.partition("\n")[0].split(",")]
    return dict(zip(FIELDS, values, strict=True)) if len(values) == len(FIELDS) else {}


def wrong_with(
    facts: dict[str, str], cuda: tuple[int, int] | None, nvcc: tuple[int, int] | None
) -> list[str]:
    """What a GPU and its driver lack.

    Args:
        facts: the GPU's, by FIELDS.
        cuda: the latest CUDA version that the driver supports.
        nvcc: the version of the compiler.
    """
    problems = []
    if nvcc and nvcc < LEAST_NVCC:
        problems.append(f"nvcc is {nvcc[0]}.{nvcc[1]}: {LEAST_NVCC[0]}.{LEAST_NVCC[1]} or newer is needed")
    if nvcc and cuda and cuda[0] < nvcc[0]:
        problems.append(
            f"the driver supports CUDA up to {cuda[0]}.{cuda[1]}, nvcc is {nvcc[0]}.{nvcc[1]}: "
            f"use a toolkit of CUDA {cuda[0]}, or a driver for CUDA {nvcc[0]}"
        )
    capability = number(facts["compute_cap"])
    if capability is None or capability < LEAST_CAPABILITY:
        problems.append(f"compute capability {facts['compute_cap']}: {LEAST_CAPABILITY} or later is needed")
    free = number(facts["memory.free"])
    if free is None or free < LEAST_FREE_MIB:
        problems.append(
            f"{facts['memory.free']} of {facts['memory.total']} MiB are free: {LEAST_FREE_MIB} are needed; "
            "nvidia-smi lists the processes that have the rest"
        )
    if facts["mig.mode.current"] == "Enabled":
        problems.append("MIG is on: a slice's times are not the GPU's, and large clusters may not fit")
    if facts["compute_mode"] == "Prohibited":
        problems.append("the compute mode is Prohibited: nothing may use the GPU")
    problems += [
        f"the clocks are held down ({reason.partition('.')[2]}): times would not be its own; let it cool down"
        for reason in HELD_DOWN
        if facts[reason] == "Active"
    ]
    limit, default = number(facts["power.limit"]), number(facts["power.default_limit"])
    if limit is not None and default is not None and limit < default:
        problems.append(
            f"the power limit is {limit:g} W, the GPU's own {default:g} W: times would be too long"
        )
    return problems


def main() -> int:
    problems = [f"no {program} on the PATH" for program in PROGRAMS if shutil.which(program) is None]
    problems += [f"no Python module {name}" for name in MODULES if importlib.util.find_spec(name) is None]
    facts, nvcc = gpu(), version("release", said("nvcc", "--version"))
    cuda = version("CUDA Version:", said("nvidia-smi"))
    if facts:
        problems += wrong_with(facts, cuda, nvcc)
        for name, value in facts.items():
            print(f"{name:45} {value}")
    else:
        problems.append(
            "nvidia-smi does not answer for a GPU: is there a driver, and is the GPU given to this container?"
        )
    for what, found in (("CUDA of the driver", cuda), ("CUDA of nvcc", nvcc)):
        print(f"{what:45} {'unknown' if found is None else f'{found[0]}.{found[1]}'}")
    print()
    for problem in problems:
        print(f"- {problem}")
    print(f"{len(problems)} things are not as they must be" if problems else "all is as it must be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
