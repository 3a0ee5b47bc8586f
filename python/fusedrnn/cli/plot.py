"""training.png: loss and gradient norm over the updates, and how a gradient flowed through time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.files import write_atomically
from fusedrnn.cli.errors import CommandError, file_errors, need
from fusedrnn.cli.metrics import Row
from fusedrnn.plot import gradient_flow

FILE_NAME = "training.png"
MAX_POINTS = 2000  # per curve: more cannot be told apart in the picture


def smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Running mean over the last `width` values, fewer at the start, of which only finite ones count."""
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = (total[end] - total[start]) / (count[end] - count[start])
    return mean


def plot_training(
    path: Path, rows: Sequence[Row], title: str, clip_norm: float, flow: Sequence[Any] | None = None
) -> str | None:
    """Draws the curves of a run, with `flow` the model's gradient flow; returns why that was not possible.

    Raises:
        CommandError: matplotlib is missing, or the file cannot be written.
    """
    try:
        with warnings.catch_warnings():  # about letters its font has not
            warnings.simplefilter("ignore")
            picture = _drawn(rows, title, clip_norm, flow)
    except (CommandError, MemoryError):
        raise
    except Exception as error:  # a picture is no reason to end a run: settings and fonts are the user's own
        return f"cannot draw {path}: {error}"
    with file_errors(f"cannot write {path}"):
        write_atomically(path, lambda file: file.write(picture))
    return None


def _drawn(rows: Sequence[Row], title: str, clip_norm: float, flow: Sequence[Any] | None) -> bytes:
    figure_module = need("matplotlib.figure")
    figure = figure_module.Figure(figsize=(9, 9 if flow else 6.5), layout="constrained", dpi=120)
    heights = (3, 2, 2) if flow else (3, 2)
    loss_axes, norm_axes, *flow_axes = figure.subplots(len(heights), 1, height_ratios=heights)
    norm_axes.sharex(loss_axes)
    figure.suptitle(title, fontsize=11, parse_math=False)  # a file's name may have a $

    steps = np.array([row.step for row in rows], np.float64)
    width = max(1, len(rows) // 100)
    loss = np.array([row.bits_per_char for row in rows], np.float64)
    _curve(loss_axes, steps, loss, width, "tab:blue", "training")
    held = [row for row in rows if row.validation_bits_per_char is not None]
    held_bits = [row.validation_bits_per_char for row in held]
    loss_axes.plot([row.step for row in held], held_bits, "o-", color="tab:orange", ms=4, label="held out")
    loss_axes.set_ylabel("bits per character")
    loss_axes.legend()

    norm = np.array([row.grad_norm for row in rows], np.float64)
    _curve(norm_axes, steps, norm, width, "tab:green", "gradient norm")
    if clip_norm:
        norm_axes.axhline(clip_norm, color="tab:red", linestyle="--", linewidth=1, label="clipped above")
    norm_axes.set_yscale("log")
    norm_axes.set_ylabel("gradient norm")
    norm_axes.set_xlabel("updates")
    norm_axes.legend()
    for axes in (loss_axes, norm_axes):
        axes.grid(alpha=0.3)
    if flow:
        gradient_flow(flow, flow_axes[0]).set_title("last measured update: gradient by time step", fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _curve(
    axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], width: int, color: str, label: str
) -> None:
    """Single values, pale, with their running mean over them."""
    every = max(1, len(x) // MAX_POINTS)
    axes.plot(x[::every], y[::every], color=color, alpha=0.25, linewidth=0.8)
    axes.plot(x[::every], smooth(y, width)[::every], color=color, linewidth=1.5, label=label)
