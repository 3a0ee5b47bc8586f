"""The packages of the CUDA plugin: their projects, and the toolkit that is put together for one of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import stub_library

from fusedrnn import _native

PACKAGING = Path(__file__).parents[1] / "cuda" / "packaging"
sys.path.insert(0, str(PACKAGING))
import project  # noqa: E402
import toolkit  # noqa: E402


def test_there_is_a_project_for_every_package_that_is_looked_for() -> None:
    assert [f"fusedrnn_cuda{version}" for version in project.toolkits()] == _native.cuda_packages()


@pytest.mark.parametrize("version", project.toolkits())
def test_a_project_is_of_its_toolkit(version: int) -> None:
    text = project.project(version)
    assert set(re.findall(r"(?i)cuda ?(\d+)", text.replace(str(project.ROOT), ""))) == {str(version)}
    for name in (f'name = "fusedrnn-cuda{version}"', f'FUSEDRNN_CUDA_PACKAGE = "fusedrnn_cuda{version}"'):
        assert name in text
    (source,) = re.findall(r'cmake.source-dir = "(.*)"', text)
    (version_file,) = re.findall(r'input = "(.*)"', text)
    assert (Path(source) / "CMakeLists.txt").exists()
    assert Path(version_file).exists()
    assert "../" not in text


def test_unknown_toolkits_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, PACKAGING / "project.py", "11", tmp_path / "project"]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 2
    assert re.search(r"toolkit: invalid choice: '?11'? \(choose from 13, 12\)", ran.stderr), ran.stderr
    assert not (tmp_path / "project").exists()


# nvFatbin, as far as it is called: what it makes is what it was told.
LIBRARY = """
#include <string>
static std::string told;
extern "C" {
const char* nvFatbinGetErrorString(int) { return "it is Sunday"; }
int nvFatbinCreate(void** handle, const char** options, size_t count) {
  *handle = &told;
  for (size_t i = 0; i < count; ++i) told += std::string(options[i]) + "\\n";
  return 0;
}
int nvFatbinAddCubin(void*, const char* code, size_t size, const char* sm, const char*) {
  told += "cubin " + std::string(sm) + " " + std::string(code, size) + "\\n";
  return 0;
}
int nvFatbinAddPTX(void*, const char* code, size_t size, const char* sm, const char*, const char*) {
  if (code[size - 1] != 0) return 1;  // its end is a part of it
  told += "ptx " + std::string(sm) + " " + code + "\\n";
  return std::string(code) == "damaged";
}
int nvFatbinSize(void*, size_t* size) { *size = told.size(); return 0; }
int nvFatbinGet(void*, char* to) { told.copy(to, told.size()); return 0; }
}
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A toolkit of packages that have a file of each kind."""
    nvidia, folder = tmp_path / "nvidia", tmp_path / "toolkit"
    for name in (
        "cuda_nvcc/bin/ptxas",
        "cuda_nvcc/nvvm/libdevice/libdevice.10.bc",
        "cuda_nvcc/include/crt/a.h",
        "cuda_runtime/include/cuda.h",
        "cuda_runtime/lib/libcudart_static.a",
        "cuda_cccl/include/nv/target",
    ):
        (nvidia / name).parent.mkdir(parents=True, exist_ok=True)
        (nvidia / name).write_text("#!/bin/sh\necho release 12.9, V12.9.86\n")
        (nvidia / name).chmod(0o755)
    (nvidia / "nvfatbin" / "lib").mkdir(parents=True)
    built = stub_library.build(tmp_path / "nvfatbin.so", LIBRARY)
    built.rename(nvidia / "nvfatbin" / "lib" / "libnvfatbin.so.12")
    toolkit.put_together(folder, nvidia)
    return folder


def test_a_toolkit_has_what_clang_and_cmake_look_for(made: Path) -> None:
    for name in ("include/cuda.h", "include/crt/a.h", "include/nv/target", "lib64/libcudart_static.a"):
        assert (made / name).exists(), name
    assert (made / "nvvm/libdevice/libdevice.10.bc").exists()
    assert (made / "include/curand_mtgp32_kernel.h").read_text() == ""
    for program in ("ptxas", "nvcc"):
        said = subprocess.run([made / "bin" / program], capture_output=True, text=True, check=True).stdout
        assert "V12.9.86" in said


def test_images_become_one_file(made: Path, tmp_path: Path) -> None:
    (tmp_path / "a.cubin").write_bytes(b"machine\0code")
    (tmp_path / "a.ptx").write_bytes(b"text")
    images = [f"--image3=kind={kind},sm={sm},file={tmp_path}/a.{end}" for kind, sm, end in IMAGES]
    out = tmp_path / "out.fatbin"
    subprocess.run([made / "bin" / "fatbinary", "-64", "--create", out, *images], check=True)
    options = b"-64\n-cuda\n-host=linux\n-compress-all\n"
    assert out.read_bytes() == options + b"cubin 80 machine\0code\nptx 90 text\n"


IMAGES = (("elf", "80", "cubin"), ("ptx", "90", "ptx"))


def test_what_is_no_image_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "a.ptx").write_bytes(b"damaged")
    for image, said in (
        (f"kind=ptx,sm=90,file={tmp_path}/a.ptx", "fatbinary: nvFatbinAddPTX: it is Sunday"),
        ("kind=elf,sm=90", "it must be kind=elf|ptx,sm=NUMBER,file=FILE, it is 'kind=elf,sm=90'"),
        ("kind=cubin,sm=90,file=a", "it must be kind=elf|ptx,sm=NUMBER,file=FILE"),
    ):
        command = [made / "bin" / "fatbinary", "-64", "--create", tmp_path / "out", f"--image3={image}"]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode != 0
        assert said in " ".join(ran.stderr.split())
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for part in toolkit.PARTS[:-1]:
        (tmp_path / "nvidia" / part).mkdir(parents=True)
    monkeypatch.setattr(toolkit, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install nvidia-cuda-nvcc-cu12 .*nvidia-nvfatbin-cu12"):
        toolkit.installed()
    found = type("Spec", (), {"submodule_search_locations": [str(tmp_path / "nvidia")]})
    monkeypatch.setattr(toolkit, "find_spec", lambda name: found)
    with pytest.raises(SystemExit, match="lacks a part of the toolkit"):
        toolkit.installed()
    (tmp_path / "nvidia" / toolkit.PARTS[-1]).mkdir()
    assert toolkit.installed() == tmp_path / "nvidia"
