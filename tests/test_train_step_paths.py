"""When train_step is one native call, when it is not, and what it must notice between two calls."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import re
import weakref
from typing import Any

import numpy as np
import pytest
from steps import (
    B,
    I,
    T,
    V,
    adam,
    assert_agree,
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
from fusedrnn.nn import GRU, LSTM, Dropout, Last, Linear, Module, Sequential
from fusedrnn.training.step import compiled_steps
from fusedrnn.training.structure import structure_of


class Square(Module):
    """A user's own."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x * x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return 2 * self.x * dy


class Doubled(Linear):
    """A layer of this package with a forward of the user's own."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        return 2 * super().forward(x)

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> Any:
        return super().backward(2 * dy, need_dx=need_dx)


class Plain(Sequential):
    """A model with a constructor of its own, and nothing else."""

    def __init__(self) -> None:
        super().__init__(LSTM(I, 5, seed=1), Last(), Linear(5, 2, seed=2))


class Scaled(Plain):
    """A model with a backward of its own."""

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> Any:
        return super().backward(3 * dy, need_dx=need_dx)


@pytest.mark.parametrize("own", [Square, lambda: Doubled(2, 2, seed=3), lambda: Sequential(Square())])
def test_modules_of_the_users_own_take_the_separate_calls(own: Any) -> None:
    model = Sequential(LSTM(I, 5, seed=1), Last(), Linear(5, 2, seed=2), own())
    run(twins(model, adam), "mse", sequences(3, clip=1.0), native=False)


def test_models_of_the_users_own() -> None:
    run(twins(Plain(), adam), "mse", sequences(3))
    run(twins(Scaled(), adam), "mse", sequences(3), native=False)


def test_losses_of_the_users_own() -> None:
    calls = []

    def loss(prediction: np.ndarray, target: np.ndarray) -> tuple[str, np.ndarray]:
        calls.append(prediction)
        return "any value", prediction - target

    model = regressor()
    optimizer = adam(model.parameters())
    step = sequences(1)[0]
    for _ in range(3):
        assert model.train_step(step["x"], step["y"], loss, optimizer)[0] == "any value"
        summed = functools.partial(fr.losses.mse, reduction="sum")
        model.train_step(step["x"], step["y"], summed, optimizer)
    assert len(calls) == 3
    assert not compiled_steps(model)
    for name in ("mse", "mse", loss):  # which the native step of another loss leaves alone
        model.train_step(step["x"], step["y"], name, optimizer)
    assert len(calls) == 4


def test_optimizers_of_the_users_own() -> None:
    steps = []

    class Counting(fr.optim.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            steps.append(args)
            return super().step(*args, **kwargs)

    pair = twins(regressor(), lambda p: Counting(p, lr=0.1))
    run(pair, "mse", sequences(3), native=False)
    assert len(steps) == 6
    assert not compiled_steps(pair[0][0])


def test_a_step_that_becomes_the_users_own() -> None:
    pair = twins(regressor(), adam)
    run(pair, "mse", sequences(2))
    steps = []
    for _, optimizer in pair:
        optimizer.step = lambda *a, own=optimizer.step, **k: (steps.append(a), own(*a, **k))[1]
    run(pair, "mse", sequences(3), native=False)
    assert len(steps) == 6


def test_a_layer_that_comes_twice() -> None:
    layer = Linear(2, 2, seed=1)
    steps = [{"x": data(T, 2, seed=s), "y": data(T, 2)} for s in range(3)]
    run(twins(Sequential(layer, Dropout(0.5, seed=2), layer), adam), "mse", steps, native=False)


def test_a_layer_on_a_device() -> None:
    model = regressor()
    assert structure_of(model) is not None
    model[0].weight_ih_l0._buffer.device = "cuda"
    assert structure_of(model) is None


def test_a_layer_in_eval_mode() -> None:
    pair = twins(tagger(), adam)
    run(pair, "cross_entropy", labels(2))
    for model, _ in pair:
        model[2].eval()
    for model, optimizer in pair:
        with pytest.raises(RuntimeError, match=r"Dropout\.backward has no tape"):
            model.train_step(**labels(1)[0], loss="cross_entropy", optimizer=optimizer)
        model.train()
    run(pair, "cross_entropy", labels(2))


# --------------------------------------------------------------------------- what changes between two calls
def halve(p: fr.nn.Parameter) -> None:
    with p.writable() as values:
        values *= 0.5


def change(name: str, model: Any, optimizer: Any) -> None:
    rng = np.random.default_rng(9)
    {
        "weights": lambda: setattr(model[1].weight_hh_l0, "data", data(15, 5, seed=4)),
        "weights of a state dict": lambda: model.load_state_dict(
            {k: v * 0.5 for k, v in model.state_dict().items()}
        ),
        "weights in place": lambda: halve(model[1].weight_ih_l0),
        "dropout": lambda: setattr(model[2], "p", 0.6),
        "dropout between layers": lambda: setattr(model[1], "dropout", 0.6),
        "no dropout": lambda: setattr(model[2], "p", 0.0),
        "eps": lambda: setattr(model[3], "eps", 0.1),
        "a layer": lambda: setattr(model, "2", Dropout(0.1, seed=11)),
        "a parameter": lambda: setattr(model[4], "weight", fr.nn.Parameter(data(V, 5, seed=5))),
        "learning rate": lambda: setattr(optimizer, "lr", 0.3),
        "betas in a list": lambda: optimizer.param_groups[0].update(betas=[0.5, 0.6]),
        "optimizer's state": lambda: optimizer.load_state_dict(optimizer.state_dict()),
        "groups that are others": lambda: optimizer.param_groups.__setitem__(
            0, {**optimizer.param_groups[0], "lr": 0.2, "step": 7}
        ),
        "a group": lambda: optimizer.add_param_group({"params": [fr.nn.Parameter(data(3))], "lr": 0.1}),
        "dropout keys": lambda: model.load_random_state(
            dict.fromkeys(model.random_state(), int(rng.integers(1000)))
        ),
        "mode": lambda: (model.eval(), model(labels(1)[0]["x"]), model.train()),
        "a forward": lambda: model(labels(1)[0]["x"]),
        "gradients": lambda: [p.grad.fill(9) for p in model.parameters()],
        "a number": lambda: setattr(model, "epoch", 3),
    }[name]()


@pytest.mark.parametrize(
    "name",
    [
        "weights", "weights of a state dict", "weights in place", "groups that are others",
        "dropout", "dropout between layers", "no dropout", "eps", "a layer",
        "a parameter", "learning rate", "betas in a list", "optimizer's state", "a group", "dropout keys",
        "mode", "a forward", "gradients", "a number",
    ],
)  # fmt: skip
def test_changes_are_noticed(name: str) -> None:
    pair = twins(tagger(num_layers=2, dropout=0.2), adam)
    run(pair, "cross_entropy", labels(3, clip=1.0))
    for model, optimizer in pair:
        change(name, model, optimizer)
    anew = ("dropout", "no dropout", "eps", "a layer", "a parameter", "optimizer's state", "a group")
    run(pair, "cross_entropy", labels(3, clip=1.0), shapes=int(name.startswith(anew)))
    if name == "betas in a list":
        for _, optimizer in pair:
            optimizer.param_groups[0]["betas"][0] = 0.1
        run(pair, "cross_entropy", labels(2))


def test_a_rule_that_begins_to_keep_states() -> None:
    pair = twins(regressor(), lambda p: fr.optim.SGD(p, lr=0.1))
    run(pair, "mse", sequences(2))
    for _, optimizer in pair:
        optimizer.param_groups[0]["momentum"] = 0.9
    run(pair, "mse", sequences(3))


def test_two_losses_and_two_optimizers_take_turns() -> None:
    pair = twins(regressor(), adam)
    others = [(model, fr.optim.SGD(model.parameters(), lr=0.1)) for model, _ in pair]
    for _ in range(2):
        for turn in (pair, others):
            for loss in ("mse", "binary_cross_entropy", "cross_entropy"):
                run(turn, loss, sequences(2, clip=1.0))
    assert len(compiled_steps(pair[0][0])) == 2
    run(pair, "mse", sequences(2, clip=1.0), shapes=0)


def test_of_many_optimizers_the_last_ones_keep_their_buffers() -> None:
    models = [model for model, _ in twins(regressor(), adam)]
    pairs = [[(model, fr.optim.SGD(model.parameters(), lr=0.1)) for model in models] for _ in range(6)]
    for pair in pairs:
        run(pair, "mse", sequences(2))
    assert len(compiled_steps(models[0])) == 4
    run(pairs[-1], "mse", sequences(2), shapes=0)
    run(pairs[0], "mse", sequences(2))


def test_its_packing_is_its_own() -> None:
    """A forward after a step sees the weights that the step left, and the other way round."""
    model = regressor()
    optimizer = adam(model.parameters())
    step = sequences(1)[0]
    for _ in range(3):
        before = model(step["x"])
        model.train_step(**step, loss="mse", optimizer=optimizer)
        after = model(step["x"])
        assert not np.array_equal(before, after)
        fresh = regressor()
        fresh.load_state_dict(model.state_dict())
        np.testing.assert_array_equal(after, fresh(step["x"]))


def test_it_leaves_no_tape() -> None:
    model = regressor()
    optimizer = adam(model.parameters())
    step = sequences(1)[0]
    for _ in range(2):
        model(step["x"])
        model.train_step(**step, loss="mse", optimizer=optimizer)
        assert model[0].tape is None
        with pytest.raises(RuntimeError, match=r"Linear\.backward has no tape"):
            model.backward(step["y"])


# ------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": data(T, B, I + 1)}, ValueError, r"x must be \(T, B, I\) = \(T, B, 3\), it is \(6, 4, 4\)"),
        ({"x": data(T, B, I, dtype=np.float64)}, TypeError, "x is float64, the module float32"),
        ({"x": data(T, B, I).view(np.int32)}, TypeError, "x is int32, the module float32"),
        ({"x": data(T, B, I).tolist()}, TypeError, "x must be a NumPy array, it is list"),
        ({"x": data(T, B, 2 * I)[:, :, ::2]}, ValueError, "x must have unit stride on its last axis"),
        ({"x": data(T, B, I)[::-1]}, ValueError, "x must have positive strides"),
        ({"x": data(T, B, I).astype(">f4")}, TypeError, "x is >f4, the module float32"),
        ({"y": data(B, 3)}, ValueError, r"target must be of shape \(4, 2\)"),
        ({"y": data(B, 2, dtype=np.float64)}, TypeError, "target must be float32, it is float64"),
        ({"mask": np.ones((B, 3), bool)}, ValueError, "mask must be of shape"),
        (
            {"lengths": np.full(B, T + 1)},
            ValueError,
            "lengths must be between 0 and T = 6, it is 7 at index 0",
        ),
        ({"lengths": np.full(B, T, np.float32)}, TypeError, "lengths must be int64"),
        ({"resets": np.zeros((B, T), bool)}, ValueError, r"resets must be \(T, B\)"),
        (
            {"state": [None, None]},
            ValueError,
            "state must be a list of 1, one for each recurrent layer, it has 2",
        ),
        ({"state": [data(1, B, 5)]}, TypeError, r"state must be a pair \(h0, c0\), it is a ndarray"),
        ({"state": [(data(1, B, 6), None)]}, ValueError, "h0 must be"),
        ({"clip": -1.0}, ValueError, "clip_norm must be None or at least 0, it is -1"),
        ({"clip": np.nan}, ValueError, "clip_norm must be None or at least 0, it is nan"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer"),
    ],
)
def test_errors_are_those_of_the_parts(changed: dict[str, Any], error: Any, message: str) -> None:
    pair = twins(regressor(num_layers=2, dropout=0.5), adam)
    good = sequences(1)[0]
    variants = [good, {**good, "lengths": np.full(B, T), "ignore_index": 5}, {**good, "clip": 1.0}]
    refused(pair, "mse", {**good, **changed}, error, message)
    for variant in variants:
        run(pair, "mse", [variant] * 2)
        refused(pair, "mse", {**variant, **changed}, error, message)
        run(pair, "mse", [variant], shapes=0)


def refused(pair: list[Any], loss: str, step: dict[str, Any], error: Any, message: str) -> None:
    """train_step and the separate calls raise the same and leave the same behind; no weight is changed."""
    given = dict(step)
    arguments = given.pop("x"), given.pop("y")
    clip = given.pop("clip", None)
    (model, optimizer), (twin, other) = pair
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.train_step(*arguments, loss, optimizer, clip, **given)
    with pytest.raises(error, match=message):
        separate(twin, other, loss, *arguments, clip, **given)
    assert_agree(pair, "an error")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_options_of_the_optimizer_out_of_range() -> None:
    pair = twins(tagger(), adam)
    good = labels(1)[0]
    run(pair, "cross_entropy", [good] * 2)
    for _, optimizer in pair:
        optimizer.param_groups[0]["eps"] = -1.0
    refused(pair, "cross_entropy", good, ValueError, "eps must be finite and >= 0, it is -1.0")
    for _, optimizer in pair:
        optimizer.param_groups[0]["eps"] = 1e-8
    run(pair, "cross_entropy", [good], shapes=0)


def test_ids_and_classes_out_of_range() -> None:
    pair = twins(tagger(), adam)
    good = labels(1)[0]
    for _ in range(2):
        for name, message in (
            ("x", "ids must be in [0, 7)"),
            ("y", "target must be in [0, 7) where it counts"),
        ):
            message += ", it is 7 at flat index 2"
            bad = {**good, name: good[name].copy()}
            bad[name].flat[2] = V
            refused(pair, "cross_entropy", bad, ValueError, re.escape(message))
        run(pair, "cross_entropy", [good])


def test_views_of_gradients_as_arguments() -> None:
    """They are cleared before anything is read in the native step, after the loss in the separate calls."""
    pair = twins(Sequential(Linear(B, 3, seed=1), Linear(3, B, seed=2)), adam)
    run(pair, "mse", [{"x": data(3, B), "y": data(3, B), "clip": 1.0}] * 2)
    found, expected = (
        step(model, model[0].weight.grad[:3], optimizer)
        for step, (model, optimizer) in zip(
            (
                lambda model, y, optimizer: model.train_step(data(3, B), y, "mse", optimizer, 1.0),
                lambda model, y, optimizer: separate(model, optimizer, "mse", data(3, B), y, 1.0),
            ),
            pair,
            strict=True,
        )
    )
    assert found == expected
    assert_agree(pair, "a gradient as the target")


def test_eval_mode_is_refused() -> None:
    model = regressor()
    step = {**sequences(1)[0], "loss": "mse", "optimizer": adam(model.parameters())}
    model.train_step(**step)
    model.eval()
    with pytest.raises(RuntimeError, match="train_step needs training mode"):
        model.train_step(**step)


# --------------------------------------------------------------------------------------- shapes that are odd
def test_no_rows_and_no_steps() -> None:
    model = Sequential(GRU(I, 5, seed=1), Linear(5, 2, seed=2))
    for t, b in ((0, B), (T, 0)):
        run(
            twins(model, adam),
            "mse",
            [{"x": data(t, b, I), "y": data(t, b, 2), "clip": 1.0}] * 3,
            native=False,
        )


def test_many_axes() -> None:
    shape = (1, 2) * 5
    steps = [{"x": data(*shape, I, seed=s), "y": data(*shape, 2)} for s in range(3)]
    run(
        twins(Sequential(Linear(I, 5, seed=1), Dropout(0.5, seed=1), Linear(5, 2, seed=2)), adam),
        "mse",
        steps,
        native=False,
    )


def test_more_shapes_than_are_kept() -> None:
    pair = twins(Sequential(Linear(2, 1, seed=1)), adam)
    sizes = [*range(1, 270), 3, 3, 269, 269, 1]
    run(pair, "mse", [{"x": data(n, 2, seed=n), "y": data(n, 1)} for n in sizes], shapes=271)


# ------------------------------------------------------------------------------------------ copies, lifetime
def test_copies_and_pickles_begin_anew() -> None:
    pair = twins(regressor(), adam)
    run(pair, "mse", sequences(2))
    model, _ = pair[0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not compiled_steps(other)
        before = model.state_dict()
        other.train_step(**sequences(1)[0], loss="mse", optimizer=adam(other.parameters()))
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
    run(pair, "mse", sequences(2))


def test_models_go_without_a_collection() -> None:
    model = regressor()
    model.train_step(**sequences(1)[0], loss="mse", optimizer=adam(model.parameters()))
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()
