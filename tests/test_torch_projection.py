"""proj_size in fusedrnn.torch: calls, gradients, packed sequences, graphs, replaced modules."""

from __future__ import annotations

from typing import Any

import pytest
from torch_models import assert_close, assert_same, ft, pair, run, tensors, torch

import fusedrnn as fr

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compilers about PyTorch
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
T, B, I, H, P = 6, 4, 3, 7, 4
SIZES = pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])


def states(layers: int, both: bool, dtype: Any = torch.float64) -> tuple[Any, Any]:
    stacks = layers * (1 + both)
    h0, c0 = (torch.randn(stacks, B, n, dtype=dtype, requires_grad=True) for n in (P, H))
    return h0, c0


@SIZES
@pytest.mark.parametrize("batch_first", [False, True])
def test_as_torch(layers: int, both: bool, batch_first: bool) -> None:
    options = {"proj_size": P, "bidirectional": both, "batch_first": batch_first, "dtype": torch.float64}
    theirs, ours = pair("LSTM", I, H, layers, **options)
    lead = (B, T) if batch_first else (T, B)
    x, state = torch.randn(*lead, I, dtype=torch.float64, requires_grad=True), states(layers, both)
    assert_same(run(ours, (x, state), [x, *state]), run(theirs, (x, state), [x, *state]))
    assert_same(run(ours, (x,), [x]), run(theirs, (x,), [x]))
    one = torch.randn(T, I, dtype=torch.float64)
    with torch.no_grad():
        for a, b in zip(tensors(ours(one)), tensors(theirs(one)), strict=True):
            assert_close(a, b)
        for _ in range(2):  # the second by the weights that the first has packed
            for a, b in zip(tensors(ours(x, state)), tensors(theirs(x, state)), strict=True):
                assert_close(a, b)


@SIZES
@pytest.mark.parametrize("given", [False, True])
def test_packed_sequences(layers: int, both: bool, given: bool) -> None:
    theirs, ours = pair("LSTM", I, H, layers, proj_size=P, bidirectional=both, dtype=torch.float64)
    x, state = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True), states(layers, both)
    lengths = torch.tensor([3, 6, 1, 4])

    def call(module: Any) -> Any:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        inputs = (packed, state) if given else (packed,)
        return run(module, inputs, [x, *state] if given else [x])

    assert_same(call(ours), call(theirs))


def test_states_that_do_not_fit_are_refused_as_torch_does() -> None:
    theirs, ours = pair("LSTM", I, H, proj_size=P)
    x = torch.randn(T, B, I)
    good, bad = (torch.zeros(1, B, P), torch.zeros(1, B, H)), torch.zeros(1, B, 5)
    for state in ((bad, good[1]), (good[0], bad), (good[1], good[0])):
        with pytest.raises(RuntimeError) as expected:
            theirs(x, state)
        with pytest.raises(RuntimeError) as found:
            ours(x, state)
        assert str(found.value) == str(expected.value)
    for wrong in (-1, H):
        with pytest.raises(ValueError, match="proj_size"):
            ft.LSTM(I, H, proj_size=wrong)


def test_modules_are_replaced_and_restored() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(I, H, 2, proj_size=P))
    x = torch.randn(T, B, I)
    with torch.no_grad():
        expected = tensors(model[0](x))
        ft.replace(model)
        assert type(model[0]) is ft.LSTM
        for a, b in zip(tensors(model[0](x)), expected, strict=True):
            assert_close(a, b)
    assert fr.io.from_torch(model[0]).proj_size == P
    ft.restore(model)
    assert type(model[0]) is torch.nn.LSTM


def test_masks_and_lengths_are_those_of_our_own_module() -> None:
    ours = ft.LSTM(I, H, 2, proj_size=P, zoneout=(0.2, 0.3), recurrent_dropout=0.4).eval()
    same = fr.io.from_torch(ours).eval()
    x, lengths = torch.randn(T, B, I), torch.tensor([3, 6, 0, 4])
    resets = torch.rand(T, B) < 0.3
    with torch.no_grad():
        found = tensors(ours(x, lengths=lengths, resets=resets))
    y, final = same(x.numpy(), None, lengths.numpy(), resets.numpy())
    for a, b in zip(found, (y, *final), strict=True):
        assert torch.equal(a, torch.from_numpy(b))
    ours.train()
    y, _ = ours(x.requires_grad_())
    y.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in ours.parameters())


@pytest.mark.parametrize("packed", [False, True])
def test_opcheck(packed: bool) -> None:
    module = ft.LSTM(I, H, 2, proj_size=P, bidirectional=True).requires_grad_(False)
    x, (h0, c0) = torch.randn(T, B, I), (s.detach() for s in states(2, True, torch.float32))
    marks: Any = (torch.tensor([6, 4, 3, 1]), None, None)
    if packed:
        x, marks = torch.randn(14, I), (None, None, torch.tensor([4, 3, 3, 2, 1, 1]))
    weights = list(module.parameters())
    inputs = (x, h0, c0, *marks, None, weights)
    settings = (module._cell, 2, 2, True, False, "ieee", 0, *module._masks())
    for train in (True, False):
        torch.library.opcheck(torch.ops.fusedrnn.forward.default, (*inputs, *settings, train))
    y, hn, cn, block = torch.ops.fusedrnn.forward(*inputs, *settings, True)
    gradients = tuple(map(torch.randn_like, (y, hn, cn)))
    for need in (True, False):
        torch.library.opcheck(
            torch.ops.fusedrnn.backward.default,
            (*inputs, block, *gradients, *settings, need, need, [need] * len(weights)),
        )


def test_compiled() -> None:
    torch._dynamo.reset()
    theirs, ours = pair("LSTM", I, H, 2, proj_size=P, bidirectional=True, dtype=torch.float64)
    x, state = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True), states(2, True)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    assert_same(run(compiled, (x, state), [x, *state]), run(theirs, (x, state), [x, *state]))
