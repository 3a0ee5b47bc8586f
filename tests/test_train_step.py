"""The native training step has the bits of the separate calls, whatever the model, options and threads."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
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
from fusedrnn._native import LossSpec
from fusedrnn.nn import GRU, LSTM, RNN, Dropout, Embedding, Last, LayerNorm, Linear, Sequential

STACKS = {
    "lstm": (LSTM, {}),
    "gru": (GRU, {}),
    "rnn": (RNN, {}),
    "relu": (RNN, {"nonlinearity": "relu"}),
    "two layers": (LSTM, {"num_layers": 2}),
    "three layers with dropout": (GRU, {"num_layers": 3, "dropout": 0.4}),
    "bidirectional": (LSTM, {"bidirectional": True}),
    "bidirectional, two layers, dropout": (GRU, {"bidirectional": True, "num_layers": 2, "dropout": 0.5}),
    "no bias": (GRU, {"bias": False}),
    "float64": (LSTM, {"dtype": np.float64, "num_layers": 2}),
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_stacks(name: str, batch_first: bool) -> None:
    cell, options = STACKS[name]
    dtype = options.get("dtype", np.float32)
    steps = sequences(clip=0.5)
    for step in steps:
        step["x"], step["y"] = step["x"].astype(dtype), step["y"].astype(dtype)
        if batch_first:
            step["x"] = np.ascontiguousarray(step["x"].swapaxes(0, 1))
    run(twins(regressor(cell, batch_first=batch_first, **options), adam), "mse", steps)


@pytest.mark.parametrize("cell", [LSTM, GRU, RNN])
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_and_resets(cell: Any, batch_first: bool) -> None:
    rng = np.random.default_rng(5)
    steps = sequences(4)
    for step in steps:
        resets = rng.random((T, B)) < 0.3
        if batch_first:
            step["x"], resets = np.ascontiguousarray(step["x"].swapaxes(0, 1)), np.ascontiguousarray(resets.T)
        step.update(lengths=rng.integers(0, T + 1, B), resets=resets, clip=1.0)
    options = {"batch_first": batch_first, "num_layers": 2, "bidirectional": True}
    run(twins(regressor(cell, **options), adam), "mse", steps)


def test_what_comes_and_goes_between_steps() -> None:
    """Each combination of optional arguments makes a shape of its own; one seen before is found again."""
    lengths, resets = np.array([6, 1, 0, 3]), data(T, B) > 0.5
    some = sequences(10)
    for step, more in zip(
        some, [{}, {"lengths": lengths}, {"resets": resets}, {}, {"lengths": lengths}] * 2, strict=True
    ):
        step.update(more)
    run(twins(regressor(), adam), "mse", some, shapes=3)


def test_shapes_that_change() -> None:
    sizes = [(6, 4), (3, 2), (6, 4), (9, 7), (1, 1), (3, 2), (9, 7), (6, 4)]
    steps = [{"x": data(t, b, I, seed=t), "y": data(b, 2, seed=b), "clip": 1.0} for t, b in sizes]
    run(twins(regressor(GRU, num_layers=2), adam), "mse", steps, shapes=5)


def test_strided_inputs() -> None:
    wide, tall = data(T, B, 2 * I), data(2 * B, 5)
    strided = {"x": wide[:, :, :I], "y": tall[::2, 1:3]}
    run(twins(regressor(), adam), "mse", [strided, strided, *sequences(2), strided], shapes=2)
    rows = {"x": data(3, 4, 10)[::2, 1::2, :I], "y": data(2, 2, 2)}
    run(twins(Sequential(Linear(I, 5, seed=1), LayerNorm(5), Linear(5, 2, seed=2)), adam), "mse", [rows] * 3)


def test_embedding_dropout_norm_and_classes() -> None:
    rng = np.random.default_rng(4)
    steps = labels(4, clip=1.0, ignore_index=2)
    for step in steps:
        step["mask"] = rng.random((T, B)) < 0.7
    run(twins(tagger(num_layers=2, dropout=0.2), adam), "cross_entropy", steps)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(p: float) -> None:
    run(twins(Sequential(Dropout(p, seed=1), LSTM(I, 5, seed=2), Dropout(p), Linear(5, 2)), adam), "mse",
        [{"x": data(T, B, I, seed=s), "y": data(T, B, 2)} for s in range(3)])  # fmt: skip


def test_layers_whose_input_gradient_nobody_wants() -> None:
    targets = [{"x": data(T, B, I, seed=s), "y": data(T, B, 2), "clip": 1.0} for s in range(3)]
    last = [{"x": data(T, B, I, seed=s), "y": data(B, 2)} for s in range(3)]
    run(twins(Sequential(LayerNorm(I), Linear(I, 2, seed=1)), adam), "mse", targets)
    run(
        twins(Sequential(LayerNorm(I, elementwise_affine=False), Linear(I, 2, bias=False)), adam),
        "mse",
        targets,
    )
    run(twins(Sequential(Last(), Linear(I, 2, seed=1)), adam), "mse", last)


def test_losses() -> None:
    rng = np.random.default_rng(6)
    model = Sequential(RNN(I, 5, seed=1), Linear(5, 2, seed=2))
    steps = [{"x": data(T, B, I, seed=s), "y": rng.random((T, B, 2)).astype(np.float32)} for s in range(3)]
    for loss in ("mse", "binary_cross_entropy", "cross_entropy"):
        run(twins(model, adam), loss, steps)
        for axes in [(T, B), (T, B, 2)][: 1 if loss == "cross_entropy" else 2]:
            run(twins(model, adam), loss, [{**step, "mask": rng.random(axes) < 0.6} for step in steps])
    ignored = [{**step, "ignore_index": 1} for step in steps]
    for step in ignored:
        step["y"] = np.round(step["y"])
    run(twins(model, adam), "mse", ignored)
    classes = [
        {**step, "y": rng.integers(0, 2, (T, B)), "ignore_index": s % 2} for s, step in enumerate(steps)
    ]
    run(twins(model, adam), "cross_entropy", classes, shapes=2)


def test_losses_with_options_of_their_own() -> None:
    """The options belong to the shape of a call; a loss for each entry is no number to return."""
    model = Sequential(RNN(I, 5, seed=1), Linear(5, 2, seed=2))
    pair = twins(model, adam)
    steps = [{"x": data(T, B, I, seed=s), "y": np.round(data(T, B, 2, seed=s + 9))} for s in range(3)]
    specs = [
        LossSpec("mse"),
        LossSpec("mse", "sum"),
        LossSpec("mse", ignore_index=1),
        LossSpec("mse", "sum", 1),
    ]
    for spec in specs:
        run(pair, spec, steps)
    for spec in reversed(specs):
        run(pair, spec, steps, shapes=0)
    run(pair, LossSpec("mse", "none"), steps, native=False)
    run(pair, "mse", [{**step, "ignore_index": 1} for step in steps], shapes=0)
    with pytest.raises(ValueError, match=r"ignore_index must be None with LossSpec\('mse', .*\), it is 2"):
        model.train_step(steps[0]["x"], steps[0]["y"], specs[0], pair[0][1], ignore_index=2)


def test_losses_as_objects() -> None:
    """Options are part of a call's shape: equal objects share it, even made anew; weights tell them apart."""
    rng = np.random.default_rng(8)
    model = Sequential(RNN(I, 5, seed=1), Linear(5, 3, seed=2))
    x = [data(T, B, I, seed=s) for s in range(3)]
    classes = [{"x": a, "y": rng.integers(0, 3, (T, B))} for a in x]
    chances = [{"x": a, "y": rng.dirichlet(np.ones(3), (T, B)).astype(np.float32)} for a in x]
    losses = fr.losses
    pair = twins(model, adam)
    for loss in (
        losses.CrossEntropy([0.5, 2, 1]),
        losses.CrossEntropy([0.5, 2, 3]),
        losses.CrossEntropy(label_smoothing=0.1),
        losses.CrossEntropy([0.5, 2, 1], label_smoothing=0.1, ignore_index=1, reduction="sum"),
    ):
        run(pair, loss, classes)
    run(pair, losses.CrossEntropy(np.array([0.5, 2, 1])), classes, shapes=0)
    run(pair, losses.CrossEntropy(label_smoothing=0.0), classes)
    run(pair, "cross_entropy", classes, shapes=0)
    run(pair, losses.CrossEntropy([0.5, 2, 1], label_smoothing=0.1), chances)
    run(pair, losses.BinaryCrossEntropy(pos_weight=[0.5, 2, 1]), chances)
    run(
        pair,
        losses.BinaryCrossEntropy(pos_weight=3),
        [{**c, "mask": rng.random((T, B)) < 0.6} for c in chances],
    )
    run(pair, losses.MSE(reduction="sum"), chances)
    with pytest.raises(ValueError, match=r"weight must be of shape \(3,\), it is \(2,\)"):
        model.train_step(x[0], classes[0]["y"], losses.CrossEntropy([1, 2]), pair[0][1])
    with pytest.raises(ValueError, match=r"ignore_index must be None with CrossEntropy\(weight=None"):
        model.train_step(x[0], classes[0]["y"], losses.CrossEntropy(), pair[0][1], ignore_index=2)


