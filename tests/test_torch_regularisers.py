"""Recurrent dropout, zoneout, weight dropout and dropout of sequences in fusedrnn.torch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from torch_models import KINDS, assert_same, ft, run, torch

import fusedrnn as fr
from fusedrnn import functional
from fusedrnn.torch import masks, on_cuda, ops, recurrence

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compilers about PyTorch
]
T, B, I, H = 5, 4, 3, 6
KEY = 2**62 + 5
ALL = {
    "dropout": 0.3,
    "dropout_mode": "sequence",
    "recurrent_dropout": 0.4,
    "weight_dropout": 0.2,
    "zoneout": 0.3,
}
EACH = [{name: value} for name, value in ALL.items() if name not in ("dropout", "dropout_mode")]


def module(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    made = getattr(ft, kind)(I, H, 2, bidirectional=True, dtype=torch.float64, **ALL)
    for name, value in options.items():
        setattr(made, name, value)
    return made


def sequence(dtype: Any = torch.float64) -> Any:
    return torch.randn(T, B, I, dtype=dtype, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> int:
    """The key of every call."""
    monkeypatch.setattr(recurrence, "_dropout_key", lambda: KEY)
    return KEY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", [True, False])
def test_the_bits_of_the_functions(kind: str, train: bool, key: int) -> None:
    m = module(kind).train(train)
    x, dy = sequence(), torch.randn(T, B, 2 * H, dtype=torch.float64)
    weights = {name: p.detach().numpy() for name, p in m.named_parameters()}
    family = kind.lower()
    forward, backward = (getattr(functional, f"{family}_{way}") for way in ("forward", "backward"))
    expected, _, tape = forward(x.numpy(), None, weights, dropout_key=key, train=train, **ALL)
    with torch.set_grad_enabled(train):
        y = m(x)[0]
    assert torch.equal(y, torch.from_numpy(expected))
    if train:
        y.backward(dy)
        _, _, gradients = backward(tape, dy.numpy())
        for name, p in m.named_parameters():
            assert torch.equal(p.grad, torch.from_numpy(gradients[name])), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("options", [ALL, *EACH], ids=lambda options: " ".join(options))
def test_gradients(kind: str, train: bool, options: dict[str, Any], key: int) -> None:
    """Of eval mode too, where zoneout is its expectation, and the loss differentiable as any."""
    torch.manual_seed(1)
    if kind == "RNN" and not train and "zoneout" in options:
        pytest.skip("refused: an Elman cell's tape does not tell a new state from the mean")
    m = getattr(ft, kind)(2, 3, 2, dtype=torch.float64, **options).train(train)
    names = [name for name, _ in m.named_parameters()]

    def outputs(x: Any, *weights: Any) -> Any:
        y, state = torch.func.functional_call(m, dict(zip(names, weights, strict=True)), (x,))
        return (y, *state) if kind == "LSTM" else (y, state)

    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (x, *m.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_zoneout_without_training_is_an_expectation(kind: str) -> None:
    """Without gradients and with them, by one layer's cell of torch.nn in a loop."""
    c, h = (0.3, 0.2) if kind == "LSTM" else (0.0, 0.2)
    m = getattr(ft, kind)(I, H, dtype=torch.float64, zoneout=(c, h) if kind == "LSTM" else h).eval()
    cell = getattr(torch.nn, kind + "Cell")(I, H, dtype=torch.float64)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in m.state_dict().items()})
    state, steps = torch.zeros(2, B, H, dtype=torch.float64), []
    for x in sequence():
        if kind == "LSTM":
            new = torch.stack(cell(x, (state[0], state[1])))
            keep = torch.tensor([h, c], dtype=torch.float64)[:, None, None]
        else:
            new, keep = cell(x, state[0])[None].expand(2, B, H), torch.tensor(h, dtype=torch.float64)
        state = keep * state + (1 - keep) * new
        steps.append(state[0])
    expected = torch.stack(steps)
    expected.square().sum().backward()
    with torch.no_grad():
        without = m(sequence())[0]
        torch.testing.assert_close(without, expected, rtol=1e-12, atol=1e-12)
    y = m(sequence())[0]
    assert torch.equal(y, without)
    if kind == "RNN":
        with pytest.raises(ValueError, match="zoneout must be 0 for gradients of rnn_tanh in eval mode"):
            y.sum().backward()
        return
    y.square().sum().backward()
    for name, p in cell.named_parameters():
        torch.testing.assert_close(getattr(m, name + "_l0").grad, p.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", EACH, ids=lambda options: " ".join(options))
def test_torchs_seed_governs_each(options: dict[str, Any]) -> None:
    m = ft.GRU(I, 16, **options)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(m(sequence(torch.float32))[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    with torch.no_grad():
        torch.manual_seed(1)
        assert torch.equal(m(sequence(torch.float32))[0], results[0])
    m.eval()
    assert torch.equal(m(sequence(torch.float32))[0], m(sequence(torch.float32))[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", [True, False])
def test_graphs(kind: str, train: bool) -> None:
    m = module(kind).float().train(train)
    if kind == "RNN" and not train:
        m.zoneout = 0.0
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True)
    x = sequence(torch.float32)
    torch.manual_seed(3)
    eager = run(m, (x,), [])
    torch.manual_seed(3)
    graph = run(compiled, (x,), [])
    assert_same(graph, eager)


def test_packed_sequences(key: int) -> None:
    m = module("LSTM")
    lengths = torch.tensor([5, 3, 3, 1])
    y, state = m(sequence(), lengths=lengths)
    packed, packed_state = m(torch.nn.utils.rnn.pack_padded_sequence(sequence(), lengths))
    assert torch.equal(torch.nn.utils.rnn.pad_packed_sequence(packed)[0], y)
    assert all(map(torch.equal, packed_state, state))


def test_a_module_of_torch_nn_takes_them() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(I, H))
    ft.replace(model)
    lstm = model[0]
    plain = lstm(sequence(torch.float32))[0]
    lstm.recurrent_dropout = 0.5
    assert not torch.equal(lstm(sequence(torch.float32))[0], plain)
    with pytest.raises(RuntimeError, match=r"0 has recurrent_dropout=0\.5, which torch\.nn's"):
        ft.restore(model)
    assert isinstance(lstm, ft.LSTM)
    lstm.recurrent_dropout = 0.0
    assert ft.restore(model) == ("0",)
    assert type(lstm) is torch.nn.LSTM


def test_copies_files_and_texts() -> None:
    m = module("LSTM", zoneout=(0.3, 0.1))
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        torch.manual_seed(4)
        a = m(sequence())[0]
        torch.manual_seed(4)
        assert torch.equal(other(sequence())[0], a)
    assert repr(m).endswith(
        "dropout=0.3, bidirectional=True, dropout_mode='sequence', recurrent_dropout=0.4, "
        "zoneout=(0.3, 0.1), weight_dropout=0.2)"
    )
    ours = fr.io.from_torch(m)
    for name, value in {**ALL, "zoneout": (0.3, 0.1)}.items():
        assert getattr(ours, name) == value
    assert "zoneout" not in repr(ft.LSTM(2, 3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recurrent_dropout": 1.5}, ValueError, "recurrent_dropout must be between 0 and 1, it is 1.5"),
        ({"weight_dropout": "a"}, TypeError, "weight_dropout must be a number, it is str"),
        ({"zoneout": None}, TypeError, "zoneout must be a number, it is NoneType"),
        ({"recurrent_dropout": None}, TypeError, "recurrent_dropout must be a number, it is NoneType"),
        ({"weight_dropout": float("nan")}, ValueError, "weight_dropout must be between 0 and 1, it is nan"),
        ({"zoneout": (0.1, 0.2)}, TypeError, "zoneout must be a number, for the cell has no state but h"),
        ({"dropout_mode": "steps"}, ValueError, "dropout_mode must be 'step' or 'sequence', it is 'steps'"),
    ],
)
def test_wrong_values(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        ft.GRU(2, 3, **options)
    m = ft.GRU(2, 3, 2, dropout=0.5)
    for name, value in options.items():
        with pytest.raises(error, match=message.replace("(", r"\(")):
            setattr(m, name, value)
    assert "mode" not in repr(m)


@pytest.mark.parametrize("options", EACH, ids=lambda options: " ".join(options))
def test_what_cannot_be(options: dict[str, Any]) -> None:
    m = ft.GRU(I, H, **options)
    with pytest.raises(NotImplementedError, match=r"vmap of a recurrent module that draws masks"):
        torch.func.vmap(m)(torch.zeros(2, T, B, I))
    settings = ops.Settings("gru", 1, 1, True, False, "ieee", 0, masks.of(m))
    with pytest.raises(NotImplementedError, match="not on CUDA yet"):
        on_cuda.run(settings, 0, torch.zeros(1, 1, I), None, None, None, None, [], True)
