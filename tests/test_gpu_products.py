"""Products of a GPU by their two sizes of tiles: which a product gets is a matter of speed, and of no bit.

The sizes are such that a product has a tile of 128 x 128 for each multiprocessor, some with an edge in them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sequences import Stack, draw, run

from fusedrnn import cpu

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(cpu.isa() not in ("cuda", "simt"), reason="about the kernels of a GPU"),
]
ROWS, COLUMNS = 11 * 128 + 1, 10 * 128 + 1  # 132 tiles
PRECISIONS = pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])


@PRECISIONS
def test_gradients_of_some_inputs_alone(precision: str) -> None:
    data = draw(Stack("rnn_tanh", T=1, B=ROWS, I=COLUMNS, H=50, state=False, dhn=False))
    some = slice(ROWS - 100, ROWS)
    assert data.dy is not None
    alone = replace(data, x=data.x[:, some], dy=data.dy[:, some])
    all_dx, dx = (run(d, np.float32, None, precision)["dx"] for d in (data, alone))
    assert all_dx[:, some].tobytes() == dx.tobytes()


@PRECISIONS
def test_gradients_of_some_weights_alone(precision: str) -> None:
    """Weights of zero, so that the gates are the same however many inputs there are."""
    data = draw(Stack("rnn_tanh", T=1, B=50, I=COLUMNS, H=ROWS, state=False, dhn=False, need_dx=False))
    data.weights["weight_ih_l0"][...] = 0
    some = slice(COLUMNS - 100, COLUMNS)
    weights = {**data.weights, "weight_ih_l0": data.weights["weight_ih_l0"][:, some]}
    alone = replace(data, x=data.x[..., some], weights=weights)
    gradients = (run(d, np.float32, None, precision)["dweight_ih_l0"] for d in (data, alone))
    all_columns, columns = gradients
    assert np.abs(columns).max() > 0
    assert np.ascontiguousarray(all_columns[:, some]).tobytes() == columns.tobytes()
