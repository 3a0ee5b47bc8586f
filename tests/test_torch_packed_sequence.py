"""PackedSequences through fusedrnn.torch: as through torch.nn, and without an array of T * B rows."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch_models import KINDS, assert_close, assert_same, ft, pair, run, state_for, tensors, torch

pytestmark = [pytest.mark.peer, pytest.mark.hypothesis]
pack = torch.nn.utils.rnn.pack_padded_sequence


def unsorted(kind: str, bidirectional: bool) -> Any:
    """Rows in no order with an initial state, which must follow them: drawing rarely finds both."""
    return example(
        kind=kind,
        lengths=[2, 4, 3, 1],
        layers=2,
        bidirectional=bidirectional,
        bias=True,
        state=True,
        sort=False,
        batch_first=bidirectional,
        double=False,
        seed=1,
    )


@unsorted("LSTM", True)
@unsorted("GRU", False)
@unsorted("RNN", True)
@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    state=st.booleans(),
    sort=st.booleans(),
    batch_first=st.booleans(),
    double=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_as_torch(
    kind: str,
    lengths: list[int],
    layers: int,
    bidirectional: bool,
    bias: bool,
    state: bool,
    sort: bool,
    batch_first: bool,
    double: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    options: dict[str, Any] = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    theirs, ours = pair(kind, 3, 5, layers, dtype=dtype, **options)
    rows, steps = len(lengths), max(lengths)
    x = torch.randn((rows, steps, 3) if batch_first else (steps, rows, 3), dtype=dtype, requires_grad=True)
    lengths = sorted(lengths, reverse=True) if sort else lengths
    hx = state_for(theirs, rows, dtype) if state else None
    leaves = [x, *tensors(hx)]

    def of(module: Any) -> Any:
        class Packs(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, x: Any, hx: Any) -> Any:
                self.result = self.module(pack(x, lengths, batch_first, enforce_sorted=sort), hx)
                return self.result

        return Packs()

    a, b = of(ours), of(theirs)
    assert_same(run(a, (x, hx), leaves), run(b, (x, hx), leaves))
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        mine, other = getattr(a.result[0], field), getattr(b.result[0], field)
        assert (mine is None) == (other is None)
        assert mine is None or torch.equal(mine, other)
    with torch.no_grad():
        for mine, other in zip(tensors(a(x, hx)), tensors(b(x, hx)), strict=True):
            assert_close(mine, other)


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_as_lengths(kind: str) -> None:
    """Dropout between layers included: its mask is that of a padded batch."""
    module = getattr(ft, kind)(3, 5, 3, dropout=0.4, bidirectional=True)
    x = torch.randn(7, 4, 3, requires_grad=True)
    lengths = torch.tensor([7, 5, 5, 2])
    torch.manual_seed(1)
    a = run(module, (x,), [x], lengths=lengths)
    torch.manual_seed(1)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths)
    y, end = module(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    for mine, other in zip(tensors((y, end)), a.outputs, strict=True):
        assert torch.equal(mine, other)


def test_packed_misfits() -> None:
    theirs, ours = pair("GRU", 3, 5)
    packed = pack(torch.randn(4, 2, 3), [4, 2])
    cases: list[Any] = [
        lambda m: m(pack(torch.randn(4, 2, 6), [4, 2])),
        lambda m: m(packed, torch.zeros(1, 3, 5)),
        lambda m: m(pack(torch.randn(4, 2, 3, dtype=torch.float64), [4, 2])),
    ]
    for case in cases:
        with pytest.raises((RuntimeError, ValueError)) as expected:
            case(theirs)
        with pytest.raises(type(expected.value)) as found:
            case(ours)
        assert str(found.value) == str(expected.value)
    with pytest.raises(ValueError, match="lengths and resets must be None with a PackedSequence"):
        ours(packed, lengths=[4, 2])


PEAK = """
import resource, torch
import fusedrnn.torch as ft
rows, steps, hidden = 64, 4000, 64
lengths = [steps] + [20] * (rows - 1)
m = ft.LSTM(8, hidden)
n = sum(lengths)
sizes = torch.tensor([sum(l > t for l in lengths) for t in range(steps)])
data = torch.randn(n, 8)
packed = torch.nn.utils.rnn.PackedSequence(data, sizes)
small = torch.nn.utils.rnn.PackedSequence(data[:64], sizes[:1])
m(small)[0].data.sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
m(packed)[0].data.sum().backward()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown, n * hidden * 4 // 1024, rows * steps * hidden * 4 // 1024)
"""


def test_no_array_of_all_steps_and_rows() -> None:
    """Peak memory of one long row among short ones: less than one padded array of one feature block."""
    result = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=120, check=True
    )
    grown, packed, padded = map(int, result.stdout.split())
    assert grown < padded / 2, f"grew by {grown} KiB; y packed is {packed} KiB, padded {padded} KiB"
