"""The checks of .ci/checks.py one by one, in environments that stay: ``nox -s lint``, ``nox --list``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / ".ci"))
from checks import CHECKS, TOOLS, Check, variables, with_tools

nox.needs_version = ">=2025.2.9"  # requires=
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True

ENVIRONMENTS = Path(__file__).parent / ".nox"
PYTHON = ENVIRONMENTS / "package" / "bin" / "python"
# What .ci/run sets up before the checks, as sessions here.
ENVIRONMENT_OF = {"tools": "tools", "readme": "package"}


@nox.session
def tools(session: nox.Session) -> None:
    """The pinned tools, which other sessions use."""
    session.install(*TOOLS)


@nox.session
def package(session: nox.Session) -> None:
    """The package with what its tests import, which other sessions use."""
    session.install(".[test]")


@nox.session(requires=["package"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """The Python tests, against an installed build."""
    session.run(str(PYTHON), "-m", "pytest", *session.posargs)


def add_session(check: Check) -> None:
    """A session of the check's name, after those that it needs."""

    def run(session: nox.Session) -> None:
        work = ENVIRONMENTS / "work"
        work.mkdir(exist_ok=True)
        environment = variables(work, PYTHON, os.cpu_count() or 1)
        environment["PATH"] = with_tools(os.environ["PATH"], ENVIRONMENTS / "tools")
        session.run("bash", "-euo", "pipefail", "-c", check.command, env=environment)

    run.__doc__ = check.shows
    needed = [ENVIRONMENT_OF.get(name, name) for name in check.after if name != "packages"]
    nox.session(run, name=check.name, requires=needed, venv_backend="none")


for check in CHECKS:
    add_session(check)
