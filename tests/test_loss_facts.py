"""The list of losses, csrc/losses/list.hpp, is what Python's functions and classes say, too."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from fusedrnn import functional, losses, reference
from fusedrnn.functional.losses import LOSSES, LossSpec

ALWAYS = {"ignore_index", "reduction"}
CLASSES = {
    part._function: part
    for part in (getattr(losses, name) for name in losses.__all__)
    if isinstance(part, type) and part is not losses.Loss
}


def own(name: str) -> set[str]:
    """What the list calls the options of a loss."""
    return {option for option in LOSSES[name] if option is not None}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("module", [functional, reference, losses], ids=lambda m: m.__name__)
def test_functions_take_the_options_of_the_list(name: str, module: Any) -> None:
    taken = set(inspect.signature(getattr(module, name)).parameters)
    assert taken == {"pred", "target", "mask", *ALWAYS, *own(name)}
    assert name in module.__all__


@pytest.mark.parametrize("name", LOSSES)
def test_classes_take_the_options_of_the_list(name: str) -> None:
    assert set(inspect.signature(CLASSES[name].__init__).parameters) == {"self", *ALWAYS, *own(name)}


def test_there_is_no_class_without_a_loss() -> None:
    assert CLASSES.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_specs_take_the_options_of_the_list_alone(name: str) -> None:
    given = {"weight": np.array([1.0, 2.0]), "threshold": 2.0, "label_smoothing": 0.5}
    for (option, value), has in zip(given.items(), LOSSES[name], strict=True):
        if has is None:
            with pytest.raises(ValueError, match=rf"{option} must be (None|0) with '{name}'"):
                LossSpec(name, **{option: value})
        else:
            assert has in repr(LossSpec(name, **{option: value}))
