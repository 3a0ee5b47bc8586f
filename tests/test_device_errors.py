"""What goes wrong on a device is said: the call, its place and why; and leaves everything as it was.

Faults are planted through the emulator: a device with little memory, arrays that claim to be larger than
their memory, another device that is the thread's own.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any

import dlpack
import numpy as np
import pytest
from sequences import bits

import fusedrnn as fr
from fusedrnn import _native

pytestmark = [
    pytest.mark.parity,
    pytest.mark.cuda,
    pytest.mark.skipif(_native.cuda_info()["memory"] == 2, reason="faults are planted through the emulator"),
]
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WIDE = np.zeros((2, 30, 4), np.float32)
PLACE = r" at cuda/[\w/]+\.(cu|cuh|hpp):\d+: "


@pytest.fixture
def lstm() -> fr.nn.LSTM:
    """With a tape and gradients."""
    module = fr.nn.LSTM(4, 5, device="cuda", seed=0)
    module.backward(module(fr.asarray(X))[0])
    return module


def still_works(module: fr.nn.LSTM) -> None:
    """After a failure the next step gives what it always gave."""
    fresh = fr.nn.LSTM(4, 5, device="cuda", seed=0)
    results = []
    for each in (module, fresh):
        each.zero_grad()
        y, (hn, cn) = each(fr.asarray(X))
        dx = each.backward(y, (hn, cn))[0]
        grads = {name: p.grad.numpy() for name, p in each.named_parameters()}
        results.append(bits({"y": y.numpy(), "dx": dx.numpy(), **grads}))
    assert results[0] == results[1]


def fill(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Makes the device have so many bytes left, whatever other tests still hold."""
    gc.collect()
    for _ in range(2):  # what calls were done with goes back at the next one
        fr.asarray(X).numpy()
    monkeypatch.setenv("FUSEDRNN_SIMT_MEMORY", "0")
    with pytest.raises(MemoryError) as full:
        fr.asarray(X)
    used = re.search(r"(\d+) of 0 bytes are in use", str(full.value))
    assert used
    monkeypatch.setenv("FUSEDRNN_SIMT_MEMORY", str(int(used[1]) + left))


def larger(shape: tuple[int, ...]) -> dlpack.Interface:
    """An array that says it has this shape; its memory has two numbers."""
    return dlpack.Interface(fr.asarray(X[0, 0, :2]), shape=shape)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x", lambda m: fr.asarray(np.zeros(100_000))),
        ("array", lambda m: fr.nn.GRU(200, 200, device="cuda")),
        ("tape", lambda m: m(fr.asarray(np.zeros((70, 3, 4), np.float32)))),
        ("workspace of forward", lambda m: m(fr.asarray(np.zeros((30, 3, 4), np.float32)))),
        ("y", lambda m: m.eval()(fr.asarray(np.zeros((1, 500, 4), np.float32)))),
        ("copy", lambda m: fr.asarray(np.zeros(1200)).copy()),
    ],
)
def test_out_of_memory(
    name: str, call: Callable[[Any], Any], lstm: fr.nn.LSTM, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bits(lstm.state_dict())
    grads = [p.grad.numpy() for p in lstm.parameters()]
    fill(monkeypatch, 16000)
    with pytest.raises(MemoryError, match=rf"^{name} \(simt\): alloc\(\d+\){PLACE}out of memory") as caught:
        call(lstm)
    del caught
    assert bits(lstm.state_dict()) == before
    for p, grad in zip(lstm.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), grad)
    monkeypatch.delenv("FUSEDRNN_SIMT_MEMORY")
    still_works(lstm.train())


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.eval()(larger((2, 3, 4))),
        lambda m: m.eval()(fr.asarray(WIDE), (larger((1, 30, 5)), None)),
        lambda m: (m(fr.asarray(X)), m.backward(larger((2, 3, 5)))),
        lambda m: (m(fr.asarray(WIDE)), m.backward(None, (None, larger((1, 30, 5))))),
    ],
)
def test_launch_failure(call: Callable[[Any], Any], lstm: fr.nn.LSTM) -> None:
    """A kernel that reads outside of its memory ends the launch, which the next who waits is told."""
    call(lstm)
    with pytest.raises(RuntimeError, match=rf"^numpy\(\) \(simt\): launch of [\w:{{}}<>, ]+{PLACE}.*memory"):
        fr.asarray(X).numpy()
    still_works(lstm.train())


def test_copy_failure() -> None:
    with pytest.raises(
        RuntimeError, match=rf"^numpy\(\) \(simt\): copy\(\w+, \w+, 96\){PLACE}leaves an allocation"
    ):
        fr.asarray(larger((2, 3, 4))).numpy()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("weights", lambda m, x: m(x)),
        ("tape", lambda m, x: m.backward(None)),
        ("x", lambda m, x: fr.asarray(dlpack.Interface(x))),
        ("x", lambda m, x: fr.asarray(dlpack.Producer(x))),
        ("x", lambda m, x: fr.nn.LSTM(4, 5, device="cuda")(x)),
        ("dy", lambda m, x: other_device(lambda n: n.backward(x))),
        ("h0", lambda m, x: other_device(lambda n: n(fr.asarray(X), (x, None)))),
    ],
)
def test_wrong_device(
    name: str, call: Callable[[Any, Any], Any], lstm: fr.nn.LSTM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays and modules of one device in a thread whose device is another."""
    x = fr.asarray(X)
    monkeypatch.setenv("FUSEDRNN_SIMT_DEVICE", "1")
    message = (
        f"{name} must be on simt:1, the calling thread's device, it is on simt:0: copy it to simt:1, or make"
    )
    with pytest.raises(ValueError, match=message):
        call(lstm, x)
    np.testing.assert_array_equal(x.numpy(), X)
    there = fr.asarray(x.numpy())
    assert (x.device, there.device) == ("simt:0", "simt:1")
    assert there.__dlpack_device__() == (12, 1)
    monkeypatch.delenv("FUSEDRNN_SIMT_DEVICE")
    still_works(lstm)


def other_device(call: Callable[[Any], Any]) -> None:
    """With a module of the device that is the thread's now, after a forward call."""
    module = fr.nn.LSTM(4, 5, device="cuda", seed=0)
    module(fr.asarray(X))
    call(module)
