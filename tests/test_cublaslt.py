"""Large products of the CUDA plugin by cuBLASLt: which calls are made, against a library made for the test.

What the real library does with them only a GPU shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stub_library import build

from fusedrnn import cpu

TESTS = Path(__file__).parent

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(cpu.isa() != "simt", reason="needs device memory that the host can compute in: simt"),
]

START = """
import numpy as np
import device_backend
from fusedrnn import _native, functional
device_backend.choose()
print(_native.cuda_device())
rng = np.random.default_rng(0)
def whole(*shape): return rng.integers(-4, 5, shape).astype(dtype)
"""

# Whole numbers, so that every order of sums gives the same. 2^26 multiplications each; pitches of their own.
LINEAR = """
for dtype in (np.float32, np.float64):
    x, dy, weight, bias = whole(256, 520)[:, :512], whole(256, 528)[:, :512], whole(512, 512), whole(512)
    y = functional.linear_forward(x, weight, bias)
    assert (y == x @ weight.T + bias).all()
    dweight, dbias = whole(512, 512), whole(512)
    expected = dweight + dy.T @ x
    dx = _native.linear_backward(dy, x, weight, dweight, dbias, True)
    assert (dx == dy @ weight).all()
    assert (dweight == expected).all()
"""

STACK = """
dtype = np.float32
x = rng.integers(-1, 2, (1, 256, 512)).astype(dtype)
weights = {"weight_ih_l0": whole(512, 512) / 64, "weight_hh_l0": whole(512, 128) / 64}
weights |= {"bias_ih_l0": whole(512), "bias_hh_l0": whole(512)}
for precision in ("ieee", "tf32", "tf32x3", "bf16", "fp16"):
    packed = functional.pack_weights(weights, precision=precision)
    print(hash(functional.lstm_forward(x, None, packed)[0].tobytes()))
"""

SMALL = """
dtype = np.float32
x, weight = whole(9, 7), whole(5, 7)
assert (functional.linear_forward(x, weight) == x @ weight.T).all()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(
        tmp_path_factory.mktemp("cublaslt") / "libfake.so", (TESTS / "fake_cublaslt.cpp").read_text()
    )


def run(script: str, asked: str | Path | None, log: Path, fail: str = "") -> tuple[list[str], list[str]]:
    """What the script printed, the device's description first, and the lines that the library wrote."""
    environment = {**os.environ, "FAKE_CUBLASLT_LOG": str(log), "FAKE_CUBLASLT_FAIL": fail}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    environment.pop("FUSEDRNN_CUBLASLT", None)
    if asked is not None:
        environment["FUSEDRNN_CUBLASLT"] = str(asked)
    done = subprocess.run(
        [sys.executable, "-c", START + script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), log.read_text().splitlines() if log.exists() else []


def test_products_of_linear(library: Path, tmp_path: Path) -> None:
    """Row-major C (M, N) is the library's D (N, M); layouts, compute types and epilogues as documented."""
    (device,), calls = run(LINEAR, library, tmp_path / "log")
    assert f"cuBLASLt 130100 for large products ({library})" in device
    expected = []
    for kind, compute in ((0, 69), (1, 70)):
        rest = "schemes 0 workspace 0 stream (nil)"
        expected += [
            f"{kind}: T 512x512/512  N 512x256/520  512x256/512  compute {compute} beta 0 bias 1  {rest}",
            f"{kind}: N 512x512/512  N 512x256/528  512x256/512  compute {compute} beta 0 bias 0  {rest}",
            f"{kind}: N 512x256/520  T 512x256/528  512x512/512  compute {compute} beta 1 bias 0  {rest}",
        ]
    assert calls == expected


def test_products_of_a_stack_in_every_precision(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x W + b_ih is exact in any order, so that y has the bits of our own kernels."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    theirs, calls = run(STACK, library, tmp_path / "log")
    ours, none = run(STACK, None, tmp_path / "none")
    assert theirs[1:] == ours[1:]
    assert none == []
    of = [(call.split(":")[0], call.split("compute ")[1].split()[0]) for call in calls]
    assert of == [("0", "69"), ("0", "77"), ("14", "68"), ("2", "68")]


def test_small_products_are_not_worth_the_calls(library: Path, tmp_path: Path) -> None:
    assert run(SMALL, library, tmp_path / "log")[1] == []


@pytest.mark.parametrize("asked", [None, "", "0"])
def test_not_unless_asked_for(asked: str | None, tmp_path: Path) -> None:
    (device,), _ = run(SMALL, asked, tmp_path / "log")
    assert device.endswith(", own kernels for all products")


@pytest.mark.parametrize("function", ["create", "heuristic", "matmul"])
def test_what_the_library_refuses_our_kernels_compute(library: Path, tmp_path: Path, function: str) -> None:
    assert run(LINEAR, library, tmp_path / "log", fail=function)[1] == []


def test_libraries_that_cannot_be_used(tmp_path: Path) -> None:
    (device,), _ = run(SMALL, "/no/such/library.so", tmp_path / "log")
    assert "own kernels for all products (cuBLASLt: /no/such/library.so: cannot open" in device
    other = build(tmp_path / "libother.so", 'extern "C" unsigned long cublasLtGetVersion() { return 1; }')
    (device,), _ = run(SMALL, other, tmp_path / "log")
    assert f"(cuBLASLt: {other} lacks cublasLtCreate)" in device


def test_the_package_beside_the_plugin(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSEDRNN_CUBLASLT=1: nvidia's package lies where this one does."""
    plugin = Path(os.environ["FUSEDRNN_CUDA_PLUGIN"])
    ours = tmp_path / "fusedrnn" / plugin.name
    theirs = tmp_path / "nvidia" / "cublas" / "lib" / "libcublasLt.so.12"
    for copy, original in ((ours, plugin), (theirs, library)):
        copy.parent.mkdir(parents=True)
        copy.write_bytes(original.read_bytes())
    monkeypatch.setenv("FUSEDRNN_CUDA_PLUGIN", str(ours))
    (device,), _ = run(SMALL, "1", tmp_path / "log")
    assert device.endswith(f"cuBLASLt 130100 for large products ({theirs})")
