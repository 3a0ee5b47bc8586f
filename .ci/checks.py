"""The checks of this project, each said once: ``.ci/run`` and ``noxfile.py`` run what this file lists.

A command is bash (errexit, nounset, pipefail), runs in the root of a checkout and sees

  $WORK     a folder for builds and for what one check leaves to another
  $PYTHON   the Python that has the package and the extra ``test``
  PATH      begins with the pinned TOOLS (but in SETUP)

CMake and CTest know from the environment how many processes they may start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SIZES = ("quick", "plain", "all")
TOOLS = ("ruff==0.17.5", "clang-format==19.1.7", "mypy==2.4.1", "cmake==4.1.2", "ninja==1.13.0", "numpy")
# numpy is there for mypy. nvcc, where the machine has none: 105 MB.
NVCC = (
    "nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 "
    "nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
)
LEAST_EMULATED = 1200  # cases of the parity suite on the emulator; fewer mean that some were not collected


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: the word that chooses it.
        shows: what a pass of it shows.
        command: see above.
        cost: seconds of one core of an AMD EPYC without a compiler cache.
        size: the smallest size of a run that has it.
        after: the checks whose results it uses.
    """

    name: str
    shows: str
    command: str
    cost: int
    size: str = "plain"
    after: tuple[str, ...] = ()


def variables(work: Path, python: Path, jobs: int) -> dict[str, str]:
    """The environment of a check, PATH apart.

    Args:
        work: for $WORK.
        python: for $PYTHON.
        jobs: how many processes a build or a run of the native tests may start.
    """
    return {
        **os.environ,
        "WORK": str(work),
        "PYTHON": str(python),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "CTEST_PARALLEL_LEVEL": str(jobs),
        "FUSEDRNN_WERROR": "ON",
        "FUSEDRNN_REQUIRE_PEERS": "1",  # a missing PyTorch fails, it does not skip
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "CCACHE_BASEDIR": str(work),  # so that a later run elsewhere finds what this one compiled
        "CCACHE_NOHASHDIR": "1",
    }


def with_tools(path: str, tools: Path) -> str:
    """PATH with an environment's programs in front."""
    return f"{tools / 'bin'}{os.pathsep}{path}"


def native(name: str, *options: str, selection: str = "") -> str:
    """Builds the native tests with options of CMake, and runs those that a regular expression selects."""
    build = f'"$WORK/build-{name}"'
    always = "-DFUSEDRNN_BUILD_PYTHON=OFF -DFUSEDRNN_BUILD_TESTS=ON -DFUSEDRNN_WERROR=ON"
    chosen = f"-R '{selection}'" if selection else ""
    return f"""
cmake -S . -B {build} -G Ninja {always} {" ".join(options)} >/dev/null
cmake --build {build}
ctest --test-dir {build} --output-on-failure --no-tests=error {chosen}
"""


PLUGIN = '"$WORK/build-simt/tests/simt/libfusedrnn_simt.so"'


def emulated(seed: int) -> str:
    """The parity suite through the CUDA sources on the emulator, under one order of threads."""
    return f"""
export FUSEDRNN_SIMT_SEED={seed} FUSEDRNN_SIMT_LAUNCHES="$WORK/launches-{seed}" FUSEDRNN_CUDA_PLUGIN={PLUGIN}
"$PYTHON" -m pytest -q --backend simt -m parity | tee "$WORK/simt-{seed}.log"
passed=$(sed -nE 's/^.*\\b([0-9]+) passed.*$/\\1/p' "$WORK/simt-{seed}.log" | tail -n 1)
if ((${{passed:-0}} < {LEAST_EMULATED})); then
  echo "${{passed:-0}} cases passed, there must be {LEAST_EMULATED} at least"
  exit 1
fi
"""


# What the others stand on. nox brings environments of its own instead.
SETUP = (
    Check(
        "packages",
        "compilers, binutils, qemu and Python's venv are there, or apt installs them",
        r"""
missing=() root=()
command -v g++ >/dev/null || missing+=(g++)
command -v objdump >/dev/null || missing+=(binutils)
command -v ccache >/dev/null || missing+=(ccache)
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
  missing+=(python3-dev)
if ((${#missing[@]})); then
  echo "installs ${missing[*]}"
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
python3 --version
g++ --version | head -n 1
qemu-aarch64 --version | head -n 1
""",
        cost=15,
        size="quick",
    ),
    Check(
        "tools",
        "the pinned formatters, type checker, CMake and Ninja install",
        f'python3 -m venv "$WORK/tools" && "$WORK/tools/bin/pip" install -q {" ".join(TOOLS)}',
        cost=25,
        size="quick",
        after=("packages",),
    ),
    # The first line of the code block that follows the mark in README.md, as it stands there.
    Check(
        "readme",
        "README's own command installs into a fresh environment, and all Python tests pass there",
        """
command=$(awk '/<!-- ci:test -->/ {marked = 1; next}
               marked && /^```/ {fence++; next}
               marked && fence == 1 {print; exit}' README.md)
[[ -n $command ]] || { echo 'README.md has no command after <!-- ci:test -->'; exit 1; }
printf '$ %s\\n' "$command"
bash -euo pipefail -c "$command"
""",
        cost=1100,
        size="quick",
        after=("packages",),
    ),
)

