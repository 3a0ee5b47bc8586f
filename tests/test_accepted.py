"""What was accepted in silence, and is refused by name or gives the right value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import optim
from fusedrnn.nn import GRU, LSTM, Embedding, LayerNorm, Linear, Parameter

MASKED = np.ma.masked_array(np.ones((2, 3), np.float32), mask=np.eye(2, 3, dtype=bool))


def linear() -> Linear:
    return Linear(3, 2, seed=0)


def optimizer_with_masked_state() -> None:
    optimizer = optim.Adam([linear().weight])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = MASKED
    optimizer.load_state_dict(saved)


class Closed:
    """An array of a library that says why there is none."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise ValueError("the file was closed")


def test_why_there_is_no_array_is_said() -> None:
    with pytest.raises(ValueError, match=r"^the file was closed$"):
        fr.asarray(Closed(), "cpu")
    with pytest.raises(ValueError, match="its lists differ in length"):
        fr.asarray([[1.0, 2.0], [3.0]], "cpu")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Parameter(MASKED),
        lambda: setattr(linear().weight, "data", MASKED),
        lambda: setattr(linear().weight, "grad", MASKED),
        lambda: linear().load_state_dict({**linear().state_dict(), "weight": MASKED}),
        lambda: fr.asarray(MASKED, "cpu"),
        lambda: linear()(MASKED),
        lambda: Embedding(3, 2)(np.ma.masked_array([0, 1], [True, False])),
        optimizer_with_masked_state,
    ],
)
def test_a_masked_array_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"(?i)mask"):
        call()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(2, 2, dtype=None),  # type: ignore[arg-type]
        lambda: LSTM(2, 2, dtype=None),  # type: ignore[arg-type]
        lambda: Embedding(2, 2, dtype=None),  # type: ignore[arg-type]
        lambda: LayerNorm(2, dtype=None),  # type: ignore[arg-type]
        lambda: fr.nn.FlatBuffer(3, None),  # type: ignore[arg-type]
    ],
)
def test_dtype_none_is_not_float64(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"dtype must be np\.float32 or np\.float64, it is None"):
        make()


def test_unknown_names_in_dweights_are_refused() -> None:
    weights = GRU(2, 3, seed=0).state_dict()
    y, _, tape = fr.functional.gru_forward(np.ones((2, 1, 2), np.float32), None, weights)
    dweights = {name: np.zeros_like(array) for name, array in weights.items()}
    with pytest.raises(ValueError, match="dweights: 'weight_ih_l7' is no weight"):
        fr.functional.gru_backward(tape, y, dweights={**dweights, "weight_ih_l7": np.zeros(3)})


@pytest.mark.parametrize(
    "use",
    [
        lambda params: optim.Adam(params),
        lambda params: optim.Adam([{"params": params}]),
        lambda params: optim.clip_grad_norm_(params, 1.0),
        lambda params: optim.Adam([linear().weight]).add_param_group({"params": params}),
    ],
)
@pytest.mark.parametrize("kind", [set, frozenset])
def test_parameters_have_an_order(use: Callable[[Any], Any], kind: Any) -> None:
    with pytest.raises(TypeError, match="params must have an order, and a set has none: use a list"):
        use(kind(linear().parameters()))


def test_a_state_of_parameters_in_another_order_is_refused() -> None:
    model = fr.nn.Sequential(Linear(3, 3, seed=0), Linear(3, 3, seed=1))
    named = list(model.named_parameters())
    saved = optim.Adam(named)
    saved.step()
    assert saved.state_dict()["param_groups"][0]["param_names"] == [name for name, _ in named]
    optim.Adam(named).load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="parameters are in another order"):
        optim.Adam([*named[2:], *named[:2]]).load_state_dict(saved.state_dict())
    gru = GRU(3, 1, bias=False, seed=0)  # names of their own are enough within a layer
    saved = optim.Adam([gru.weight_ih_l0, gru.weight_hh_l0])
    saved.step()
    with pytest.raises(ValueError, match="parameters are in another order"):
        optim.Adam([gru.weight_hh_l0, gru.weight_ih_l0]).load_state_dict(saved.state_dict())
    nameless = saved.state_dict()
    del nameless["param_groups"][0]["param_names"]  # as older versions, and PyTorch, have it
    optim.Adam([gru.weight_ih_l0, gru.weight_hh_l0]).load_state_dict(nameless)


def test_an_option_that_no_rule_reads_is_refused() -> None:
    layer = linear()
    optimizer = optim.Adam(layer.parameters())
    model = fr.nn.Sequential(layer)
    x, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    for _ in range(2):
        model.train_step(x, y, "mse", optimizer)
    optimizer.param_groups[0]["learning_rate"] = 1.0
    for call in (optimizer.step, lambda: model.train_step(x, y, "mse", optimizer)):
        with pytest.raises(ValueError, match=r"it has \['learning_rate'\]"):
            call()


def test_a_limit_may_be_an_unsigned_integer() -> None:
    for functions in (fr.functional, fr.reference):
        array = np.array([-9.0, 1.0, 9.0])
        functions.clip_by_value_([array], np.uint8(5))
        np.testing.assert_array_equal(array, [-5, 1, 5])


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul")
def test_infinity_through_relu_is_the_same_in_both() -> None:
    weights = {"weight_ih_l0": np.eye(4, dtype=np.float32), "weight_hh_l0": np.zeros((4, 4), np.float32)}
    x = np.array([[[np.inf, -np.inf, -1, np.nan]]], np.float32)
    dy = np.full_like(x, np.inf)
    results = []
    for functions in (fr.functional, fr.reference):
        x1 = np.array([[[1.0, -1.0, -2.0, 0.0]]], np.float32)
        y, _, _ = functions.rnn_forward(x * 1, None, weights, nonlinearity="relu")
        _, _, tape = functions.rnn_forward(x1, None, weights, nonlinearity="relu")
        dx, dh0, dweights = functions.rnn_backward(tape, dy)
        results.append([y, dh0, dweights["weight_ih_l0"]])
        assert dx is not None
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
