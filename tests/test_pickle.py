"""copy.deepcopy and pickle: the same model in memory of its own, without tapes and packed weights."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fusedrnn as fr

COPIES = {"deepcopy": copy.deepcopy, "copy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}
IDS = np.arange(12).reshape(6, 2) % 7


def build() -> fr.nn.Sequential:
    rng = np.random.default_rng(0)
    return fr.nn.Sequential(
        fr.nn.Embedding(7, 4, seed=rng),
        fr.nn.GRU(4, 5, 2, dropout=0.3, seed=rng),
        fr.nn.LSTM(5, 5, bidirectional=True, seed=rng),
        fr.nn.LayerNorm(10),
        fr.nn.Dropout(0.2, seed=rng),
        fr.nn.Last(),
        fr.nn.Linear(10, 3, seed=rng),
    )


@pytest.fixture(params=["deepcopy", "pickle"])
def duplicate(request: pytest.FixtureRequest):
    return COPIES[request.param]


def test_a_copy_computes_the_same_bits(duplicate) -> None:
    model = build()
    y = model(IDS)
    model.backward(np.ones_like(y))
    twin = duplicate(model)
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert twin.random_state() == model.random_state()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert np.array_equal(p.data, q.data), name
        assert np.array_equal(p.grad, q.grad), name
        assert p.name == q.name
    y, y_twin = model(IDS), twin(IDS)
    np.testing.assert_array_equal(y, y_twin)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    model.backward(dy)
    twin.backward(dy)
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad, err_msg=name)


def test_a_copy_has_its_own_memory_in_one_buffer_a_module(duplicate) -> None:
    model = build()
    twin = duplicate(model)
    for layer, other in zip(model, twin, strict=True):
        buffers = {id(p._buffer) for p in other.parameters()}
        assert len(buffers) <= 1
        for p, q in zip(layer.parameters(), other.parameters(), strict=True):
            assert not np.shares_memory(p.data, q.data)
            assert not np.shares_memory(p.grad, q.grad)
            assert q.data.ctypes.data % 64 == 0
            assert np.shares_memory(q.data, q._buffer.data)
    before = model.state_dict()
    for q in twin.parameters():
        q.data = np.zeros_like(q.data)
    assert not twin.eval()(IDS).any()
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())


def test_tapes_stay_behind(duplicate) -> None:
    model = build()
    dy = np.ones_like(model(IDS))
    twin = duplicate(model)
    for layer in twin:
        with pytest.raises(RuntimeError, match="has no tape"):
            layer.backward(dy)
    model.backward(dy)


def test_the_mode_is_kept(duplicate) -> None:
    model = build().eval()
    y = model(IDS)
    twin = duplicate(model)
    assert not any(m.training for m in twin.modules())
    np.testing.assert_array_equal(twin(IDS), y)


def test_tied_parameters_stay_tied(duplicate) -> None:
    embedding, head = fr.nn.Embedding(5, 3, seed=0), fr.nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    twin = duplicate(fr.nn.Sequential(embedding, head))
    assert twin[0].weight is twin[1].weight
    assert len(list(twin.parameters())) == 1


def test_a_copy_is_as_small_as_its_parameters() -> None:
    model = fr.nn.LSTM(8, 32, seed=0)
    small = len(pickle.dumps(model))
    model(np.zeros((200, 16, 8), np.float32))
    assert len(pickle.dumps(model)) == small
    assert small < 2 * sum(p.data.nbytes for p in model.parameters()) + 4000
