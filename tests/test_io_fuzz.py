"""Files damaged on purpose: a clear error or a model, never a crash, another exception or much memory.

Each format in a process of its own, whose memory is limited. io_fuzz.py says what is done to the files; with
more runs it looks further: `python tests/io_fuzz.py keras 100000`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fusedrnn as fr

RUNS = {"safetensors": 400, "keras": 400, "h5": 300, "onnx": 400}
NEEDS = {"safetensors": "safetensors", "keras": "h5py", "h5": "h5py", "onnx": "onnx"}


@pytest.mark.parametrize("form", RUNS)
def test_damaged_files(form: str) -> None:
    pytest.importorskip(NEEDS[form], reason=f"{NEEDS[form]}, of the extra io, reads these files")
    here = Path(__file__).parent
    paths = os.pathsep.join([str(Path(fr.__file__).parents[1]), str(here)])
    command = [sys.executable, str(here / "io_fuzz.py"), form, str(RUNS[form])]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": paths}
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    counts = json.loads(result.stdout)
    assert counts["FormatError"] > RUNS[form] / 4
    assert counts["read"] > 0
