"""fusedrnn against PyTorch's cuDNN on a GPU: microseconds per step of LSTM and GRU, in every arithmetic.

  python bench/bench_cuda.py --list                    what rows there are: cell, what, T B I H, arithmetic
  python bench/bench_cuda.py --only 'lstm train'       some of them
  python bench/bench_cuda.py --budget 420              begins no row after 7 minutes; status 75: some remain,
  python bench/bench_cuda.py --budget 420 --resume     which this goes on with
  python bench/bench_cuda.py --rehearse                tiny shapes, PyTorch on the CPU, fusedrnn on whatever
                                                       device it has: shows that this script works, no more

"infer" is a forward pass that keeps nothing, "train" is forward and backward, to the input and every weight,
with weights that changed since the call before. Arrays stay on the GPU; every call ends when the GPU has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import peers
import torch
from measure import OURS, Contender, best, compare, machine
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn import _native

Array = NDArray[Any]
STACKS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU}
SHAPES = [(512, B, 128, H) for B in (1, 16, 64, 256) for H in (128, 256, 512)]  # T B I H
TINY_SHAPES = [(3, 2, 4, 5)]
# What PyTorch keeps its arrays in, and how far results may be apart as a fraction of their norm.
TYPES = {"ieee": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
APART = {"ieee": 1e-4, "tf32": 1e-2, "bf16": 0.1, "fp16": 2e-2}
SECONDS = 0.4  # timed calls of each contender
ROWS_REMAIN = 75


@dataclass(frozen=True)
class Case:
    """A row to measure."""

    cell: str
    what: str
    T: int
    B: int
    I: int
    H: int
    arithmetic: str

    @property
    def name(self) -> str:
        return f"{self.cell} {self.what} {self.T} {self.B} {self.I} {self.H} {self.arithmetic}"


def cases(shapes: Sequence[tuple[int, int, int, int]]) -> list[Case]:
    """All rows."""
    return [
        Case(cell, what, *shape, arithmetic)
        for arithmetic in TYPES
        for cell in STACKS
        for shape in shapes
        for what in ("infer", "train")
    ]


def measured(case: Case, device: torch.device) -> dict[str, Any]:
    """One row: timings of fusedrnn and of PyTorch at its settings that compute the same."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.T, case.B, case.I), np.float32)
    dy = rng.standard_normal((case.T, case.B, case.H), np.float32)
    module = STACKS[case.cell](case.I, case.H, device="cuda", precision=case.arithmetic, seed=0)
    weights = module.state_dict()
    train = case.what == "train"
    contenders = [
        Contender(OURS, ours(module, x, dy, train), view=on_host),
        *theirs(case, weights, x, dy, device, train),
    ]
    results = []
    for contender in contenders:
        contender.prepare()
        result = contender.view(contender.call())
        results.append(result)
        apart = np.linalg.norm(result - results[0]) / np.linalg.norm(results[0])
        if not apart <= APART[case.arithmetic]:
            raise AssertionError(f"{case.name}: {contender.name} is {apart:.2g} away from {OURS}")
    timings = compare(contenders, SECONDS)
    mine = timings.pop(OURS)
    fastest = best(timings)
    return {
        "name": case.name,
        **asdict(case),
        "us_per_step": 1e6 * mine.median / case.T,
        "peer": fastest,
        "peer_us_per_step": 1e6 * timings[fastest].median / case.T,
        "ratio": timings[fastest].median / mine.median,
        "ours": asdict(mine),
        "peers": {name: asdict(timing) for name, timing in timings.items()},
    }


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def on_host(result: Any) -> Array:
    return np.asarray(result.numpy(), np.float32)


def ours(module: Any, x: Array, dy: Array, train: bool) -> Callable[[], Any]:
    """fusedrnn's call, on device arrays."""
    x_there, dy_there = fr.asarray(x, "cuda"), fr.asarray(dy, "cuda")
    buffer = next(module.parameters())._buffer
    if not train:
        module.eval()

    def infer() -> Any:
        y = module(x_there)[0]
        synchronize()
        return y

    def step() -> Any:
        buffer.touch()
        module.zero_grad()
        module(x_there)
        dx = module.backward(dy_there)[0]
        synchronize()
        return dx

    return step if train else infer