def test_loss_objects_are_values() -> None:
    losses = fr.losses
    loss = losses.CrossEntropy([1, 2], label_smoothing=0.1)
    assert loss == losses.CrossEntropy(np.array([1.0, 2.0]), label_smoothing=0.1)
    assert hash(loss) == hash(losses.CrossEntropy([1, 2], label_smoothing=0.1))
    for other in (
        losses.CrossEntropy([1, 3], label_smoothing=0.1),
        losses.CrossEntropy([1, 2]),
        losses.MSE(),
    ):
        assert loss != other
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert repr(losses.MSE(reduction="sum")) == "MSE(ignore_index=None, reduction='sum')"
    assert repr(loss.spec) == (
        "LossSpec('cross_entropy', reduction='mean', label_smoothing=0.1, weight=2 numbers)"
    )
    given = np.array([1.0, 2.0])
    kept = losses.CrossEntropy(given)
    given[0] = 7
    assert kept == losses.CrossEntropy([1, 2])
    pred, target = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 1, 0])
    value, dpred = loss(pred, target)
    expected = losses.cross_entropy(pred, target, label_smoothing=0.1, weight=[1, 2])
    assert value == expected[0]
    assert (dpred == expected[1]).all()
    with pytest.raises(ValueError, match=r"label_smoothing must be 0 with 'mse', it is 0.1"):
        LossSpec("mse", label_smoothing=0.1)
    with pytest.raises(ValueError, match="weight must be None with 'mse'"):
        LossSpec("mse", weight=np.ones(2))


