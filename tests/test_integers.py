"""Ids, classes and lengths: any integer type and strides, and lists, give what int64 gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.nn import GRU, Embedding, Last, Linear, Sequential

T, B, V = 4, 3, 5
IDS = np.random.default_rng(0).integers(0, V, (T, B))
LENGTHS = np.array([4, 1, 3])


def odd(array: np.ndarray) -> dict[str, Any]:
    """The same integers in other ways."""
    backward = np.ascontiguousarray(array[::-1])[::-1]
    wide = (
        np.repeat(np.repeat(array, 2, 0), 3, -1)[::2, ..., ::3]
        if array.ndim > 1
        else np.repeat(array, 2)[::2]
    )
    unaligned = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    others = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, ">i8", ">i4")
    return {
        **{np.dtype(t).str: array.astype(t) for t in others},
        "list": array.tolist(),
        "transposed": np.ascontiguousarray(array.T).T,
        "negative strides": backward,
        "strided": wide,
        "unaligned": unaligned,
    }


@pytest.mark.parametrize("kind", odd(IDS))
def test_integers_of_any_kind_give_the_same(kind: str) -> None:
    ids, lengths = odd(IDS)[kind], odd(LENGTHS)[kind]

    def everything(ids: Any, lengths: Any) -> list[Any]:
        embedding, gru, last = Embedding(V, 3, seed=0), GRU(3, 4, seed=1), Last()
        y = gru(embedding(ids), lengths=lengths)[0]
        dx, _ = gru.backward(y)
        embedding.backward(dx)
        logits = np.random.default_rng(1).standard_normal((T, B, V)).astype(np.float32)
        found = [y, embedding.weight.grad, last(y, lengths), last.backward(y[0])]
        found += fr.losses.cross_entropy(logits, ids)
        functional = fr.functional
        found.append(functional.embedding_forward(ids, embedding.weight.data))
        found.append(functional.embedding_backward(y[..., :3].copy(), ids, V))
        model = Sequential(Embedding(V, 3, seed=0), GRU(3, 4, seed=1), Linear(4, V, seed=2))
        optimizer = fr.optim.Adam(model.parameters())
        for _ in range(3):
            found += model.train_step(ids, ids, "cross_entropy", optimizer, lengths=lengths)[:1]
        found += model.state_dict().values()
        return found

    for one, other in zip(everything(ids, lengths), everything(IDS, LENGTHS), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "wrong", [IDS.astype(float), IDS > 0, IDS.astype(complex), [[0.5]], [["a"]], [[1], [1, 2]]]
)
def test_what_is_no_integer_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="ids must be"):
        Embedding(V, 3)(wrong)


def test_a_step_with_other_integers_is_a_native_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Sequential(Embedding(V, 3, seed=0), Linear(3, V, seed=2))
    optimizer = fr.optim.SGD(model.parameters())
    ids = IDS.astype(np.int32).T
    model.train_step(ids, ids, "cross_entropy", optimizer)
    monkeypatch.setattr("fusedrnn.training.step.separate_calls", None)
    model.train_step(ids, ids, "cross_entropy", optimizer)