CHECKS = (
    Check(
        "lint",
        "ruff, clang-format over C++ and CUDA, mypy in strict mode",
        r"""
ruff check .
ruff format --check .
find csrc cuda tests bench -regex '.*\.\(cpp\|hpp\|cu\|cuh\)' -print0 |
  xargs -0 clang-format --dry-run -Werror
mypy
""",
        cost=25,
        size="quick",
        after=("tools",),
    ),
    Check(
        "emulator",
        "the CUDA sources compile for the host emulator of a GPU",
        r"""
cmake -S . -B "$WORK/build-simt" -G Ninja \
  -DFUSEDRNN_BUILD_PYTHON=OFF -DFUSEDRNN_SIMT=ON -DFUSEDRNN_WERROR=ON >/dev/null
cmake --build "$WORK/build-simt" --target fusedrnn_simt
""",
        cost=250,
        size="quick",
        after=("tools",),
    ),
    *(
        Check(
            f"simt-{seed}",
            f"parity through the CUDA sources on the emulator, order of threads {seed}",
            emulated(seed),
            cost=450,
            size="plain" if seed <= 2 else "all",
            after=("readme", "emulator"),
        )
        for seed in range(1, 7)
    ),
    Check(
        "gpu-scripts",
        "the scripts for a machine with a GPU run, on the emulator",
        f"""
"$PYTHON" -m pip install -q 'fusedrnn[bench]'
export FUSEDRNN_CUDA_PLUGIN={PLUGIN}
"$PYTHON" bench/repeat_bits.py --runs 2 --sizes 3 4 5 6
"$PYTHON" bench/bench_rnn.py --device cuda --rehearse --quick --only 'gru infer*bf16*'
""",
        cost=60,
        after=("readme", "emulator"),
    ),
    Check(
        "compiled",
        "nvcc over every kernel for sm_90: registers, spills, shared memory, and that the emulator ran each",
        f"""
command -v nvcc >/dev/null || "$PYTHON" -m pip install -q {NVCC}
"$PYTHON" tests/cuda_budgets.py --launches "$WORK/launches-1" "$WORK/launches-2"
"$PYTHON" bench/cuda_limits.py --build-only
""",
        cost=170,
        after=("simt-1", "simt-2"),
    ),
    Check(
        "wheel",
        "the same build as a wheel: its size, its links, and no instruction in it that an old CPU lacks",
        """
rm -rf "$WORK/wheel"
"$PYTHON" -m pip wheel -q --no-deps -w "$WORK/wheel" --config-settings=build-dir="$WORK/build-wheel" .
FUSEDRNN_WHEEL=$(echo "$WORK"/wheel/fusedrnn-*.whl) FUSEDRNN_BUILD_DIR=$WORK/build-wheel \\
  "$PYTHON" -m pytest tests/test_packaging.py
""",
        cost=60,
        after=("readme",),
    ),
    Check(
        "asan",
        "the native tests under AddressSanitizer and UndefinedBehaviorSanitizer",
        native("asan", "-DFUSEDRNN_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"),
        cost=330,
        after=("tools",),
    ),
    # Threads run the same code on every instruction set: one is enough to look for races.
    Check(
        "tsan",
        "threads, and CUDA's on the emulator, under ThreadSanitizer",
        native(
            "tsan",
            "-DFUSEDRNN_SANITIZE=thread",
            "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
            "-DFUSEDRNN_ISAS=avx2",
            "-DFUSEDRNN_SIMT=ON",
            selection="^(test_(team|sequence|entries)|simt_.*)$",
        ),
        cost=450,
        after=("tools",),
    ),
    Check(
        "neon",
        "the native tests for Arm, under qemu",
        native(
            "neon",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DCMAKE_SYSTEM_NAME=Linux",
            "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
            "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
            "'-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu'",
        ),
        cost=150,
        after=("tools",),
    ),
    # Where the processor lacks an instruction set the summary says so: such a run proves less.
    *(
        Check(
            f"parity-{isa}",
            f"parity with the reference on {isa} alone, where the processor has it",
            f"""
if "$PYTHON" -c 'import sys; from fusedrnn import cpu; sys.exit("{isa}" not in cpu.available_isas())'; then
  "$PYTHON" -m pytest -q --backend {isa} -m parity
else
  echo "not run: this processor has no {isa}"
fi
""",
            cost=30,
            after=("readme",),
        )
        for isa in ("scalar", "avx2", "avx512")
    ),
    Check(
        "drawn",
        "every property of the Python tests on examples drawn anew, eight times",
        """
for round in 1 2 3 4 5 6 7 8; do
  "$PYTHON" -m pytest -q -m hypothesis --hypothesis-profile=drawn
done
""",
        cost=400,
        size="all",
        after=("readme",),
    ),
    Check(
        "mutations",
        "the tests notice each fault that tests/mutations.py plants in the kernels",
        """
"$PYTHON" -m pip install -q 'pybind11>=3.0'
"$PYTHON" tests/mutations.py
""",
        cost=3000,
        size="all",
        after=("readme", "tools"),
    ),
)
