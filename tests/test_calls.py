"""Modules called several times before backward: the right gradients, or an error that says what to do."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import time
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn._native import Call, Calls, makers

T, B, H = 5, 3, 4


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def gru(**options: Any) -> fr.nn.GRU:
    return fr.nn.GRU(H, H, dtype=np.float64, seed=0, **options)


def grads(module: fr.nn.Module) -> list[np.ndarray]:
    return [p.grad.copy() for p in module.parameters()]


def near(a: Any, b: Any, terms: int = 2 * T * B) -> bool:
    """Equal but for the order in which so many terms were added."""
    return bool(np.abs(a - b).max() <= terms * np.finfo(np.float64).eps * np.abs(b).max())


def copies(module: fr.nn.Module, n: int) -> list[fr.nn.Module]:
    """Modules with the same weights, each called once: what gradients of one called n times add up to."""
    return [copy.deepcopy(module) for _ in range(n)]


# ------------------------------------------------------------------------------------------------- containers
@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_twice_in_a_sequential(nested: bool) -> None:
    layer = gru()
    inner = fr.nn.Sequential(layer, layer)
    model = fr.nn.Sequential(inner, fr.nn.Linear(H, H, dtype=np.float64, seed=1), layer) if nested else inner
    apart = copies(layer, 3 if nested else 2)
    linear = list(model)[1] if nested else None
    x, dy = data(T, B, H), data(T, B, H, seed=1)
    y = model(x)
    h = apart[1](apart[0](x)[0])[0]
    if linear is not None:
        twin = copies(linear, 1)[0]
        h = apart[2](twin(h))[0]
    assert np.array_equal(y, h)
    dx = model.backward(dy)
    expected = apart[-1].backward(dy)[0]
    if linear is not None:
        expected = apart[1].backward(twin.backward(expected))[0]
        assert near(linear.weight.grad, twin.weight.grad)
    expected = apart[0].backward(expected)[0]
    assert near(dx, expected)
    for i, grad in enumerate(grads(layer)):
        assert near(grad, sum(grads(each)[i] for each in apart))


def test_a_dropout_in_two_places() -> None:
    drop = fr.nn.Dropout(0.5, seed=0)
    model = fr.nn.Sequential(drop, gru(), drop)
    key = drop._dropout_key
    x, dy = data(T, B, H), data(T, B, H, seed=1)
    model(x)
    dx = model.backward(dy)
    first, second = (fr.nn.Dropout(0.5) for _ in range(2))
    first._dropout_key, second._dropout_key = key, key + 1
    apart = fr.nn.Sequential(first, gru(), second)
    apart(x)
    assert np.array_equal(dx, apart.backward(dy))


@pytest.mark.peer
def test_a_layer_twice_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    layer = gru()
    peer = torch.nn.GRU(H, H, dtype=torch.float64)
    peer.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    x = data(T, B, H)
    there = torch.from_numpy(x).requires_grad_()
    peer(peer(there)[0])[0].sum().backward()
    both = fr.nn.Sequential(layer, layer)
    y = both(x)
    dx, right = both.backward(np.ones_like(y)), there.grad.numpy()
    assert np.abs(dx - right).max() <= 1e-10 * np.abs(right).max()  # as in test_torch_parity.py
    for name, p in layer.named_parameters():
        right = getattr(peer, name).grad.numpy()
        assert np.abs(p.grad - right).max() <= 1e-10 * np.abs(right).max(), name


def test_train_step_of_a_layer_in_two_places() -> None:
    """The separate calls' bits, at every step."""
    layer, twin = gru(), gru()
    models = [fr.nn.Sequential(layer, layer), fr.nn.Sequential(twin, twin)]
    optimizers = [fr.optim.Adam(model.parameters(), lr=0.01) for model in models]
    for seed in range(4):
        x, target = data(T, B, H, seed=seed), data(T, B, H, seed=9)
        value, norm = models[0].train_step(x, target, fr.losses.mse, optimizers[0], clip_norm=0.1)
        y = models[1](x)
        loss, dy = fr.losses.mse(y, target)
        models[1].zero_grad()
        models[1].backward(dy)
        assert (value, norm) == (loss, optimizers[1].step(clip_norm=0.1))
        assert all(
            np.array_equal(p.data, q.data) for p, q in zip(layer.parameters(), twin.parameters(), strict=True)
        )


