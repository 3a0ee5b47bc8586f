"""Pictures of gradient flow."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from steps import data

import fusedrnn as fr

T, B, I, H = 6, 3, 4, 5


def lines(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def measured() -> fr.nn.Sequential:
    model = fr.nn.Sequential(
        fr.nn.LSTM(I, H, bidirectional=True, seed=0),
        fr.nn.Sequential(fr.nn.GRU(2 * H, H, num_layers=2, seed=1)),
    )
    model.backward(model(data(T, B, I)), flow=True)
    return model


def test_a_line_for_each_layer_direction_and_state() -> None:
    model = measured()
    drawn = lines(fr.plot.gradient_flow(model))
    assert list(drawn) == [
        "h, layer 0", "c, layer 0", "h, layer 0, reverse", "c, layer 0, reverse", "h, layer 1", "h, layer 2",
    ]  # fmt: skip
    np.testing.assert_array_equal(drawn["c, layer 0, reverse"].get_ydata(), model.flow[0]["c"][0, 1])
    np.testing.assert_array_equal(drawn["h, layer 2"].get_ydata(), model.flow[1][0]["h"][1, 0])
    assert drawn["c, layer 0"].get_linestyle() == "--"
    assert drawn["c, layer 0"].get_color() == drawn["h, layer 0"].get_color()
    assert len({drawn[name].get_color() for name in drawn if name.startswith("h")}) == 4


def test_modules_dicts_and_lists_and_axes_of_the_callers() -> None:
    model = measured()
    axes = fr.plot.gradient_flow(model.flow)
    assert axes.get_yscale() == "log"
    assert len(lines(axes)) == 6
    own = fr.plot.gradient_flow(model[0].flow, axes=axes.figure.add_subplot())
    assert own.figure is axes.figure
    assert len(lines(own)) == len(lines(fr.plot.gradient_flow(model[0]))) == 4


def test_zeros_are_left_out() -> None:
    axes = fr.plot.gradient_flow({"h": np.array([[[0.0, 1e-300, 2.0]]])})
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [np.nan, 1e-300, 2.0])


def test_errors() -> None:
    with pytest.raises(ValueError, match="no gradient flow: call backward or train_step with flow=True"):
        fr.plot.gradient_flow(fr.nn.LSTM(I, H))
    with pytest.raises(ValueError, match="no gradient flow"):
        fr.plot.gradient_flow(fr.nn.Linear(I, H))
    with pytest.raises(TypeError, match="source must be a module, its flow, or a list of these"):
        fr.plot.gradient_flow(3)  # type: ignore[arg-type]


def test_matplotlib_is_loaded_when_something_is_drawn() -> None:
    code = "import sys, fusedrnn as fr; fr.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
