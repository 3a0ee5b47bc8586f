"""Where things run: device and precision arguments, what the CPU offers, why CUDA cannot be used, imports."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn._core import arrays as device

WITH_DEVICE = [
    lambda **o: fr.nn.LSTM(2, 3, **o),
    lambda **o: fr.nn.GRU(2, 3, **o),
    lambda **o: fr.nn.RNN(2, 3, **o),
    lambda **o: fr.nn.Linear(2, 3, **o),
    lambda **o: fr.nn.Embedding(2, 3, **o),
    lambda **o: fr.nn.LayerNorm(2, **o),
]
WITH_PRECISION = WITH_DEVICE[:4]


@pytest.mark.parametrize("build", WITH_DEVICE)
def test_devices(build, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build().device == "cpu"
    assert build(device="cpu").device == "cpu"
    with pytest.raises(ValueError, match="device must be one of 'cpu', 'cuda', 'auto', it is 'gpu'"):
        build(device="gpu")
    monkeypatch.setattr(fr.cuda, "why_not", lambda: "it is Sunday")
    with pytest.raises(RuntimeError, match='device="cuda" cannot be used: it is Sunday'):
        build(device="cuda")


@pytest.mark.parametrize("build", WITH_DEVICE)
def test_auto_says_once_that_it_is_the_cpu(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_said_fallback", False)
    monkeypatch.setattr(fr.cuda, "why_not", lambda: "it is Sunday")
    with pytest.warns(RuntimeWarning, match='device="auto" uses the CPU: it is Sunday') as said:
        assert build(device="auto").device == "cpu"
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build(device="auto").device == "cpu"


@pytest.mark.parametrize("build", WITH_PRECISION)
def test_precisions(build) -> None:
    for precision in ("ieee", "bf16", "bf16x3", "bf16x6"):
        assert build(precision=precision).precision == precision
    for precision in ("tf32", "tf32x3", "fp16"):
        with pytest.raises(
            ValueError,
            match=f"precision='{precision}' is not offered on the CPU: that has 'ieee', 'bf16', 'bf16x3',",
        ):
            build(precision=precision)
    with pytest.raises(ValueError, match=r"precision must be one of 'ieee', .*, it is 'float8'"):
        build(precision="float8")


def test_precisions_are_of_float32() -> None:
    assert device.check_precision("ieee", "cuda", np.dtype(np.float64)) == "ieee"
    assert device.check_precision("bf16", "cuda", np.dtype(np.float32)) == "bf16"
    with pytest.raises(
        ValueError, match="precision='bf16' is an arithmetic of float32 modules, this one is float64"
    ):
        device.check_precision("bf16", "cuda", np.dtype(np.float64))
    with pytest.raises(
        ValueError, match="precision='bf16x3' is not offered on CUDA: that has 'ieee', 'tf32'"
    ):
        device.check_precision("bf16x3", "cuda")


def test_cuda_says_why_not() -> None:
    reason = fr.cuda.why_not()
    assert fr.cuda.is_available() is (reason is None)
    if reason is not None:
        with pytest.raises(RuntimeError, match=f"no CUDA stream can be used: {re.escape(reason)}"):
            fr.cuda.stream(0).__enter__()


def test_cpu_says_what_it_uses() -> None:
    isas = fr.cpu.available_isas()
    assert "scalar" in isas
    assert fr.cpu.isa() in isas
    engines = {fr.cpu.engine(precision) for precision in ("bf16", "bf16x3", "bf16x6")}
    assert engines == {"amx" if fr.cpu.isa() == "amx" else fr.cpu.engine()}
    assert fr.cpu.engine() == "fma-" + fr.cpu.isa().replace("amx", "avx512")
    with pytest.raises(ValueError, match=r"precision must be one of 'ieee', 'bf16', .*, it is 'fp16'"):
        fr.cpu.engine("fp16")
    assert ("amx" in isas) == (_native.cpu_info()["why_no_amx"] is None)
    assert set(isas) <= {"scalar", "avx2", "avx512", "amx", "neon"}


def test_threads_can_be_set_and_do_not_change_results() -> None:
    before = fr.get_num_threads()
    assert before >= 1
    module = fr.nn.LSTM(7, 33, 2, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 5, 7)).astype(np.float32)
    try:
        results = []
        for n in (1, 2, 3):
            fr.set_num_threads(n)
            assert fr.get_num_threads() == n
            results.append(module(x)[0])
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0], results[2])
        with pytest.raises(ValueError, match="n must be"):
            fr.set_num_threads(0)
        assert fr.get_num_threads() == 3
    finally:
        fr.set_num_threads(before)


def test_only_public_names_are_listed() -> None:
    assert set(dir(fr)) == {
        "DeviceArray", "__version__", "asarray", "cpu", "cuda", "data", "functional", "get_num_threads", "io",
        "losses", "nn", "optim", "plot", "reference", "set_flush_denormal", "set_num_threads", "testing",
    }  # fmt: skip
    for name in dir(fr):
        assert getattr(fr, name) is not None
    for name in fr.nn.__all__:
        assert getattr(fr.nn, name) is not None
    with pytest.raises(AttributeError, match="module 'fusedrnn' has no attribute 'tensor'"):
        fr.tensor  # noqa: B018


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_is_quick_and_loads_no_part() -> None:
    code = (
        "import numpy, sys, time; start = time.perf_counter(); import fusedrnn; "
        "print(time.perf_counter() - start, [m for m in sys.modules if m.startswith('fusedrnn.')])"
    )
    times = []
    for _ in range(3):
        seconds, loaded = run(code).split(maxsplit=1)
        assert loaded.strip() == "['fusedrnn._core', 'fusedrnn._core.provided']"  # which import nothing
        times.append(float(seconds))
    assert min(times) < 0.3


def test_importing_every_part_starts_no_threads_and_imports_numpy_only() -> None:
    count_threads = "import os, numpy, numpy.random; threads = len(os.listdir('/proc/self/task')); "
    code = (
        count_threads + "import sys; before = set(sys.modules); "
        "import fusedrnn as fr; [getattr(fr, n) for n in dir(fr)]; "
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}; "
        # _xxsubinterpreters is Python's own, and tells which interpreter is the main one
        "new -= sys.stdlib_module_names | {'numpy', '_xxsubinterpreters'}; "
        "print(sorted(new), len(os.listdir('/proc/self/task')) - threads)"
    )
    assert run(code).strip() == "['fusedrnn'] 0"
