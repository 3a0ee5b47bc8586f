"""train_step on a CUDA device has the bits of the separate calls, and their errors.

The first step of a shape is the separate calls, the second one native, from the third on a graph is run: so
every case makes at least four.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sequences import on_device, on_host
from steps import (
    B,
    I,
    T,
    V,
    adam,
    assert_tree,
    data,
    labels,
    regressor,
    run,
    separate,
    sequences,
    tagger,
    twins,
)

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn.nn import GRU, LSTM, RNN, Dropout, Embedding, LayerNorm, Linear, Sequential

pytestmark = [pytest.mark.parity, pytest.mark.cuda]

STACKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm, two layers": (LSTM, {"num_layers": 2}),
    "gru, bidirectional, two layers, dropout": (
        GRU,
        {"bidirectional": True, "num_layers": 2, "dropout": 0.5},
    ),
    "rnn": (RNN, {"nonlinearity": "relu", "bias": False}),
    "lstm in float64": (LSTM, {"dtype": np.float64}),
    "gru in bf16": (GRU, {"precision": "bf16"}),
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_stacks(name: str, batch_first: bool) -> None:
    cell, options = STACKS[name]
    dtype = options.get("dtype", np.float32)
    steps = sequences(4, clip=0.5)
    for step in steps:
        step["x"], step["y"] = step["x"].astype(dtype), step["y"].astype(dtype)
        if batch_first:
            step["x"] = np.ascontiguousarray(step["x"].swapaxes(0, 1))
    model = regressor(cell, batch_first=batch_first, device="cuda", **options)
    run(twins(model, adam), "mse", steps)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(("cell", "batch_first"), [(LSTM, False), (GRU, True)])
def test_lengths_and_resets(cell: Any, batch_first: bool, there: bool) -> None:
    """Of the host's memory or the device's."""
    rng = np.random.default_rng(5)
    steps = sequences(5)
    for step in steps:
        resets = rng.random((T, B)) < 0.3
        if batch_first:
            step["x"], resets = np.ascontiguousarray(step["x"].swapaxes(0, 1)), np.ascontiguousarray(resets.T)
        step.update(lengths=rng.integers(0, T + 1, B), resets=resets, clip=1.0)
        if there:
            step.update(on_device({"lengths": step["lengths"], "resets": resets}))
    options = {"batch_first": batch_first, "bidirectional": True, "device": "cuda"}
    run(twins(regressor(cell, **options), adam), "mse", steps)


def test_shapes_that_change() -> None:
    """One seen before is found again, and its graph if no larger one came since."""
    sizes = [(3, 2), (3, 2), (3, 2), (6, 4), (3, 2), (6, 4), (6, 4), (3, 2), (9, 7), (6, 4), (3, 2), (9, 7)]
    steps = [{"x": data(t, b, I, seed=t), "y": data(b, 2, seed=b), "clip": 1.0} for t, b in sizes]
    run(twins(regressor(GRU, device="cuda"), adam), "mse", steps, shapes=3)


def test_clipping_and_skipping_that_change() -> None:
    """They are part of a graph: each kind has its own."""
    kinds: list[dict[str, Any]] = [
        {"clip": 0.01},
        {},
        {"clip": 100.0},
        {"clip": 0.01, "skip_nonfinite": True},
    ]
    steps = [{**step, **kind} for kind in kinds for step in sequences(3)] + sequences(1, **kinds[0])
    for step in steps[10:12]:
        step["x"] = np.full_like(step["x"], np.nan)
    run(twins(regressor(RNN, device="cuda"), adam), "mse", steps)


def view(array: np.ndarray) -> fr.DeviceArray:
    """A device's copy of the array that a view is of, and the same view of that."""
    whole = fr.asarray(array.base)
    offset = array.ctypes.data - array.base.ctypes.data
    place = whole.__cuda_array_interface__
    place.update(shape=array.shape, strides=array.strides, data=(place["data"][0] + offset, False))
    return _native.device_array_from_interface(place, whole)


