"""Recurrent modules and functions with device="cuda": arrays stay there, results are the reference's."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sequences import CELLS, Stack, bits, check, draw, named, on_device, on_host, run

import fusedrnn as fr
from fusedrnn import functional

pytestmark = [pytest.mark.parity, pytest.mark.cuda]
KINDS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn_tanh": fr.nn.RNN}
ALL = {"layers": 2, "directions": 2, "lengths": True, "resets": True, "dropout": 0.3, "into": True}


def drawn(*shape: int, seed: int = 1) -> np.ndarray:
    """Random float32 numbers in host memory."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def lstm(device: str = "cuda", **options: Any) -> fr.nn.LSTM:
    """A small LSTM."""
    return fr.nn.LSTM(4, 5, device=device, **{"seed": 0, **options})


X, DY = drawn(3, 2, 4), drawn(3, 2, 5, seed=2)


def trained(module: fr.nn.LSTM) -> dict[str, bytes]:
    """The bits of all results of a forward and a backward."""
    results = module(fr.asarray(X)), module.backward(fr.asarray(DY)), [p.grad for p in module.parameters()]
    return bits(named(on_host(results)))


# ---------------------------------------------------------------------------------------------- results
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "sizes",
    [{"T": 5, "B": 3, "I": 7, "H": 9, **ALL}, {"T": 4, "B": 5, "I": 3, "H": 6, "batch_first": True}],
    ids=str,
)
def test_functions_take_and_return_device_arrays(cell: str, sizes: dict[str, Any]) -> None:
    check(Stack(cell, **sizes), np.float32, device=True)
    check(Stack(cell, **sizes), np.float64, device=True)


@pytest.mark.parametrize(
    "absent", [{"state": False, "dy": False}, {"dhn": False, "dcn": False}, {"need_dx": False}], ids=str
)
def test_absent_arguments(absent: dict[str, Any]) -> None:
    check(Stack("lstm", T=4, B=3, I=3, H=6, layers=2, **absent), np.float32, device=True)


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3", "bf16", "fp16"])
@pytest.mark.parametrize("cell", KINDS)
def test_module_computes_what_the_functions_do(cell: str, precision: str) -> None:
    """Those are held to the reference above and, in every precision, by the plans' own tests."""
    options = {"num_layers": 2, "bidirectional": True, "seed": 3}
    module = KINDS[cell](7, 6, device="cuda", precision=precision, **options)
    weights = KINDS[cell](7, 6, **options).state_dict()
    assert bits(module.state_dict()) == bits(weights)  # of one seed, whatever the device
    stack = Stack(cell, T=5, B=4, I=7, H=6, layers=2, directions=2, lengths=True, resets=True)
    data = replace(draw(stack), weights=weights)
    lengths, resets = on_device((data.lengths, data.resets))
    floats = (data.x, data.h0, data.c0, data.dy, data.dhn, data.dcn)
    x, h0, c0, dy, dhn, dcn = on_device([None if a is None else a.astype(np.float32) for a in floats])
    results: dict[str, Any] = {}
    if cell == "lstm":
        results["y"], (results["hn"], results["cn"]) = module(x, (h0, c0), lengths, resets)
        results["dx"], (results["dh0"], results["dc0"]) = module.backward(dy, (dhn, dcn))
    else:
        results["y"], results["hn"] = module(x, h0, lengths, resets)
        results["dx"], results["dh0"] = module.backward(dy, dhn)
    results |= {f"d{name}": p.grad for name, p in module.named_parameters()}
    assert all(isinstance(each, fr.DeviceArray) for each in results.values())
    kept = {"cells": module.tape.cells, "gates": module.tape.gates}
    expected = run(data, np.float32, None, precision, device=True)
    assert bits(on_host(results) | {name: a for name, a in kept.items() if a is not None}) == bits(expected)


def test_a_step_repeats_and_gradients_add_up() -> None:
    module = lstm(num_layers=2)
    first = trained(module)
    grads = on_host([p.grad for p in module.parameters()])
    module.zero_grad()
    assert all(not p.grad.numpy().any() for p in module.parameters())
    assert trained(module) == first
    module.backward(fr.asarray(DY))
    for p, grad in zip(module.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), 2 * grad)


def test_modes_and_tapes() -> None:
    module = lstm()
    y = module(fr.asarray(X))[0]
    module.eval()
    assert module.tape is None
    np.testing.assert_array_equal(module(fr.asarray(X))[0].numpy(), y.numpy())
    with pytest.raises(RuntimeError, match="no tape"):
        module.backward(fr.asarray(DY))
    module.train()(fr.asarray(X))
    module.bias_hh_l0.data = module.bias_ih_l0.data
    with pytest.raises(RuntimeError, match="weights were changed after the forward"):
        module.backward(fr.asarray(DY))
    assert not np.array_equal(module(fr.asarray(X))[0].numpy(), y.numpy())


