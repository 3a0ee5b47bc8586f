"""What the pages of docs/ say is so: every block of Python in them runs, and every public name has one."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fusedrnn as fr

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCKS = {
    f"{page.relative_to(DOCS)}-{number}": block
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
}
# The parts of the package that have a page of the reference: those its __all__ names, but what shares one.
REFERENCE = [page.stem for page in sorted((DOCS / "api").glob("*.md"))]


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 25


@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", BLOCKS[name]]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr


def test_every_part_has_a_page() -> None:
    shared = {"cpu", "cuda", "reference"}  # in fusedrnn.md the first two, in functional.md the third
    parts = {name for name in fr.__all__ if name in fr._PARTS}
    assert set(REFERENCE) == parts - shared | {"fusedrnn", "torch"}


@pytest.mark.parametrize("page", REFERENCE)
def test_every_public_name_has_an_example(page: str) -> None:
    module = importlib.import_module("fusedrnn" if page == "fusedrnn" else f"fusedrnn.{page}")
    text = "".join(block for name, block in BLOCKS.items() if name.startswith(f"api/{page}.md"))
    names = [name for name in module.__all__ if name not in ("reference", *REFERENCE)]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_links_lead_somewhere() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
        if not target.startswith("http") and not (page.parent / target).exists()
    ]
    assert missing == []