def test_strided_inputs() -> None:
    wide, tall, rows = data(T, B, 2 * I), data(2 * B, 5), data(3, 4, 10)
    strided = {"x": view(wide[:, :, I:]), "y": view(tall[::2, 1:3])}
    assert strided["x"].__cuda_array_interface__["strides"] is not None
    run(
        twins(regressor(device="cuda"), adam),
        "mse",
        [strided, strided, *sequences(2), strided, strided],
        shapes=2,
    )
    layers = LayerNorm(I, device="cuda"), Linear(I, 2, seed=2, device="cuda")
    steps = [{"x": view(rows[::2, 1::2, :I]), "y": data(2, 2, 2)}] * 4
    run(twins(Sequential(*layers), adam), "mse", steps)
    run(
        twins(Sequential(layers[1]), adam), "mse", steps, native=False
    )  # its gradients are added block by block


def test_embedding_dropout_norm_and_classes() -> None:
    rng = np.random.default_rng(4)
    steps = labels(5, clip=1.0, ignore_index=2)
    for step in steps:
        step["mask"] = rng.random((T, B)) < 0.7
    pair = twins(tagger("cuda", num_layers=2, dropout=0.2), adam)
    run(pair, "cross_entropy", steps)
    for step in steps[:2]:
        step["ignore_index"] = 3
    run(pair, "cross_entropy", steps[:2], shapes=1)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(p: float) -> None:
    layers = [Dropout(p, seed=1), LSTM(I, 5, seed=2, device="cuda"), Dropout(p), Linear(5, 2, device="cuda")]
    steps = [{"x": data(T, B, I, seed=s), "y": data(T, B, 2)} for s in range(4)]
    run(twins(Sequential(*layers), adam), "mse", steps)


def test_losses() -> None:
    rng = np.random.default_rng(6)
    model = Sequential(RNN(I, 5, seed=1, device="cuda"), Linear(5, 2, seed=2, device="cuda"))
    steps = [{"x": data(T, B, I, seed=s), "y": rng.random((T, B, 2)).astype(np.float32)} for s in range(4)]
    run(twins(model, adam), "binary_cross_entropy", steps)
    run(twins(model, adam), fr.losses.BinaryCrossEntropy(pos_weight=3.0), steps)
    for loss in ("l1", fr.losses.Huber(0.1), fr.losses.SmoothL1(0.1)):
        run(twins(model, adam), loss, steps)
    smoothed = fr.losses.CrossEntropy([0.5, 2.0], label_smoothing=0.1)
    run(twins(model, adam), smoothed, [{**step, "mask": rng.random((T, B)) < 0.6} for step in steps])
    run(twins(model, adam), "cross_entropy", [{**step, "mask": rng.random((T, B)) < 0.6} for step in steps])
    run(twins(model, adam), "mse", [{**step, "mask": rng.random((T, B, 2)) < 0.6} for step in steps])


def grouped(parameters: Any) -> fr.optim.Optimizer:
    first, second, *rest = parameters
    groups = [{"params": [first], "lr": 0.1}, {"params": rest}, {"params": [second], "weight_decay": 0.1}]
    return fr.optim.AdamW(groups, lr=0.01)


OPTIMIZERS: dict[str, Callable[[Any], fr.optim.Optimizer]] = {
    "momentum": lambda p: fr.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampened": lambda p: fr.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adagrad": lambda p: fr.optim.Adagrad(p, lr_decay=0.1),
    "centered": lambda p: fr.optim.RMSprop(p, momentum=0.9, centered=True),
    "groups": grouped,
    "some": lambda p: fr.optim.SGD(list(p)[-2:], lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.01])
def test_optimizers(name: str, clip: float | None) -> None:
    run(twins(regressor(RNN, device="cuda"), OPTIMIZERS[name]), "mse", sequences(4, clip=clip))


def test_tied_parameters() -> None:
    model = Sequential(
        Embedding(V, 5, seed=1, device="cuda"),
        GRU(5, 5, seed=2, device="cuda"),
        Linear(5, V, bias=False, device="cuda"),
    )
    model[2].weight = model[0].weight
    run(twins(model, adam), "cross_entropy", labels(4, clip=1.0))


