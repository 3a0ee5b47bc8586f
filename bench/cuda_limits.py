"""What this machine's GPU could do at best, and what plans on it hang on, measured in the run that uses it.

  python bench/cuda_limits.py                  builds the programs with nvcc, runs them, prints their numbers
  python bench/cuda_limits.py --json FILE      and writes them
  python bench/cuda_limits.py --build-only     needs no GPU

`stack_limit` makes a lower bound of a stack's time of them. It measures nothing (tests/test_bench_limits.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from limits import CELLS, FLOAT, Limit, Stack

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("cuda_latencies", "cuda_roofs")
MATRIX = 8192  # of PyTorch's products
# What one multiprocessor of sm_90 can keep weights in: shared memory of a block and its registers.
RESIDENT_BYTES = (227 + 256) * 1024
LEAST_EXCHANGE = "exchange_ns 2 128"
STORED = {"ieee": 4, "tf32": 4, "tf32x3": 4, "bf16": 2, "fp16": 2}  # bytes of a weight as it is multiplied


@dataclass(frozen=True)
class CudaStack(Stack):
    """A stack on a GPU.

    Attributes:
        D: directions.
    """

    D: int = 1

    @property
    def weights(self) -> int:
        """Elements of all weight matrices."""
        gates = CELLS[self.cell].gates
        inputs = [self.D * self.H if layer else self.I for layer in range(self.L)]
        return sum(self.D * gates * self.H * (columns + self.H) for columns in inputs)


@dataclass(frozen=True)
class CudaLimits:
    """A GPU's limits.

    Attributes:
        rates: what the programs print, by name; products of matrices by PyTorch as `product_*_tflops`.
        l2_bytes: what the second-level cache holds.
    """

    rates: dict[str, float]
    l2_bytes: int

    def tflops(self, precision: str) -> float:
        """The fastest that multiply-adds of a precision were seen: from registers or in a product."""
        if precision == "ieee":
            return max(self.rates["fma_tflops"], self.rates.get("product_ieee_tflops", 0))
        single = "tf32" if precision == "tf32x3" else precision
        most = max(self.rates[f"mma_{single}_tflops"], self.rates.get(f"product_{single}_tflops", 0))
        return most / 3 if precision == "tf32x3" else most


def stack_limit(stack: CudaStack, limits: CudaLimits) -> Limit:
    """The least time: for each pass the longest of what needs to be done.

    arithmetic: all multiply-adds at the fastest rate there is; memory: every array moved once, what the cache
    can hold at its bandwidth; exchange: where a direction's recurrent weights exceed what one multiprocessor
    holds, every step waits for another one at least once, for as long as the shortest message takes.
    """
    seconds = {"arithmetic": 0.0, "memory": 0.0, "exchange": 0.0}
    for backward in (False, True) if stack.train else (False,):
        operations = 2.0 * (1 + backward) * stack.row_steps * stack.weights
        parts = {
            "arithmetic": 1e-12 * operations / limits.tflops(stack.precision),
            "memory": _memory(stack, limits, backward),
            "exchange": _exchange(stack, limits),
        }
        longest = max(parts, key=lambda name: parts[name])
        seconds[longest] += parts[longest]
    bound = max(seconds, key=lambda name: seconds[name])
    return Limit(sum(seconds.values()), bound, "")


def _traffic(stack: CudaStack, backward: bool) -> float:
    """Bytes that a pass moves at least: forward x, y, tape and weights, backward the same with gradients."""
    hidden = stack.D * stack.H
    tape = CELLS[stack.cell].tape * hidden * stack.L if stack.train else 0
    between = 2 * hidden * (stack.L - 1)  # written by a layer, read by the next
    arrays = stack.row_steps * (stack.I + hidden + between + tape)
    if backward:
        return FLOAT * (arrays + stack.row_steps * stack.I + 3 * stack.weights)
    return FLOAT * (arrays + stack.weights)


def _memory(stack: CudaStack, limits: CudaLimits, backward: bool) -> float:
    traffic, footprint = _traffic(stack, backward), _traffic(stack, stack.train)
    outside = traffic * max(0.0, 1 - limits.l2_bytes / footprint)
    memory = max(limits.rates["copy_gbytes"], limits.rates["read_gbytes"])
    return 1e-9 * max(outside / memory, traffic / limits.rates["l2_gbytes"])


def _exchange(stack: CudaStack, limits: CudaLimits) -> float:
    recurrent = STORED[stack.precision] * CELLS[stack.cell].gates * stack.H * stack.H
    return 1e-9 * limits.rates[LEAST_EXCHANGE] * stack.T if recurrent > RESIDENT_BYTES else 0.0


def build(folder: Path, link: bool = True) -> list[Path]:
    """The programs, or their objects; what the folder has already from these sources is taken as it is.

    Raises:
        RuntimeError: nvcc refuses one; SystemExit where there is none.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from cuda_compiler import find_nvcc

    headers = [*(ROOT / "cuda").rglob("*.[ch]*"), *(ROOT / "bench").glob("*.cuh")]

    def built(program: str) -> Path:
        source, path = ROOT / "bench" / f"{program}.cu", folder / program
        newest = max(file.stat().st_mtime for file in (source, *headers))
        if path.exists() and path.stat().st_mtime > newest:
            return path
        command = [find_nvcc(), "-arch=sm_90", "-std=c++17", f"-I{ROOT}/cuda", f"-I{ROOT}/csrc"]
        command += [] if link else ["-c"]
        result = subprocess.run([*command, str(source), "-o", str(path)], capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} {source}\n{result.stdout}{result.stderr}")
        return path

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(built, PROGRAMS))


def measure_limits() -> CudaLimits:
    """Builds and runs the programs, and has PyTorch multiply matrices."""
    import torch

    programs = build(ROOT / "build-gpu" / "limits")
    outputs = [subprocess.run([p], check=True, stdout=subprocess.PIPE, text=True).stdout for p in programs]
    rates = {name: value for output in outputs for name, value in json.loads(output).items()}
    return CudaLimits({**rates, **_products()}, torch.cuda.get_device_properties(0).L2_cache_size)


def _products() -> dict[str, float]:
    import torch

    found = {}
    types = {"ieee": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    for name, type_name in types.items():
        dtype = getattr(torch, type_name)
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype) for _ in range(2))
        out = torch.empty(MATRIX, MATRIX, device="cuda", dtype=dtype)
        times = []
        for _ in range(8):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            torch.mm(a, b, out=out)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        found[f"product_{name}_tflops"] = 2e-9 * MATRIX**3 / min(times[2:])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--build-only", action="store_true")
    options = parser.parse_args()
    if options.build_only:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{len(build(Path(folder), link=False))} programs compile")
        return 0
    limits = measure_limits()
    for name, value in limits.rates.items():
        print(f"{name:28} {value:10.4g}")
    if options.json:
        options.json.write_text(json.dumps(limits.rates, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
