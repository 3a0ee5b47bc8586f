"""`Module.summary`: every module that matters, its own parameters, shared ones once."""

from __future__ import annotations

import numpy as np

import fusedrnn as fr


def test_a_line_for_each_layer_and_the_sum() -> None:
    model = fr.nn.Sequential(
        fr.nn.LSTM(3, 5), fr.nn.Sequential(fr.nn.Last(), fr.nn.Linear(5, 2, dtype=np.float64))
    )
    lines = model.summary().splitlines()
    cells = [line.split("  ") for line in lines if not line.startswith("-")]
    found = [[part.strip() for part in row if part.strip()] for row in cells]
    lstm = 4 * 5 * (3 + 5 + 2)
    assert found == [
        ["name", "module", "parameters", "bytes"],
        ["0", "LSTM(3, 5)", str(lstm), str(4 * lstm)],
        ["1.0", "Last()", "0", "0"],
        ["1.1", "Linear(5, 2)", "12", "96"],
        ["Sequential in all", str(lstm + 12), str(4 * lstm + 96)],
    ]


def test_what_is_shared_counts_once() -> None:
    """A module in two places, and a parameter in two modules."""
    gru = fr.nn.GRU(4, 4)
    assert total(fr.nn.Sequential(gru, gru)) == ["120", "480"]
    first, second = fr.nn.Linear(3, 3, bias=False), fr.nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    assert total(fr.nn.Sequential(first, second)) == ["9", "36"]


def total(model: fr.nn.Module) -> list[str]:
    """Parameters and bytes of the last line."""
    return model.summary().splitlines()[-1].split()[-2:]