def test_train_step_beside_a_call_that_waits() -> None:
    model = fr.nn.Sequential(gru(), fr.nn.Last())
    optimizer = fr.optim.SGD(model.parameters(), lr=0.1)
    waiting = model(data(T, B, H, seed=7))
    twin = fr.nn.Sequential(gru(), fr.nn.Last())
    other = fr.optim.SGD(twin.parameters(), lr=0.1)
    for seed in range(3):
        x, target = data(T, B, H, seed=seed), data(B, H, seed=8)
        assert model.train_step(x, target, "mse", optimizer) == twin.train_step(x, target, "mse", other)
    assert waiting.any()


# ------------------------------------------------------------------------------------------- loops over steps
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_a_loop_over_steps_is_the_whole_sequence(kind: str) -> None:
    layer = getattr(fr.nn, kind)(H, H, dtype=np.float64, seed=0)
    whole = copies(layer, 1)[0]
    x, dy = data(T, B, H), data(T, B, H, seed=1)
    whole(x)
    dx, dstate = whole.backward(dy)
    state, steps = None, []
    for t in range(T):
        y, state = layer(x[t : t + 1], state)
        steps.append(y)
    after, parts = None, []
    for t in reversed(range(T)):
        part, after = layer.backward(dy[t : t + 1], after)
        parts.append(part)
    assert near(np.concatenate(parts[::-1]), dx)
    for a, b in zip(grads(layer), grads(whole), strict=True):
        assert near(a, b)
    for a, b in zip(np.atleast_1d(after), np.atleast_1d(dstate), strict=True):
        assert near(a, b)


def test_steps_may_be_named_in_any_order() -> None:
    """Without a gradient through the state each step's gradient is its own."""
    layer = gru()
    x, dy = data(T, B, H), data(T, B, H, seed=1)
    h, steps = None, []
    for t in range(T):
        y, h = layer(x[t : t + 1], h)
        steps.append(y)
    backward = [layer.backward(dy[t : t + 1], of=steps[t])[0] for t in range(T)]
    total = grads(layer)
    layer.zero_grad()
    again = [layer.backward(dy[t : t + 1], of=steps[t])[0] for t in reversed(range(T))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(backward, again, strict=True))
    assert all(near(a, b) for a, b in zip(grads(layer), total, strict=True))
    with pytest.raises(RuntimeError, match=r"GRU.backward has taken every call of a loop.*by of="):
        layer.backward(dy[:1])


def test_a_long_loop_is_freed_without_recursion() -> None:
    layer = fr.nn.RNN(1, 1, seed=0)
    x, h, dh = np.ones((1, 1, 1), np.float32), None, None
    y = x
    for _ in range(30_000):
        y, h = layer(x, h)
    for _ in range(3):
        _, dh = layer.backward(None, np.ones((1, 1, 1), np.float32) if dh is None else dh)
    assert y.any()
    del y, h
    layer.eval()
    gc.collect()


def test_a_state_through_a_view_is_linked() -> None:
    layer = gru()
    x = data(T, B, H)
    y1, _ = layer(x)
    y2, _ = layer(x, y1[-1:])
    _, dh = layer.backward(np.ones_like(y2))
    layer.backward(None, dh)


def test_a_link_may_pass_through_other_layers() -> None:
    layer, linear = gru(), fr.nn.Linear(H, H, dtype=np.float64, seed=1)
    x = data(T, B, H)
    y1, _ = layer(x)
    y2, _ = layer(linear(y1))
    dy, _ = layer.backward(np.ones_like(y2))
    layer.backward(linear.backward(dy))


