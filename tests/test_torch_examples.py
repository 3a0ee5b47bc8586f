"""Models as PyTorch users write them: swapped by one line, the loss curve is the same up to rounding."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch_models  # noqa: F401  one thread for PyTorch

pytestmark = pytest.mark.peer

# Steps to compare, and how far curves may part: rounding grows with every update that follows from it.
EXAMPLES = {
    "torch_language_model": (6, 1e-4),
    "torch_time_sequence": (6, 1e-9),  # float64
    "torch_classifier": (20, 1e-4),
    "torch_recurrent_ppo": (10, 1e-4),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_same_curve(name: str) -> None:
    steps, allowed = EXAMPLES[name]
    example: Any = importlib.import_module(f"fusedrnn.examples.{name}")
    result = example.run(steps)
    assert len(result.losses_before) == len(result.losses_after) >= steps
    assert result.losses_after[-1] < result.losses_after[0]  # it learns
    assert result.difference < allowed


def test_as_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    from fusedrnn.examples import torch_classifier

    assert torch_classifier.main(["--steps", "2"]) == 0
    shown = capsys.readouterr().out
    assert "largest difference" in shown
    assert "s swapped" in shown
