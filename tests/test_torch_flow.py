"""Gradient flow in fusedrnn.torch: `collect_flow`, and `flow` after a backward."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
from torch_models import ft, torch
from variants import VARIANTS

import fusedrnn as fr
from fusedrnn.torch import beyond, ops, recurrence

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compilers about PyTorch
]
T, B, I, H = 9, 4, 3, 6
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers and directions": {"num_layers": 2, "bidirectional": True},
    "recompute": {"num_layers": 2, "recompute": 3},
    "batch first": {"batch_first": True, "num_layers": 2},
    "float64": {"dtype": torch.float64},
    "bf16x3": {"precision": "bf16x3"},
}


def module(cell: str, **options: Any) -> Any:
    torch.manual_seed(3)
    kind, own = VARIANTS[cell]
    return getattr(ft, kind)(I, H, **own, **options)


def loss_of(m: Any, **inputs: Any) -> Any:
    g = torch.Generator().manual_seed(5)
    shape = (B, T, I) if m.batch_first else (T, B, I)
    y, _ = m(torch.randn(shape, generator=g, dtype=m.weight_ih_l0.dtype), **inputs)
    return (y * torch.randn(y.shape, generator=g, dtype=y.dtype)).sum()


def gradients(m: Any) -> list[Any]:
    return [p.grad.clone() for p in m.parameters()]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cell", VARIANTS)
def test_what_our_own_module_measures(cell: str, option: str) -> None:
    m = module(cell, collect_flow=True, **OPTIONS[option])
    ours = fr.io.from_torch(m)
    ours.precision = m.precision or "ieee"
    lengths = torch.tensor([9, 0, 5, 7])
    assert m.flow is None
    loss_of(m, lengths=lengths).backward()
    g = torch.Generator().manual_seed(5)
    shape = (B, T, I) if m.batch_first else (T, B, I)
    dtype = m.weight_ih_l0.dtype
    y, _ = ours(torch.randn(shape, generator=g, dtype=dtype).numpy(), lengths=lengths.numpy())
    ours.backward(torch.randn(y.shape, generator=g, dtype=dtype).numpy(), flow=True)
    assert m.flow.keys() == ours.flow.keys()
    for name, norms in ours.flow.items():
        assert norms.shape == (m.num_layers, 1 + m.bidirectional, T)
        assert m.flow[name].dtype == torch.float64
        assert torch.equal(m.flow[name], torch.from_numpy(norms))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_it_is_the_gradient_of_autograd(cell: str) -> None:
    """By torch.nn's cell in a loop, whose states keep their gradients."""
    m = module(cell, collect_flow=True, dtype=torch.float64)
    kind = VARIANTS[cell].kind
    one = getattr(torch.nn, kind + "Cell")(I, H, dtype=torch.float64)
    one.load_state_dict({name.removesuffix("_l0"): p for name, p in m.state_dict().items()})
    x, dy = torch.randn(T, B, I, dtype=torch.float64), torch.randn(T, B, H, dtype=torch.float64)
    (m(x)[0] * dy).sum().backward()
    state: Any = None
    h = []
    for step in x:
        state = one(step, state)
        h.append(state[0] if kind == "LSTM" else state)
        h[-1].retain_grad()
    (torch.stack(h) * dy).sum().backward()
    expected = torch.stack([s.grad.norm() for s in h])
    torch.testing.assert_close(m.flow["h"][0, 0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cell", VARIANTS)
def test_no_gradient_has_other_bits(cell: str) -> None:
    m = module(cell, num_layers=2)
    loss_of(m).backward()
    plain = gradients(m)
    m.zero_grad()
    m.collect_flow = True
    loss_of(m).backward()
    assert all(map(torch.equal, gradients(m), plain))
    assert m.flow is not None


@pytest.mark.parametrize("recompute", [0, 3])
def test_packed_sequences(recompute: int) -> None:
    m = module("lstm", collect_flow=True, num_layers=2, recompute=recompute)
    lengths = torch.tensor([9, 5, 5, 2])
    x = torch.randn(T, B, I)
    m(x, lengths=lengths)[0].square().sum().backward()
    padded = m.flow
    m(torch.nn.utils.rnn.pack_padded_sequence(x, lengths))[0].data.square().sum().backward()
    assert m.flow is not padded
    assert all(torch.equal(m.flow[name], padded[name]) for name in "hc")


def test_of_the_newest_backward_and_only_while_asked_for() -> None:
    m = module("gru", collect_flow=True)
    first, second = loss_of(m), loss_of(m) * 2
    second.backward()
    twice = m.flow["h"]
    first.backward()
    torch.testing.assert_close(twice, 2 * m.flow["h"])
    kept = m.flow
    m.collect_flow = False
    loss_of(m).backward()
    assert m.flow is kept
    m.collect_flow = True
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert other.flow is None
        loss_of(other).backward()
        assert other.flow is not None
    assert m.flow is kept
    with torch.no_grad():
        loss_of(m)
    assert m.flow is kept


def test_a_replaced_module_and_its_picture() -> None:
    pytest.importorskip("matplotlib")
    model = torch.nn.Sequential(torch.nn.LSTM(I, H))
    ft.replace(model)
    model[0].collect_flow = True
    with pytest.raises(ValueError, match="source has no gradient flow"):
        fr.plot.gradient_flow(model[0])
    loss_of(model[0]).backward()
    axes = fr.plot.gradient_flow(model[0])
    assert len(axes.lines) == 2
    assert "collect_flow=True" in repr(model)
    with pytest.raises(RuntimeError, match=r"has collect_flow=True, which torch\.nn's module has not"):
        ft.restore(model)
    model[0].collect_flow = False
    ft.restore(model)
    assert type(model[0]) is torch.nn.LSTM
    assert "_flow" not in model[0].__dict__


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # that PyTorch looks at behind a break
@pytest.mark.parametrize("packed", [False, True])
def test_a_compiled_graph_breaks_at_the_layer(packed: bool) -> None:
    torch._dynamo.reset()
    m = module("lstm")
    m.collect_flow = True
    x = torch.randn(T, B, I)
    given = torch.nn.utils.rnn.pack_padded_sequence(x, [9, 5, 5, 2]) if packed else x

    def loss(given: Any) -> Any:
        y = m(given)[0]
        return (y.data if packed else y).square().sum()

    loss(given).backward()
    expected = m.flow
    torch.compile(loss, backend="aot_eager")(given).backward()
    assert m.flow is not expected
    assert torch.equal(m.flow["c"], expected["c"])


def test_what_cannot_measure_says_so() -> None:
    m = module("gru", collect_flow=True)
    x = torch.randn(T, B, I)
    with pytest.raises(RuntimeError, match="collect_flow must be False where a graph is exported or traced"):
        torch.jit.trace(m, x, check_trace=False)
    with pytest.raises(NotImplementedError, match="collect_flow must be False under the transforms of"):
        torch.func.grad(lambda x: m(x)[0].sum())(x)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of checks of shapes, which are not traced
        torch.jit.trace(m, x, check_trace=False)
    with pytest.raises(TypeError, match="collect_flow must be True or False, it is 1"):
        m.collect_flow = 1
    cell = ft.GRUCell(I, H)
    assert not hasattr(cell, "flow")


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("option", beyond.SETTABLE)
def test_cells_have_none_of_the_options(kind: str, option: str) -> None:
    cell = getattr(ft, kind)(I, H)
    with pytest.raises(
        AttributeError, match=f"{option} is an option of LSTM, GRU and RNN, and {kind} has none"
    ):
        setattr(cell, option, beyond.SETTABLE[option])
    assert not hasattr(cell, option)


def test_cuda_refuses_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusedrnn.torch import masks, on_cuda

    for cell, recompute, message in (
        ("gru", 3, "recompute is not on CUDA yet: set it to 0"),
        ("lstm_layer_norm", 0, "the cell lstm_layer_norm is not on CUDA yet: make a plain one"),
    ):
        settings = ops.Settings(cell, 1, 1, True, False, "ieee", recompute, masks.NONE)
        with pytest.raises(NotImplementedError, match=message):
            on_cuda.run(settings, 0, torch.zeros(1, 1, I), None, None, None, None, [], True)
    m = module("gru", collect_flow=True)

    class Cuda:
        is_cuda = True

    with pytest.raises(NotImplementedError, match="collect_flow=True is not on CUDA yet: set it to False"):
        recurrence._elsewhere(
            m,
            Cuda(),
            None,
            None,
            recurrence.NO_MARKS,
            [],
            "ieee",
            True,
            masks.NONE,
            False,  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize("option", [{"recompute": 3}, {"collect_flow": True}], ids=["recompute", "flow"])
def test_cuda_without_gradients_takes_what_is_of_backward(
    option: dict[str, Any], draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the CPU: nothing is computed again or measured where no gradient is wanted."""
    from fusedrnn.torch import masks, on_cuda

    class Cuda:
        is_cuda = True
        device = "cuda:0"

    monkeypatch.setattr(on_cuda.cuda, "why_not", lambda: "a stand-in")

    def call(wants: bool) -> None:
        m, nothing = module("gru", **option), recurrence.NO_MARKS
        recurrence._elsewhere(m, Cuda(), None, None, nothing, [], "ieee", wants, masks.NONE, draws)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match=r"tensors are on cuda:0, .* a stand-in"):  # past what is refused
        call(False)
    with pytest.raises(NotImplementedError, match="is not on CUDA yet"):
        call(True)