# -------------------------------------------------------------------------------- calls that are not linked
LAYERS = {
    "GRU": (gru, (T, B, H)),
    "LSTM": (lambda: fr.nn.LSTM(H, H, dtype=np.float64, seed=0), (T, B, H)),
    "Linear": (lambda: fr.nn.Linear(H, H, dtype=np.float64, seed=0), (B, H)),
    "LayerNorm": (lambda: fr.nn.LayerNorm(H, dtype=np.float64), (B, H)),
    "Embedding": (lambda: fr.nn.Embedding(9, H, dtype=np.float64, seed=0), (B,)),
    "Dropout": (lambda: fr.nn.Dropout(0.5, seed=0), (B, H)),
    "Last": (fr.nn.Last, (T, B, H)),
    "Sequential": (lambda: fr.nn.Sequential(gru(), fr.nn.Last()), (T, B, H)),
}


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", LAYERS)
def test_siamese_calls(name: str) -> None:
    build, shape = LAYERS[name]
    inputs = [data(*shape, seed=s) for s in (1, 2)]
    if name == "Embedding":
        inputs = [np.arange(B) + 3 * s for s in (0, 1)]
    layer, alone = build(), [build(), build()]
    if name == "Dropout":
        alone[1]._dropout_key += 1
    ys = [first(layer(x)) for x in inputs]
    before = grads(layer)
    with pytest.raises(RuntimeError, match=rf"{name}.backward: 2 training calls wait.*by of=.*eval mode"):
        layer.backward(np.ones_like(ys[1]))
    assert all(np.array_equal(a, b) for a, b in zip(grads(layer), before, strict=True))
    for y, x, each in zip(ys, inputs, alone, strict=True):
        assert np.array_equal(y, first(each(x)))
        dx, expected = (first(m.backward(2 * y, **o)) for m, o in ((layer, {"of": y}), (each, {})))
        assert dx is expected is None or np.array_equal(dx, expected)
    for i, grad in enumerate(grads(layer)):
        assert near(grad, grads(alone[0])[i] + grads(alone[1])[i])
    again = first(layer.backward(2 * ys[0], of=ys[0]))
    assert again is None or np.array_equal(again, first(alone[0].backward(2 * ys[0])))


def test_what_lives_no_more_does_not_count() -> None:
    layer = gru()
    x = data(T, B, H)
    y, _ = layer(x)
    del y, _
    y, _ = layer(2 * x)
    twin = gru()
    assert np.array_equal(layer.backward(y)[0], (twin(2 * x), twin.backward(y))[1][0])
    layer(x)  # the newest lives without its results
    layer.backward(y)


def test_a_call_that_stood_beside_several_and_was_taken() -> None:
    """No call that stood beside the newest has gone without a backward."""
    layer = gru()
    x = data(T, B, H)
    y, h = layer(x)
    layer(x)  # gone before the next is made
    layer(2 * x)
    dy = np.ones_like(y)
    layer.backward(dy, of=y)
    del y, h
    first = layer.backward(dy)[0]
    assert np.array_equal(layer.backward(dy)[0], first)


def test_a_second_backward_where_a_call_is_gone() -> None:
    """It may be meant for that one: a model that calls a layer for two inputs, and keeps no result."""
    layer = gru()
    x = data(T, B, H)

    def distance() -> np.ndarray:
        return layer(x)[0] - layer(2 * x)[0]

    dy = distance()
    layer.backward(dy)
    with pytest.raises(RuntimeError, match=r"GRU.backward has taken its newest call, and another.*of=.*eval"):
        layer.backward(-dy)
    y, _ = layer(x)  # and another backward of one call stays allowed
    first = layer.backward(dy)[0]
    assert np.array_equal(layer.backward(dy)[0], first)
    assert np.array_equal(layer.backward(dy, of=y)[0], first)
    for _ in range(3):  # whose results have gone before the next is made
        layer(x)
    for _ in range(2):
        layer.backward(dy)
    for _ in range(3):  # or where those of the newest live
        y, _ = layer(x)
    for _ in range(2):
        layer.backward(dy)
    layer.eval()
    layer(x)
    layer.train()
    layer(x)
    for _ in range(2):
        layer.backward(dy)


def test_a_tape_that_reads_a_result_keeps_its_call() -> None:
    """Two calls of a user's own model: the embedding's results are gone, the gru's tapes came from them."""
    embedding, layer = fr.nn.Embedding(9, H, dtype=np.float64, seed=0), gru()
    ids = np.arange(2 * B).reshape(2, B)
    first, _ = layer(embedding(ids))
    second, _ = layer(embedding(ids + 3))
    assert len(list(embedding._calls)) == 2
    dx, _ = layer.backward(first, of=first)
    with pytest.raises(RuntimeError, match="2 training calls wait"):
        embedding.backward(dx)
    del first, second


