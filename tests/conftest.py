"""What all tests share: the choice of a backend, and repeatable drawn examples."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Drawn once and for all: a failure is found again by running the same test.
settings.register_profile(
    "suite", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        metavar="NAME",
        help="run the kernels of this backend (scalar, avx2, avx512, neon); fail if it is not available",
    )


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--backend")
    if name is None:
        return
    os.environ["FUSEDRNN_ISA"] = name  # before fusedrnn loads its kernels
    try:
        from fusedrnn import cpu

        running = cpu.isa()
    except Exception as error:
        raise pytest.UsageError(f"--backend {name}: {error}") from error
    if running != name:
        raise pytest.UsageError(
            f"--backend {name}: {running} is running; available are {cpu.available_isas()}"
        )


def pytest_report_header(config: pytest.Config) -> str:
    return f"fusedrnn backend: {config.getoption('--backend') or 'default'}"
