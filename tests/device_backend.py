"""The kernels of a device behind arrays in host memory, as the test backend of `host_memory/` has them.

`libfusedrnn_host_memory.so` opens the CUDA plugin, or the emulator where FUSEDRNN_CUDA_PLUGIN names that, and
carries arguments there and back in every call. It is taken from beside the emulator, where CMake builds it
(tests/simt/CMakeLists.txt), or else compiled, once for each process.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from fusedrnn import _native

ROOT = Path(__file__).parents[1]
LIBRARY = "libfusedrnn_host_memory.so"
SOURCES = [
    *sorted((ROOT / "tests" / "host_memory").glob("*.cpp")),
    ROOT / "csrc" / "device" / "plugin.cpp",
    ROOT / "csrc" / "runtime" / "memory.cpp",
    *sorted((ROOT / "csrc" / "runtime").glob("cpu*.cpp")),
    *sorted((ROOT / "csrc" / "runtime").glob("os_*.cpp")),
]


@cache
def load() -> str:
    """Makes the device's backend one that `_native.set_backend` knows; returns its name, "cuda" or "simt".

    Raises:
        RuntimeError: CUDA cannot be used here, or there is no C++ compiler.
    """
    info = _native.cuda_info()
    if info["why_not"] is not None:
        raise RuntimeError(f"CUDA cannot be used: {info['why_not']}")
    beside = Path(info["path"]).with_name(LIBRARY)
    library = beside if beside.exists() else compiled()
    os.environ["FUSEDRNN_HOST_MEMORY_PLUGIN"] = info["path"]
    return _native.load_backend(str(library))


def compiled() -> Path:
    """The library, in a folder that goes with the process."""
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        raise RuntimeError("the test backend needs a C++ compiler: c++, g++ or clang++ on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="fusedrnn-host-memory-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-I", ROOT / "csrc"]
    subprocess.run([*map(str, [*command, *SOURCES]), "-ldl", "-o", str(folder / LIBRARY)], check=True)
    return folder / LIBRARY


def choose() -> str:
    """Has the device's kernels run from now on; returns the backend's name."""
    name = load()
    _native.set_backend(name)
    return name
