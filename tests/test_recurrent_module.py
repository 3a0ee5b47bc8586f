"""RNN, GRU and LSTM modules: the functions of `fusedrnn.functional` with weights and modes of their own."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import _native, functional, reference

KINDS = {"LSTM": fr.nn.LSTM, "GRU": fr.nn.GRU, "RNN": fr.nn.RNN}
T, B, I, H = 5, 4, 3, 6


def flat(state) -> list[np.ndarray]:
    return list(state) if isinstance(state, tuple) else [state]


def random_state(rng: np.random.Generator, module, batch: int = B):
    """A state, or the gradient of one, for a module of `H` hidden units."""
    shape = (module.num_layers * (1 + module.bidirectional), batch, module.hidden_size)
    arrays = tuple(rng.standard_normal(shape).astype(module.dtype) for _ in range(2))
    return arrays if isinstance(module, fr.nn.LSTM) else arrays[0]


def functions(package, kind: str):
    stem = kind.lower()
    return getattr(package, f"{stem}_forward"), getattr(package, f"{stem}_backward")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("package", [functional, reference], ids=["functional", "reference"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
        {"batch_first": True, "bias": False, "num_layers": 2},
    ],
    ids=["plain", "stack", "batch_first"],
)
def test_a_module_computes_what_the_functions_do(kind: str, package, options: dict) -> None:
    rng = np.random.default_rng(3)
    module = KINDS[kind](I, H, **options, dtype=np.float64, seed=7)
    first = bool(options.get("batch_first"))
    directions = 1 + bool(options.get("bidirectional"))
    x = rng.standard_normal((B, T, I) if first else (T, B, I))
    dy = rng.standard_normal((*x.shape[:2], directions * H))
    state, dstate = random_state(rng, module), random_state(rng, module)
    lengths = np.array([5, 0, 3, 1])
    resets = rng.random(x.shape[:2]) < 0.3
    key = module.random_state().get("dropout_key", 0)

    y, final = module(x, state, lengths=lengths, resets=resets)
    dx, dstate0 = module.backward(dy, dstate)

    forward, backward = functions(package, kind)
    expected_y, expected_final, tape = forward(
        x, state, module.state_dict(), lengths=lengths, resets=resets, batch_first=first,
        dropout=options.get("dropout", 0.0), dropout_key=key,
    )  # fmt: skip
    expected_dx, expected_dstate0, dweights = backward(tape, dy, dstate)

    def check(found: np.ndarray, expected: np.ndarray, name: str) -> None:
        if package is functional:
            np.testing.assert_array_equal(found, expected, err_msg=name)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13, err_msg=name)

    check(y, expected_y, "y")
    check(dx, expected_dx, "dx")
    for found, expected in zip(flat(final), flat(expected_final), strict=True):
        check(found, expected, "final state")
    for found, expected in zip(flat(dstate0), flat(expected_dstate0), strict=True):
        check(found, expected, "dstate0")
    assert set(dweights) == set(dict(module.named_parameters()))
    for name, p in module.named_parameters():
        assert p.grad.any(), name
        check(p.grad, dweights[name], name)


def test_relu_rnn_differs_from_tanh_and_follows_its_function() -> None:
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    relu = fr.nn.RNN(I, H, nonlinearity="relu", seed=0)
    y, _ = relu(x)
    expected, _, _ = functional.rnn_forward(x, None, relu.state_dict(), nonlinearity="relu")
    np.testing.assert_array_equal(y, expected)
    assert (y >= 0).all()
    assert (fr.nn.RNN(I, H, seed=0)(x)[0] < 0).any()
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', it is 'gelu'"):
        fr.nn.RNN(I, H, nonlinearity="gelu")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", ["dy", "dstate", "parts"])
def test_absent_gradients_are_zeros(kind: str, missing: str) -> None:
    rng = np.random.default_rng(1)
    module = KINDS[kind](I, H, 2, dtype=np.float64, seed=0)
    x, dy = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, H))
    dstate = random_state(rng, module)
    zero = tuple(np.zeros_like(a) for a in flat(dstate))
    if missing == "dy":
        given, full = (None, dstate), (np.zeros_like(dy), dstate)
    elif missing == "dstate" or kind != "LSTM":
        given, full = (dy, None), (dy, zero if kind == "LSTM" else zero[0])
    else:
        given, full = (dy, (None, dstate[1])), (dy, (zero[0], dstate[1]))
    module(x)
    results = []
    for arguments in (given, full):
        module.zero_grad()
        dx, dstate0 = module.backward(*arguments)
        results.append([dx, *flat(dstate0), *(p.grad.copy() for p in module.parameters())])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.any()


def test_dx_is_skipped_on_demand_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(1)
    module = fr.nn.GRU(I, H, 2, seed=0)
    x, dy = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))
    module(x)
    _, dh0 = module.backward(dy)
    grads = [p.grad.copy() for p in module.parameters()]
    module.zero_grad()
    dx, again = module.backward(dy, need_dx=False)
    assert dx is None
    np.testing.assert_array_equal(again, dh0)
    for p, grad in zip(module.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad, grad)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_seed_and_buffer(kind: str) -> None:
    build = KINDS[kind]
    module = build(I, 64, 2, bidirectional=True, seed=1)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {name: p.shape for name, p in module.named_parameters()}
    expected = {}
    for layer, width in ((0, I), (1, 128)):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            expected[f"weight_ih_{suffix}"] = (gates * 64, width)
            expected[f"weight_hh_{suffix}"] = (gates * 64, 64)
            expected[f"bias_ih_{suffix}"] = (gates * 64,)
            expected[f"bias_hh_{suffix}"] = (gates * 64,)
    assert list(shapes.items()) == list(expected.items())
    assert len({id(p._buffer) for p in module.parameters()}) == 1
    values = np.concatenate([p.data.ravel() for p in module.parameters()])
    assert np.abs(values).max() <= 1 / 8
    assert abs(values.std() - 1 / 8 / np.sqrt(3)) < 1e-3
    assert abs(values.mean()) < 1e-3

    same = build(I, 64, 2, bidirectional=True, seed=np.random.default_rng(1))
    other = build(I, 64, 2, bidirectional=True, seed=2)
    for name, p in module.named_parameters():
        assert np.array_equal(p.data, dict(same.named_parameters())[name].data)
        assert not np.array_equal(p.data, dict(other.named_parameters())[name].data)
    assert all("bias" not in name for name, _ in build(I, H, bias=False).named_parameters())


def test_weights_are_packed_once_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    packs = []
    pack = _native.pack_weights
    monkeypatch.setattr("fusedrnn._native.pack_weights", lambda *args: packs.append(1) or pack(*args))
    module = fr.nn.LSTM(I, H, seed=0)
    x = np.ones((T, B, I), np.float32)
    for mode in (True, False, True):
        module.train(mode)
        module(x)
        module(x)
    assert len(packs) == 1
    before = module(x)[0]
    p = module.weight_hh_l0
    writes = [
        lambda: setattr(p, "data", p.data * np.float32(2)),
        lambda: module.load_state_dict(module.state_dict()),
        lambda: setattr(module, "weight_hh_l0", fr.nn.Parameter(p.data)),
    ]
    for count, write in enumerate(writes, start=2):
        write()
        after = module(x)[0]
        module(x)
        assert len(packs) == count
        expected, _, _ = functional.lstm_forward(x, None, module.state_dict())
        np.testing.assert_array_equal(after, expected)
        packs.pop()
    assert not np.array_equal(before, after)


def test_an_optimizers_write_is_seen() -> None:
    module = fr.nn.GRU(I, H, seed=0).eval()
    x = np.ones((T, B, I), np.float32)
    before = module(x)[0]
    for p in module.parameters():
        p.grad[...] = 1
    fr.optim.SGD(module.parameters(), lr=0.1).step()
    after = module(x)[0]
    expected, _, _ = functional.gru_forward(x, None, module.state_dict())
    np.testing.assert_array_equal(after, expected)
    assert not np.array_equal(before, after)


def test_dropout_acts_in_training_only_and_with_a_new_key_each_call() -> None:
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    module = fr.nn.LSTM(I, H, 2, dropout=0.5, seed=0)
    key = module.random_state()["dropout_key"]
    first, second = module(x)[0], module(x)[0]
    assert not np.array_equal(first, second)
    expected, _, _ = functional.lstm_forward(x, None, module.state_dict(), dropout=0.5, dropout_key=key + 1)
    np.testing.assert_array_equal(second, expected)
    module.eval()
    expected, _, _ = functional.lstm_forward(x, None, module.state_dict(), train=False)
    np.testing.assert_array_equal(module(x)[0], expected)
    assert module.random_state()["dropout_key"] == key + 2
    twin = fr.nn.LSTM(I, H, 2, dropout=0.5, seed=0)
    np.testing.assert_array_equal(twin(x)[0], first)


def test_concurrent_eval_calls_agree() -> None:
    rng = np.random.default_rng(0)
    module = fr.nn.LSTM(I, H, 2, seed=0).eval()
    inputs = [rng.standard_normal((T, B, I)).astype(np.float32) for _ in range(4)]
    expected = [functional.lstm_forward(x, None, module.state_dict(), train=False)[0] for x in inputs]
    wrong: list[str] = []
    barrier = threading.Barrier(len(inputs))

    def call(index: int) -> None:
        barrier.wait()
        for _ in range(50):
            y, _ = module(inputs[index])
            if not np.array_equal(y, expected[index]):
                wrong.append(f"thread {index}")

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert module.tape is None


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_do_not_fit_are_named(kind: str) -> None:
    module = KINDS[kind](I, H, seed=0)
    x = np.zeros((T, B, I), np.float32)
    message = r"x is float64, the module float32: use x.astype\(np.float32\) or dtype=np.float64"
    with pytest.raises(TypeError, match=message):
        module(x.astype(np.float64))
    with pytest.raises(TypeError, match=r"x is int64, the module float32: use x.astype\(np.float32\)$"):
        module(x.astype(np.int64))
    with pytest.raises(TypeError, match="x must be a NumPy array, it is list"):
        module(x.tolist())
    with pytest.raises(ValueError, match="x"):
        module(x[..., :-1])
    h = np.zeros((1, B, H), np.float32)
    wrong, message = ((h, h), "state must be h0 alone, it is a tuple")
    if kind == "LSTM":
        wrong, message = h, r"state must be a pair \(h0, c0\), it is a ndarray"
    with pytest.raises(TypeError, match=message):
        module(x, wrong)
    module(x)
    message = r"dstate must be (dhn alone, it is a tuple|a pair \(dhn, dcn\), it is a ndarray)"
    with pytest.raises(TypeError, match=message):
        module.backward(None, wrong)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 3), {}, "input_size must be at least 1, it is 0"),
        ((3, -2), {}, "hidden_size must be at least 1, it is -2"),
        ((3, 2.0), {}, "hidden_size must be an int, it is float"),
        ((3, 2, 0), {}, "num_layers must be at least 1, it is 0"),
        ((3, 2, 2), {"dropout": 1.5}, "dropout must be between 0 and 1, it is 1.5"),
        ((3, 2, 2), {"dropout": "much"}, "dropout must be a number, it is str"),
        ((3, 2), {"dtype": np.float16}, "dtype must be float32 or float64, it is float16"),
        ((3, 2), {"seed": 1.5}, "seed must be an int, a numpy.random.Generator or None, it is float"),
    ],
)
def test_constructors_name_the_argument(arguments: tuple, options: dict, message: str) -> None:
    for build in KINDS.values():
        with pytest.raises((TypeError, ValueError), match=message):
            build(*arguments, **options)


def test_dropout_without_a_second_layer_is_said() -> None:
    with pytest.warns(UserWarning, match="dropout acts between layers: with num_layers=1 it does nothing"):
        fr.nn.GRU(I, H, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fr.nn.GRU(I, H, 2, dropout=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_packed_again_for_another_instruction_set(kind: str) -> None:
    """A packing is computed with by the backend that made it."""
    module, before = KINDS[kind](I, H, seed=0).eval(), _native.backend()
    try:
        for name in _native.available_backends():
            _native.set_backend(name)
            module(np.ones((T, B, I), np.float32))
            assert module._packed[2].backend == name
    finally:
        _native.set_backend(before)


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        (fr.nn.GRU(3, 5, seed=0), "reset_after", False),
        (fr.nn.RNN(3, 5, seed=0), "nonlinearity", "relu"),
        (fr.nn.LSTM(3, 5, seed=0), "layer_norm", True),
        (fr.nn.LSTM(3, 5, seed=0), "proj_size", 2),
        (fr.nn.LSTM(3, 5, seed=0), "hidden_size", 6),
    ],
)
def test_what_a_module_was_made_with_stays(module: Any, name: str, other: Any) -> None:
    """Kernels would go on with the old cell, while repr and files told the new one."""
    setattr(module, name, getattr(module, name))
    with pytest.raises(AttributeError, match=f"{name} is fixed when a {type(module).__name__} is made"):
        setattr(module, name, other)
    assert getattr(module, name) != other


@pytest.mark.parametrize("kind", [fr.nn.LSTM, fr.nn.GRU, fr.nn.RNN])
def test_zoneouts_expectation_of_no_rows(kind: Any) -> None:
    """A batch of none has no memory for masks: nothing may be written there."""
    module = kind(3, 2000, zoneout=0.3, seed=0).eval()
    for _ in range(20):
        assert module(np.zeros((2, 0, 3), np.float32))[0].shape == (2, 0, 2000)
        assert [np.zeros(n).sum() for n in range(1, 3000, 70)] == [0.0] * 43
