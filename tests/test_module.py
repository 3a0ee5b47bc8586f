"""The base of layers and models: parts by name, modes, gradients, users' own models, random state."""

from __future__ import annotations

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.nn import Linear, Module, Parameter


class Scale(Module):
    """A module with a parameter made by hand: y = x * factor."""

    def __init__(self, size: int) -> None:
        self.factor = Parameter(np.full(size, 2.0))
        self.note = "kept as it is"

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x * self.factor.data

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.factor.grad += (dy * self.x).sum(axis=0)
        return dy * self.factor.data


class Model(Module):
    """Scale and two linear layers, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale(3)
        self.first = Linear(3, 3, dtype=np.float64, seed=1)
        self.again = self.first
        self.head = Linear(3, 2, bias=False, dtype=np.float64, seed=2)

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.head(self.first(self.scale(x)))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return self.scale.backward(self.first.backward(self.head.backward(dy)))


NAMES = ["scale.factor", "first.weight", "first.bias", "head.weight"]


def test_parts_are_found_by_name_each_once() -> None:
    model = Model()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [id(p) for p in model.parameters()] == [id(p) for _, p in model.named_parameters()]
    assert [name for name, _ in model.named_modules()] == ["", "scale", "first", "head"]
    assert model.scale.factor.name == "factor"
    assert [name for name, _ in model.named_parameters("net")] == ["net." + name for name in NAMES]


def test_a_parameter_keeps_the_name_it_has() -> None:
    model = Model()
    model.scale.weight = Parameter(np.zeros(2), "a name of its own")
    assert model.scale.weight.name == "a name of its own"


def test_setting_and_deleting_attributes_registers_and_forgets() -> None:
    model = Model()
    del model.again
    model.scale = "no module any more"
    assert [name for name, _ in model.named_parameters()] == NAMES[1:]
    model.scale = Parameter(np.ones(2))
    assert dict(model.named_parameters())["scale"].shape == (2,)
    model.scale = Scale(4)
    assert dict(model.named_parameters())["scale.factor"].shape == (4,)
    del model.head.weight
    assert "head.weight" not in dict(model.named_parameters())


def test_a_parameter_is_not_overwritten_by_an_array() -> None:
    model = Model()
    with pytest.raises(TypeError, match=r"factor is a parameter of this Scale, and ndarray is none.*\.data"):
        model.scale.factor = np.ones(3)
    assert isinstance(model.scale.factor, Parameter)


def test_containers_leave_buffers_where_they_are() -> None:
    linear = Linear(3, 3, seed=0)
    before = linear.weight._buffer, linear.weight.data.ctypes.data
    model = Module()
    model.part = linear
    assert (model.part.weight._buffer, model.part.weight.data.ctypes.data) == before
    assert linear.weight._buffer is linear.bias._buffer


def test_modes_reach_every_part() -> None:
    model = Model()
    assert all(m.training for m in model.modules())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    assert model.train() is model
    assert all(m.training for m in model.modules())
    model.train(False)
    assert not any(m.training for m in model.modules())


def test_zero_grad_reaches_every_parameter() -> None:
    model = Model()
    for p in model.parameters():
        p.grad[...] = 3
    model.zero_grad()
    assert not any(p.grad.any() for p in model.parameters())


def test_zero_grad_leaves_the_gradients_of_others() -> None:
    linear, borrower = Linear(3, 2, seed=0), Module()
    borrower.weight = linear.weight
    for p in linear.parameters():
        p.grad[...] = 3
    borrower.zero_grad()
    assert not linear.weight.grad.any()
    assert (linear.bias.grad == 3).all()
    del linear.bias
    linear.weight.grad[...] = 3
    linear.zero_grad()
    assert not linear.weight.grad.any()


def test_a_models_own_backward_is_its_gradient() -> None:
    rng = np.random.default_rng(0)
    model = Model()
    x, dy = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    model(x)
    dx = model.backward(dy)

    def value() -> float:
        return float((model(x) * dy).sum())

    step = 1e-6
    for name, p in model.named_parameters():
        expected = np.zeros(p.shape)
        for index in np.ndindex(p.shape):
            values = []
            for sign in (1, -1):
                with p.writable() as w:
                    w[index] += sign * step
                values.append(value())
                with p.writable() as w:
                    w[index] -= sign * step
            expected[index] = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(p.grad, expected, rtol=1e-6, atol=1e-8, err_msg=name)
    weight = model.head.weight.data @ model.first.weight.data * model.scale.factor.data
    np.testing.assert_allclose(dx, dy @ weight, rtol=1e-12)


def test_what_a_model_does_not_define_is_said() -> None:
    class Empty(Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define forward"):
        Empty()(1)
    with pytest.raises(NotImplementedError, match="Empty does not define backward"):
        Empty().backward(1)


def test_tied_parameters_are_one() -> None:
    embedding = fr.nn.Embedding(5, 3, seed=0)
    head = Linear(3, 5, bias=False, seed=1)
    head.weight = embedding.weight
    model = fr.nn.Sequential(embedding, head)
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    assert list(model.state_dict()) == ["0.weight", "1.weight"]
    ids = np.array([0, 3, 3])
    y = model(ids)
    np.testing.assert_allclose(y, embedding.weight.data[ids] @ embedding.weight.data.T, rtol=1e-5)
    dy = np.ones_like(y)
    model.backward(dy)
    rows = embedding.weight.data[ids]
    expected = dy.T @ rows
    np.add.at(expected, ids, dy @ embedding.weight.data)
    np.testing.assert_allclose(embedding.weight.grad, expected, rtol=1e-4)
    embedding.weight.data = np.zeros((5, 3), np.float32)
    with pytest.raises(RuntimeError, match="weights were changed"):
        head.backward(dy)


def test_random_state_continues_a_run() -> None:
    x = np.ones((4, 3, 2), np.float32)

    def build(seed: int) -> fr.nn.Sequential:
        return fr.nn.Sequential(fr.nn.LSTM(2, 3, 2, dropout=0.5, seed=seed), fr.nn.Dropout(0.5, seed=seed))

    model, twin = build(0), build(1)
    twin.load_state_dict(model.state_dict())
    model(x)
    assert set(model.random_state()) == {"0.dropout_key", "1.dropout_key"}
    twin.load_random_state(model.random_state())
    first, second = model(x), model(x)
    assert not np.array_equal(first, second)
    assert np.array_equal(twin(x), first)
    assert np.array_equal(twin(x), second)


def test_random_state_is_checked_before_it_is_set() -> None:
    model = fr.nn.Sequential(fr.nn.Dropout(0.5, seed=0), fr.nn.Dropout(0.5, seed=1))
    before = model.random_state()
    with pytest.raises(ValueError, match=r"state must have the names \['0.dropout_key', '1.dropout_key'\]"):
        model.load_random_state({"0.dropout_key": 1})
    for key in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"state\['1.dropout_key'\] must be in 0\.\.\d+, it is {key}"):
            model.load_random_state({"0.dropout_key": 1, "1.dropout_key": key})
    assert model.random_state() == before


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(0, 3), "in_features must be at least 1, it is 0"),
        (lambda: Linear(3, 2.5), "out_features must be an int, it is float"),
        (lambda: Linear(3, True), "out_features must be an int, it is bool"),
        (lambda: Linear(3, 2, dtype=np.float16), "dtype must be float32 or float64, it is float16"),
        (lambda: Linear(3, 2, seed="x"), "seed must be an int, a numpy.random.Generator or None, it is str"),
        (lambda: Linear(3, 2, seed=-1), "seed must be at least 0, it is -1"),
        (lambda: fr.nn.Embedding(-1, 2), "num_embeddings must be at least 1, it is -1"),
        (lambda: fr.nn.Dropout(1.1), "p must be between 0 and 1, it is 1.1"),
        (lambda: fr.nn.Dropout(float("nan")), "p must be between 0 and 1, it is nan"),
        (lambda: fr.nn.LayerNorm((2, 3)), "features must be one size"),
        (lambda: fr.nn.LayerNorm(3, eps=0.0), "eps must be finite and greater than 0, it is 0.0"),
    ],
)
def test_constructors_name_the_argument(build, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()


def test_initial_values_are_those_of_pytorch() -> None:
    linear = Linear(16, 5000, seed=0)
    for values in (linear.weight.data, linear.bias.data):
        assert np.abs(values).max() <= 0.25
        assert abs(values.mean()) < 0.01
        assert abs(values.std() - 0.25 / np.sqrt(3)) < 0.01
    table = fr.nn.Embedding(300, 100, seed=0).weight.data
    assert abs(table.mean()) < 0.02
    assert abs(table.std() - 1) < 0.02
    norm = fr.nn.LayerNorm(4)
    assert np.all(norm.weight.data == 1)
    assert np.all(norm.bias.data == 0)
    assert list(fr.nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]
    assert list(fr.nn.LayerNorm(4, elementwise_affine=False).state_dict()) == []


def test_seeds_decide_and_nothing_global_does() -> None:
    state = np.random.get_state()[1].copy()
    a, b = Linear(3, 4, seed=5), Linear(3, 4, seed=np.random.default_rng(5))
    assert np.array_equal(a.weight.data, b.weight.data)
    assert np.array_equal(
        a.weight.data, Linear(3, 4, dtype=np.float64, seed=5).weight.data.astype(np.float32)
    )
    assert not np.array_equal(Linear(3, 4).weight.data, Linear(3, 4).weight.data)
    rng = np.random.default_rng(5)
    first, second = Linear(3, 4, seed=rng), Linear(3, 4, seed=rng)
    assert not np.array_equal(first.weight.data, second.weight.data)
    assert np.array_equal(np.random.get_state()[1], state)


def test_text_of_a_model() -> None:
    model = fr.nn.Sequential(
        fr.nn.Embedding(9, 4), fr.nn.RNN(4, 5, bidirectional=True, nonlinearity="relu"), Linear(10, 2)
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Embedding(9, 4)\n"
        "  (1): RNN(4, 5, bidirectional=True, nonlinearity='relu')\n"
        "  (2): Linear(10, 2)\n"
        ")"
    )


def test_dropout_takes_a_new_mask_each_call_and_backward_the_same() -> None:
    dropout = fr.nn.Dropout(0.5, seed=0)
    x = np.ones((40, 10), np.float32)
    first, second = dropout(x), dropout(x)
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {0, 2}
    np.testing.assert_array_equal(dropout.backward(x, of=second), second)
    np.testing.assert_array_equal(dropout.backward(x, of=first), first)
    np.testing.assert_array_equal(fr.nn.Dropout(0.5, seed=0)(x), first)
    assert fr.nn.Dropout(0.0)(x) is x
    assert dropout.eval()(x) is x
