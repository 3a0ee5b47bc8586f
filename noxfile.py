"""Developer sessions: ``nox -s tests``, ``nox -s lint``, ``nox -s native``."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"

LINT = ["ruff==0.17.5", "clang-format==19.1.7", "mypy==2.4.1"]


def native_sources() -> list[str]:
    """All C++ files under the formatter's rule."""
    return sorted(str(p) for folder in ("csrc", "tests") for p in Path(folder).rglob("*.[ch]pp"))


@nox.session
def tests(session: nox.Session) -> None:
    """The Python tests, against an installed build."""
    session.install(".[test,bench]")
    session.run("pytest", *session.posargs)


@nox.session
def keras(session: nox.Session) -> None:
    """fr.io against Keras itself, on its torch backend, in an environment of its own."""
    session.install(".[test,bench]", "keras>=3.10")
    session.run("pytest", "tests/test_io_keras.py", *session.posargs, env={"KERAS_BACKEND": "torch"})


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint and types."""
    session.install(*LINT, "numpy")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("clang-format", "--dry-run", "-Werror", *native_sources())
    session.run("mypy")


@nox.session
def native(session: nox.Session) -> None:
    """The C++ tests under sanitizers."""
    session.install("cmake", "ninja")
    for name, sanitizers, selection in (
        ("asan", "address,undefined", []),
        ("tsan", "thread", ["-R", "test_team"]),
    ):
        build = f"build-{name}"
        options = {
            "FUSEDRNN_BUILD_PYTHON": "OFF",
            "FUSEDRNN_BUILD_TESTS": "ON",
            "FUSEDRNN_SANITIZE": sanitizers,
            "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        }
        defines = [f"-D{key}={value}" for key, value in options.items()]
        session.run("cmake", "-S", ".", "-B", build, "-G", "Ninja", *defines)
        session.run("cmake", "--build", build)
        session.run("ctest", "--test-dir", build, "--output-on-failure", *selection)
