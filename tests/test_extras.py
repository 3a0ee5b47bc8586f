"""`pip install '.[test]'` brings all that the tests import."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = [
    ROOT / name for name in ("tests", "bench", "bench/sass", ".ci", "cuda/packaging")
]  # which tests put on the path
EXTRAS = dict(re.findall(r"^(\w+) = \[(.*)\]$", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE))


def modules(path: Path) -> Iterator[str]:
    """The modules that a file imports, at once or in a function, without what is behind a dot."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def imported_by_tests() -> set[str]:
    """Modules of others that a test imports, or a file of this project that it imports."""
    found, files, seen = set[str](), [*(ROOT / "tests").glob("*.py")], set[Path]()
    while files:
        path = files.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in modules(path):
            ours = [file for folder in FOLDERS if (file := folder / f"{name}.py").exists()]
            files += ours
            if not ours:
                found.add(name)
    return found - set(sys.stdlib_module_names) - {"fusedrnn"}


def brought_by(extra: str) -> Iterator[str]:
    """The distributions that an extra names, by itself or by other extras."""
    for requirement in re.findall(r'"([^"]+)"', EXTRAS[extra]):
        name, others = re.fullmatch(r"([\w-]+)(?:\[(.*)\])?.*", requirement).groups()
        if name == "fusedrnn":
            for other in others.split(","):
                yield from brought_by(other)
        else:
            yield name


def test_the_extra_has_all_that_tests_import() -> None:
    brought = {"numpy", *brought_by("test")}
    distributions = packages_distributions()
    imported = imported_by_tests()
    assert {"numpy", "torch", "pytest", "hypothesis"} <= imported
    assert {name for name in imported if not brought & {*distributions.get(name, [name])}} == set()
