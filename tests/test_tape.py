"""The rules of the tape: one a training call, freed when nothing waits for it, tied to the weights it saw."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import fusedrnn as fr

T, B = 4, 3
LAYERS = {
    "LSTM": (lambda: fr.nn.LSTM(2, 5, 2, seed=0), (T, B, 2), (T, B, 5)),
    "GRU": (lambda: fr.nn.GRU(2, 5, bidirectional=True, seed=0), (T, B, 2), (T, B, 10)),
    "RNN": (lambda: fr.nn.RNN(2, 5, seed=0), (T, B, 2), (T, B, 5)),
    "Linear": (lambda: fr.nn.Linear(2, 5, seed=0), (T, B, 2), (T, B, 5)),
    "Embedding": (lambda: fr.nn.Embedding(7, 5, seed=0), (T, B), (T, B, 5)),
    "LayerNorm": (lambda: fr.nn.LayerNorm(6), (T, B, 6), (T, B, 6)),
    "Dropout": (lambda: fr.nn.Dropout(0.5, seed=0), (T, B, 2), (T, B, 2)),
    "Last": (lambda: fr.nn.Last(), (T, B, 2), (B, 2)),
}
WITH_WEIGHTS = [name for name in LAYERS if name not in ("Dropout", "Last")]


def make(name: str, seed: int = 0):
    """A layer, an input and an output gradient for it."""
    build, x_shape, y_shape = LAYERS[name]
    rng = np.random.default_rng(seed)
    if name == "Embedding":
        x = rng.integers(0, 7, x_shape)
    else:
        x = rng.standard_normal(x_shape).astype(np.float32)
    return build(), x, rng.standard_normal(y_shape).astype(np.float32)


def arrays(result) -> list[np.ndarray]:
    """The arrays in what backward returned."""
    if isinstance(result, tuple):
        return [a for part in result for a in arrays(part)]
    return [] if result is None else [result]


def gradients(layer) -> list[np.ndarray]:
    return [p.grad.copy() for p in layer.parameters()]


@pytest.mark.parametrize("name", LAYERS)
def test_backward_without_a_forward_raises(name: str) -> None:
    layer, _, dy = make(name)
    with pytest.raises(
        RuntimeError, match=f"{name}.backward has no tape: call the module in training mode first$"
    ):
        layer.backward(dy)


@pytest.mark.parametrize("name", LAYERS)
def test_eval_leaves_no_tape(name: str) -> None:
    layer, x, dy = make(name)
    layer(x)
    layer.eval()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"has no tape.*it is in eval mode: use train"):
            layer.backward(dy)
        layer(x)
    layer.train()
    with pytest.raises(RuntimeError, match="has no tape"):
        layer.backward(dy)
    layer(x)
    layer.backward(dy)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
@pytest.mark.parametrize("how", ["data", "writable", "load_state_dict", "another parameter"])
def test_backward_after_a_change_of_weights_raises(name: str, how: str) -> None:
    layer, x, dy = make(name)
    layer(x)
    parameter_name, parameter = next(layer.named_parameters())
    if how == "data":
        parameter.data = parameter.data.copy()
    elif how == "writable":
        with parameter.writable() as w:
            w += 1
    elif how == "load_state_dict":
        layer.load_state_dict(layer.state_dict())
    else:
        setattr(layer, parameter_name, fr.nn.Parameter(parameter.data))
    before = gradients(layer)
    message = "has no tape" if how == "another parameter" else f"{name}.backward: the weights were changed"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(dy)
    assert all(np.array_equal(a, b) for a, b in zip(gradients(layer), before, strict=True))
    layer(x)
    layer.backward(dy)


@pytest.mark.parametrize("name", LAYERS)
def test_backward_twice_gives_the_same_and_adds(name: str) -> None:
    layer, x, dy = make(name)
    layer(x)
    first = [a.copy() for a in arrays(layer.backward(dy))]
    once = gradients(layer)
    second = arrays(layer.backward(dy))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    for p, grad in zip(layer.parameters(), once, strict=True):
        assert grad.any()
        np.testing.assert_allclose(p.grad, 2 * grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_the_next_forward_replaces_the_tape(name: str) -> None:
    layer, x, dy = make(name)
    _, other, _ = make(name, seed=1)
    state = layer.random_state()
    layer(other)
    layer.load_random_state(state)
    layer(x)
    result = arrays(layer.backward(dy))
    alone, _, _ = make(name)
    alone(x)
    assert all(np.array_equal(a, b) for a, b in zip(result, arrays(alone.backward(dy)), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(gradients(layer), gradients(alone), strict=True))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("what", ["rank", "dtype"])
def test_a_failed_forward_leaves_no_tape_of_an_earlier_one(name: str, what: str) -> None:
    layer, x, dy = make(name)
    layer(x)
    bad = x[0, 0, 0] if what == "rank" and x.ndim == 3 else x.astype(np.complex64)
    with pytest.raises((TypeError, ValueError)):
        layer(bad)
    with pytest.raises(RuntimeError, match="has no tape"):
        layer.backward(dy)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_outputs_and_results_are_the_callers_own(name: str) -> None:
    layer, x, dy = make(name)
    twin, _, _ = make(name)
    y, state = layer(x)
    for array in (y, *arrays(state)):
        array[...] = np.nan
    twin(x)
    expected = arrays(twin.backward(dy))
    result = arrays(layer.backward(dy))
    assert all(np.array_equal(a, b) for a, b in zip(result, expected, strict=True))
    for array in result:
        array[...] = np.nan
    again = arrays(layer.backward(dy))
    assert all(np.array_equal(a, b) for a, b in zip(again, expected, strict=True))


def test_what_a_recurrent_tape_shows() -> None:
    x = np.random.default_rng(0).standard_normal((T, B, 2)).astype(np.float32)
    lstm, gru, rnn = (kind(2, 5, seed=0) for kind in (fr.nn.LSTM, fr.nn.GRU, fr.nn.RNN))
    assert lstm.tape is None
    y, (_, cn) = lstm(x)
    gru(x)
    rnn(x)
    assert lstm.tape.nbytes > 0
    assert lstm.tape.cells.shape == (1, T, B, 5)
    assert lstm.tape.gates.shape == (1, T, B, 20)
    assert np.array_equal(lstm.tape.cells[:, -1], cn)
    i, f, g, o = np.split(lstm.tape.gates[0], 4, axis=-1)
    c = lstm.tape.cells[0]
    np.testing.assert_allclose(o * np.tanh(c), y, rtol=1e-5)
    np.testing.assert_allclose(f[1:] * c[:-1] + i[1:] * g[1:], c[1:], rtol=1e-4, atol=1e-6)
    assert gru.tape.cells is None
    assert gru.tape.gates.shape == (1, T, B, 20)
    assert rnn.tape.cells is None
    assert rnn.tape.gates is None


def test_an_old_tape_is_freed_before_the_next_is_made() -> None:
    layer, x, dy = make("Linear")
    layer(x)
    gone = weakref.ref(layer._calls.newest.tape)
    y = layer(x)
    assert gone() is None  # no result of its call lives
    gone = weakref.ref(layer._calls.newest.tape)
    layer.backward(dy)
    assert gone() is not None
    layer(x)
    assert gone() is None  # backward has taken it
    assert y.any()


def test_last_keeps_its_own_lengths() -> None:
    layer, x, dy = make("Last")
    lengths = np.array([1, 4, 2])
    layer(x, lengths)
    lengths[:] = 3
    dx = layer.backward(dy)
    assert np.array_equal(np.flatnonzero(dx.any(axis=(1, 2))), [0, 1, 3])


def test_dropout_and_last_check_the_shape_of_dy() -> None:
    layer, x, dy = make("Dropout")
    layer(x)
    with pytest.raises(ValueError, match=r"dy must have shape \(4, 3, 2\), it has \(3, 3, 2\)"):
        layer.backward(dy[1:])