def test_specs_are_values() -> None:
    assert LossSpec("mse", ignore_index=1) == LossSpec("mse", "mean", 1)
    assert (
        len({LossSpec(n, r, i) for n in _native.losses() for r in ("sum", "none") for i in (None, 0, 1)})
        == 18
    )
    assert repr(LossSpec("mse", "sum", -1)) == "LossSpec('mse', reduction='sum', ignore_index=-1)"
    with pytest.raises(
        ValueError, match="loss must be 'mse', 'cross_entropy' or 'binary_cross_entropy', it is 'l1'"
    ):
        LossSpec("l1")


OPTIMIZERS: dict[str, Callable[[Any], fr.optim.Optimizer]] = {
    "sgd": lambda p: fr.optim.SGD(p, lr=0.1),
    "momentum": lambda p: fr.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adagrad": lambda p: fr.optim.Adagrad(p, lr_decay=0.1),
    "rmsprop": lambda p: fr.optim.RMSprop(p),
    "centered": lambda p: fr.optim.RMSprop(p, momentum=0.9, centered=True),
    "adam": adam,
    "plain adam": lambda p: fr.optim.Adam(p, bias_correction=False, weight_decay=0.1),
    "adamw": lambda p: fr.optim.AdamW(p),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.01, 100.0])
def test_optimizers(name: str, clip: float | None) -> None:
    run(twins(regressor(), OPTIMIZERS[name]), "mse", sequences(4, clip=clip))


def grouped(parameters: Any) -> fr.optim.Optimizer:
    first, second, *rest = parameters
    groups = [{"params": [first], "lr": 0.1}, {"params": rest}, {"params": [second], "weight_decay": 0.1}]
    return fr.optim.AdamW(groups, lr=0.01)


def test_groups_and_parameters_left_out() -> None:
    run(twins(regressor(num_layers=2), grouped), "mse", sequences(4, clip=0.3))
    run(twins(regressor(), lambda p: fr.optim.SGD(list(p)[-2:], lr=0.1)), "mse", sequences(3, clip=0.3))