def test_dropout_goes_on_from_a_saved_state() -> None:
    module = lstm(num_layers=2, dropout=0.5)
    state = module.random_state()
    first, second = trained(module), trained(module)
    assert first != second
    module.load_random_state(state)
    module.zero_grad()
    assert trained(module) == first


def test_a_module_keeps_a_copy_of_x_and_not_x() -> None:
    module = lstm()
    x = fr.asarray(X)
    kept = weakref.ref(x)
    y, _ = module(x)
    del x
    gc.collect()
    assert kept() is None
    dx, _ = module.backward(y)
    twin = lstm()
    dx_twin, _ = (twin(fr.asarray(X)), twin.backward(y))[1]
    np.testing.assert_array_equal(dx.numpy(), dx_twin.numpy())


# ------------------------------------------------------------------------------------------- parameters
def test_parameters_are_on_the_device() -> None:
    module = lstm()
    p = module.weight_hh_l0
    assert (p.device, p.shape, p.dtype) == ("cuda", (20, 5), np.float32)
    assert isinstance(p.data, fr.DeviceArray)
    assert p.data.readonly
    with pytest.raises(ValueError, match="array must be writable, it is read-only"):
        p.data.fill(1)
    values = drawn(20, 5)
    p.data = values
    np.testing.assert_array_equal(p.numpy(), values)
    p.data = fr.asarray(2 * values)
    np.testing.assert_array_equal(p.data.numpy(), 2 * values)
    np.testing.assert_array_equal(module.state_dict()["weight_hh_l0"], 2 * values)
    version = p.version
    with p.writable() as w:
        w.fill(3)
        assert not (p.numpy() == 3).any()
    assert (p.numpy() == 3).all()
    assert p.version == version + 1
    p.grad = values
    np.testing.assert_array_equal(p.grad.numpy(), values)
    p.grad.fill(1)
    p.zero_grad()
    assert not p.grad.numpy().any()
    with pytest.raises(
        TypeError, match=r"weight_hh_l0\.data must be a NumPy array or a DeviceArray, it is list"
    ):
        p.data = [1.0]
    with pytest.raises(TypeError, match=r"weight_hh_l0\.data must be float32, it is float64"):
        p.data = values.astype(np.float64)
    with pytest.raises(ValueError, match=r"weight_hh_l0\.data must have shape \(20, 5\), it has \(5, 20\)"):
        p.data = fr.asarray(values.T.copy())


def test_parameter_of_a_device_array() -> None:
    values = drawn(3, 4)
    p = fr.nn.Parameter(fr.asarray(values), "scale")
    assert p.device == "cuda"
    np.testing.assert_array_equal(p.numpy(), values)


