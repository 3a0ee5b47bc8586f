"""fusedrnn.torch in graphs: compile, export, trace, and the ops they are made of."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
from torch_models import CELLS, KINDS, assert_close, assert_same, ft, pair, run, tensors, torch

from fusedrnn import _native
from fusedrnn.torch import ops
from fusedrnn.torch.masks import Masks

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's compilers about PyTorch
]
BACKENDS = ("aot_eager", "inductor")


def stack_arguments(
    kind: str, dtype: Any, batch_first: bool, layers: int, directions: int, packed: bool
) -> tuple[Any, ...]:
    """Inputs of the forward op without gradients, as the autograd function calls it."""
    module = getattr(ft, kind)(
        3, 5, layers, batch_first=batch_first, bidirectional=directions == 2, dtype=dtype
    ).requires_grad_(False)
    x = torch.randn((2, 4, 3) if batch_first else (4, 2, 3), dtype=dtype)
    h0 = torch.randn(layers * directions, 2, 5, dtype=dtype)
    c0 = torch.randn(layers * directions, 2, 5, dtype=dtype) if kind == "LSTM" else None
    marks: Any = (torch.tensor([4, 2]), torch.rand(x.shape[:2]) < 0.3, None)
    if packed:
        x, marks = torch.randn(6, 3, dtype=dtype), (None, None, torch.tensor([2, 2, 1, 1]))
    key = torch.tensor(5)
    masks = Masks(0.25, True, 0.5, 0.2 if kind == "LSTM" else 0.0, 0.1, 0.3)
    settings = (module._cell, layers, directions, True, batch_first, "ieee", 0, *masks)
    return (x, h0, c0, *marks, key, list(module.parameters())), settings


@pytest.mark.parametrize(
    ("kind", "batch_first", "dtype", "packed"),
    [
        ("LSTM", False, torch.float32, False),
        ("GRU", True, torch.float64, False),
        ("RNN", False, torch.float32, False),
        ("LSTM", False, torch.float64, True),
        ("GRU", False, torch.float32, True),
    ],
)
@pytest.mark.parametrize("deterministic", [False, True])
def test_opcheck(
    kind: str,
    batch_first: bool,
    dtype: Any,
    packed: bool,
    deterministic: bool,
    request: pytest.FixtureRequest,
) -> None:
    torch.use_deterministic_algorithms(deterministic)
    request.addfinalizer(lambda: torch.use_deterministic_algorithms(False))
    inputs, settings = stack_arguments(kind, dtype, batch_first, 2, 2, packed)
    for train in (True, False):
        torch.library.opcheck(torch.ops.fusedrnn.forward.default, (*inputs, *settings, train))
    y, hn, cn, block = torch.ops.fusedrnn.forward(*inputs, *settings, True)
    gradients = (torch.randn_like(y), torch.randn_like(hn), torch.randn_like(cn) if kind == "LSTM" else None)
    weights = inputs[-1]
    for need in (True, False):
        torch.library.opcheck(
            torch.ops.fusedrnn.backward.default,
            (*inputs, block, *gradients, *settings, need, need, [need] * len(weights)),
        )


def test_graphs_tell_by_what_formula_their_blocks_have_sizes() -> None:
    """A compiler that keeps its work on the disk must not take another build's for this one's."""
    graphs = []

    def keep(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    with torch.no_grad():
        torch.compile(ft.GRU(3, 4), backend=keep, fullgraph=True)(torch.ones(2, 1, 3))
    assert any(ops.SIZES in node.args for graph in graphs for node in graph.graph.nodes)
    command = [sys.executable, "-c", "import fusedrnn.torch.ops as ops; print(ops.SIZES)"]
    runs = {
        isa: subprocess.check_output(command, env=os.environ | {"FUSEDRNN_ISA": isa}, text=True).strip()
        for isa in ("scalar", _native.backend())
    }
    assert runs[_native.backend()] == ops.SIZES
    assert len(set(runs.values())) == len(runs)


@pytest.mark.parametrize(
    ("kind", "backend"), [("LSTM", "inductor"), *((kind, "aot_eager") for kind in KINDS)]
)
def test_compile_fullgraph(kind: str, backend: str) -> None:
    torch._dynamo.reset()
    theirs, ours = pair(kind, 4, 6, 2, bidirectional=True)
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    for sizes in ((5, 3, 4), (7, 2, 4)):
        x = torch.randn(sizes, requires_grad=True)
        eager = run(ours, (x,), [x])
        assert_same(run(compiled, (x,), [x]), eager)
        assert_same(eager, run(theirs, (x,), [x]))
    with torch.no_grad():
        assert_close(compiled(x)[0], ours(x)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_compile_dynamic_in_a_model(backend: str) -> None:
    """T and B are symbols: one graph for all sizes, with layers around and lengths and resets inside."""
    torch._dynamo.reset()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)
            self.rnn = ft.GRU(4, 6)
            self.cell = ft.LSTMCell(6, 6)
            self.outer = torch.nn.Linear(6, 2)

        def forward(self, x: Any, lengths: Any, resets: Any) -> Any:
            y, hn = self.rnn(self.inner(x).relu(), lengths=lengths, resets=resets)
            h, c = self.cell(hn[0])
            return self.outer(y * 2 + h + c)

    torch.manual_seed(0)
    model = Model()
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)
    frames = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for steps, rows in ((5, 3), (7, 2), (9, 4)):
        x = torch.randn(steps, rows, 4, requires_grad=True)
        marks = (torch.randint(1, steps + 1, (rows,)), torch.rand(steps, rows) < 0.3)
        assert_same(run(compiled, (x, *marks), [x]), run(model, (x, *marks), [x]))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - frames == 1


def test_compile_with_dropout_draws_anew() -> None:
    torch._dynamo.reset()
    module = ft.GRU(4, 16, 2, dropout=0.5)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    x = torch.randn(5, 3, 4)
    assert not torch.equal(compiled(x)[0], compiled(x)[0])
    module.eval()
    assert torch.equal(compiled(x)[0], compiled(x)[0])


def packed_of(lengths: list[int], sort: bool) -> Any:
    x = torch.randn(max(lengths), len(lengths), 4)
    return torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=not sort)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", ["sorted here", "state"])
def test_compile_packed_sequence(kind: str, backend: str, known: str) -> None:
    """One graph, with the rows of all steps and the number of sequences as symbols."""
    if backend == "inductor" and (kind, known) != ("LSTM", "sorted here"):
        pytest.skip("the slow compiler sees one of the cases")
    torch._dynamo.reset()
    module = getattr(ft, kind)(4, 6, 2, bidirectional=True)
    compiled = torch.compile(module, backend=backend, fullgraph=True, dynamic=True)
    for lengths in ([5, 3, 2], [4, 6, 1, 2]):
        lengths = sorted(lengths, reverse=True) if known == "state" else lengths
        packed = packed_of(lengths, known == "sorted here")
        data = packed.data.requires_grad_()
        state = torch.randn(4, len(lengths), 6)
        hx = {"sorted here": None, "state": (state, state) if kind == "LSTM" else state}[known]
        assert_same(run(compiled, (packed, hx), [data]), run(module, (packed, hx), [data]))


def test_packed_sequence_whose_rows_are_not_counted_breaks_the_graph() -> None:
    torch._dynamo.reset()
    module = ft.LSTM(4, 6)
    packed = packed_of([5, 3, 2], sort=False)
    compiled = torch.compile(module, backend="aot_eager")
    assert torch.equal(compiled(packed)[0].data, module(packed)[0].data)


@pytest.mark.parametrize("kind", KINDS)
def test_export_and_save(kind: str) -> None:
    _, ours = pair(kind, 4, 6, 2, batch_first=True)
    ours.eval()
    dim = torch.export.Dim
    program = torch.export.export(
        ours, (torch.randn(3, 5, 4),), dynamic_shapes=({0: dim("rows"), 1: dim("steps")},)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    x = torch.randn(2, 9, 4)
    for a, b in zip(tensors(loaded(x)), tensors(ours(x)), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("kind", CELLS)
def test_compile_cells(kind: str) -> None:
    torch._dynamo.reset()
    _, ours = pair(kind, 4, 6)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 4, requires_grad=True)
    assert_same(run(compiled, (x,), [x]), run(ours, (x,), [x]))


def test_trace_holds_the_op() -> None:
    """A trace through native calls would hold their results as constants."""
    module = ft.LSTM(4, 6).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of checks of shapes, which are not traced
        traced = torch.jit.trace(module, torch.randn(5, 3, 4), check_trace=False)
    x = torch.randn(7, 2, 4)
    assert_close(traced(x)[0], module(x)[0])


def test_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        module = ft.LSTM(4, 6)
        y, (_, cn) = module(torch.randn(5, 3, 4))
    assert y.shape == (5, 3, 6)
    assert cn.shape == (1, 3, 6)


def test_compile_in_autocast() -> None:
    module, x = ft.LSTM(3, 4), torch.randn(5, 2, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph = torch.compile(lambda x: module(x)[0], backend="aot_eager", fullgraph=True)
        assert torch.equal(graph(x), module(x)[0])
