"""Embedding: rows by index, the table's gradient, bits."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_parity, cast

import fusedrnn as fr
from fusedrnn import _native, functional, losses, nn, optim, reference

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


# ------------------------------------------------------------------------------------------------ padding_idx
@pytest.mark.parametrize("padding", [0, 3, -1])
@pytest.mark.parametrize("whole", [False, True], ids=["separate calls", "train_step"])
def test_padding_is_torchs(padding: int, whole: bool) -> None:
    ours = nn.Embedding(5, 3, padding, dtype=np.float64, seed=0)
    theirs = torch.nn.Embedding(5, 3, padding, dtype=torch.float64)
    assert ours.padding_idx == theirs.padding_idx
    assert not ours.weight.data[padding].any()
    assert ours.weight.data.any(1).sum() == 4
    theirs.load_state_dict({"weight": torch.from_numpy(ours.weight.numpy())})
    ids = np.array([[0, 3, 4], [4, 4, 1]])
    target = np.random.default_rng(1).normal(size=(2, 3, 3))
    model = nn.Sequential(ours)
    a = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    b = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        if whole:
            model.train_step(ids, target, "mse", a)
        else:
            model.zero_grad()
            model.backward(losses.mse(model(ids), target)[1])
            a.step()
        b.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.from_numpy(ids)), torch.from_numpy(target)).backward()
        b.step()
        np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad, rtol=1e-14)
        np.testing.assert_allclose(ours.weight.data, theirs.weight.detach(), rtol=1e-13)
    assert not ours.weight.data[padding].any()


def test_padding_keeps_what_others_have_added_there() -> None:
    """A tied weight: only the embedding's own part of the row is left out, and NaN with it."""
    embedding = nn.Embedding(4, 2, 1, dtype=np.float64)
    embedding.weight.grad = np.arange(8.0).reshape(4, 2)
    embedding(np.array([1, 2, 1]))
    embedding.backward(np.array([[np.nan, 1], [1, 1], [np.inf, 1]]))
    assert embedding.weight.grad.tolist() == [[0, 1], [2, 3], [5, 6], [6, 7]]


def test_padding_options() -> None:
    assert repr(nn.Embedding(4, 2, -1)) == "Embedding(4, 2, padding_idx=3)"
    for bad in (4, -5):
        with pytest.raises(ValueError, match=rf"padding_idx must be in \[-4, 4\), it is {bad}"):
            nn.Embedding(4, 2, bad)
    for wrong in ("0", 1.0, True):
        with pytest.raises(TypeError, match="padding_idx must be an int or None, it is"):
            nn.Embedding(4, 2, wrong)  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(nn.Embedding(4, 2, 2)))
    assert again.padding_idx == 2
    old = nn.Embedding(4, 2).__getstate__()
    del old["_padding_idx"]
    again.__setstate__(old)
    assert again.padding_idx is None
    taken = fr.io.from_torch(torch.nn.Sequential(torch.nn.Embedding(4, 2, padding_idx=2)))
    assert taken[0].padding_idx == 2


def test_padding_idx_may_be_set_and_is_checked_then() -> None:
    table = nn.Embedding(5, 2, seed=0)
    table.padding_idx = -1
    assert table.padding_idx == 4
    ids = np.array([0, 4])
    table.backward(np.ones_like(table(ids)))
    assert np.array_equal(table.weight.grad, [[1, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match=r"padding_idx must be in \[-5, 5\), it is 99"):
        table.padding_idx = 99
    with pytest.raises(TypeError, match="padding_idx must be an int or None, it is bool"):
        table.padding_idx = True
    assert pickle.loads(pickle.dumps(table)).padding_idx == 4


@pytest.mark.parametrize("largest", [2**63, 2**64 - 1])
def test_ids_that_int64_does_not_hold_are_refused(largest: int) -> None:
    ids = np.array([0, largest], np.uint64)
    with pytest.raises(ValueError, match=f"ids must be integers of int64, the largest is {largest}"):
        nn.Embedding(5, 2, seed=0)(ids)
    assert nn.Embedding(5, 2, seed=0)(ids[:1]).shape == (1, 2)


def test_a_list_that_is_no_list_of_integers_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"ids must be an array of integers, or a list .*one of float64"):
        nn.Embedding(5, 2, seed=0)([0.5])
