"""The character model trained on the CPU and on the GPU from equal weights: loss curves side by side.

  python bench/gpu_training.py --output DIR           writes DIR/training.{json,png}
  python bench/gpu_training.py --rehearse --output DIR    tiny, on whatever fusedrnn takes for a GPU

Both are `fusedrnn train` with one seed, so weights and batches are the same. The two losses part as rounding
differs and training amplifies it; status 1 if the first updates differ by more than rounding, or the last
ones by more than noise.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

OPTIONS = ["--hidden", "256", "--seq-len", "64", "--batch", "32", "--epochs", "3", "--seed", "0"]
TINY = ["--hidden", "5", "--embedding", "4", "--seq-len", "4", "--batch", "3", "--epochs", "1", "--seed", "0"]
FIRST, LAST = 10, 50  # updates
CLOSE_AT_FIRST, CLOSE_AT_LAST = 1e-3, 2e-2  # of the loss


def trained(device: str, options: list[str], folder: Path) -> dict[str, Any]:
    """One run: bits per character by update, and how long it took."""
    run = folder / device
    command = [sys.executable, "-m", "fusedrnn", "train", *options, "--device", device, "--output", str(run)]
    begin = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    with open(run / "metrics.csv", newline="") as file:
        bits = [float(row["bits_per_char"]) for row in csv.DictReader(file)]
    return {"command": command[1:], "seconds": time.monotonic() - begin, "bits_per_char": bits}


def apart(runs: dict[str, Any], updates: slice) -> float:
    """How far the mean losses of some updates are apart, as a fraction of the CPU's."""
    cpu, gpu = (float(np.mean(runs[device]["bits_per_char"][updates])) for device in ("cpu", "cuda"))
    return abs(gpu - cpu) / cpu


def draw(runs: dict[str, Any], path: Path) -> None:
    """Both curves, and their difference below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained", dpi=120)
    losses, difference = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    for device, run in runs.items():
        losses.plot(run["bits_per_char"], linewidth=0.8, label=f"{device}, {run['seconds']:.0f} s")
    losses.set_ylabel("bits per character")
    losses.legend()
    cpu, gpu = (np.array(runs[device]["bits_per_char"]) for device in ("cpu", "cuda"))
    difference.plot(gpu - cpu, linewidth=0.8, color="black")
    difference.set_ylabel("cuda - cpu")
    difference.set_xlabel("update")
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = OPTIONS
        if chosen.rehearse:
            text = folder / "text.txt"
            text.write_text("the same words again and again\n" * 8)
            options = [str(text), *TINY]
        runs = {device: trained(device, options, folder) for device in ("cpu", "cuda")}
    found = {
        "first updates apart": apart(runs, slice(FIRST)),
        "last updates apart": apart(runs, slice(-LAST, None)),
        "runs": runs,
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "training.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(runs, chosen.output / "training.png")
    first, last = found["first updates apart"], found["last updates apart"]
    times = " and ".join(f"{device} {run['seconds']:.1f} s" for device, run in runs.items())
    updates = len(runs["cpu"]["bits_per_char"])
    print(f"{updates} updates, {times}; losses apart: first {first:.2g}, last {last:.2g}")
    return int(not (first <= CLOSE_AT_FIRST and last <= CLOSE_AT_LAST))


if __name__ == "__main__":
    sys.exit(main())