def test_states_are_carried() -> None:
    inner = Sequential(GRU(5, 4, seed=3, device="cuda"), LayerNorm(4, device="cuda"))
    model = Sequential(LSTM(I, 5, 2, seed=2, device="cuda"), inner, Linear(4, 2, seed=6, device="cuda"))
    (model, optimizer), (twin, other) = twins(model, adam)
    state = twin_state = None
    for s in range(5):
        x, y = on_device((data(T, B, I, seed=s), data(T, B, 2, seed=s + 9)))
        *found, state = model.train_step(x, y, "mse", optimizer, 1.0, state=state, return_state=True)
        given = {"state": twin_state, "return_state": True}
        *expected, twin_state = separate(twin, other, "mse", x, y, 1.0, **given)
        assert_tree(on_host((found, state)), on_host((expected, twin_state)))


def test_results_are_the_callers_own() -> None:
    model = regressor(device="cuda")
    optimizer = adam(model.parameters())
    kept = []
    for step in sequences(6):
        x, y = on_device((step["x"], step["y"]))
        result = model.train_step(x, y, "mse", optimizer, 1.0, return_state=True)
        kept.append((result, on_host(result)))
    for there, here in kept:
        assert_tree(on_host(there), here)
    assert len({here[0].item() for _, here in kept}) == len(kept)


# ----------------------------------------------------------------------- what changes from step to step
def halve(p: fr.nn.Parameter) -> None:
    p.data = p.numpy() / 2


CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "learning rate": lambda model, optimizer: setattr(optimizer, "lr", 0.3),
    "that of a group": lambda model, optimizer: optimizer.param_groups[0].update(lr=0.2),
    "betas": lambda model, optimizer: optimizer.param_groups[0].update(betas=(0.5, 0.6)),
    "steps": lambda model, optimizer: optimizer.param_groups[0].update(step=9),
    "weights": lambda model, optimizer: halve(model[1].weight_ih_l0),
    "dropout keys": lambda model, optimizer: model.load_random_state(
        dict.fromkeys(model.random_state(), 2**64 - 2)
    ),
    "dropout": lambda model, optimizer: setattr(model[2], "p", 0.6),
    "a forward": lambda model, optimizer: model(fr.asarray(labels(1)[0]["x"])),
    "a state dict": lambda model, optimizer: optimizer.load_state_dict(optimizer.state_dict()),
    "gradients": lambda model, optimizer: [p.grad.fill(9) for p in model.parameters()],
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_noticed(name: str) -> None:
    pair = twins(tagger("cuda", num_layers=2, dropout=0.2), adam)
    run(pair, "cross_entropy", labels(3, clip=1.0))
    for model, optimizer in pair:
        CHANGES[name](model, optimizer)
    run(pair, "cross_entropy", labels(3, clip=1.0), shapes=int(name in ("dropout", "a state dict")))


def test_a_schedule_and_a_mask_of_every_step() -> None:
    """Learning rates and masks are those of the step, not of the graph: equal arguments, other losses."""
    (model, optimizer), (twin, other) = twins(tagger("cuda"), lambda p: fr.optim.SGD(p, lr=0.0))
    x, y = on_device((labels(1)[0]["x"], labels(1)[0]["y"]))
    losses = []
    for rate in (0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.2):
        optimizer.lr = other.lr = rate
        found = on_host(model.train_step(x, y, "cross_entropy", optimizer))
        assert_tree(found, on_host(separate(twin, other, "cross_entropy", x, y)))
        losses.append(float(found[0]))
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_without_a_finite_norm_are_skipped(clip: float | None) -> None:
    steps = sequences(7, clip=clip, skip_nonfinite=True)
    for s in (0, 2, 3, 5):
        steps[s]["x"][0, 0, 0] = np.nan
    pair = twins(regressor(device="cuda"), adam)
    run(pair, "mse", steps)
    assert pair[0][1].param_groups[0]["step"] == 3


# ------------------------------------------------------------------------------------------------ errors
WRONG = {
    "x": "ids must be in [0, 7), it is 7 at flat index 2",
    "y": "target must be in [0, 7) where it counts, it is 7 at flat index 2",
    "lengths": "lengths must be between 0 and T = 6, it is 7 at index 2",
}


