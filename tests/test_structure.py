"""The rules of the source tree: who may include or import whom, what per-ISA code may use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
CUDA = ROOT / "cuda"
PACKAGE = ROOT / "python" / "fusedrnn"

# Every layer includes, or imports, its own files and those of the layers named here. First csrc.
ALLOWED = {
    "backend": {"cells"},
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
# cuda/, where "" is what lies in no folder: headers for all kernels, and plugin.cu, which includes anything.
# Of csrc it shares the mathematics, and what says how arrays lie.
CUDA_ALLOWED = {
    "hw": set(),
    "": {"hw"},
    "products": {"", "hw"},
    "recurrent": {"", "hw", "products"},
    "layers": {"", "hw", "products", "recurrent"},  # `last` goes through time as recurrent layers do
    "losses": {"", "hw", "products"},
    "optim": {"", "hw", "products"},
    "training": {"", "hw", "products"},
}
CSRC_OF_CUDA = {"backend", "cells", "device", "layers", "losses", "optim", "sequence", "simd"}
# python/fusedrnn, where "" is `fusedrnn/__init__.py`, which hands out the parts.
PARTS = {"cpu", "cuda", "functional", "io", "losses", "nn", "optim", "plot", "reference"}
PYTHON_ALLOWED = {
    "_native": set(),
    "cpu": {"_native"},
    "cuda": {"_native"},
    "_core": {"_native", "cuda"},
    "reference": {"_core"},
    "functional": {"_native", "_core"},
    "data": {"_core"},
    "losses": {"_core", "functional"},
    "nn": {"_native", "_core", "functional"},
    "optim": {"_native", "_core", "functional"},
    "training": {"_native", "_core", "losses", "nn", "optim"},
    "": {"_native", "_core", "training"},
    "io": {"_core", "nn", ""},
    "torch": {"_native", "_core", "cuda", "functional"},
    "testing": {"_core", "nn"},
    "plot": {"nn"},
    "cli": {"_native", "_core", ""} | PARTS,
    "examples": {"_core", "torch", ""} | PARTS,
    "__main__": {"cli"},
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
        if include[0] == '"' and "/" in include and not include.endswith("/list.hpp"):
            assert include[1:].split("/")[0] in ALLOWED[own] | {own}, include


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if layer(p) in PER_ISA], ids=lambda p: str(p.relative_to(CSRC))
)
def test_per_isa_code_uses_no_stl(path: Path) -> None:
    allowed = {"stddef.h", "stdint.h", "immintrin.h", "arm_neon.h"}
    assert {i[1:] for i in includes(path) if i[0] == "<"} <= allowed
    assert "std::" not in re.sub(r"//.*", "", path.read_text())


@pytest.mark.parametrize("folder", ["losses", "optim"])
def test_lists_depend_on_nothing(folder: str) -> None:
    """So that every layer may iterate them."""
    assert includes(CSRC / folder / "list.hpp") == []


def test_per_isa_code_knows_no_facts_of_kinds_at_run_time() -> None:
    """Their functions are the baseline's: compiled for a newer CPU, the linker could take those."""
    for path in SOURCES:
        if layer(path) in PER_ISA:
            assert not re.search(r'"backend/(scratch|traits|\w+_facts)\.hpp', "\n".join(includes(path))), path


def test_only_bindings_know_python() -> None:
    for path in SOURCES:
        if layer(path) != "bindings":
            assert not re.search(r"pybind11/|Python\.h", "\n".join(includes(path))), path


# ------------------------------------------------------------------------------------------------ cuda/
KERNELS = sorted(p for p in CUDA.rglob("*") if p.suffix in (".cu", ".cuh", ".hpp"))


def cuda_layer(path: Path) -> str:
    parts = path.relative_to(CUDA).parts
    return parts[0] if len(parts) > 1 else ""


def test_every_folder_of_cuda_is_a_known_layer() -> None:
    assert {cuda_layer(p) for p in KERNELS} == set(CUDA_ALLOWED)


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_include_only_layers_below(path: Path) -> None:
    own = cuda_layer(path)
    for include in includes(path):
        name = include[1:]
        if (CUDA / name).exists():
            allowed = CUDA_ALLOWED[own] | {own} if path.name != "plugin.cu" else set(CUDA_ALLOWED)
            assert cuda_layer(CUDA / name) in allowed, include
        elif (CSRC / name).exists():
            assert name.split("/")[0] in CSRC_OF_CUDA, include
        else:  # of the system, or the emulator in place of the hardware
            assert include[0] == "<" or (own == "hw" and (ROOT / "tests" / "simt" / name).exists()), include


# ---------------------------------------------------------------------------------------------- python/
MODULES = {
    ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
}
MODULES["fusedrnn._native"] = PACKAGE / "_native.pyi"


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a file but for what is under TYPE_CHECKING: functions are in it, and so lazy imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from running(node)


def imported(path: Path) -> set[str]:
    """Modules of this package that a file imports, ever. Of the whole package, `import fusedrnn as fr`, what
    it uses: `fr.nn`."""
    nodes = list(running(ast.parse(path.read_text())))
    found, aliases = set(), set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "fusedrnn":
                    aliases.add(alias.asname or alias.name)
                found.add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name the package"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            found.add(f"fusedrnn.{node.attr}")
    return found & set(MODULES)


def python_layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_folder_of_python_is_a_known_layer() -> None:
    assert {python_layer(m) for m in MODULES} == set(PYTHON_ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_layers_below(module: str) -> None:
    own = python_layer(module)
    for other in imported(MODULES[module]):
        assert python_layer(other) in PYTHON_ALLOWED[own] | {own}, other


def test_no_import_circle() -> None:
    """Of modules, lazy imports and those of the whole package included."""
    left = {module: imported(path) - {module} for module, path in MODULES.items()}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in free}
    assert not left, f"in circles, or above one: {sorted(left)}"


def test_top_level_holds_what_the_layout_names() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith((".", "build"))}
    assert folders - {"__pycache__", "dist", "runs"} <= {"python", "csrc", "cuda", "tests", "bench", "docs"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_mutations_match_the_source(mutation: Mutation) -> None:
    assert (CSRC / mutation.file).read_text().count(mutation.old) == 1
