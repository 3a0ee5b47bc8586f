"""Recurrent stacks against PyTorch, an implementation that shares nothing with this one.

Float64 kernels must agree to 1e-10 of each tensor's largest value; float32 kernels with PyTorch's float64
under the tolerance rule of parity.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import assert_parity
from sequences import CUDA_CELLS as CELLS  # those that PyTorch has
from sequences import Data, Stack, draw, result_axes, run

from fusedrnn.reference.arithmetic import Arithmetic

Array = NDArray[Any]
pytestmark = pytest.mark.peer


def torch_module(torch: Any, data: Data) -> Any:
    """The stack as a module of PyTorch, float64, with the same weights."""
    s = data.stack
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(s.cell, torch.nn.RNN)
    options = {"nonlinearity": s.cell[4:]} if s.cell.startswith("rnn") else {}
    module = kind(
        s.I, s.H, s.layers, bias=s.bias, batch_first=s.batch_first, bidirectional=s.directions == 2, **options
    ).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(data.weights[name]))
    return module


def packed(torch: Any, module: Any, data: Data, x: Any, states: Any) -> tuple[Any, Any]:
    """y and the final states by a PackedSequence; its lengths are at least 1."""
    s = data.stack
    lengths = torch.from_numpy(data.lengths)
    rows = torch.nn.utils.rnn.pack_padded_sequence(
        x, lengths, batch_first=s.batch_first, enforce_sorted=False
    )
    y, final = module(rows, states)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=s.batch_first, total_length=s.T)
    return y, final


def cut_by_hand(torch: Any, module: Any, data: Data, x: Any, states: Any) -> tuple[Any, Any]:
    """y and the final states row by row, each row cut to its length and at its resets.

    Pieces share nothing: the forward direction's initial state enters the first (unless reset at step 0),
    that of the reverse direction the last; the final states leave from the other end.
    """
    s = data.stack
    time_first = x.transpose(0, 1) if s.batch_first else x
    resets = np.zeros((s.T, s.B), bool) if data.resets is None else data.resets
    resets = resets.T if s.batch_first and data.resets is not None else resets
    many = isinstance(states, tuple)
    initial = states if many else (states,)
    forward = torch.arange(s.layers * s.directions) % s.directions == 0
    ys, finals = [], []
    for b in range(s.B):
        n = s.T if data.lengths is None else int(data.lengths[b])
        state = [h[:, b] for h in initial]
        if n == 0:
            ys.append(torch.zeros(s.T, s.directions * s.H, dtype=x.dtype))
            finals.append(state)
            continue
        edges = [0, *(t for t in range(1, n) if resets[t, b]), n]
        row, final = [], [torch.zeros_like(h) for h in state]
        for start, stop in pairwise(edges):
            enters = (forward & (start == 0) & (not resets[0, b])) | (~forward & (stop == n))
            begin = tuple(torch.where(enters[:, None], h, 0.0)[:, None].contiguous() for h in state)
            piece = time_first[start:stop, b : b + 1]
            piece = piece.transpose(0, 1) if s.batch_first else piece
            y, end = module(piece, begin if many else begin[0])
            row.append(y[0] if s.batch_first else y[:, 0])
            leaves = (forward & (stop == n)) | (~forward & (start == 0))
            end = end if many else (end,)
            final = [f + torch.where(leaves[:, None], e[:, 0], 0.0) for f, e in zip(final, end, strict=True)]
        row.append(torch.zeros(s.T - n, s.directions * s.H, dtype=x.dtype))
        ys.append(torch.cat(row))
        finals.append(final)
    y = torch.stack(ys, dim=0 if s.batch_first else 1)
    end = tuple(torch.stack([f[i] for f in finals], dim=1) for i in range(len(initial)))
    return y, end if many else end[0]


def torch_results(data: Data, by_hand: bool) -> dict[str, Array]:
    """Every result PyTorch has, named as `sequences.run` names them."""
    import torch

    torch.set_num_threads(1)
    s, module = data.stack, torch_module(torch, data)
    clean = np.nan_to_num  # PyTorch multiplies padding by 0

    def leaf(a: Array | None, shape: tuple[int, ...]) -> Any:
        return torch.from_numpy(np.zeros(shape) if a is None else clean(a)).requires_grad_()

    state_shape = (s.layers * s.directions, s.B, s.H)
    x = leaf(data.x, ())
    h0, c0 = leaf(data.h0, state_shape), leaf(data.c0, state_shape)
    states = (h0, c0) if s.cell == "lstm" else h0
    if by_hand:
        y, final = cut_by_hand(torch, module, data, x, states)
    elif data.lengths is not None:
        y, final = packed(torch, module, data, x, states)
    else:
        y, final = module(x, states)
    hn, cn = final if s.cell == "lstm" else (final, None)
    objective = x.sum() * 0.0
    for out, cotangent in ((y, data.dy), (hn, data.dhn), (cn, data.dcn)):
        if out is not None and cotangent is not None:
            objective = objective + (out * torch.from_numpy(clean(cotangent))).sum()
    objective.backward()

    def gradient(a: Any) -> Array:
        return np.zeros(a.shape) if a.grad is None else a.grad.numpy()

    results = {"y": y.detach().numpy(), "hn": hn.detach().numpy(), "dx": gradient(x), "dh0": gradient(h0)}
    if cn is not None:
        results |= {"cn": cn.detach().numpy(), "dc0": gradient(c0)}
    return results | {f"d{name}": gradient(p) for name, p in module.named_parameters()}


def random_stack(seed: int) -> tuple[Stack, bool]:
    """The configuration of a seed, and whether its rows are cut by hand."""
    rng = np.random.default_rng(seed)

    def flip() -> bool:
        return bool(rng.random() < 0.5)

    def size(*choices: int) -> int:
        return int(rng.choice(choices))

    by_hand = flip()
    stack = Stack(
        cell=CELLS[seed % len(CELLS)],
        T=size(1, 2, 3, 5, 9, 12),
        B=size(1, 2, 3, 4, 6),
        I=size(1, 2, 3, 7, 16, 21),
        H=size(1, 2, 5, 8, 17, 24),
        layers=size(1, 2, 3),
        directions=size(1, 2),
        bias=rng.random() < 0.8,
        lengths=flip(),
        resets=by_hand and flip(),
        batch_first=flip(),
        state=rng.random() < 0.8,
        dy=rng.random() < 0.8,
        dhn=flip(),
        dcn=flip(),
        strided=flip(),
        spread=float(rng.choice([0.3, 1.0, 2.0])),
        seed=seed,
    )
    return stack, by_hand


def drawn(seed: int) -> tuple[Data, bool]:
    stack, by_hand = random_stack(seed)
    return draw(stack, shortest=0 if by_hand else 1), by_hand  # a PackedSequence has no empty rows


def comparable(ours: Mapping[str, Array]) -> dict[str, Array]:
    """Without what PyTorch does not show."""
    return {name: a for name, a in ours.items() if name not in ("cells", "gates")}


@pytest.mark.parametrize("seed", range(200))
def test_float64(seed: int) -> None:
    data, by_hand = drawn(seed)
    ours = comparable(run(data, np.float64, None))
    theirs = torch_results(data, by_hand)
    assert ours.keys() == theirs.keys()
    for name, right in theirs.items():
        assert np.abs(ours[name] - right).max(initial=0) <= 1e-10 * np.abs(right).max(initial=0), name


@pytest.mark.parametrize("seed", range(1000, 1024))
def test_float32(seed: int) -> None:
    data, by_hand = drawn(seed)

    def truth_or_run(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        return (
            torch_results(data, by_hand) if dtype == np.float64 else comparable(run(data, dtype, arithmetic))
        )

    assert_parity(comparable(run(data, np.float32, None)), truth_or_run, np.float32, result_axes(data.stack))


def test_the_drawn_configurations_cover_what_they_should() -> None:
    configurations = [random_stack(seed) for seed in range(200)]
    for cell in CELLS:
        mine = [(s, hand) for s, hand in configurations if s.cell == cell]
        assert sum(s.lengths and not hand for s, hand in mine) >= 5  # PackedSequence
        assert sum(s.resets for s, _ in mine) >= 5
        assert sum(s.resets and s.directions == 2 and s.layers > 1 for s, _ in mine) >= 1
        assert sum(s.dhn and not s.dy for s, _ in mine) >= 1
        assert sum(not s.bias for s, _ in mine) >= 1
