"""Pictures of what training measured. They need matplotlib: ``pip install matplotlib``.

Nothing here shows a picture or touches matplotlib's global state: functions draw on axes and return them, and
``axes.figure.savefig("name.png")`` writes a file.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fusedrnn.nn.module import Module

__all__ = ["gradient_flow"]
_LINES = {"h": "-", "c": "--"}


def gradient_flow(source: Module | Mapping[str, Any] | Sequence[Any], axes: Any = None) -> Any:
    """The norms of a gradient over time, on a logarithmic axis: where it vanishes, and where it explodes.

    A line for each layer, direction and state: h drawn through, c dashed. What is exactly zero is left out.

    Args:
        source: a recurrent module or `Sequential` after a backward or train_step with ``flow=True``, or a
            layer of `fusedrnn.torch` with ``collect_flow`` after a backward; or its `flow`: a dict of "h"
            (and "c"), each (L, D, T), or a list of these. None in a list counts as one layer without lines.
        axes: matplotlib's, to draw on; None makes a figure of its own.

    Returns:
        The axes.

    Raises:
        TypeError: source is none of those; ValueError: nothing was measured; ModuleNotFoundError: there is no
            matplotlib.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> rnn = fr.nn.RNN(3, 8, seed=0)
        >>> y, _ = rnn(np.ones((40, 2, 3), np.float32))
        >>> dy = np.zeros_like(y)
        >>> dy[-1] = 1  # a loss of the last step alone
        >>> dx, _ = rnn.backward(dy, flow=True)
        >>> axes = fr.plot.gradient_flow(rnn)
        >>> axes.figure.savefig("flow.png")
    """
    if axes is not None and not (hasattr(axes, "plot") and hasattr(axes, "set_yscale")):
        raise TypeError(f"axes must be matplotlib's or None, they are of type {type(axes).__name__}")
    flows = list(_measured(source))
    if not any(flows):
        raise ValueError("source has no gradient flow: call backward or train_step with flow=True first")
    if axes is None:
        axes = importlib.import_module("matplotlib.figure").Figure(layout="constrained").subplots()
    depth = lines = 0
    for flow in flows:
        if flow is None:
            depth += 1
            continue
        layers, directions, _ = np.shape(flow["h"])
        for layer, direction in np.ndindex(layers, directions):
            for state, norms in flow.items():
                line = np.asarray(norms)[layer, direction]
                label = f"{state}, layer {depth + layer}" + (", reverse" if direction else "")
                drawn = np.where(line > 0, line, np.nan)
                axes.plot(drawn, _LINES[state], color=f"C{lines % 10}", linewidth=1.2, label=label)
            lines += 1
        depth += layers
    axes.set_yscale("log")
    axes.set_xlabel("time step")
    axes.set_ylabel("norm of the gradient")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return axes


def _measured(source: Any) -> Iterator[Mapping[str, Any] | None]:
    """What `gradient_flow` is given as dicts, layers in order; None of one where nothing was measured."""
    if isinstance(source, Module) or hasattr(source, "flow"):
        source = getattr(source, "flow", None)
    if source is None or (isinstance(source, Mapping) and "h" in source):
        yield source
    elif isinstance(source, (list, tuple)):
        for part in source:
            yield from _measured(part)
    else:
        raise TypeError(f"source must be a module, its flow, or a list of these, it is {type(source)}")
