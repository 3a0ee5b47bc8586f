"""Chunks of steps: the whole sequence's outputs and, where a reset cuts at a chunk's begin, its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from steps import data
from variants import VARIANTS

import fusedrnn as fr

T, B, I, H = 23, 5, 3, 6
LENGTHS = np.array([23, 4, 17, 0, 8])


def model(cell: str, dtype: Any = np.float32, first: bool = False) -> fr.nn.Sequential:
    variant = VARIANTS[cell]
    layer = getattr(fr.nn, variant.kind)(I, H, 2, batch_first=first, dtype=dtype, seed=0, **variant.options)
    return fr.nn.Sequential(layer, fr.nn.Linear(variant.units(H), 2, dtype=dtype, seed=1))


def arrays(first: bool = False, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    x, y = data(T, B, I, dtype=dtype), data(T, B, 2, seed=1, dtype=dtype)
    return (x.swapaxes(0, 1).copy(), y.swapaxes(0, 1).copy()) if first else (x, y)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("steps", [1, 7, 23, 100])
@pytest.mark.parametrize("cell", VARIANTS)
def test_outputs_and_states_are_the_whole_ones(cell: str, steps: int, first: bool) -> None:
    m, (x, _) = model(cell, first=first).eval(), arrays(first)
    whole, end = m(x, lengths=LENGTHS, return_state=True)
    state, parts = None, []
    for chunk in fr.data.tbptt(x, steps=steps, lengths=LENGTHS, batch_first=first):
        part, state = m(chunk.x, lengths=chunk.lengths, state=state, return_state=True)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=int(first)), whole)
    for found, expected in zip(flat(state), flat(end), strict=True):
        np.testing.assert_array_equal(found, expected)


def flat(states: Any) -> list[np.ndarray]:
    return [a for s in states for a in flat(s)] if isinstance(states, (list, tuple)) else [states]


@pytest.mark.parametrize("cell", VARIANTS)
def test_gradients_add_up_where_resets_cut(cell: str) -> None:
    """A reset at every chunk's begin: no gradient of the whole sequence crosses there either."""
    steps, (x, y) = 6, arrays(dtype=np.float64)
    resets = np.zeros((T, B), bool)
    resets[::steps] = True
    resets[3, 1] = True
    lengths = np.array([23, 4, 17, 1, 8])
    mask = np.arange(T)[:, None] < lengths
    loss = fr.losses.MSE(reduction="sum")
    whole, cut = model(cell, np.float64), model(cell, np.float64)
    still = [fr.optim.SGD(m.parameters(), lr=0.0) for m in (whole, cut)]
    expected, _ = whole.train_step(x, y, loss, still[0], lengths=lengths, resets=resets, mask=mask)
    total, state = 0.0, None
    sums = {name: np.zeros(p.shape) for name, p in cut.named_parameters()}
    for chunk in fr.data.tbptt(x, y, steps=steps, lengths=lengths, resets=resets):
        value, _, state = cut.train_step(
            chunk.x, chunk.y, loss, still[1], lengths=chunk.lengths, resets=chunk.resets, mask=chunk.mask,
            state=state, return_state=True,
        )  # fmt: skip
        total += value
        for name, p in cut.named_parameters():
            sums[name] += p.grad
    assert total == pytest.approx(expected, rel=1e-13)
    for name, p in whole.named_parameters():
        np.testing.assert_allclose(sums[name], p.grad, rtol=1e-11, atol=1e-13, err_msg=name)


def test_chunks() -> None:
    x, y = arrays()
    mask = np.ones((T, B), bool)
    mask[2] = False
    chunks = list(fr.data.tbptt(x, y, steps=10, lengths=[9, 12, 0, 1, 12], mask=mask))
    assert [c.start for c in chunks] == [0, 10]
    np.testing.assert_array_equal(chunks[1].lengths, [0, 2, 0, 0, 2])
    assert chunks[1].mask.sum() == 4
    assert not chunks[0].mask[2].any()
    assert chunks[0].mask[0].tolist() == [True, True, False, True, True]
    assert np.shares_memory(chunks[1].x, x)
    plain = list(fr.data.tbptt(x, steps=10))
    assert [len(c.x) for c in plain] == [10, 10, 3]
    assert all(c.y is c.lengths is c.mask is c.resets is None for c in plain)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, it is 0"),
        ({"y": np.zeros((T, 2))}, ValueError, r"y must have x's first two axes \(23, 5\), it has \(23, 2\)"),
        ({"y": [1]}, TypeError, "y must be an array of steps and rows, it is list"),
        ({"lengths": np.array([24, 1, 1, 1, 1])}, ValueError, r"lengths must be in \[0, 23\]"),
        ({"lengths": np.ones(5)}, TypeError, "lengths must be integers, they are float64"),
        ({"lengths": np.array([1])}, ValueError, r"lengths must have shape \(5,\), they have \(1,\)"),
        ({"batch_first": 1}, TypeError, "batch_first must be True or False"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fr.data.tbptt(**({"x": arrays()[0], "steps": 4} | options))
