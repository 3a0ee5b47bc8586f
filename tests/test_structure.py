"""The rules of the source tree: who may include whom, what code compiled per instruction set may use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"

# Every layer includes its own files and those of the layers named here.
ALLOWED = {
    "backend": set(),
    "cells": set(),
    "runtime": {"backend"},
    "simd": {"backend"},
    "gemm": {"backend", "simd"},
    "layers": {"backend", "simd", "gemm"},
    "losses": {"backend", "simd", "gemm"},
    "optim": {"backend", "simd", "gemm", "cells"},
    "sequence": {"backend", "simd", "gemm", "layers", "cells"},
    "isa": {"backend", "simd", "gemm", "layers", "losses", "optim", "sequence", "cells", "runtime", "device"},
    "device": {"backend", "runtime"},
    "training": {"backend", "device", "isa", "runtime"},
    "bindings": {"backend", "training", "device", "isa", "runtime"},
}
PER_ISA = ["cells", "simd", "gemm", "layers", "losses", "optim", "sequence"]
SOURCES = sorted(CSRC.rglob("*.[ch]pp"))


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+([<"][^>"]+)[>"]', path.read_text(), re.MULTILINE)


def layer(path: Path) -> str:
    parts = path.relative_to(CSRC).parts
    return parts[0] if len(parts) > 1 else ""


def test_every_folder_is_a_known_layer() -> None:
    assert {layer(p) for p in SOURCES} <= set(ALLOWED)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CSRC)))
def test_includes_only_layers_below(path: Path) -> None:
    own = layer(path)
    for include in includes(path):
        if include[0] == '"' and "/" in include:
            assert include[1:].split("/")[0] in ALLOWED[own] | {own}, include


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if layer(p) in PER_ISA], ids=lambda p: str(p.relative_to(CSRC))
)
def test_per_isa_code_uses_no_stl(path: Path) -> None:
    allowed = {"stddef.h", "stdint.h", "immintrin.h", "arm_neon.h"}
    assert {i[1:] for i in includes(path) if i[0] == "<"} <= allowed
    assert "std::" not in re.sub(r"//.*", "", path.read_text())


def test_only_bindings_know_python() -> None:
    for path in SOURCES:
        if layer(path) != "bindings":
            assert not re.search(r"pybind11/|Python\.h", "\n".join(includes(path))), path


def test_top_level_holds_what_the_layout_names() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith((".", "build"))}
    assert folders - {"__pycache__", "dist", "runs"} <= {"python", "csrc", "cuda", "tests", "bench"}
