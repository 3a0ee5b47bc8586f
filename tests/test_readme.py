"""What README.md says is so: its examples run, the files it names exist, its commands are the project's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fusedrnn as fr

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_four_examples() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("number", range(4))
def test_example_runs(number: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", EXAMPLES[number]]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr


def test_tests_it_names_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)`", README)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_links_lead_somewhere() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith(("http", "#"))]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_examples_it_lists_are_all_there_are() -> None:
    folder = Path(fr.__file__).parent / "examples"
    there = {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")}
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == there


def test_both_commands_are_one_line() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert any(re.match(r"python3 -m venv .*pip install .*fusedrnn train\n", b) for b in blocks)
    marked = re.search(r"<!-- ci:test -->\n```sh\n([^\n]+)\n```", README)
    assert marked is not None
    assert "pip install" in marked[1]
    assert marked[1].endswith("-m pytest")


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200