def test_parameters_of_others_too() -> None:
    """Float64 parameters of another model, whose gradients the step leaves alone, join the norm.

    Random gradients, and many of them: formulas of the norm that differ by rounding agree on most.
    """
    (model, _), (twin, _) = twins(regressor(), adam)
    others = [Linear(2, 2, dtype=np.float64, seed=5) for _ in range(2)]
    pair = [
        (m, fr.optim.SGD([*other.parameters(), *m.parameters()], lr=0.1))
        for m, other in zip((model, twin), others, strict=True)
    ]
    for seed in range(400):
        for other in others:
            other.weight.grad[...] = data(2, 2, seed=seed, dtype=np.float64)
        step = {"x": data(T, B, I, seed=seed), "y": data(B, 2, seed=seed + 1), "clip": 0.4}
        run(pair, "mse", [step], shapes=1 if seed == 0 else 0)
        np.testing.assert_array_equal(others[0].weight.data, others[1].weight.data)


def test_tied_parameters() -> None:
    model = Sequential(Embedding(V, 5, seed=1), GRU(5, 5, seed=2), Linear(5, V, bias=False))
    model[2].weight = model[0].weight
    run(twins(model, adam), "cross_entropy", labels(3, clip=1.0))


def nested() -> Sequential:
    inner = Sequential(GRU(5, 4, seed=3), LayerNorm(4), Sequential(LSTM(4, 4, seed=5)))
    return Sequential(LSTM(I, 5, 2, seed=2), inner, RNN(4, 3, seed=4), Linear(3, 2, seed=6))


def test_states_of_nested_models_are_carried() -> None:
    (model, optimizer), (twin, other) = pair = twins(nested(), adam)
    state = twin_state = None
    for s in range(4):
        x, y = data(T, B, I, seed=s), data(T, B, 2, seed=s + 9)
        *found, state = model.train_step(x, y, "mse", optimizer, 1.0, state=state, return_state=True)
        given = {"state": twin_state, "return_state": True}
        *expected, twin_state = separate(twin, other, "mse", x, y, 1.0, **given)
        assert_tree((found, state), (expected, twin_state))
    entries = [None, [np.ones((1, B, 4), np.float32), None], np.ones((1, B, 3), np.float32)]
    run(pair, "mse", [{"x": data(T, B, I), "y": data(T, B, 2), "state": entries, "return_state": True}] * 3)


def test_final_states_are_the_callers_own() -> None:
    model = regressor()
    optimizer = adam(model.parameters())
    step = {**sequences(1)[0], "loss": "mse", "optimizer": optimizer, "return_state": True}
    kept = [model.train_step(**step)[2] for _ in range(3)]
    copies = copy.deepcopy(kept)
    model.train_step(**step)
    assert_tree(kept, copies)
    kept[-1][0][0].fill(np.nan)
    assert np.isfinite(model.train_step(**step)[0])


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_without_a_finite_norm_are_skipped(clip: float | None) -> None:
    steps = sequences(6, clip=clip, skip_nonfinite=True)
    for s in (0, 2, 3):
        steps[s]["x"][0, 0, 0] = np.nan
    pair = twins(regressor(), adam)
    run(pair, "mse", steps)
    assert pair[0][1].param_groups[0]["step"] == 3


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("plan", ["", "2x1", "1x2"])
def test_threads_and_plans_may_change(threads: int, plan: str) -> None:
    before = fr.get_num_threads()
    pair = twins(Sequential(LSTM(I, 40, 2, seed=1), Last(), Linear(40, 2, seed=2)), adam)
    steps = [{"x": data(20, 12, I, seed=s), "y": data(12, 2), "clip": 1.0} for s in range(4)]
    try:
        run(pair, "mse", steps[:2])
        fr.set_num_threads(threads)
        _native.force_plan(plan)
        run(pair, "mse", steps)
    finally:
        fr.set_num_threads(before)
        _native.force_plan("")


def test_instruction_sets_may_change() -> None:
    before = _native.backend()
    pair = twins(regressor(), adam)
    try:
        for name in [*_native.available_backends(), before]:
            _native.set_backend(name)
            run(pair, "mse", sequences(2, clip=1.0))
    finally:
        _native.set_backend(before)
