"""The GRU kernels against the reference, under the tolerance rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from sequences import Stack, check, check_again, stacks

pytestmark = pytest.mark.parity
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@settings(max_examples=60)
@given(stack=stacks("gru"))
def test_gru(dtype: Any, precision: str, stack: Stack) -> None:
    check(stack, dtype, precision)


@pytest.mark.parametrize(
    "stack",
    [
        Stack("gru", T=40, B=3, I=5, H=7, dy=False, spread=0.3),  # gradients 40 steps back, from states alone
        Stack("gru", T=9, B=33, I=12, H=65, directions=2, lengths=True, resets=True),
        Stack("gru", T=3, B=2, I=130, H=129, bias=False),  # sums longer than any vector
        Stack("gru", T=2, B=5, I=300, H=5, layers=2),  # sums of more than one chunk
        Stack("gru", T=2, B=600, I=3, H=5),  # weight gradients over more rows than a chunk, in one step
        Stack("gru", T=6, B=3, I=4, H=9, layers=2, directions=2, dhn=False, dcn=False),  # through y alone
        Stack("gru", T=6, B=3, I=4, H=9, layers=2, directions=2, dy=False, dcn=False),  # through h alone
    ],
)
def test_gru_of_chosen_sizes(dtype: Any, precision: str, stack: Stack) -> None:
    check(stack, dtype, precision)


@DTYPES
@settings(max_examples=30)
@given(stack=stacks("gru"))
def test_gru_again(dtype: Any, stack: Stack) -> None:
    check_again(stack, dtype)
