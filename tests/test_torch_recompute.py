"""`recompute=` in fusedrnn.torch: the bits of keeping all steps and of `fr.nn`, in the memory it promises."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from torch_models import ft, tensors, torch
from variants import VARIANTS

import fusedrnn as fr
from fusedrnn import functional
from fusedrnn._core.cells import CELLS
from fusedrnn.torch import recurrence

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compilers about PyTorch
]
T, B, I, H = 50, 40, 5, 9  # 6 steps of 40 rows are a chunk, of which pieces are made
MASKS = {"dropout": 0.3, "recurrent_dropout": 0.4, "zoneout": 0.2, "weight_dropout": 0.3}
KEY = 77


def module(cell: str, recompute: int | str = 0, **options: Any) -> Any:
    torch.manual_seed(3)
    kind, own = VARIANTS[cell]
    return getattr(ft, kind)(I, H, recompute=recompute, **own, **options)


def states(m: Any, rows: int = B) -> Any:
    g = torch.Generator().manual_seed(4)
    drawn = [
        torch.randn(m.num_layers, rows, n, generator=g, dtype=m.weight_ih_l0.dtype).requires_grad_()
        for n in (m.proj_size or H, H)
    ]
    return tuple(drawn) if m._pair else drawn[0]


def one_pass(m: Any, packed: Any = None, **inputs: Any) -> dict[str, Any]:
    """All that a call and its backward give; with `packed`, lengths, of a PackedSequence."""
    g = torch.Generator().manual_seed(5)
    m.zero_grad()
    shape = (B, T, I) if m.batch_first else (T, B, I)
    x = torch.randn(shape, generator=g, dtype=m.weight_ih_l0.dtype).requires_grad_()
    state = states(m)
    given = x
    if packed is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(x, packed, m.batch_first, enforce_sorted=False)
    results = tensors(m(given, state, **inputs))
    loss = sum((out * torch.randn(out.shape, generator=g, dtype=out.dtype)).sum() for out in results)
    loss.backward()
    found = {f"result {i}": out.detach() for i, out in enumerate(results)}
    found |= {f"dstate {i}": s.grad for i, s in enumerate(tensors(state))}
    return {**found, "dx": x.grad, **{name: p.grad.clone() for name, p in m.named_parameters()}}


def assert_bits(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> int:
    """The key of every call."""
    monkeypatch.setattr(recurrence, "_dropout_key", lambda: KEY)
    return KEY


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers": {"num_layers": 3, "bias": False, "dtype": torch.float64},
    "masks": {"num_layers": 2, **MASKS},
    "masks of sequences": {"num_layers": 2, "dropout": 0.3, "dropout_mode": "sequence", "zoneout": 0.1},
    "batch first": {"batch_first": True},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cell", VARIANTS)
def test_the_same_bits(cell: str, option: str, key: int) -> None:
    options = OPTIONS[option]
    lengths = torch.randint(0, T + 1, (B,), generator=torch.Generator().manual_seed(6))
    lengths[:3] = torch.tensor([0, T, 12])  # 12: the end of a piece
    resets = torch.rand((B, T) if options.get("batch_first") else (T, B)) < 0.1
    for inputs in ({}, {"lengths": lengths, "resets": resets}):
        expected = one_pass(module(cell, **options), **inputs)
        for recompute in (1, 13, "auto"):
            assert_bits(one_pass(module(cell, recompute, **options), **inputs), expected)


@pytest.mark.parametrize("cell", ["lstm_projected", "gru"])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "batch_first": True, **MASKS}], ids=["plain", "masks"]
)
def test_packed_sequences(cell: str, options: dict[str, Any], key: int) -> None:
    lengths = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(6))
    lengths[0] = T
    expected = one_pass(module(cell, **options), packed=lengths)
    for recompute in (13, "auto"):
        assert_bits(one_pass(module(cell, recompute, **options), packed=lengths), expected)
    m = module(cell, "auto", **options).eval()
    x = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(3, 3, I), [3, 2, 1], m.batch_first)
    with torch.no_grad():
        m(x)


@pytest.mark.parametrize("cell", VARIANTS)
def test_the_bits_of_our_own_module(cell: str) -> None:
    m = module(cell, "auto", num_layers=2)
    ours = fr.io.from_torch(m)
    assert (ours.recompute, ours._cell) == ("auto", m._cell)
    x, dy = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, VARIANTS[cell].units(H))
    y, _ = m(x)
    y.backward(dy)
    expected, _ = ours(x.detach().numpy())
    dx, _ = ours.backward(dy.numpy())
    assert np.array_equal(y.detach().numpy(), expected)
    assert np.array_equal(x.grad.numpy(), dx)
    for name, p in ours.named_parameters():
        assert np.array_equal(getattr(m, name).grad.numpy(), p.grad), name


@pytest.mark.parametrize("cell", VARIANTS)
def test_what_is_kept(cell: str) -> None:
    """The block that autograd saves: packed weights and the states between pieces, to the byte."""
    m = module(cell, "auto", num_layers=2)
    saved: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        m(torch.randn(1024, B, I))
    (block,) = (t for t in saved if t.dtype == torch.uint8)
    stack = m._plain_call[1].stack
    pieces = -(-1024 // 36)  # 32, the root, in whole chunks of 6
    units = VARIANTS[cell].units(H) + H * CELLS[cell].cell_state
    assert block.numel() == stack.packed + (pieces - 1) * 4 * 2 * B * units
    saved.clear()
    m.recompute = 0
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        m(torch.randn(1024, B, I))
    (whole,) = (t for t in saved if t.dtype == torch.uint8)
    assert block.numel() - stack.packed < (whole.numel() - stack.packed) / 30


@pytest.mark.parametrize("rows", [1, 3, 40, 300])
@pytest.mark.parametrize("recompute", [1, 6, 7, 48, 49, 50, 51, 10**6, "auto"])
def test_all_sizes(rows: int, recompute: int | str) -> None:
    """The formula of the block is the kernels': they refuse one that is too small."""
    for steps in (1, 6, 48, T, 257):
        x = torch.randn(steps, rows, I)
        grads = []
        for k in (0, recompute):
            m = module("gru", k)
            m(x)[0].square().sum().backward()
            grads.append([p.grad for p in m.parameters()])
        assert all(map(torch.equal, *grads))