@pytest.mark.parametrize("of", [np.zeros(3), "y", "other's", "used"])
def test_of_must_be_a_result_of_the_module(of: Any) -> None:
    layer, other = gru(), gru()
    y, _ = layer(data(T, B, H))
    if isinstance(of, str):
        made = {"y": "y", "other's": other(data(T, B, H))[0]}
        if of == "used":
            layer.backward(y)
            layer(data(T, B, H))
        of = made.get(of, y)
    with pytest.raises(ValueError, match="of must be a result of a training call of this GRU"):
        layer.backward(y, of=of)


def test_eval_leaves_none_even_of_a_result_that_lives() -> None:
    layer = gru()
    y, _ = layer(data(T, B, H))
    layer.eval().train()
    with pytest.raises(ValueError, match="of must be"):
        layer.backward(y, of=y)
    with pytest.raises(RuntimeError, match="has no tape"):
        layer.backward(y)


# ------------------------------------------------------------------------------- inputs that are written to
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("Dropout", "Last")])
@pytest.mark.parametrize("strided", [False, True])
def test_an_input_overwritten_before_backward(name: str, strided: bool) -> None:
    build, shape = LAYERS[name]
    x = data(*shape)
    if name == "Embedding":
        x = np.arange(B) % 9
    elif strided:
        x = np.zeros((*shape[:-2], 2 * shape[-2], shape[-1]))[..., ::2, :]
        x[...] = data(*shape)
    layer, twin = build(), build()
    y, expected = first(layer(x)), first(twin(x.copy()))
    x[...] = 0
    dx, right = first(layer.backward(y)), first(twin.backward(expected))
    assert right is None or near(dx, right)
    for a, b in zip(grads(layer), grads(twin), strict=True):
        assert near(a, b)
        assert b.any()


def test_states_overwritten_before_backward() -> None:
    layer, twin = (fr.nn.LSTM(H, H, dtype=np.float64, seed=0) for _ in range(2))
    x, h0, c0 = data(T, B, H), data(1, B, H, seed=1), data(1, B, H, seed=2)
    y, _ = layer(x, (h0, c0))
    twin(x, (h0.copy(), c0.copy()))
    h0[...], c0[...] = 0, 0
    for a, b in zip(layer.backward(y)[1], twin.backward(y)[1], strict=True):
        assert np.array_equal(a, b)


def test_layers_of_a_sequential_copy_nothing_between_them() -> None:
    model = fr.nn.Sequential(gru(), gru(), fr.nn.Linear(H, 2, dtype=np.float64, seed=1))
    model(data(T, B, H))
    assert model[1]._calls.newest in makers(model[2]._calls.newest.tape)  # a copy has no makers


def test_a_long_chain_of_calls_ends_without_a_deep_stack() -> None:
    """Each call is a source of the next, so the last one's end frees all of them."""
    layer, h, x = gru(), None, data(1, B, H)
    for _ in range(20_000):
        _, h = layer(x, h)
    ends = weakref.ref(layer)
    assert len(list(layer._calls)) > 19_000
    del layer, h
    gc.collect()
    assert ends() is None


def test_a_model_in_a_cycle_with_its_calls_is_collected() -> None:
    model = fr.nn.Sequential(gru(), fr.nn.Last())  # its newest call holds its layers, they theirs
    model(data(T, B, H))
    inner = weakref.ref(model[0])
    del model
    gc.collect()
    assert inner() is None


COLLECTED = """
import gc
import numpy as np
import fusedrnn as fr

layer, x = fr.nn.Linear(3, 2, seed=0), np.ones((1, 3), np.float32)
inside, kept = False, []

def call(*_):
    global inside
    if not inside:
        inside = True
        kept.append(layer(x))
        inside = False

gc.callbacks.append(call)
gc.set_threshold(1)
for _ in range(2000):
    kept.append(layer(x))
gc.callbacks.clear()
print(len(list(layer._calls)) == len(kept))
"""


