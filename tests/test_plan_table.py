"""bench/plan_table.py: measurements become the table by which CUDA's plans are chosen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import plan_table

ROOT = Path(__file__).resolve().parents[1]

H200 = "NVIDIA H200, compute capability 9.0, 132 multiprocessors, 139.8 GiB"


def results(*rows: tuple[str, int, int, dict[str, float]], device: str = H200) -> dict[str, Any]:
    """A result file of rows (cell, H, B, the plans' times)."""
    return {
        "runs": [{"machine": {"device": device}}],
        "rows": [
            {
                "name": f"{cell} {H} {B}",
                "run": 0,
                "notes": {
                    "shape": {"cell": cell, "precision": "bf16", "H": H, "B": B},
                    "plans": {"chosen": 1.0, "reference": 0.1} | plans,
                },
            }
            for cell, H, B, plans in rows
        ],
    }


def test_the_fastest_is_taken_and_of_two_the_simpler() -> None:
    table = plan_table.entries(
        [
            results(
                ("lstm", 512, 16, {"step": 4.0, "cluster": 2.0, "grid": 3.0}),
                ("lstm", 1024, 16, {"step": 4.0, "grid": 3.99}),
                ("gru", 512, 1, {"step": 4.0, "cluster": 5.0}),
            )
        ]
    )
    assert table == {
        (9, "gru", "bf16", 512, 1): "step",
        (9, "lstm", "bf16", 512, 16): "cluster",
        (9, "lstm", "bf16", 1024, 16): "step",
    }


def test_what_was_measured_twice_counts_together() -> None:
    training = results(("lstm", 512, 16, {"step": 9.0, "cluster": 10.0}))
    inference = results(("lstm", 512, 16, {"step": 4.0, "cluster": 2.0, "grid": 1.0}))
    assert plan_table.entries([training, inference]) == {(9, "lstm", "bf16", 512, 16): "cluster"}


@pytest.mark.parametrize("device", ["host emulator, compute capability 9.0, 132 multiprocessors", ""])
def test_only_a_gpu_counts(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(results(("lstm", 8, 1, {"step": 1.0}), device=device)))
    assert plan_table.main([str(path), "--output", str(tmp_path / "table.hpp")]) == 1
    assert "not on a GPU" in capsys.readouterr().err
    assert not (tmp_path / "table.hpp").exists()


def test_the_table_names_what_it_was_made_of(tmp_path: Path) -> None:
    path, table = tmp_path / "h200.json", tmp_path / "table.hpp"
    path.write_text(json.dumps(results(("lstm", 512, 16, {"step": 4.0, "cluster": 2.0}))))
    assert plan_table.main([str(path), "--output", str(table)]) == 0
    text = table.read_text()
    assert "// Measured: h200.json.\n" in text
    assert "{9, CellKind::lstm, Precision::bf16, 512, 16, PlanKind::cluster},\n" in text


def test_the_table_in_the_repository_says_what_it_was_made_of(tmp_path: Path) -> None:
    written = (ROOT / "cuda" / "recurrent" / "plan_table.hpp").read_text()
    if "// Measured: " in written:
        return
    assert plan_table.main(["--output", str(tmp_path / "table.hpp")]) == 0
    assert written == (tmp_path / "table.hpp").read_text()
    assert plan_table.UNMEASURED in written
    assert written.count("PlanKind::") == written.count("PlanKind::step}") > 0
