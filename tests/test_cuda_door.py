"""The door's host side as nvcc compiles it: every failure of a CUDA call names the call, its place and why.

Over a CUDA runtime made for the purpose (door/runtime.cpp), so that no GPU is needed; nvcc is.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOOR = Path(__file__).with_name("door")
ROOT = DOOR.parents[1]
OUT_OF_MEMORY, DEVICE_ERROR = 2, 4  # of backend.hpp's Status
NO_MEMORY, LAUNCH_FAILED, BAD_ADDRESS = 2, 719, 700  # of cudaError_t
LAUNCH = r"a_kernel over 7 x 2 x 1 blocks of 128 threads, clusters of 1, 65536 bytes of shared memory"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The door over that runtime."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        pytest.skip("no nvcc to compile the door with")
    library = tmp_path_factory.mktemp("door") / "libdoor.so"
    options = ["-std=c++17", "-arch=sm_80", "-cudart=none", "-shared", "-Xcompiler=-fPIC,-fvisibility=hidden"]
    paths = [f"-I{ROOT}/cuda", f"-I{ROOT}/csrc", DOOR / "door.cu", DOOR / "runtime.cpp", "-o", library]
    built = subprocess.run([nvcc, *options, *map(str, paths)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    loaded = ctypes.CDLL(str(library))
    loaded.device_of.argtypes = [ctypes.c_size_t]
    return loaded


def ask(
    door: ctypes.CDLL, what: str, call: str = "", error: int = 0, pinned: bool = False
) -> tuple[int, str]:
    """Status and text of a function of the door while a call of the runtime fails."""
    text = ctypes.create_string_buffer(1024)
    status = door.ask(what.encode(), call.encode(), error, int(pinned), text, len(text))
    return status, text.value.decode()


@pytest.mark.parametrize(
    ("what", "call", "text"),
    [
        ("alloc", "cudaMalloc", r"cudaMalloc\(1048576\)"),
        ("free", "cudaFree", r"cudaFree\(0x1000\)"),
        ("copy", "cudaMemcpyAsync", r"cudaMemcpyAsync\(0x1000, 0x1040, 64\)"),
        ("copy", "cudaPointerGetAttributes", r"cudaPointerGetAttributes\(0x1000\)"),
        ("fill", "cudaMemsetAsync", r"cudaMemsetAsync\(0x1000, 255, 64\)"),
        ("synchronize", "cudaStreamSynchronize", r"cudaStreamSynchronize\((0x0|\(nil\))\)"),
        ("current_device", "cudaGetDevice", "cudaGetDevice"),
        ("device_of", "cudaPointerGetAttributes", r"cudaPointerGetAttributes\(0x1000\)"),
        ("device_info", "cudaGetDevice", "cudaGetDevice"),
        ("device_info", "cudaGetDeviceProperties", r"cudaGetDeviceProperties\(2\)"),
        ("launch", "cudaFuncSetAttribute", "cudaFuncSetAttribute of " + LAUNCH),
        ("launch", "cudaLaunchKernelExC", "cudaLaunchKernelExC of " + LAUNCH),
    ],
)
def test_failures_name_call_and_place(door: ctypes.CDLL, what: str, call: str, text: str) -> None:
    assert ask(door, what) == (0, "")
    place = r" at (tests/door/door\.cu|cuda/device_cuda\.cuh):\d+: "
    for error in (LAUNCH_FAILED, BAD_ADDRESS):
        status, message = ask(door, what, call, error)
        assert status == DEVICE_ERROR
        assert re.fullmatch(f"{text}{place}error {error}", message), message
    status, message = ask(door, what, call, NO_MEMORY)
    assert status == OUT_OF_MEMORY
    assert re.fullmatch(f"{text}{place}out of memory", message), message
    assert ask(door, what) == (0, "")


def test_copies_of_pinned_memory_are_waited_for(door: ctypes.CDLL) -> None:
    assert ask(door, "copy", "cudaStreamSynchronize", LAUNCH_FAILED) == (0, "")
    status, message = ask(door, "copy", "cudaStreamSynchronize", LAUNCH_FAILED, pinned=True)
    assert status == DEVICE_ERROR
    assert message.startswith("cudaStreamSynchronize(")


def test_whose_memory_it_is(door: ctypes.CDLL) -> None:
    assert ask(door, "alloc") == (0, "")
    assert door.device_of(0x1000) == 3
    assert door.device_of(0) == -1
    ask(door, "alloc", pinned=True)
    assert door.device_of(0x1000) == -1


def test_machine(door: ctypes.CDLL) -> None:
    """A GPU of capability 7.5 before kernels for 8.0; a driver that cannot count devices."""
    text = ctypes.create_string_buffer(1024)
    assert not door.why_not(b"", 0, text, len(text))
    assert text.value.startswith(b"GPU has compute capability 7.5, and this build has kernels for 8.0")
    assert not door.why_not(b"cudaGetDeviceCount", LAUNCH_FAILED, text, len(text))
    assert text.value.startswith(b"the NVIDIA driver does not answer: error 719")
    assert not door.why_not(b"cudaGetDeviceCount", 100, text, len(text))
    assert text.value.startswith(b"the NVIDIA driver finds no GPU")