def test_calls_of_a_garbage_collector_between_those_of_the_module() -> None:
    """Making a weak reference may run the collector, and what it runs may call the same module."""
    run = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout.strip()) == (0, "True"), run.stderr


def test_many_calls_beside_each_other_take_time_in_proportion() -> None:
    layer, x, kept = gru(), data(1, 1, H), []

    def seconds(n: int) -> float:
        start = time.perf_counter()
        kept.extend(layer(x)[0] for _ in range(n))
        return time.perf_counter() - start

    seconds(1000)
    few = seconds(4000)
    seconds(20_000)
    assert min(seconds(4000) for _ in range(3)) < 6 * few  # the least: other work may stop one of them


def test_an_array_where_a_result_was_is_none() -> None:
    """A result that goes where Python can run no callback leaves its entry behind."""
    layer, x = fr.nn.Linear(4, 4, dtype=np.float64, seed=0), data(1, 4)
    limit = sys.getrecursionlimit()

    def deeper(result: list[Any]) -> None:
        try:
            deeper(result)
        except RecursionError:
            result.clear()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(50):
            deeper([layer(x)])
    assert sys.getrecursionlimit() == limit
    assert not any(makers(np.empty((1, 4))) for _ in range(10_000))


def test_classes_of_calls_make_no_broken_objects() -> None:
    with pytest.raises(TypeError, match="owner"):
        Calls.__new__(Calls)
    with pytest.raises(TypeError, match="cannot create"):
        Call()
    calls = Calls("GRU")
    with pytest.raises(TypeError, match="weak reference"):
        calls.record(0, None, (), ([],))
    with pytest.raises(TypeError, match="parts must be Calls"):
        calls.record(0, None, (), (), (1,))
    assert calls.newest is None
    assert list(calls) == []
    with pytest.raises(TypeError, match="Call"):
        calls.took(3)
    with pytest.raises(RuntimeError, match="cast"):
        Calls("\ud800").select(np.ones(3))
    with pytest.raises(ValueError, match="must be a result of a training call of this GRU"):
        calls.select(np.ones(3))


# ----------------------------------------------------------------------------------------------------- memory
GROWTH = """
import resource, sys
import numpy as np
import fusedrnn as fr

lstm, x = fr.nn.LSTM(8, 64, seed=0), np.ones((6, 8, 8), np.float32)
model = fr.nn.Sequential(lstm, fr.nn.Dropout(0.5, seed=0), fr.nn.Last())

def calls(n):
    state = None
    for _ in range(n):
        if sys.argv[1] == "state":
            y, state = lstm(x, state)
            lstm.backward(y)
        else:
            y = model(x)
        if sys.argv[1] == "backward":
            model.backward(y)

calls(500)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calls(10_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("then", ["nothing", "backward", "state"])
def test_ten_thousand_calls_do_not_grow(then: str) -> None:
    """A tape of the LSTM has 60 KB: forty of them would be seen."""
    run = subprocess.run([sys.executable, "-c", GROWTH, then], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 2000  # KiB


def test_a_call_is_freed_with_its_results() -> None:
    layer = gru()
    y, h = layer(data(T, B, H))
    tape = weakref.ref(layer._calls.newest)
    layer(data(T, B, H))
    assert tape() is not None
    del y
    assert tape() is not None
    del h
    assert tape() is None


def test_a_copy_of_a_strided_input_is_gone_through_by_the_same_blocks() -> None:
    """Sums over rows go block by block of x; a copy without the gaps would be one block, and other bits."""
    linear, dy = fr.nn.Linear(5, 3, seed=0), data(4, 300, 3, seed=1).astype(np.float32)
    x = data(4, 601, 5).astype(np.float32)[:, :300]
    y = linear(x)
    linear.backward(dy)
    _, dweight, _ = fr.functional.linear_backward(dy, x, linear.weight.data)
    assert np.array_equal(linear.weight.grad, dweight)
    _, contiguous, _ = fr.functional.linear_backward(dy, x.copy(), linear.weight.data)
    assert not np.array_equal(contiguous, dweight)  # else nothing is tested here
    assert y.shape == dy.shape
