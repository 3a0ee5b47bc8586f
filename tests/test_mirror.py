"""The reference mirrors the kernels' functions name by name, and needs none of them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest

from fusedrnn import functional, nn, reference
from fusedrnn._core import cells as native
from fusedrnn.io import description
from fusedrnn.reference import cells as mirror
from fusedrnn.reference import rounding


def test_the_same_names() -> None:
    assert set(reference.__all__) == set(functional.__all__)


def test_every_cell_with_the_same_facts() -> None:
    """A cell that csrc/cells/list.hpp has and the reference has not, or has otherwise, is named."""
    theirs = {c.name: (c.family, c.weights, len(c.tape), c.cell_state) for c in native.CELLS.values()}
    ours = {n: (c.family, c.weights, c.tape_blocks, c.has_carry) for n, c in mirror.CELLS.items()}
    assert ours == theirs


def test_every_family_has_functions() -> None:
    families = {cell.family for cell in native.CELLS.values()}
    for functions in (functional, reference):
        assert {n.removesuffix("_forward") for n in functions.__all__ if n.endswith("_forward")} >= families


def test_every_family_has_a_module() -> None:
    """That the command and `fr.io` find by the name of the family."""
    families = {cell.family for cell in native.CELLS.values()}
    assert nn.RECURRENT.keys() == families
    assert {kind.__name__ for kind in nn.RECURRENT.values()} <= set(nn.__all__) & description.KINDS.keys()


def test_the_same_precisions() -> None:
    assert native.PRECISIONS == rounding.PRECISIONS


@pytest.mark.parametrize("precision", native.PRECISIONS)
def test_the_kernels_have_the_precisions_that_the_list_says(precision: str) -> None:
    """csrc/backend/types.hpp says which; gemm/element.hpp has them."""
    weights = {"weight_ih_l0": np.ones((1, 2), np.float32), "weight_hh_l0": np.ones((1, 1), np.float32)}
    x = np.ones((3, 2), np.float32)
    if precision in native.PRECISIONS_OF["cpu"]:
        functional.pack_weights(weights, precision=precision)
        functional.linear_forward(x, x, precision=precision)
        if precision != "ieee":
            with pytest.raises(RuntimeError, match="a CPU computes float64 in ieee precision only"):
                functional.linear_forward(x.astype(float), x.astype(float), precision=precision)
    else:
        named = f"a CPU computes in {', '.join(native.PRECISIONS_OF['cpu'][:-1])} and bf16x6 precision only"
        for call in (
            lambda: functional.pack_weights(weights, precision=precision),
            lambda: functional.linear_forward(x, x, precision=precision),
            lambda: functional.linear_backward(x, x, np.ones((2, 2), np.float32), precision=precision),
        ):
            with pytest.raises(RuntimeError, match=named):
                call()


@pytest.mark.parametrize("name", sorted(functional.__all__))
def test_the_same_arguments(name: str) -> None:
    ours = dict(inspect.signature(getattr(functional, name)).parameters)
    theirs = dict(inspect.signature(getattr(reference, name)).parameters)
    extra = theirs.keys() - ours.keys()
    assert extra <= {"arithmetic"}, "arithmetic is the one argument that only the reference has"
    for parameter in extra:
        del theirs[parameter]
    assert list(theirs) == list(ours)
    for parameter, mine in ours.items():
        assert (theirs[parameter].kind, theirs[parameter].default) == (mine.kind, mine.default), parameter


def test_the_reference_needs_nothing_built() -> None:
    code = (
        "import sys; sys.modules['fusedrnn._native'] = None\n"
        "import numpy as np; from fusedrnn import reference\n"
        "w = {'weight_ih_l0': np.ones((1, 2)), 'weight_hh_l0': np.ones((1, 1))}\n"
        "print(reference.rnn_forward(np.zeros((2, 3, 2)), None, w)[0].shape)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "(2, 3, 1)", ran.stderr
