"""The reference mirrors the kernels' functions name by name, and needs none of them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from fusedrnn import functional, reference


def test_the_same_names() -> None:
    assert set(reference.__all__) == set(functional.__all__)


@pytest.mark.parametrize("name", sorted(functional.__all__))
def test_the_same_arguments(name: str) -> None:
    ours = dict(inspect.signature(getattr(functional, name)).parameters)
    mirror = dict(inspect.signature(getattr(reference, name)).parameters)
    extra = mirror.keys() - ours.keys()
    assert extra <= {"arithmetic"}, "arithmetic is the one argument that only the reference has"
    for parameter in extra:
        del mirror[parameter]
    assert list(mirror) == list(ours)
    for parameter, mine in ours.items():
        assert (mirror[parameter].kind, mirror[parameter].default) == (mine.kind, mine.default), parameter


def test_the_reference_needs_nothing_built() -> None:
    code = (
        "import sys; sys.modules['fusedrnn._native'] = None\n"
        "import numpy as np; from fusedrnn import reference\n"
        "w = {'weight_ih_l0': np.ones((1, 2)), 'weight_hh_l0': np.ones((1, 1))}\n"
        "print(reference.rnn_forward(np.zeros((2, 3, 2)), None, w)[0].shape)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "(2, 3, 1)", ran.stderr
