"""A forked child computes, whatever its parent did before; the environment sets the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMON = """
import os, sys, threading, time
import numpy as np
import fusedrnn
from fusedrnn import functional

fusedrnn.set_num_threads(3)
rng = np.random.default_rng(0)
x = rng.standard_normal((9, 40, 7)).astype(np.float32)
weights = {
    "weight_ih_l0": rng.standard_normal((4 * 33, 7)).astype(np.float32),
    "weight_hh_l0": rng.standard_normal((4 * 33, 33)).astype(np.float32),
}

def work():
    y, (hn, cn), tape = functional.lstm_forward(x, None, weights)
    dx, _, grads = functional.lstm_backward(tape, y)
    return b"".join(a.tobytes() for a in (y, hn, cn, dx, *grads.values()))

def in_child(expected=None):
    'Forks; the child computes and compares. True when it ends well within 30 s.'
    pid = os.fork()
    if pid == 0:
        import signal
        signal.alarm(30)
        result = work()
        os._exit(0 if expected is None or result == expected else 1)
    return os.waitpid(pid, 0)[1] == 0
"""

CASES = {
    "before any use": """
assert in_child()
expected = work()
assert in_child(expected)
""",
    "after use": """
expected = work()
assert in_child(expected)
assert work() == expected
assert in_child(expected)
""",
    "from a child": """
expected = work()
pid = os.fork()
if pid == 0:
    ok = work() == expected and in_child(expected) and work() == expected
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
""",
    "while another thread computes": """
expected = work()
stop = threading.Event()
wrong = []
def loop():
    while not stop.is_set():
        if work() != expected:
            wrong.append(1)
thread = threading.Thread(target=loop)
thread.start()
ok = all(in_child(expected) for _ in range(20))
stop.set()
thread.join(30)
assert ok and not thread.is_alive() and not wrong
""",
    "by multiprocessing": """
import multiprocessing
expected = work()
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = [pool.apply_async(work) for _ in range(6)]
    assert all(r.get(30) == expected for r in results)
""",
}


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("case", CASES)
def test_child_of_a_fork_computes(case: str) -> None:
    ran = run(COMMON + CASES[case])
    assert ran.returncode == 0, ran.stderr


def threads_of(**environment: str) -> str:
    cleared = {"FUSEDRNN_NUM_THREADS": "", "OMP_NUM_THREADS": "", **environment}
    code = "from fusedrnn import _native as n; print(n.get_num_threads(), n.cpu_info()['threads_from'])"
    ran = run(code, **cleared)
    return ran.stdout.strip() or ran.stderr.strip().splitlines()[-1]


def test_environment_sets_the_number_of_threads() -> None:
    assert threads_of(FUSEDRNN_NUM_THREADS="3", OMP_NUM_THREADS="2") == "3 FUSEDRNN_NUM_THREADS"
    assert threads_of(OMP_NUM_THREADS="5,2") == "5 OMP_NUM_THREADS"
    assert threads_of(OMP_NUM_THREADS="many") == threads_of()


@pytest.mark.parametrize("value", ["0", "-2", "two", "257", "1.5"])
def test_number_of_threads_that_is_none_is_refused(value: str) -> None:
    expected = f"FUSEDRNN_NUM_THREADS must be a number in 1..256, it is '{value}'"
    assert threads_of(FUSEDRNN_NUM_THREADS=value).endswith(expected)


def test_affinity_bounds_the_default() -> None:
    cpu = min(os.sched_getaffinity(0))
    code = f"""
import os
os.sched_setaffinity(0, {{{cpu}}})
from fusedrnn import _native
print(_native.get_num_threads(), _native.cpu_info()["logical_cpus"])
"""
    assert run(code, FUSEDRNN_NUM_THREADS="", OMP_NUM_THREADS="").stdout.split() == ["1", "1"]


def test_unknown_instruction_set_fails_at_first_use() -> None:
    code = "import fusedrnn; print('imported'); from fusedrnn import _native; _native.backend()"
    ran = run(code, FUSEDRNN_ISA="sse9")
    assert ran.stdout == "imported\n"
    assert "FUSEDRNN_ISA is 'sse9', which this machine cannot run; it must be one of scalar" in ran.stderr


def test_process_ends_while_workers_sleep_or_spin() -> None:
    ran = run(COMMON + "work()")
    assert ran.returncode == 0, ran.stderr
