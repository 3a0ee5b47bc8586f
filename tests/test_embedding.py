"""Embedding: rows by index, the table's gradient, bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_parity, cast

from fusedrnn import _native, functional, reference

pytestmark = pytest.mark.parity


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=st.lists(st.integers(0, 5), max_size=3),
    rows=st.integers(1, 9),
    width=st.sampled_from([0, 1, 3, 8, 16, 17, 40]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_against_reference(dtype: Any, shape: list[int], rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, rows, size=shape)
    weight = rng.normal(size=(rows, width)).astype(dtype)
    dy = rng.normal(size=(*shape, width)).astype(dtype)
    y = functional.embedding_forward(ids, weight)
    assert y.tobytes() == weight[ids].tobytes()
    assert_parity(
        {"dweight": functional.embedding_backward(dy, ids, rows)},
        lambda d, _: {"dweight": reference.embedding_backward(cast(dy, d), ids, rows)},
        dtype,
    )


def test_against_torch() -> None:
    rng = np.random.default_rng(0)
    ids, dy = rng.integers(0, 11, size=(6, 5)), rng.normal(size=(6, 5, 13))
    weight = torch.from_numpy(rng.normal(size=(11, 13))).requires_grad_()
    torch.nn.functional.embedding(torch.from_numpy(ids), weight).backward(torch.from_numpy(dy))
    np.testing.assert_allclose(
        functional.embedding_backward(dy, ids, 11), weight.grad, rtol=1e-12, atol=1e-14
    )


def test_gradients_add_up_in_the_order_of_ids() -> None:
    ids = np.array([1, 1, 1, 0])
    dy = np.array([1.0, 1e16, -1e16, 5.0]).reshape(4, 1)
    dweight = np.array([[2.0], [0.0]])
    _native.embedding_backward(dy, ids, dweight)
    assert dweight.tolist() == [[7.0], [(0.0 + 1.0 + 1e16) - 1e16]]


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_unknown_id_is_named(bad: int) -> None:
    ids = np.array([[0, 3], [bad, 1]])
    weight = np.zeros((4, 2))
    with pytest.raises(ValueError, match=rf"ids must be in \[0, 4\), it is {bad} at flat index 2"):
        functional.embedding_forward(ids, weight)
    with pytest.raises(ValueError, match="ids"):
        functional.embedding_backward(np.zeros((2, 2, 2)), ids, 4)


def test_strided_ids_and_gradients() -> None:
    rng = np.random.default_rng(1)
    ids, dy = rng.integers(0, 5, size=(4, 9)), rng.normal(size=(9, 7, 6))
    weight = rng.normal(size=(5, 4))
    part, grad = ids[:, 2:9], dy.swapaxes(0, 1)[:4, :7, 1:5]
    assert (functional.embedding_forward(part, weight) == weight[part]).all()
    expected = reference.embedding_backward(grad, part, 5)
    np.testing.assert_allclose(functional.embedding_backward(grad, part, 5), expected, rtol=1e-14)


@pytest.mark.parametrize("width", [3, 200])
def test_same_bits(width: int) -> None:
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 20, size=(300, 70)) // 3
    dy = rng.normal(size=(300, 70, width)).astype(np.float32)
    assert_same_bits(lambda: functional.embedding_backward(dy, ids, 20))