def theirs(
    case: Case, weights: dict[str, Array], x: Array, dy: Array, device: torch.device, train: bool
) -> list[Contender]:
    """PyTorch's calls: cuDNN with and without its benchmark, and PyTorch's own kernels."""
    dtype = TYPES[case.arithmetic]
    module = peers.stack(case.cell, weights).to(device, dtype)
    module.flatten_parameters()
    inputs = torch.from_numpy(x).to(device, dtype).requires_grad_(train)
    upstream = torch.from_numpy(dy).to(device, dtype)
    tf32 = case.arithmetic == "tf32"

    def infer() -> Any:
        with torch.inference_mode():
            y = module(inputs)[0]
        synchronize()
        return y

    def step() -> Any:
        module.zero_grad(set_to_none=True)
        inputs.grad = None
        module(inputs)[0].backward(upstream)
        synchronize()
        return inputs.grad

    def setting(cudnn: bool, benchmark: bool) -> Callable[[], None]:
        def prepare() -> None:
            torch.backends.cudnn.enabled = cudnn
            torch.backends.cudnn.benchmark = benchmark
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cuda.matmul.allow_tf32 = tf32

        return prepare

    settings = {"cuDNN": (True, False), "cuDNN benchmark": (True, True), "without cuDNN": (False, False)}
    return [
        Contender(
            f"{peers.TORCH} {name}", step if train else infer, setting(*how), peers.TORCH,
            view=lambda result: result.detach().float().cpu().numpy(),
        )
        for name, how in settings.items()
    ]  # fmt: skip


def facts(device: torch.device) -> dict[str, Any]:
    """What is measured on and with."""
    found = machine()
    found["device"] = _native.cuda_device()
    plugin = Path(_native.cuda_info()["path"])
    found["plugin"] = f"{plugin.name} {hashlib.sha256(plugin.read_bytes()).hexdigest()[:12]}"
    found["peer_device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    found["torch_cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found


def table(title: str, run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    machine = run["machine"]
    lines = [
        f"# {title}",
        "",
        f"{machine['device']}; fusedrnn {machine['fusedrnn']}, PyTorch {machine['torch']} on "
        f"{machine['peer_device']}, cuDNN {machine['cudnn']}; {machine['date']}. Medians.",
        "",
        f"`{run['command']}`",
        "",
        "| cell, what, T B I H, arithmetic | fusedrnn, us a step | PyTorch | by its | times as fast |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['us_per_step']:.3g} | {row['peer_us_per_step']:.3g} "
        f"| {row['peer'].removeprefix(peers.TORCH + ' ')} | {row['ratio']:.3g} |"
        for row in rows
    ]
    for what in ("infer", "train"):
        ratios = [row["ratio"] for row in rows if row["what"] == what]
        if ratios:
            lines.append(f"\nGeometric mean of {what}, {len(ratios)} rows: {geometric_mean(ratios):.3g}")
    return "\n".join(lines) + "\n"


def write(stem: Path, title: str, run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Both files, each as a whole."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    contents = json.dumps({"title": title, "run": run, "rows": rows}, indent=1) + "\n"
    for suffix, text in ((".json", contents), (".md", table(title, run, rows))):
        path = stem.with_name(stem.name + suffix)
        writing = path.with_suffix(".tmp")
        writing.write_text(text)
        os.replace(writing, path)


def stored(stem: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the file that this very build measured on this device, without them none."""
    path = stem.with_name(stem.name + ".json")
    if not path.exists():
        return []
    old = json.loads(path.read_text())
    keys = ("build", "plugin", "device", "torch")
    same = all(old["run"]["machine"][key] == run["machine"][key] for key in keys)
    return list(old["rows"]) if same else []


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose name contains it")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--resume", action="store_true", help="keep and leave out rows that the file has")
    parser.add_argument("--rehearse", action="store_true", help="stores only with --output")
    parser.add_argument("--output", type=Path, help="stem of the files (default: results/bench_cuda)")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    all_rows = cases(TINY_SHAPES if options.rehearse else SHAPES)
    wanted = [case for case in all_rows if any(text in case.name for text in options.only)]
    if options.list:
        print("\n".join(case.name for case in wanted))
        return 0
    if (reason := fr.cuda.why_not()) is not None:
        print(f"fusedrnn cannot use CUDA: {reason}", file=sys.stderr)
        return 3
    if not (torch.cuda.is_available() or options.rehearse):
        print("this PyTorch finds no GPU: nothing to compare with", file=sys.stderr)
        return 3
    started = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    title = "Rehearsal: these figures mean nothing" if options.rehearse else "fusedrnn against cuDNN"
    stem = options.output or (None if options.rehearse else Path(__file__).parent / "results" / "bench_cuda")
    run = {"command": shlex.join(["python", "bench/bench_cuda.py", *sys.argv[1:]]), "machine": facts(device)}
    rows = {row["name"]: row for row in (stored(stem, run) if stem and options.resume else [])}
    todo = [case for case in wanted if case.name not in rows]
    for done, case in enumerate(todo):
        if time.monotonic() - started > options.budget:
            print(f"{len(todo) - done} rows remain: go on with --resume")
            return ROWS_REMAIN
        row = rows[case.name] = measured(case, device)
        print(
            f"{case.name:36} {row['us_per_step']:9.3g} us a step, PyTorch {row['peer_us_per_step']:9.3g} "
            f"({row['peer']}): {row['ratio']:.3g} times as fast",
            flush=True,
        )
        if stem:
            write(stem, title, run, [rows[c.name] for c in all_rows if c.name in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
