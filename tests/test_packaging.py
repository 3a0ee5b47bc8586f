"""What is installed: the stub tells the truth, nothing heavy is imported or linked, old CPUs are safe."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import plugin_file
import pytest

import fusedrnn
from fusedrnn import _native

STUB = Path(fusedrnn.__file__).with_name("_native.pyi")


def run(*command: str | Path) -> str:
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


# ------------------------------------------------------------------------------------------- the stub
def parameters(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in function.args.args]


def native_parameters(function: object) -> list[str]:
    """Names in the signature that pybind11 writes on the first line of a docstring."""
    signature = (function.__doc__ or "").split("\n", 1)[0]
    return re.findall(r"(?:^|[(,]\s*)(\w+):", signature.rsplit("->", 1)[0])


def stub_functions() -> dict[str, ast.FunctionDef]:
    return {n.name: n for n in ast.parse(STUB.read_text()).body if isinstance(n, ast.FunctionDef)}


def stub_classes() -> dict[str, ast.ClassDef]:
    return {n.name: n for n in ast.parse(STUB.read_text()).body if isinstance(n, ast.ClassDef)}


def stub_constants() -> list[str]:
    body = ast.parse(STUB.read_text()).body
    return [
        n.target.id
        for n in body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.target.id[0] != "_"
    ]


def test_stub_names_all_that_the_module_has() -> None:
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert public == set(stub_functions()) | set(stub_classes()) | set(stub_constants())


@pytest.mark.parametrize("name", sorted(stub_functions()))
def test_stub_has_the_parameters_of(name: str) -> None:
    assert native_parameters(getattr(_native, name)) == parameters(stub_functions()[name])


@pytest.mark.parametrize("name", sorted(stub_classes()))
def test_stub_has_the_members_of(name: str) -> None:
    members = {n.name: n for n in stub_classes()[name].body if isinstance(n, ast.FunctionDef)}
    native = getattr(_native, name)
    assert {m for m in vars(native) if not m.startswith("_")} == {m for m in members if not m.startswith("_")}
    if "__init__" in members:
        made_by = getattr(native, "_make", None)
        taken = native_parameters(made_by) if made_by else list(inspect.signature(native).parameters)
        assert ["self", *taken] == parameters(members["__init__"])


# ----------------------------------------------------------------------------------- import and links
def test_import_takes_less_than_300_ms() -> None:
    code = "import time; t = time.perf_counter(); import fusedrnn; print(time.perf_counter() - t)"
    assert min(float(run(sys.executable, "-c", code)) for _ in range(5)) < 0.3


def test_import_brings_numpy_and_nothing_else() -> None:
    code = "import sys; import fusedrnn; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    imported = set(run(sys.executable, "-c", code).split())
    bare = set(run(sys.executable, "-c", code.replace("import fusedrnn", "import numpy")).split())
    own = {m for m in imported - bare if m not in sys.stdlib_module_names}
    assert own - {"_interpreters", "_xxsubinterpreters"} == {
        "fusedrnn"
    }  # Python's own, which it does not list


def needed(library: Path) -> set[str]:
    """The libraries that it is linked with, by name without version."""
    found = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", library))
    return {re.split(r"\.so|-", name)[0] for name in found}


def test_module_links_the_system_and_no_thread_library_of_others() -> None:
    system = {"libc", "libm", "libpthread", "libdl", "ld"}
    assert needed(Path(_native.__file__)) <= system | {"libgcc_s", "libstdc++"}


def test_module_exports_its_entry_alone() -> None:
    symbols = re.findall(r" [TDBR] (\w+)", run("nm", "-D", "--defined-only", _native.__file__))
    assert symbols == ["PyInit__native"]


def test_links_of_the_module_are_read_only_once_it_is_loaded() -> None:
    assert "NOW" in run("readelf", "-d", _native.__file__)
    assert "GNU_RELRO" in run("readelf", "-lW", _native.__file__)


def test_an_overrun_stack_is_noticed() -> None:
    symbols = run("nm", "-D", "--undefined-only", _native.__file__)
    if re.search(r"__(a|t|ub)san_", symbols):
        pytest.skip("sanitizers look for themselves")
    assert "__stack_chk_fail" in symbols


# ------------------------------------------------------------------------------------- the CUDA plugin
@pytest.fixture(params=plugin_file.installed() or [None], ids=lambda path: path and path.parent.name)
def plugin(request: pytest.FixtureRequest) -> Path:
    """A library that this package may open, beside it or in a package of its own."""
    path: Path | None = request.param
    if path is None:
        assert os.environ.get("FUSEDRNN_REQUIRE_PLUGIN") != "1", (
            "FUSEDRNN_REQUIRE_PLUGIN=1, and none is installed"
        )
        pytest.skip("there is no CUDA plugin")
    return path


class Image(NamedTuple):
    """Code for GPUs in a library: what a driver must know to take it."""

    kind: str
    architecture: int
    version: tuple[int, int]  # of PTX, or of the format of machine code
    packing: str


def images(library: Path, folder: Path) -> set[Image]:
    """Those in a library, by the headers of its fat binaries.

    Those are a magic number, the sizes of a header and of what follows it, then for each image its kind, the
    sizes of a header and of what follows it and, from byte 24 on, its version, its architecture and, at byte
    40, flags.
    """
    content = folder / "fatbin"
    flags = ("--only-section=.nv_fatbin", "--set-section-flags", ".nv_fatbin=alloc")
    run("objcopy", "-O", "binary", *flags, library, content)
    data, magic, found = content.read_bytes(), struct.pack("<I", 0xBA55ED50), set()
    at = data.find(magic)
    while at >= 0:
        _, header, size = struct.unpack_from("<HHQ", data, at + 4)
        image, at = at + header, at + header + size
        while image < at:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, image)
            minor, major, architecture, flags = struct.unpack_from("<HHI8xI", data, image + 24)
            packing = "zstd" if flags & 0x8000 else "lz4" if flags & 0x2000 else "none"
            name = {1: "PTX", 2: "machine code"}[kind]
            found.add(Image(name, architecture, (major, minor), packing))
            image += header + size
        at = data.find(magic, at)
    return found


def test_plugin_has_code_for_every_architecture(plugin: Path, tmp_path: Path) -> None:
    """Machine code for compute capability 8.x and 9.0, PTX for what comes after."""
    found = {(image.kind, image.architecture) for image in images(plugin, tmp_path)}
    assert found == {("machine code", 80), ("machine code", 90), ("PTX", 90)}


def test_plugin_for_drivers_of_cuda_12_asks_no_more_of_them(plugin: Path, tmp_path: Path) -> None:
    """PTX 8.1 is of CUDA 12.1, machine code 1.7 of CUDA 12; drivers before 12.4 do not unpack zstd."""
    if plugin_file.toolkit(plugin) != 12:
        pytest.skip(f"{plugin} is not of fusedrnn-cuda12")
    for image in images(plugin, tmp_path):
        assert image.version <= {"PTX": (8, 1), "machine code": (1, 7)}[image.kind], image
        assert image.packing != "zstd", image


def test_plugin_needs_no_library_of_cuda(plugin: Path) -> None:
    """The runtime is linked into it, and looks for the driver when it is asked for a device."""
    assert needed(plugin) <= {"libc", "libm", "libpthread", "libgcc_s", "libstdc++", "ld", "libdl", "librt"}
    assert b"libcuda.so.1" in plugin.read_bytes()


def test_plugin_exports_its_entry_alone(plugin: Path) -> None:
    symbols = re.findall(r" [A-Z] (\w+)", run("nm", "-D", "--defined-only", plugin))
    assert symbols == ["fusedrnn_plugin"]


def test_plugin_is_small(plugin: Path) -> None:
    assert plugin.stat().st_size < 40_000_000


# ------------------------------------------------------------------------------------------ the wheel
@pytest.fixture
def wheel() -> zipfile.ZipFile:
    path = os.environ.get("FUSEDRNN_WHEEL")
    if path is None:
        pytest.skip("no wheel to look at: set FUSEDRNN_WHEEL")
    return zipfile.ZipFile(path)


def test_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    """Under 3.5 MB, and under 40 MB with the CUDA plugin in it."""
    assert wheel.filename is not None
    limit = 40_000_000 if f"fusedrnn/{plugin_file.NAME}" in wheel.namelist() else 3_500_000
    assert os.path.getsize(wheel.filename) < limit


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if not name.endswith("/")]
    assert {"fusedrnn/py.typed", "fusedrnn/_native.pyi", "fusedrnn/__init__.py"} <= set(names)
    assert {n.split("/")[0].split("-")[0] for n in names} == {"fusedrnn"}
    assert {Path(n).suffix for n in names if n.startswith("fusedrnn/")} <= {".py", ".pyi", ".so", ".typed"}
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_wheel_needs_numpy_alone(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    requirements = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist") or []
    always = [r for r in requirements if "extra ==" not in r]
    assert [re.match(r"\w+", r)[0] for r in always] == ["numpy"]  # type: ignore[index]


# ---------------------------------------------------------------------------------------- the objects
@pytest.fixture
def objects() -> dict[str, list[Path]]:
    """Object files of a build without sanitizers: by instruction set, and "baseline"."""
    folder = os.environ.get("FUSEDRNN_BUILD_DIR")
    if folder is None:
        pytest.skip("no object files to look at: set FUSEDRNN_BUILD_DIR to a build folder")
    found: dict[str, list[Path]] = {}
    for path in Path(folder).rglob("*.o"):
        if "fusedrnn_kernels_" in str(path):
            found.setdefault(str(path).split("fusedrnn_kernels_")[1].split(".")[0], []).append(path)
        elif "fusedrnn_core" in str(path) or "_native.dir" in str(path):
            found.setdefault("baseline", []).append(path)
    return found


def test_objects_are_all_there(objects: dict[str, list[Path]]) -> None:
    assert set(objects) - {"amx"} == {"baseline", *_compiled_isas()}
    assert len(objects["baseline"]) >= 8


def _compiled_isas() -> set[str]:
    return {"scalar", "avx2", "avx512"} if os.uname().machine == "x86_64" else {"scalar", "neon"}


def test_kernel_objects_leave_the_linker_no_choice(objects: dict[str, list[Path]]) -> None:
    """No weak symbol that could stand in for another object's, nothing that runs before main, one export.

    Templates and inline functions are weak; those in the namespace of the ISA have names of their own.
    """
    for isa in sorted(set(objects) - {"baseline"}):
        (path,) = objects[isa]
        symbols = [line.split()[-2:] for line in run("nm", path).splitlines()]
        own = f"8fusedrnn{len(isa)}{isa}"  # as names are mangled
        assert [name for kind, name in symbols if kind in "wWvVu" and own not in name] == [], isa
        assert [name for kind, name in symbols if kind in "TDBRGSC"] == [f"fusedrnn_backend_{isa}"], isa
        assert "init_array" not in run("objdump", "-h", path), isa


def test_baseline_objects_hold_no_avx(objects: dict[str, list[Path]]) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("AVX is an extension of x86-64")
    vex = re.compile(r"%[yz]mm|\t(?!verr|verw)v[a-z]+\d*[a-z]*\s+.*%")
    for path in objects["baseline"] + objects["scalar"]:
        code = run("objdump", "-d", "--no-show-raw-insn", path)
        found = [
            line
            for line in code.splitlines()
            if vex.search(line) and "verr" not in line and "verw" not in line
        ]
        assert found == [], path


# ------------------------------------------------------------------------------------------- the build
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("MAYBE", "FUSEDRNN_CUDA must be AUTO, ON or OFF, it is 'MAYBE'"),
        ("ON", "FUSEDRNN_CUDA=ON, and no nvcc that works was found: put it on the PATH, or set CUDACXX"),
        ("OFF", None),
    ],
)
def test_what_a_build_says_of_the_plugin(value: str, said: str | None, tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("there is no CMake")
    options = (f"-DFUSEDRNN_CUDA={value}", "-DFUSEDRNN_BUILD_PYTHON=OFF", "-DFUSEDRNN_ISAS=scalar")
    result = subprocess.run(
        [cmake, "-S", Path(__file__).parents[1], "-B", tmp_path, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDACXX": str(tmp_path / "none")},
    )
    shown = " ".join((result.stdout + result.stderr).split())
    assert (result.returncode == 0) is (said is None), shown
    assert said in shown if said else "CUDA" not in shown
