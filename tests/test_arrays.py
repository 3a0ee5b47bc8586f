"""What is wrong with an argument is said, by name, before anything is computed; nothing is ever converted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import malformed
import numpy as np
import pytest

from fusedrnn import _native

CASES = malformed.cases()
OWN = ("sequence_forward: cell = None", "sequence_backward: no tape")


@pytest.fixture(scope="module")
def raised() -> dict[str, tuple[str, str]]:
    return answers_of(CASES)


def answers_of(cases: list[malformed.Case], *options: str) -> dict[str, tuple[str, str]]:
    """What each malformed call raised, in a process of its own: a crash is a missing answer."""
    command = [sys.executable, "-X", "faulthandler", malformed.__file__, *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    answers = {line["name"]: (line["raised"], line["message"]) for line in lines}
    if ran.returncode != 0:
        following = next((c.name for c in cases if c.name not in answers), "none")
        pytest.fail(f"the process ended with {ran.returncode} in {following}\n{ran.stderr[-2000:]}")
    return answers


def test_cases_have_names_of_their_own() -> None:
    assert len({c.name for c in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_malformed_argument_raises_and_is_named(
    case: malformed.Case, raised: dict[str, tuple[str, str]]
) -> None:
    kind, message = raised[case.name]
    assert kind == case.raises.__name__, message
    assert case.mentions in message
    # A signature of pybind11's would hold every name. Cell and tape are this package's own.
    assert "incompatible" not in message or case.name in OWN


@pytest.mark.cuda
@pytest.mark.parity
def test_malformed_arguments_on_a_device() -> None:
    """The same of device arrays. All at once: they are not known before there is a device."""
    cases = malformed.cases(device=True)
    assert len({c.name for c in cases}) == len(cases) > 700
    answers = answers_of(cases, "--device")
    wrong = [
        (case.name, answers[case.name])
        for case in cases
        if answers[case.name][0] != case.raises.__name__ or case.mentions not in answers[case.name][1]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((4, 8), np.float32), "x must be (..., I) = (..., 7), it is (4, 8)"),
        (np.zeros((4, 7)), "x must be float32, it is float64: use x.astype(np.float32)"),
        (
            np.zeros((4, 7), np.float16),
            "x must be float32, it is float16: use x.astype(np.float32)",
        ),
    ],
)
def test_message_says_what_must_be_and_what_was(x: np.ndarray, text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        _native.linear_forward(x, np.zeros((2, 7), np.float32), None)
    assert str(caught.value) == text


@pytest.mark.peer
def test_torch_tensor_is_refused_with_the_fix() -> None:
    import torch

    with pytest.raises(TypeError, match=r"x must be a NumPy array.*use x\.detach\(\)\.numpy\(\)"):
        _native.dropout(torch.zeros(3), 0.5, 0, 0)


def test_arrays_without_elements_and_of_one_row_have_any_stride() -> None:
    weight = np.ones((2, 3), np.float32)
    empty = np.zeros((0, 6), np.float32)[:, ::2]
    assert _native.linear_forward(empty, weight, None).shape == (0, 2)
    one_row = np.ones((1, 3), np.float32)[::-1]
    assert _native.linear_forward(one_row, weight, None).tolist() == [[3.0, 3.0]]


def test_memory_mapped_array_is_an_array(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(2, 3))
    mapped[...] = 1
    assert _native.linear_forward(mapped, np.ones((2, 3), np.float32), None).tolist() == [[3, 3], [3, 3]]


def test_results_are_aligned_and_the_callers_own() -> None:
    x = np.ones((4, 7), np.float32)
    results = [_native.dropout(x, 0.0, 0, 0) for _ in range(8)]
    assert all(r.ctypes.data % 64 == 0 and r.flags.writeable and r.flags.c_contiguous for r in results)
    assert len({r.ctypes.data for r in results}) == 8


def test_memory_that_is_shared_by_any_piece_is_refused() -> None:
    memory, ids = np.zeros(18, np.float32), np.array([0, 1, 1])
    dy = memory[5:11].reshape(3, 2)
    for start in range(14):
        dweight = memory[start : start + 4].reshape(2, 2)
        if start + 4 <= 5 or start >= 11:
            _native.embedding_backward(dy, ids, dweight)
            continue
        with pytest.raises(ValueError, match="dweight must not share memory with dy, it does"):
            _native.embedding_backward(dy, ids, dweight)
