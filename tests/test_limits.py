"""Sizes that no memory holds: refused at once, by an error that says what it was, and nothing overflows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import SMALL, failure, run, write_book

import fusedrnn as fr
from fusedrnn import _native, functional


@pytest.mark.parametrize(
    "build",
    [
        lambda: fr.nn.LSTM(10, 2**62),
        lambda: fr.nn.LSTM(10, 2**31),  # 2**64 numbers in weight_hh
        lambda: fr.nn.Linear(2**32, 2**32, bias=False),
        lambda: fr.nn.Linear(1, 2**61),
        lambda: fr.nn.Embedding(2**40, 2**40),
        lambda: fr.nn.LayerNorm(10**30),
    ],
)
def test_parameters_that_cannot_be_counted(build) -> None:
    with pytest.raises(MemoryError, match=r"there is no memory for parameters of \d{19,} elements"):
        build()


def test_layers_have_a_limit_and_it_is_the_kernels() -> None:
    for n in (_native.MAX_LAYERS + 1, 10**9, 10**30):
        with pytest.raises(ValueError, match=f"num_layers must be at most {_native.MAX_LAYERS}, it is {n}"):
            fr.nn.GRU(1, 1, n)
    with pytest.raises(ValueError, match=rf"num_layers must be an integer in 1\.\.{_native.MAX_LAYERS}"):
        _native.pack_weights(_native.MAX_LAYERS + 1, 1, True, [])


def test_a_result_that_no_memory_holds_is_named() -> None:
    with pytest.raises(MemoryError, match=f"^dx: there is no memory for {2**53} bytes$"):
        functional.last_backward(np.zeros((2, 1), np.float32), 2**50)


FULL = """
import resource
import numpy as np
import fusedrnn as fr
gru = fr.nn.GRU(1, 64, seed=0)
x = np.zeros((2000, 64, 1), np.float32)
y = gru(x[:2])[0]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20), limit[1]))  # y, 33 MB, but not the tape
try:
    gru(x)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limit)
assert np.array_equal(gru(x)[0][:2], y)
"""


def test_memory_that_runs_out_in_a_call_is_named_and_the_next_call_works() -> None:
    environment = {"PYTHONPATH": str(Path(fr.__file__).parents[1]), "FUSEDRNN_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("tape: there is no memory for ")


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = str(write_book(tmp_path))
    many = "9" * 9
    assert failure(capsys, book, *SMALL, "--batch", many).startswith("fusedrnn train: the text is too short")
    assert "train: not enough memory: " in failure(capsys, book, *SMALL, "--hidden", many)
    assert failure(capsys, book, "--threads", "999", status=2).endswith(
        "--threads must be an integer in 1..256, it is 999"
    )
    refused = run("train", book, "--layers", "1000000000")
    assert refused.returncode == 2
    assert f"--layers must be at most {_native.MAX_LAYERS}, it is 1000000000" in refused.stderr