@pytest.mark.parametrize("name", WRONG)
def test_values_out_of_range(name: str) -> None:
    """Nobody has looked when the call returns; whoever asks for the loss is told, and nothing was updated."""
    pair = twins(tagger("cuda"), adam)
    good = labels(1, lengths=np.full(B, T), clip=1.0)[0]
    run(pair, "cross_entropy", [good] * 3)
    bad = {**good, name: good[name].copy()}
    bad[name].flat[2] = 7
    model, optimizer = pair[0]
    before = on_host([p.data for p in model.parameters()]), optimizer.state_dict()
    x, y = on_device((bad["x"], bad["y"]))
    loss, _ = model.train_step(x, y, "cross_entropy", optimizer, 1.0, lengths=bad["lengths"])
    for read in (float, lambda a: a.numpy()):
        with pytest.raises(ValueError, match=re.escape(WRONG[name])):
            read(loss)
    assert_tree((on_host([p.data for p in model.parameters()]), optimizer.state_dict()), before)
    model.load_random_state(pair[1][0].random_state())
    for buffer in {p._buffer for p in pair[1][0].parameters()}:
        buffer.touch()
    run(pair, "cross_entropy", [good] * 2, shapes=0)


def test_a_first_call_of_a_form_is_told_at_once() -> None:
    model = tagger("cuda")
    step = labels(1)[0]
    step["x"][0, 2] = 7
    x, y = on_device((step["x"], step["y"]))
    with pytest.raises(ValueError, match=re.escape(WRONG["x"])):
        model.train_step(x, y, "cross_entropy", adam(model.parameters()))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": data(T, B, I + 1)}, ValueError, r"x must be \(T, B, I\) = \(T, B, 3\), it is \(6, 4, 4\)"),
        ({"y": data(B, 3)}, ValueError, r"target must be of shape \(4, 2\)"),
        ({"clip": -1.0}, ValueError, "clip_norm must be None or at least 0, it is -1"),
        (
            {"lengths": np.full(B, T + 1)},
            ValueError,
            "lengths must be between 0 and T = 6, it is 7 at index 0",
        ),
    ],
)
def test_errors_are_those_of_the_parts(changed: dict[str, Any], error: Any, message: str) -> None:
    pair = twins(regressor(device="cuda"), adam)
    good = sequences(1)[0]
    run(pair, "mse", [good] * 3)
    given = {n: a if n == "lengths" else on_device(a) for n, a in {**good, **changed}.items()}
    x, y, clip = given.pop("x"), given.pop("y"), given.pop("clip", None)
    with pytest.raises(error, match=message):
        pair[0][0].train_step(x, y, "mse", pair[0][1], clip, **given)
    run(pair, "mse", [good] * 2, shapes=0)


def test_arrays_of_the_host_are_refused() -> None:
    model = regressor(device="cuda")
    step = sequences(1)[0]
    for _ in range(2):
        with pytest.raises(TypeError, match="x must be a DeviceArray, it is a NumPy array"):
            model.train_step(step["x"], fr.asarray(step["y"]), "mse", adam(model.parameters()))
        model.train_step(*on_device((step["x"], step["y"])), "mse", adam(model.parameters()))


@pytest.mark.parametrize(
    "frozen",
    [
        ["1.weight_ih_l0"],
        ["0.weight"],
        ["0.weight", "1.weight_ih_l0", "1.weight_hh_l0", "1.bias_ih_l0", "1.bias_hh_l0"],
        ["4.weight", "4.bias"],
    ],
)
def test_frozen_parameters_and_padding(frozen: list[str]) -> None:
    model = tagger("cuda")
    model[0].padding_idx = 2
    for name, p in model.named_parameters():
        p.requires_grad = name not in frozen
    pair = twins(model, adam)
    run(pair, "cross_entropy", labels(4, clip=1.0))
    assert not on_host(pair[0][0][0].weight.grad)[2].any()
    for model, _ in pair:
        model.requires_grad_(True)
    run(pair, "cross_entropy", labels(4, clip=1.0))


def test_clip_value() -> None:
    run(twins(regressor(device="cuda"), adam), "mse", sequences(4, clip_value=0.001))
