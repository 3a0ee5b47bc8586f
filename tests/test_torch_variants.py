"""Cells that torch.nn has not in fusedrnn.torch: LSTM(peephole=, layer_norm=) and GRU(reset_after=False)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from torch_models import assert_same, ft, run, torch
from variants import BEYOND_TORCH, VARIANTS

import fusedrnn as fr
from fusedrnn import reference
from fusedrnn.torch import recurrence

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compilers about PyTorch
]
T, B, I, H = 6, 4, 3, 5
CELLS = pytest.mark.parametrize("cell", BEYOND_TORCH)
MASKS = {"dropout": 0.3, "recurrent_dropout": 0.4, "zoneout": 0.2, "weight_dropout": 0.3}


def module(cell: str, *args: Any, **options: Any) -> Any:
    torch.manual_seed(3)
    kind, own = VARIANTS[cell]
    m = getattr(ft, kind)(I, H, *args, **own, **options)
    with torch.no_grad():
        for p in m.parameters():
            p.add_(torch.randn(p.shape, dtype=p.dtype) / 8)  # layer normalisation begins as nothing
    return m


def names(m: Any) -> list[str]:
    return [name for name, _ in m.named_parameters()]


@CELLS
@pytest.mark.parametrize("bias", [True, False])
def test_weights_are_those_of_our_own_module(cell: str, bias: bool) -> None:
    """Names, shapes, order and what normalisation begins with; state dicts go both ways."""
    kind, own = VARIANTS[cell]
    ours = getattr(fr.nn, kind)(I, H, 2, bias, bidirectional=True, **own)
    m = getattr(ft, kind)(I, H, 2, bias, bidirectional=True, **own)
    assert {n: tuple(p.shape) for n, p in m.named_parameters()} == {
        n: p.shape for n, p in ours.named_parameters()
    }
    assert names(m) == [n for n, _ in ours.named_parameters()] == m._flat_weights_names
    assert [w for part in m.all_weights for w in part] == list(m.parameters())
    for name, p in m.named_parameters():
        if "_ln_" in name:
            assert (p == (1.0 if name.startswith("weight") else 0.0)).all()
        else:
            assert 0 < p.abs().max() <= H**-0.5
    ours.load_state_dict(m.state_dict())
    m.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((T, B, I), dtype=np.float32)
    assert np.array_equal(m(torch.from_numpy(x))[0].detach().numpy(), ours(x)[0])


@CELLS
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True}], ids=["one", "both"])
def test_against_the_reference(cell: str, options: dict[str, Any]) -> None:
    """In float64, with gradients from autograd and from the reference, which complex steps prove."""
    m = module(cell, 2, dtype=torch.float64, **options)
    x = (
        torch.randn(B, T, I, dtype=torch.float64)
        if m.batch_first
        else torch.randn(T, B, I, dtype=torch.float64)
    )
    x.requires_grad_()
    lengths = torch.tensor([6, 0, 3, 5])
    weights = {n: p.detach().numpy() for n, p in m.named_parameters()}
    forward, backward = (
        getattr(reference, f"{cell.partition('_')[0]}_{way}") for way in ("forward", "backward")
    )
    given = {"reset_after": False} if cell == "gru_reset_before" else {}
    y, _, tape = forward(
        x.detach().numpy(), None, weights, lengths=lengths.numpy(), batch_first=m.batch_first, **given
    )
    found, _ = m(x, lengths=lengths)
    dy = torch.randn_like(found)
    found.backward(dy)
    dx, _, gradients = backward(tape, dy.numpy())
    np.testing.assert_allclose(found.detach().numpy(), y, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(x.grad.numpy(), dx, rtol=1e-10, atol=1e-12)
    for name, p in m.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), gradients[name], rtol=1e-10, atol=1e-12, err_msg=name)


@CELLS
@pytest.mark.parametrize("train", [True, False])
def test_gradients_under_all_masks(cell: str, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "_dropout_key", lambda: 2**62 + 5)
    m = module(cell, 2, dtype=torch.float64, **MASKS).train(train)

    def outputs(x: Any, *weights: Any) -> Any:
        y, state = torch.func.functional_call(m, dict(zip(names(m), weights, strict=True)), (x,))
        return (y, *state) if m._pair else (y, state)

    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (x, *m.parameters()))


@CELLS
@pytest.mark.parametrize("precision", ["bf16", "bf16x3", "bf16x6"])
def test_precisions(cell: str, precision: str) -> None:
    m = module(cell, precision=precision)
    kind, own = VARIANTS[cell]
    ours = getattr(fr.nn, kind)(I, H, precision=precision, **own)
    ours.load_state_dict(m.state_dict())
    x = torch.randn(T, B, I)
    assert np.array_equal(m(x)[0].detach().numpy(), ours(x.numpy())[0])


@CELLS
def test_packed_sequences(cell: str) -> None:
    m = module(cell, 2, bidirectional=True)
    lengths = torch.tensor([6, 4, 4, 1])
    x = torch.randn(T, B, I)
    y, state = m(x, lengths=lengths)
    packed, packed_state = m(torch.nn.utils.rnn.pack_padded_sequence(x, lengths))
    assert torch.equal(torch.nn.utils.rnn.pad_packed_sequence(packed)[0], y)
    pair = m._pair
    for a, b in zip(packed_state if pair else (packed_state,), state if pair else (state,), strict=True):
        assert torch.equal(a, b)


@CELLS
def test_compiled(cell: str) -> None:
    torch._dynamo.reset()
    m = module(cell, 2, bidirectional=True)
    x = torch.randn(T, B, I, requires_grad=True)
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True)
    assert_same(run(compiled, (x,), [x]), run(m, (x,), [x]))
    weights = [p.detach() for p in m.parameters()]
    inputs = (x.detach(), None, None, None, None, None, None, weights)
    settings = (m._cell, 2, 2, True, False, "ieee", 0, *m._masks())
    for train in (True, False):
        torch.library.opcheck(torch.ops.fusedrnn.forward.default, (*inputs, *settings, train))


@CELLS
def test_copies_files_conversions_and_texts(cell: str) -> None:
    m = module(cell, 2)
    (option,) = ((name, value) for name, value in VARIANTS[cell].options.items())
    name, value = option
    assert f"{name}={value}" in repr(m)
    x = torch.randn(T, B, I)
    expected = m(x)[0]
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert torch.equal(other(x)[0], expected)
    ours = fr.io.from_torch(m)
    assert getattr(ours, name) == value
    assert np.array_equal(ours(x.numpy())[0], expected.detach().numpy())
    m.double()
    assert m(x.double())[0].dtype == torch.float64
    weight = torch.nn.utils.parametrizations.weight_norm(m, "weight_hh_l0")
    assert torch.isfinite(weight(x.double())[0]).all()


@CELLS
def test_what_is_fixed_and_what_torch_nn_has_not(cell: str) -> None:
    m = module(cell)
    (name, value), *_ = VARIANTS[cell].options.items()
    setattr(m, name, value)
    with pytest.raises(AttributeError, match=f"{name} is fixed when a {type(m).__name__} is made"):
        setattr(m, name, not value)
    with pytest.raises(RuntimeError, match=f"{name}={value}, which torch.nn's module has not: no module of"):
        ft.restore(m)
    plain = getattr(torch.nn, type(m).__name__)(I, H)
    ft.replace(plain)
    with pytest.raises(AttributeError, match=f"{name} is fixed"):
        setattr(plain, name, value)
    again = getattr(ft, type(m).__name__)(I, H, **{name: not value})
    ft.restore(again)
    assert type(again) is type(ft.restore(plain) and plain)
    assert name not in again.__dict__


def test_options_that_do_not_go_together() -> None:
    for options, message in (
        ({"peephole": True, "layer_norm": True}, "peephole must be False with layer_norm=True, it is True"),
        ({"peephole": True, "proj_size": 2}, "proj_size must be 0 with peephole=True, it is 2"),
        ({"layer_norm": True, "proj_size": 2}, "proj_size must be 0 with layer_norm=True, it is 2"),
    ):
        with pytest.raises(ValueError, match=message):
            ft.LSTM(I, H, **options)
    with pytest.raises(TypeError, match="peephole must be True or False, it is 1"):
        ft.LSTM(I, H, peephole=1)
    with pytest.raises(TypeError, match="peephole"):
        ft.GRU(I, H, peephole=True)
    with pytest.raises(TypeError, match="reset_after"):
        ft.LSTM(I, H, reset_after=False)