def test_state_dicts_go_between_devices() -> None:
    there, here = lstm(), lstm("cpu", seed=1)
    state = there.state_dict()
    assert all(type(a) is np.ndarray for a in state.values())
    here.load_state_dict(state)
    assert bits(here.state_dict()) == bits(state)
    other = lstm(seed=2)
    expected = trained(there)
    assert trained(other) != expected
    other.load_state_dict(here.state_dict())
    other.zero_grad()
    assert trained(other) == expected
    here = lstm("cpu", seed=1)
    here.load_state_dict({name: p.data for name, p in there.named_parameters()})
    assert bits(here.state_dict()) == bits(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_on_the_device_and_apart(copied: Any) -> None:
    module = lstm(num_layers=2, dropout=0.5)
    trained(module)
    twin = copied(module)
    assert (twin.device, twin.weight_ih_l0.device) == ("cuda", "cuda")
    assert trained(twin) == trained(module)
    twin.weight_ih_l0.data = 0 * twin.weight_ih_l0.numpy()
    assert module.weight_ih_l0.numpy().any()


def test_pickle_says_why_it_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pickle.dumps(lstm())
    monkeypatch.setattr(fr.cuda, "why_not", lambda: "it is Sunday")
    with pytest.raises(RuntimeError, match='device="cuda" cannot be used: it is Sunday'):
        pickle.loads(text)


# --------------------------------------------------------------------------------- what is not taken
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m(X),
            r'x must be a DeviceArray, it is a NumPy array: use fr\.asarray\(x, device="cuda"\)',
        ),
        (lambda m: m([1.0]), r'x must be a DeviceArray, it is list: use fr\.asarray\(x, device="cuda"\)'),
        (
            lambda m: m(fr.asarray(X.astype(np.float64))),
            r"x is float64, the module float32: use fr\.asarray\(x\.numpy\(\)\.astype\(np\.float32\)\)",
        ),
        (
            lambda m: m(fr.asarray(X), (drawn(1, 2, 5), None)),
            r"h0 must be a DeviceArray on \w+:0, it is a NumPy array: use fr\.asarray\(h0, device=\"cuda\"\)",
        ),
        (
            lambda m: m(fr.asarray(X), lengths=np.array([1, 2])),
            r"lengths must be a DeviceArray on \w+:0, it is a NumPy array",
        ),
        (
            lambda m: m(fr.asarray(X), resets=fr.asarray(np.zeros((3, 2), np.int64))),
            r"resets must be bool, it is int64",
        ),
        (
            lambda m: (m(fr.asarray(X)), m.backward(DY)),
            r"dy must be a DeviceArray on \w+:0, it is a NumPy array",
        ),
        (
            lambda m: lstm("cpu")(fr.asarray(X)),
            r"x must be a NumPy array, it is a DeviceArray on \w+:0: use x\.numpy\(\)",
        ),
        (
            lambda m: lstm("cpu")(X, (fr.asarray(drawn(1, 2, 5)), None)),
            r"h0 must be a NumPy array, it is a DeviceArray on \w+:0: use h0\.numpy\(\)",
        ),
        (
            lambda m: functional.lstm_forward(fr.asarray(X), None, lstm("cpu").state_dict()),
            r"x must be a NumPy array, it is a DeviceArray",
        ),
        (
            lambda m: functional.lstm_forward(X, None, on_device(m.state_dict())),
            r"x must be a DeviceArray on \w+:0, it is a NumPy array",
        ),
        (
            lambda m: functional.lstm_forward(
                fr.asarray(X), None, m.state_dict() | {"weight_ih_l0": m.weight_ih_l0.data}
            ),
            r"weight_hh_l0 must be a DeviceArray on \w+:0, it is a NumPy array",
        ),
        (
            lambda m: fr.losses.mse(m(fr.asarray(X))[0], DY),
            r"target must be a DeviceArray on \w+:0, it is a NumPy array: use fr\.asarray\(target, device=",
        ),
        (
            lambda m: fr.nn.Sequential(m, fr.nn.Linear(5, 2))(fr.asarray(X)),
            r"x must be a NumPy array, it is a DeviceArray on \w+:0: use x\.numpy\(\)",
        ),
    ],
)
def test_arrays_elsewhere_are_refused(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(lstm())


def test_wrong_shapes_and_values_are_refused() -> None:
    module = lstm()
    with pytest.raises(ValueError, match=r"x must be \(T, B, I\) = \(T, B, 4\), it is \(3, 2, 5\)"):
        module(fr.asarray(DY))
    with pytest.raises(ValueError, match=r"lengths must be between 0 and T = 3, it is 4 at index 1"):
        module(fr.asarray(X), lengths=fr.asarray(np.array([1, 4])))


def test_a_whole_step_is_refused_and_changes_nothing() -> None:
    head = fr.nn.Linear(5, 2, seed=0)
    model = fr.nn.Sequential(lstm(), head)
    before = bits(model.state_dict())
    optimizer = fr.optim.SGD(head.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="must be a"):
        model.train_step(fr.asarray(X), drawn(3, 2, 2), "mse", optimizer)
    with pytest.raises(TypeError, match="must be a"):
        model.train_step(X, drawn(3, 2, 2), "mse", optimizer)
    assert bits(model.state_dict()) == before


def test_sequential_of_recurrent_layers() -> None:
    model = fr.nn.Sequential(lstm(), fr.nn.GRU(5, 3, device="cuda", seed=1))
    twin = [lstm(), fr.nn.GRU(5, 3, device="cuda", seed=1)]
    y = model(fr.asarray(X))
    dy = fr.asarray(drawn(3, 2, 3))
    dx = model.backward(dy)
    middle = twin[0](fr.asarray(X))[0]
    expected = twin[1](middle)[0], twin[0].backward(twin[1].backward(dy)[0])[0]
    assert bits(named(on_host((y, dx)))) == bits(named(on_host(expected)))


def test_auto_is_the_device() -> None:
    assert lstm("auto").device == "cuda"
    assert lstm("auto").weight_ih_l0.device == "cuda"


def test_peepholes_are_refused_on_a_device() -> None:
    with pytest.raises(ValueError, match="peephole must be False on a CUDA device, it is True"):
        lstm(peephole=True)
