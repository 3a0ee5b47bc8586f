"""Forecast sunspots with two LSTM layers.

The yearly sunspot record, 1700 to 2008, that statsmodels carries. From the numbers of ten years the network
predicts the next one; the last fifth of the record is held out.

    LSTM(50, all steps) -> LSTM(50, last step) -> Linear(1), mean squared error, Adam, batches of 10

The score to beat is "next year will be as this year". The picture shows the held-out years, and a forecast
that feeds on its own predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fusedrnn as fr
from fusedrnn.examples import _shared
from fusedrnn.examples._shared import Array

LENGTH = 10  # years the network sees
HIDDEN = 50
BATCH = 10
LEARNING_RATE = 0.01
NOT_CLIPPED = float("inf")  # a norm that is measured, and changes no bit
EPOCHS = 100
HELD_OUT = 0.2
FREE_YEARS = 22  # two solar cycles of forecast without data


@dataclass(frozen=True)
class Result:
    """A trained forecaster and how well it does.

    Attributes:
        losses: mean squared error of each epoch, on the scaled series.
        norms: mean gradient norm of each epoch.
        error: root mean squared error of the held-out years, in sunspots, from ten true years each.
        naive_error: the same for "as this year".
        years: the held-out years.
        true: their sunspot numbers.
        predicted: their forecasts.
        free: forecast of the years that follow the first held-out year, from its own predictions.
    """

    losses: list[float]
    norms: list[float]
    error: float
    naive_error: float
    years: Array
    true: Array
    predicted: Array
    free: Array


def sunspots() -> tuple[Array, Array]:
    """Years and their mean sunspot numbers, float32."""
    table = _shared.need("statsmodels.datasets.sunspots").load_pandas().data
    return table["YEAR"].to_numpy(np.int64), table["SUNACTIVITY"].to_numpy(np.float32)


def windows(series: Array) -> tuple[Array, Array]:
    """Every stretch of ten values (10, N, 1), and the value after each (N, 1)."""
    stretches = np.lib.stride_tricks.sliding_window_view(series, LENGTH)[:-1]
    return np.ascontiguousarray(stretches.T)[:, :, None], series[LENGTH:, None].copy()


def train(
    epochs: int = EPOCHS, seed: int = 0, show: bool = False, place: _shared.Place = _shared.CPU
) -> Result:
    """Trains on the first four fifths of the record and forecasts the rest."""
    years, series = sunspots()
    cut = int(len(series) * (1 - HELD_OUT))
    scale = series[:cut].max()
    inputs, targets = windows(series[:cut] / scale)

    rng = np.random.default_rng(seed)
    model = fr.nn.Sequential(
        fr.nn.LSTM(1, HIDDEN, **place.recurrent, seed=rng),
        fr.nn.LSTM(HIDDEN, HIDDEN, **place.recurrent, seed=rng),
        fr.nn.Last(),
        fr.nn.Linear(HIDDEN, 1, **place.linear, seed=rng),
    )
    optimizer = fr.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses, norms = [], []
    bar = _shared.progress(epochs, show)
    for _ in bar:
        batch_losses, batch_norms = [], []
        for rows in _shared.batches(len(targets), BATCH, rng):
            x = fr.asarray(np.ascontiguousarray(inputs[:, rows]), place.device)
            target = fr.asarray(targets[rows], place.device)
            loss, norm = model.train_step(x, target, fr.losses.mse, optimizer, NOT_CLIPPED)
            batch_losses.append((loss, len(rows)))
            batch_norms.append((norm, len(rows)))
        losses.append(_shared.mean(batch_losses))
        norms.append(_shared.mean(batch_norms))
        bar.set_postfix(loss=f"{losses[-1]:.5f}")

    model.eval()
    tail_inputs, tail_targets = windows(series[cut - LENGTH :] / scale)
    predicted = _predicted(model, tail_inputs, place.device)[:, 0] * scale
    true = tail_targets[:, 0] * scale
    naive = tail_inputs[-1, :, 0] * scale
    return Result(
        losses=losses,
        norms=norms,
        error=_rmse(predicted, true),
        naive_error=_rmse(naive, true),
        years=years[cut:],
        true=true,
        predicted=predicted,
        free=_free_run(model, tail_inputs[:, :1], FREE_YEARS, place.device) * scale,
    )


def _predicted(model: fr.nn.Module, x: Array, device: str) -> Array:
    y: Array = fr.asarray(model(fr.asarray(x, device)), "cpu")
    return y


def _free_run(model: fr.nn.Module, start: Array, steps: int, device: str) -> Array:
    """Predicts `steps` values, each from the ten before it, predicted ones included; start is (10, 1, 1)."""
    seen = start
    for _ in range(steps):
        seen = np.concatenate([seen, _predicted(model, np.ascontiguousarray(seen[-LENGTH:]), device)[None]])
    return seen[LENGTH:, 0, 0]


def _rmse(predicted: Array, true: Array) -> float:
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def plot(result: Result, path: Path) -> None:
    """Training loss, and the forecast against the record."""
    figure, (left, right) = _shared.figure(11, 4, columns=2)
    _shared.curve(left, result.losses, "training")
    left.set_yscale("log")
    left.set_ylabel("mean squared error")
    right.plot(result.years, result.true, color="black", label="observed")
    right.plot(result.years, result.predicted, color="tab:blue", label="forecast, one year ahead")
    free_years = result.years[: len(result.free)]
    right.plot(free_years, result.free, color="tab:orange", linestyle="--", label="forecast, on its own")
    right.set_ylabel("sunspot number")
    right.set_title(
        f"held out: error {result.error:.1f}, 'as this year' {result.naive_error:.1f}", fontsize=10
    )
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _shared.parser(__doc__ or "", epochs=EPOCHS).parse_args(arguments)
    result = train(options.epochs, options.seed, show=True, place=_shared.place(options))
    path = options.plot or Path("forecast.png")
    plot(result, path)
    print(f"error of the held-out years, in sunspots: {result.error:.1f}")
    print(f"error of 'as this year':                  {result.naive_error:.1f}")
    print(f"picture: {path}")


if __name__ == "__main__":
    _shared.run(main)
