"""What all tests share: the choice of a backend, and repeatable drawn examples."""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Fresh memory is NaN in every test: what reads it, or leaves a result unwritten, is seen.
os.environ.setdefault("FUSEDRNN_POISON", "1")

# Drawn once and for all: a failure is found again by running the same test.
settings.register_profile(
    "suite", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
# Drawn anew each time (--hypothesis-profile=drawn); a failure shows its example, and how to have it again.
settings.register_profile("drawn", settings.get_profile("suite"), derandomize=False, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        metavar="NAME",
        help="run the kernels of this backend (scalar, avx2, avx512, amx, neon, cuda, simt); fail if it is "
        "not available. simt, the emulator of CUDA, is in the library that FUSEDRNN_CUDA_PLUGIN names",
    )


def require_peers() -> None:
    """With FUSEDRNN_REQUIRE_PEERS=1 what tests compare with must be there: a skip would prove nothing."""
    if os.environ.get("FUSEDRNN_REQUIRE_PEERS") == "1":
        missing = [peer for peer in ("torch", "onnxruntime", "onnx", "h5py") if find_spec(peer) is None]
        if missing:
            raise pytest.UsageError(f"FUSEDRNN_REQUIRE_PEERS=1, and {', '.join(missing)} not installed")


def pytest_configure(config: pytest.Config) -> None:
    require_peers()
    name = config.getoption("--backend")
    if name is None:
        return
    device = name in ("cuda", "simt")
    if not device:
        os.environ["FUSEDRNN_ISA"] = name  # before fusedrnn loads its kernels
    try:
        from fusedrnn import cpu

        if device:
            import device_backend

            device_backend.choose()
        running = cpu.isa()
    except Exception as error:
        raise pytest.UsageError(f"--backend {name}: {error}") from error
    if running != name:
        raise pytest.UsageError(
            f"--backend {name}: {running} is running; available are {cpu.available_isas()}"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked cuda run on a GPU, or on its emulator where FUSEDRNN_CUDA_PLUGIN names that."""
    if item.get_closest_marker("cuda") is not None:
        from fusedrnn import cuda

        if not cuda.is_available():
            pytest.skip(f"CUDA cannot be used: {cuda.why_not()}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of dtype and precision runs in all that its backend has."""
    if {"dtype", "precision"} <= set(metafunc.fixturenames):
        from fusedrnn._core.cells import PRECISIONS_OF

        device = "cuda" if metafunc.config.getoption("--backend") in ("cuda", "simt") else "cpu"
        narrow = [name for name in PRECISIONS_OF[device] if name != "ieee"]
        numbers = [(np.float32, "ieee"), (np.float64, "ieee"), *((np.float32, name) for name in narrow)]
        names = ["float32", "float64", *narrow]
        metafunc.parametrize(("dtype", "precision"), numbers, ids=names)


def pytest_report_header(config: pytest.Config) -> str:
    return f"fusedrnn backend: {config.getoption('--backend') or 'default'}"
