"""Puts a CUDA toolkit together from NVIDIA's packages for Python: python cuda/packaging/toolkit.py FOLDER

Those of CUDA 12 have all that clang needs but the program `fatbinary`, for which there is a library, and no
nvcc. The packages are those of the Python that runs this:

  pip install nvidia-cuda-nvcc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12 nvidia-nvfatbin-cu12
  CUDACXX=clang++-22 CUDAToolkit_ROOT=FOLDER cmake ...

The folder has links to their files, so they must stay.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

PARTS = ("cuda_nvcc", "cuda_runtime", "cuda_cccl", "nvfatbin")  # folders of the package nvidia
FATBINARY = Path(__file__).with_name("fatbinary.py")


def installed() -> Path:
    """The folder `nvidia` of this Python's packages; SystemExit where a part is missing."""
    spec = find_spec("nvidia")
    for place in map(Path, (spec.submodule_search_locations or []) if spec else []):
        if all((place / part).exists() for part in PARTS):
            return place
    names = " ".join(f"nvidia-{part.replace('_', '-')}-cu12" for part in PARTS)
    sys.exit(f"{sys.executable} lacks a part of the toolkit: pip install {names}")


def put_together(folder: Path, nvidia: Path) -> None:
    """Makes the folder what clang and CMake take for a toolkit."""
    for name in ("bin", "include", "lib64"):
        (folder / name).mkdir(parents=True)
    for part in PARTS:
        for at, kind in (("include", "include"), ("lib", "lib64")):
            for file in (nvidia / part).glob(f"{at}/[!_]*"):
                (folder / kind / file.name).symlink_to(file)
    (folder / "nvvm").symlink_to(nvidia / "cuda_nvcc" / "nvvm")
    ptxas = nvidia / "cuda_nvcc" / "bin" / "ptxas"
    (folder / "bin" / "ptxas").symlink_to(ptxas)
    # CMake asks nvcc for the version of the toolkit, which ptxas tells in the same words.
    (folder / "bin" / "nvcc").symlink_to(ptxas)
    fatbinary = folder / "bin" / "fatbinary"
    (library,) = (folder / "lib64").glob("libnvfatbin.so.*")
    fatbinary.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FATBINARY}" "{library.absolute()}" "$@"\n')
    os.chmod(fatbinary, 0o755)
    # clang includes it into every source; no kernel of this project draws from it.
    (folder / "include" / "curand_mtgp32_kernel.h").touch()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="that is not there yet")
    put_together(parser.parse_args().folder, installed())


if __name__ == "__main__":
    main()
