"""Inputs that once gave something wrong give what is right (`tests/faults`), each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import fusedrnn as fr

ROOT = Path(__file__).parents[1]
WORKER = ROOT / "tests" / "faults" / "worker.py"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and streams are Linux's")
LEAST = {"1": 60, "2": 4, "3": 12, "4": 60, "5": 2}  # of each kind: fewer mean that some were not collected


def found(*words: str, path: Path | None = None) -> list[dict[str, object]]:
    places = [str(Path(fr.__file__).parents[1])] if path is None else [str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, str(WORKER), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_input_gives_what_is_right() -> None:
    rows = found("--quick")
    without = [row for row in rows if str(row["gives"]).startswith("not computed without torch")]
    if without:
        assert importlib.util.find_spec("torch") is None
        rows = [row for row in rows if row not in without]
    else:
        counts = Counter(str(row["kind"]).split(".")[0] for row in rows)
        assert all(counts[kind] >= least for kind, least in LEAST.items()), counts
    wrong = [
        f"{row['kind']} {row['name']}: {row['gives']}, not {row['expected']}"
        for row in rows
        if not row["right"]
    ]
    assert not wrong, "\n".join(wrong)


def test_a_build_that_is_wrong_is_seen(tmp_path: Path) -> None:
    """What a build gives is computed: one that accepts anything, crashes or hangs has rows that say so."""
    package = tmp_path / "fusedrnn"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"__path__.append({str(Path(fr.__file__).parent)!r})\n"
        "exec(open(__path__[1] + '/__init__.py').read())\n"
        "import os, fusedrnn.nn, fusedrnn.optim\n"
        "from fusedrnn import reference\n"
        "reference.adam_ = lambda *args, **named: None\n"
        "reference.clip_by_value_ = lambda *args: os.abort()\n"
    )
    wrong = [row for row in found("1.9", "1.10", path=tmp_path) if not row["right"]]
    names = [str(row["name"]) for row in wrong]
    assert all(name.startswith("reference.") for name in names), names
    assert len([name for name in names if "adam_" in name]) == 9
    assert "crashes: SIGABRT" in [row["gives"] for row in wrong]
