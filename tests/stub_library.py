"""Small shared libraries made for one test, in place of those that a machine may have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"


def build(path: Path, source: str) -> Path:
    """Compiles C++ into a shared library at `path`; skips the test where there is no compiler."""
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        pytest.skip("no C++ compiler to make a library with")
    text = path.with_suffix(".cpp")
    text.write_text(source)
    command = [compiler, "-std=c++17", "-shared", "-fPIC", "-I", CSRC, text, "-o", path]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path