PEAK = """
import re, sys
import torch
import fusedrnn.torch as ft
T, B, H = 20_000, 16, 64
def peak():  # of this program: ru_maxrss would count the process that it was forked from
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) << 10
m = ft.LSTM(8, H, recompute=sys.argv[1] if sys.argv[1] == "auto" else 0)
x = torch.zeros(T, B, 8)
m(x[:100])[0].sum().backward()
before = peak()
y, (h, c) = m(x)
h.sum().backward()
print(peak() - before, y.numel() * 4)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells the peak")
def test_peak_of_memory() -> None:
    """A pass takes y, 82 MB, and little more; without recomputation six times as much on top."""
    grown = {}
    for recompute in ("auto", "0"):
        out = subprocess.run(
            [sys.executable, "-c", PEAK, recompute], check=True, capture_output=True, text=True
        ).stdout
        grown[recompute], y = map(int, out.split())
    assert grown["auto"] < 1.25 * y
    assert grown["0"] > 5 * y


@pytest.mark.parametrize("recompute", [13, "auto"])
def test_graphs(recompute: int | str) -> None:
    """With T and B as symbols, one graph for both sizes."""
    torch._dynamo.reset()
    m = module("lstm", recompute, num_layers=2)
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True, dynamic=True)
    for steps, rows in ((T, B), (2 * T, B + 3)):
        x = torch.randn(steps, rows, I)
        found = []
        for call in (m, compiled):
            m.zero_grad()
            y, _ = call(x)
            y.square().sum().backward()
            found.append([y.detach(), *(p.grad.clone() for p in m.parameters())])
        assert all(map(torch.equal, *found))


def test_opcheck() -> None:
    m = module("lstm", 6).requires_grad_(False)
    inputs = (torch.randn(30, B, I), None, None, None, None, None, None, list(m.parameters()))
    settings = (m._cell, 1, 1, True, False, "ieee", 6, *m._masks())
    for train in (True, False):
        torch.library.opcheck(torch.ops.fusedrnn.forward.default, (*inputs, *settings, train))
    y, hn, cn, block = torch.ops.fusedrnn.forward(*inputs, *settings, True)
    gradients = tuple(map(torch.randn_like, (y, hn, cn)))
    torch.library.opcheck(
        torch.ops.fusedrnn.backward.default,
        (*inputs, block, *gradients, *settings, True, True, [True] * 4),
    )


def test_transforms() -> None:
    m, plain = module("gru", 6), module("gru")
    x = torch.randn(3, T, 4, I)
    found, expected = (
        torch.func.vmap(torch.func.grad(lambda one, m=m: m(one)[0].square().sum()))(x) for m in (m, plain)
    )
    assert torch.equal(found, expected)


def test_set_copied_shown_restored() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(I, H))
    ft.replace(model)
    model[0].recompute = "auto"
    assert "recompute='auto'" in repr(model)
    assert copy.deepcopy(model)[0].recompute == pickle.loads(pickle.dumps(model))[0].recompute == "auto"
    with pytest.raises(
        RuntimeError, match=r"has recompute='auto', which torch\.nn's module has not: set it to 0"
    ):
        ft.restore(model)
    model[0].recompute = 0
    assert ft.restore(model) == ("0",)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, r"recompute must be in 0\.\.2147483648, it is -1"),
        (1.5, TypeError, "recompute must be an int, it is float"),
        ("all", ValueError, "recompute must be a number of steps or 'auto', it is 'all'"),
    ],
)
def test_wrong_values(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ft.GRU(I, H, recompute=value)
    m = ft.GRU(I, H)
    with pytest.raises(error, match=message):
        m.recompute = value
    assert m.recompute == 0


def test_two_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="recompute must be 0 with bidirectional=True, it is 4"):
        ft.LSTM(I, H, bidirectional=True, recompute=4)
    m = torch.nn.GRU(I, H, bidirectional=True)
    ft.replace(m)
    with pytest.raises(ValueError, match="recompute must be 0 with bidirectional=True, it is 'auto'"):
        m.recompute = "auto"


def test_what_kernels_refuse() -> None:
    from fusedrnn import _native

    for directions, sizes, message in ((2, None, "0 with two directions"), (1, [2, 1], "0 with batch_sizes")):
        stack = _native.Stack("gru", 1, directions, True, I, H)
        x = np.zeros((3, I) if sizes else (3, 1, I), np.float32)
        weights = [p.data for p in fr.nn.GRU(I, H, bidirectional=directions == 2).parameters()]
        y, hn = (
            np.zeros((*x.shape[:-1], directions * H), np.float32),
            np.zeros((directions, 1, H), np.float32),
        )
        batch_sizes = None if sizes is None else np.array(sizes)
        with pytest.raises(ValueError, match=f"recompute must be {message}"):
            stack.forward_into(
                weights, _native.host_bytes(10**6), x, None, None, y, hn, None,
                _native.SequenceOptions(recompute=3), batch_sizes,
            )  # fmt: skip


def test_functions_have_no_recompute() -> None:
    assert "recompute" not in functional.lstm_forward.__code__.co_varnames
