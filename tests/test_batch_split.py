"""Row b of a batch gives the bits that row alone gives: y, final states, dx, dh0 and dc0.

Weight gradients are sums over the batch and dropout's mask is keyed by row, so neither is part of the
promise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusedrnn import _native, functional
from fusedrnn._core.cells import CELLS

GATES = {cell.family: len(cell.gates) for cell in CELLS.values()}


def run(cell: str, arrays: dict[str, Any], weights: Any, rows: list[int]) -> list[np.ndarray]:
    """All per-row results of the given rows of a batch, batch axis first."""
    pick = {name: a[:, rows] if a.ndim > 1 else a[rows] for name, a in arrays.items()}
    pick = {name: np.ascontiguousarray(a) for name, a in pick.items()}
    lstm = cell == "lstm"
    state = (pick["h0"], pick["c0"]) if lstm else pick["h0"]
    dstate = (pick["dhn"], pick["dcn"]) if lstm else pick["dhn"]
    forward, backward = (getattr(functional, f"{cell}_{way}") for way in ("forward", "backward"))
    y, out, tape = forward(pick["x"], state, weights, lengths=pick["lengths"], resets=pick["resets"])
    dx, dstate0, _ = backward(tape, pick["dy"], dstate)
    results = [y, dx, *(out if lstm else [out]), *(dstate0 if lstm else [dstate0])]
    return [np.moveaxis(a, 1, 0) for a in results]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("I", "H"), [(5, 7), (300, 80)])
@pytest.mark.parametrize("cell", GATES)
def test_a_row_does_not_depend_on_its_batch(
    cell: str, I: int, H: int, dtype: Any, precision: str, threads: int
) -> None:
    T, B, L, D = 6, 19, 2, 2
    random = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(dtype)

    weights = {}
    for layer in range(L):
        for suffix in ("", "_reverse"):
            width = I if layer == 0 else D * H
            weights[f"weight_ih_l{layer}{suffix}"] = normal(GATES[cell] * H, width) * dtype(width**-0.5)
            weights[f"weight_hh_l{layer}{suffix}"] = normal(GATES[cell] * H, H) * dtype(H**-0.5)
            weights[f"bias_ih_l{layer}{suffix}"] = normal(GATES[cell] * H)
            weights[f"bias_hh_l{layer}{suffix}"] = normal(GATES[cell] * H)
    arrays: dict[str, Any] = {name: normal(L * D, B, H) for name in ("h0", "c0", "dhn", "dcn")}
    arrays |= {"x": normal(T, B, I), "dy": normal(T, B, D * H)}
    arrays |= {"lengths": random.integers(0, T + 1, B), "resets": random.random((T, B)) < 0.2}
    assert len(set(arrays["lengths"])) > 3
    assert arrays["resets"].any()

    packed = functional.pack_weights(weights, precision=precision)
    before = _native.get_num_threads()
    try:
        _native.set_num_threads(threads)
        whole = run(cell, arrays, packed, list(range(B)))
        for rows in ([4], [17], [0, 3, 8], list(range(5, 12)), list(range(B))[::-1]):
            for part, all_rows in zip(run(cell, arrays, packed, rows), whole, strict=True):
                assert part.tobytes() == all_rows[rows].tobytes()
    finally:
        _native.set_num_threads(before)
