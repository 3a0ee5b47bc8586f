"""bench/gpu.sh says first what a machine lacks, and its calls end in time."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import gpu_machine

ROOT = Path(__file__).parents[1]
GOOD = {
    "name": "NVIDIA H200",
    "driver_version": "580.65.06",
    "compute_cap": "9.0",
    "memory.total": "143771",
    "memory.free": "143000",
    "mig.mode.current": "Disabled",
    "compute_mode": "Default",
    "clocks.sm": "345",
    "clocks.max.sm": "1980",
    "clocks_throttle_reasons.hw_slowdown": "Not Active",
    "clocks_throttle_reasons.sw_thermal_slowdown": "Not Active",
    "power.limit": "700.00",
    "power.default_limit": "700.00",
}


def test_a_machine_as_it_must_be() -> None:
    assert tuple(GOOD) == gpu_machine.FIELDS
    assert gpu_machine.wrong_with(GOOD, (13, 0), (13, 0)) == []
    assert gpu_machine.wrong_with(GOOD, (13, 2), (12, 4)) == []
    assert (
        gpu_machine.wrong_with(GOOD | {"power.limit": "[N/A]", "mig.mode.current": "[N/A]"}, None, None) == []
    )


@pytest.mark.parametrize(
    ("facts", "cuda", "nvcc", "text"),
    [
        ({}, (12, 4), (13, 0), "supports CUDA up to 12.4, nvcc is 13.0: use a toolkit of CUDA 12"),
        ({}, (13, 0), (11, 8), "nvcc is 11.8: 12.1 or newer"),
        ({"compute_cap": "7.5"}, (13, 0), (13, 0), "compute capability 7.5: 8.0 or later"),
        ({"memory.free": "800"}, (13, 0), (13, 0), "800 of 143771 MiB are free: 16384 are needed"),
        ({"mig.mode.current": "Enabled"}, (13, 0), (13, 0), "MIG is on"),
        ({"compute_mode": "Prohibited"}, (13, 0), (13, 0), "Prohibited"),
        ({"clocks_throttle_reasons.hw_slowdown": "Active"}, (13, 0), (13, 0), "held down (hw_slowdown)"),
        ({"power.limit": "400.00"}, (13, 0), (13, 0), "power limit is 400 W, the GPU's own 700 W"),
    ],
)
def test_what_is_wrong(
    facts: dict[str, str], cuda: tuple[int, int], nvcc: tuple[int, int], text: str
) -> None:
    (problem,) = gpu_machine.wrong_with(GOOD | facts, cuda, nvcc)
    assert text in problem


def nvidia_smi(folder: Path, **facts: str) -> dict[str, str]:
    """An environment in which nvidia-smi answers for such a GPU."""
    program = folder / "nvidia-smi"
    row = ", ".join((GOOD | facts).values())
    program.write_text(
        f'#!/bin/sh\ncase "$1" in\n--query*) echo "{row}" ;;\n*) echo "| CUDA Version: 12.4 |" ;;\nesac\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable}


@pytest.mark.skipif(sys.platform != "linux", reason="a script for GPU machines, which run Linux")
def test_the_first_stage_stops_all(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "bench" / "gpu.sh"), "--out", str(tmp_path / "out"), "machine", "memcheck"]
    environment = nvidia_smi(tmp_path, **{"memory.free": "800"})
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1
    assert "- 800 of 143771 MiB are free: 16384 are needed" in ran.stdout
    assert "==== memcheck" not in ran.stdout
    notes = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert list(notes) == ["machine"]
    assert notes["machine"]["status"] == "failed, status 1"


@pytest.mark.skipif(sys.platform != "linux", reason="a script for GPU machines, which run Linux")
def test_a_call_begins_nothing_that_could_outlast_it(tmp_path: Path) -> None:
    """What passed is not run again; status 75 as long as stages remain."""
    out = tmp_path / "out"
    out.mkdir()
    note = {"backend": "simt", "date": "", "status": "passed", "seconds": 1, "closing": ""}
    (out / "gpu.json").write_text(json.dumps({"build": note}))
    plugin = tmp_path / "plugin.so"
    plugin.touch()
    command = ["bash", str(ROOT / "bench" / "gpu.sh"), "--out", str(out), "--emulator", str(plugin)]
    environment = {**os.environ, "PYTHON": sys.executable}
    for stages, status in ((["build"], 0), (["build", "memcheck"], 75)):
        ran = subprocess.run(
            [*command, "--call", "470", *stages],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        assert "==== build: passed before" in ran.stdout
        assert ("remains: memcheck" in ran.stdout) == (status == 75)
