"""Ten thousand calls leave neither memory nor references behind, whether they succeed or raise."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALLS = 10_000

PROGRAM = """
import gc, os, sys
import numpy as np
from fusedrnn import _native, functional, nn, optim

T, B, I, H, L, D = 4, 3, 5, 8, 1, 2
def array(*shape, dtype=np.float32):
    return np.full(shape, 0.5, dtype)
weights = {f"{kind}_l0{d}": array(*shape) for d in ("", "_reverse") for kind, shape in (
    ("weight_ih", (4 * H, I)), ("weight_hh", (4 * H, H)), ("bias_ih", (4 * H,)), ("bias_hh", (4 * H,)))}
x, h0, c0 = array(T, B, I), array(L * D, B, H), array(L * D, B, H)
lengths, resets, dy = np.array([4, 2, 1]), np.zeros((T, B), bool), array(T, B, D * H)
packed = functional.pack_weights(weights)
pred, grad, first, second = array(T, I), array(T, I), array(T, I), array(T, I)
ids, classes, weight = np.arange(T), np.zeros(T, np.int64), array(I, I)
arrays = [x, h0, c0, lengths, resets, dy, pred, grad, first, second, ids, classes, weight, *weights.values()]

def forward():
    return functional.lstm_forward(x, (h0, c0), packed, lengths=lengths, resets=resets, dropout=0.5)

def train():
    tape = functional.lstm_forward(x, (h0, c0), weights, lengths=lengths, resets=resets)[2]
    functional.lstm_backward(tape, dy, (h0, c0))
    tape.cells, tape.gates, tape.nbytes

def layers():
    functional.linear_forward(pred, weight)
    functional.linear_backward(grad, pred, weight)
    functional.embedding_forward(ids, weight)
    functional.embedding_backward(grad, ids, I)
    y, mean, rstd = functional.layer_norm_forward(pred)
    functional.layer_norm_backward(grad, pred, None, mean, rstd)
    functional.dropout(pred, 0.5, 1)
    functional.last_forward(x, lengths)
    functional.last_backward(h0[0], T, lengths)

def losses():
    functional.mse(pred, grad)
    functional.cross_entropy(pred, classes, reduction="none")
    functional.binary_cross_entropy(pred, grad, mask=None)

def optimizers():
    functional.adam_(pred, grad, first, second, lr=1e-3, step=1)
    functional.sgd_(pred, grad, lr=1e-3)
    functional.clip_by_global_norm_([grad], 1.0)

model = nn.Sequential(nn.LSTM(I, H, seed=1), nn.Last(), nn.Linear(H, 2, seed=2))
optimizer, target = optim.Adam(model.parameters()), array(B, 2)

def steps():
    model.train_step(x, target, "mse", optimizer, 1.0, lengths=lengths)
    model.train_step(x[:2], target, "mse", optimizer, resets=resets[:2], return_state=True)

def raising():
    wrong = array(T, B, I + 1)
    for call in (
        lambda: functional.lstm_forward(wrong, None, packed),
        lambda: functional.lstm_forward(x, None, packed, lengths=lengths + 9),
        lambda: functional.pack_weights({**weights, "bias_hh_l0": array(1)}),
        lambda: functional.lstm_backward(functional.lstm_forward(x, None, packed)[2], wrong),
        lambda: functional.linear_forward(wrong, weight),
        lambda: functional.mse(pred, wrong),
        lambda: functional.adam_(pred, grad[1:], first, second, lr=1e-3, step=1),
        lambda: functional.last_backward(h0[0], 2**62, lengths),
        lambda: _native.dropout(array(2).astype(np.float16), 0.5, 0, 0),
    ):
        try:
            call()
        except (TypeError, ValueError):
            continue
        raise AssertionError("no error")

def threads():
    # The team grows and shrinks, and never starts a thread twice.
    for n in (1, 3):
        _native.set_num_threads(n)
        functional.linear_forward(pred, weight)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

work, calls = globals()[sys.argv[1]], int(sys.argv[2])
for _ in range(calls // 10):
    work()
gc.collect()
references, objects, memory = [sys.getrefcount(a) for a in arrays], len(gc.get_objects()), resident()
running = len(os.listdir("/proc/self/task"))
for _ in range(calls):
    work()
gc.collect()
grown = resident() - memory
assert [sys.getrefcount(a) for a in arrays] == references, "references"
assert len(gc.get_objects()) - objects < 50, "objects"
assert len(os.listdir("/proc/self/task")) == running, "threads"
# One leaked float32 array of the smallest kind a call makes is 64 bytes, so 640 kB over all calls.
assert grown < 400_000, f"{grown} bytes"
"""


@pytest.mark.parametrize(
    "work", ["forward", "train", "layers", "losses", "optimizers", "steps", "raising", "threads"]
)
def test_nothing_is_left_behind_by(work: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, work, str(CALLS)], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
