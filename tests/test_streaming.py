"""Gates and y that forward stores past the caches where a tape is large: the bits of ordinary stores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fusedrnn import _native, nn

T, B, H = 80, 120, 64  # gates of an LSTM: 9.8 MB, of a GRU as many, of plain cells none
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.fixture(autouse=True)
def leave_it_as_it_was() -> Iterator[None]:
    backend, threads = _native.backend(), _native.get_num_threads()
    yield
    _native.set_backend(backend)
    _native.set_num_threads(threads)


def results(cell: str, dtype: type, hidden: int, precision: str) -> list[bytes]:
    rng = np.random.default_rng(3)
    module = CELLS[cell](5, hidden, 2, dtype=dtype, precision=precision, seed=1, batch_first=True)
    x, dy = (rng.standard_normal((B, T, n)).astype(dtype) for n in (5, hidden))
    y, _ = module(x)
    dx, _ = module.backward(dy)
    gradients = [p.grad.tobytes() for p in module.parameters()]
    for rows in np.split(
        np.arange(B), 4
    ):  # tapes too small for such stores, and rows have the bits they have alone
        part, _ = module(np.ascontiguousarray(x[rows]))
        np.testing.assert_array_equal(part, y[rows])
        np.testing.assert_array_equal(module.backward(np.ascontiguousarray(dy[rows]))[0], dx[rows])
    return [y.tobytes(), dx.tobytes(), *gradients]


@pytest.mark.parametrize(
    ("cell", "number", "hidden", "rounding"),
    [
        ("lstm", np.float32, H, "ieee"),
        ("lstm", np.float32, H + 1, "ieee"),  # rows that do not begin with lines
        ("lstm", np.float64, H, "ieee"),
        ("gru", np.float32, H, "bf16"),
        ("rnn", np.float32, H, "ieee"),
    ],
)
def test_same_bits_as_of_ordinary_stores(cell: str, number: type, hidden: int, rounding: str) -> None:
    found = {}
    for isa in [
        name for name in _native.available_backends() if name != "scalar"
    ]:  # slow, held to others elsewhere
        _native.set_backend(isa)
        for threads in (1, 2):
            _native.set_num_threads(threads)
            found[isa, threads] = results(cell, number, hidden, rounding)
    ways = list(found)
    assert [way for way in ways if found[way] != found[ways[0]]] == []
