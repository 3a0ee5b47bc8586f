"""Sequential: what goes to which layer, states carried over, nesting, and the training step."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.nn import GRU, LSTM, RNN, Dropout, Embedding, Last, LayerNorm, Linear, Module, Sequential

T, B = 6, 4


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def regressor(batch_first: bool = False) -> Sequential:
    return Sequential(
        LSTM(2, 5, batch_first=batch_first, seed=1),
        LSTM(5, 5, batch_first=batch_first, seed=2),
        Last(batch_first),
        Linear(5, 1, seed=3),
    )


def tagger() -> Sequential:
    return Sequential(
        Embedding(7, 3, seed=1), GRU(3, 5, seed=2), Dropout(0.3, seed=3), LayerNorm(5), Linear(5, 4, seed=4)
    )


def test_layers_run_one_after_the_other() -> None:
    model, layers = regressor(), list(regressor())
    x, dy = data(T, B, 2), data(B, 1, seed=1)
    y = model(x)
    h, _ = layers[0](x)
    h, _ = layers[1](h)
    expected = layers[3](layers[2](h))
    np.testing.assert_array_equal(y, expected)
    dx = model.backward(dy)
    dh, _ = layers[1].backward(layers[2].backward(layers[3].backward(dy)))
    expected, _ = layers[0].backward(dh)
    np.testing.assert_array_equal(dx, expected)
    parameters = [p for layer in layers for p in layer.parameters()]
    for p, q in zip(model.parameters(), parameters, strict=True):
        assert p.grad.any()
        np.testing.assert_array_equal(p.grad, q.grad)


@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_and_resets_reach_those_that_take_them(batch_first: bool) -> None:
    model, layers = regressor(batch_first), list(regressor(batch_first))
    x, dy = data(T, B, 2), data(B, 1, seed=1)
    lengths = np.array([6, 0, 2, 5])
    resets = np.random.default_rng(2).random((T, B)) < 0.3
    if batch_first:
        x, resets = np.ascontiguousarray(x.swapaxes(0, 1)), np.ascontiguousarray(resets.T)
    y = model(x, lengths, resets)
    h, _ = layers[0](x, lengths=lengths, resets=resets)
    h, (hn, _) = layers[1](h, lengths=lengths, resets=resets)
    expected = layers[3](layers[2](h, lengths))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(layers[2](h, lengths)[[0, 2, 3]], hn[0][[0, 2, 3]])
    assert not np.array_equal(y, model(x, lengths))
    assert not np.array_equal(y, model(x, None, resets))
    y = model(x, lengths, resets)
    dx = model.backward(dy)
    dx = dx.swapaxes(0, 1) if batch_first else dx
    for b, n in enumerate(lengths):
        assert not dx[n:, b].any()
    assert dx[4, 3].any()


def test_batch_first_gives_the_same_numbers() -> None:
    x, lengths = data(T, B, 2), np.array([3, 6, 1, 2])
    time_first, batch_first = regressor(False), regressor(True)
    y = time_first(x, lengths)
    np.testing.assert_array_equal(batch_first(np.ascontiguousarray(x.swapaxes(0, 1)), lengths), y)
    dx = time_first.backward(np.ones_like(y))
    np.testing.assert_array_equal(batch_first.backward(np.ones_like(y)).swapaxes(0, 1), dx)


def test_differing_batch_first_is_refused() -> None:
    message = r"batch_first must be equal in all layers, it is: layer 0 \(LSTM\) True, layer 1 \(Last\) False"
    with pytest.raises(ValueError, match=message):
        Sequential(LSTM(2, 3, batch_first=True), Last())


def test_arguments_nobody_takes_are_refused() -> None:
    model = Sequential(Linear(2, 3, seed=0), Dropout(0.5, seed=0))
    x = data(T, B, 2)
    with pytest.raises(ValueError, match="lengths must be None: no layer of this model takes it"):
        model(x, np.full(B, T))
    with pytest.raises(ValueError, match="resets must be None: no layer of this model takes it"):
        Sequential(Last())(x, None, np.zeros((T, B), bool))


def test_what_is_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="layers must be at least one module"):
        Sequential()
    with pytest.raises(TypeError, match=r"layers\[1\] must be a Module, it is function"):
        Sequential(Linear(2, 3), lambda x: x)
    with pytest.raises(TypeError, match=r"layers\[0\] must be a Module, it is list"):
        Sequential([Linear(2, 3)])


def test_it_is_a_container() -> None:
    model = regressor()
    assert len(model) == 4
    assert [type(layer) for layer in model] == [LSTM, LSTM, Last, Linear]
    assert isinstance(model[-1], Linear)
    assert next(iter(model.state_dict())) == "0.weight_ih_l0"


def test_a_users_own_module_takes_part() -> None:
    class Square(Module):
        sequence_arguments = ("lengths",)

        def forward(self, x: np.ndarray, lengths: np.ndarray | None = None) -> tuple[np.ndarray, str]:
            self.x, self.lengths = x, lengths
            return x * x, "dropped"

        def backward(self, dy: np.ndarray) -> tuple[np.ndarray, str]:
            return 2 * self.x * dy, "dropped"

    square = Square()
    model = Sequential(square, Linear(2, 3, seed=0))
    x, dy, lengths = data(T, 2), data(T, 3, seed=1), np.full(2, T)
    np.testing.assert_array_equal(model(x, lengths), model[1](x * x))
    assert square.lengths is lengths
    np.testing.assert_array_equal(model.backward(dy), 2 * x * model[1].backward(dy))


class TestState:
    """State in, state out: truncated back-propagation in chunks."""

    def model(self) -> Sequential:
        return Sequential(
            Embedding(7, 3, seed=1),
            LSTM(3, 5, 2, seed=2),
            Sequential(GRU(5, 4, seed=3), LayerNorm(4)),
            RNN(4, 3, seed=4),
        )

    def test_chunks_with_the_state_carried_equal_the_whole(self) -> None:
        model = self.model()
        ids = np.random.default_rng(0).integers(0, 7, (8, B))
        whole, final = model(ids, return_state=True)
        state, chunks = None, []
        for chunk in (ids[:3], ids[3:4], ids[4:]):
            y, state = model(chunk, state=state, return_state=True)
            chunks.append(y)
        np.testing.assert_array_equal(np.concatenate(chunks), whole)
        (h, c), (g,), r = state
        (h_whole, c_whole), (g_whole,), r_whole = final
        for found, expected in ((h, h_whole), (c, c_whole), (g, g_whole), (r, r_whole)):
            np.testing.assert_array_equal(found, expected)
        assert not np.array_equal(model(ids[4:]), chunks[-1])

    def test_entries_may_be_absent(self) -> None:
        model = self.model()
        ids = np.zeros((3, B), np.int64)
        np.testing.assert_array_equal(model(ids, state=[None, None, None]), model(ids))

    def test_misfits_are_named(self) -> None:
        model = self.model()
        ids = np.zeros((3, B), np.int64)
        with pytest.raises(
            ValueError, match="state must be a list of 3, one for each recurrent layer, it has 1"
        ):
            model(ids, state=[None])
        with pytest.raises(TypeError, match=r"state must be a list of 3, .* it is a ndarray"):
            model(ids, state=np.zeros(3))


class TestTrainStep:
    """The training step against the separate calls."""

    def separate(self, model, x, y, loss, optimizer, clip_norm, lengths=None, **options):
        prediction = model(x, lengths)
        value, gradient = loss(prediction, y, **options)
        model.zero_grad()
        model.backward(gradient)
        return value, optimizer.step(clip_norm=clip_norm)

    def agree(self, model: Sequential, twin: Sequential) -> None:
        for (name, p), q in zip(model.named_parameters(), twin.named_parameters(), strict=True):
            np.testing.assert_array_equal(p.data, q[1].data, err_msg=name)
            np.testing.assert_array_equal(p.grad, q[1].grad, err_msg=name)

    @pytest.mark.parametrize("clip_norm", [None, 0.01])
    def test_same_bits_as_the_separate_calls(self, clip_norm: float | None) -> None:
        model = regressor()
        twin = copy.deepcopy(model)
        optimizers = [fr.optim.Adam(m.parameters(), lr=0.1) for m in (model, twin)]
        lengths = np.array([3, 6, 1, 2])
        losses = []
        for step in range(5):
            x, y = data(T, B, 2, seed=step), data(B, 1, seed=step + 9)
            loss, norm = model.train_step(x, y, fr.losses.mse, optimizers[0], clip_norm, lengths=lengths)
            expected = self.separate(twin, x, y, fr.losses.mse, optimizers[1], clip_norm, lengths)
            assert (loss, norm) == expected
            assert (norm is None) == (clip_norm is None)
            self.agree(model, twin)
            losses.append(loss)
        assert len(set(losses)) == len(losses)

    def test_mask_ignored_classes_dropout_and_a_loss_by_name(self) -> None:
        model = tagger()
        twin = copy.deepcopy(model)
        optimizers = [fr.optim.SGD(m.parameters(), lr=0.5, momentum=0.9) for m in (model, twin)]
        rng = np.random.default_rng(0)
        for _ in range(3):
            ids, tags = rng.integers(0, 7, (T, B)), rng.integers(-1, 4, (T, B))
            mask = rng.random((T, B)) < 0.7
            options = {"mask": mask, "ignore_index": -1}
            loss, _ = model.train_step(ids, tags, "cross_entropy", optimizers[0], 1.0, **options)
            expected, _ = self.separate(
                twin, ids, tags, fr.losses.cross_entropy, optimizers[1], 1.0, **options
            )
            assert loss == expected
            self.agree(model, twin)

    def test_gradients_are_those_of_this_step_alone(self) -> None:
        model = regressor()
        twin = copy.deepcopy(model)
        for p in model.parameters():
            p.grad[...] = 100
        x, y = data(T, B, 2), data(B, 1, seed=1)
        for m in (model, twin):
            m.train_step(x, y, fr.losses.mse, fr.optim.SGD(m.parameters(), lr=0.1))
        self.agree(model, twin)

    def test_it_learns(self) -> None:
        model = regressor()
        optimizer = fr.optim.Adam(model.parameters(), lr=0.02)
        x = data(T, B, 2)
        y = x.sum(axis=(0, 2))[:, None] / 5
        losses = [model.train_step(x, y, "mse", optimizer, 1.0)[0] for _ in range(150)]
        assert losses[-1] < losses[0] / 50

    def test_state_is_carried_on_demand(self) -> None:
        model = Sequential(Embedding(7, 3, seed=1), LSTM(3, 5, seed=2), Linear(5, 7, seed=3))
        twin = copy.deepcopy(model)
        optimizers = [fr.optim.SGD(m.parameters(), lr=0.5) for m in (model, twin)]
        ids = np.random.default_rng(0).integers(0, 7, (13, B))
        state = twin_state = None
        for start in (0, 6):
            x, y = ids[start : start + 6], ids[start + 1 : start + 7]
            loss, _, state = model.train_step(
                x, y, "cross_entropy", optimizers[0], state=state, return_state=True
            )
            h, twin_state = twin[1](twin[0](x), twin_state)
            expected, gradient = fr.losses.cross_entropy(twin[2](h), y)
            twin.zero_grad()
            dh, _ = twin[1].backward(twin[2].backward(gradient))
            twin[0].backward(dh)
            optimizers[1].step()
            assert loss == expected
            for found, wanted in zip(state[0], twin_state, strict=True):
                np.testing.assert_array_equal(found, wanted)
        self.agree(model, twin)

    def test_a_step_with_a_non_finite_norm_can_be_skipped(self) -> None:
        model = regressor()
        before = model.state_dict()
        optimizer = fr.optim.Adam(model.parameters())
        x = data(T, B, 2)
        x[0, 0, 0] = np.nan
        loss, norm = model.train_step(x, data(B, 1), "mse", optimizer, 1.0, skip_nonfinite=True)
        assert np.isnan(loss)
        assert np.isnan(norm)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])

    def test_eval_mode_and_unknown_losses_are_refused(self) -> None:
        model = regressor()
        optimizer = fr.optim.SGD(model.parameters(), lr=0.1)
        before = model.state_dict()
        with pytest.raises(ValueError, match=r"loss must be a function or one of 'mse', .*, it is 'hinge'"):
            model.train_step(data(T, B, 2), data(B, 1), "hinge", optimizer)
        with pytest.raises(RuntimeError, match=r"train_step needs training mode: use train\(\)"):
            model.eval().train_step(data(T, B, 2), data(B, 1), "mse", optimizer)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
