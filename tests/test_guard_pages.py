"""No kernel reads or writes a byte outside its arrays, and none reads memory that nobody wrote.

Arrays are laid against the end, then the beginning, of a mapping with an inaccessible page on either
side: one element too far is a crash, which is why the work runs in a process of its own. The same process
fills every fresh block with NaN (FUSEDRNN_POISON=1) in one of the runs, and the results must be the bits
of the run without.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

WORK = r"""
import ctypes, hashlib, mmap, sys
import numpy as np
from fusedrnn import functional

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = mmap.PAGESIZE


def guarded(array, at_end):
    "A copy of `array` with an inaccessible page at its first or last byte; no guard when at_end is None."
    if at_end is None or array.size == 0:
        return array.copy()
    pages = -(-array.nbytes // PAGE)
    access, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = LIBC.mmap(None, (pages + 2) * PAGE, access, kind, -1, 0)
    assert base not in (None, ctypes.c_void_p(-1).value)
    for page in (0, pages + 1):
        assert LIBC.mprotect(base + page * PAGE, PAGE, 0) == 0
    start = base + PAGE + (pages * PAGE - array.nbytes if at_end else 0)
    memory = (ctypes.c_char * array.nbytes).from_address(start)
    copy = np.frombuffer(memory, dtype=array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def work(at_end):
    digest = hashlib.sha256()

    def see(*results):
        for r in results:
            if r is None or hasattr(r, "nbytes") and not isinstance(r, np.ndarray):
                continue
            if isinstance(r, dict):
                see(*r.values())
            elif isinstance(r, tuple):
                see(*r)
            else:
                digest.update(np.asarray(r).tobytes())

    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        def normal(*shape):
            return guarded(random.standard_normal(shape).astype(dtype), at_end)

        for cell, G in (("lstm", 4), ("gru", 3), ("rnn", 1)):
            for T, B, I, H in ((3, 2, 5, 7), (4, 9, 17, 33), (2, 13, 64, 16), (260, 1, 3, 3), (5, 1, 70, 50)):
                weights = {}
                for layer in range(2):
                    for suffix in ("", "_reverse"):
                        weights[f"weight_ih_l{layer}{suffix}"] = normal(G * H, 2 * H if layer else I)
                        weights[f"weight_hh_l{layer}{suffix}"] = normal(G * H, H)
                        weights[f"bias_ih_l{layer}{suffix}"] = normal(G * H)
                        weights[f"bias_hh_l{layer}{suffix}"] = normal(G * H)
                state = (normal(4, B, H), normal(4, B, H)) if cell == "lstm" else normal(4, B, H)
                dstate = (normal(4, B, H), normal(4, B, H)) if cell == "lstm" else normal(4, B, H)
                lengths = guarded(random.integers(0, T + 1, B), at_end)
                resets = guarded(random.random((T, B)) < 0.2, at_end)
                grads = {name: guarded(np.zeros_like(w), at_end) for name, w in weights.items()}
                options = dict(lengths=lengths, resets=resets, dropout=0.3, dropout_key=5)
                forward, backward = (getattr(functional, cell + way) for way in ("_forward", "_backward"))
                y, out, tape = forward(normal(T, B, I), state, weights, **options)
                see(y, out, tape.cells, tape.gates)
                see(backward(tape, normal(T, B, 2 * H), dstate, dweights=grads))
        x, w, b, dy = normal(7, 19), normal(5, 19), normal(5), normal(7, 5)
        see(functional.linear_forward(x, w, b), functional.linear_backward(dy, x, w))
        gain = normal(19)
        y, mean, rstd = functional.layer_norm_forward(x, gain, gain)
        see(y, mean, rstd, functional.layer_norm_backward(x, x, gain, mean, rstd))
        ids = guarded(random.integers(0, 5, 7), at_end)
        see(functional.embedding_forward(ids, w), functional.embedding_backward(x, ids, 5))
        see(functional.dropout(x, 0.5, 3))
        see(functional.mse(dy, dy), functional.cross_entropy(dy, guarded(random.integers(0, 5, 7), at_end)))
        see(functional.binary_cross_entropy(b, guarded((b > 0).astype(dtype), at_end)))
        p, g, m = normal(37), normal(37), normal(37)
        v = guarded(np.abs(random.standard_normal(37)).astype(dtype), at_end)
        functional.adam_(p, g, m, v, lr=0.1, step=3)
        functional.rmsprop_(p, g, v, m, None, lr=0.1, momentum=0.9)
        functional.adagrad_(p, g, v, lr=0.1, step=2)
        functional.sgd_(p, g, m, lr=0.1, momentum=0.9)
        see(functional.global_norm([g]), functional.clip_by_global_norm_([g], 0.5), p, m, v, g)
    return digest.hexdigest()


print(work({"end": True, "start": False, "none": None}[sys.argv[1]]))
"""


def digest_of(guard: str, poison: bool) -> str:
    environment = os.environ | {"FUSEDRNN_POISON": "1" if poison else "0"}
    done = subprocess.run(
        [sys.executable, "-c", WORK, guard], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"guard page at the {guard}: exit {done.returncode}\n{done.stderr[-2000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def plain() -> str:
    digest = digest_of("none", poison=False)
    assert len(digest) == 2 * hashlib.sha256().digest_size
    return digest


@pytest.mark.parametrize("guard", ["end", "start"])
def test_nothing_outside_an_array_is_touched(guard: str, plain: str) -> None:
    assert digest_of(guard, poison=False) == plain


def test_nothing_uninitialised_is_read(plain: str) -> None:
    assert digest_of("none", poison=True) == plain
