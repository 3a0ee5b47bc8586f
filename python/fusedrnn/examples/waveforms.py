"""Tell four waveforms apart under noise with two Elman layers.

Sine, square, triangle and sawtooth waves of random period, phase and size, with noise on top, made here. The
network sees one value per step and says at the end which wave it was.

    RNN(64) -> RNN(32), last step -> Linear -> softmax, cross-entropy, Adam
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn.examples import _shared
from fusedrnn.examples._shared import Array

NAMES = ("sine", "square", "triangle", "sawtooth")
STEPS = 48
NOISE = 0.1
BATCH = 32
LEARNING_RATE = 2e-3
CLIP_NORM = 1.0
EPOCHS = 30
TRAIN_WAVES = 2000
TEST_WAVES = 500


@dataclass(frozen=True)
class Result:
    """A trained classifier's course and its test.

    Attributes:
        losses: cross-entropy of each epoch.
        accuracies: on the test waves after each epoch.
        confusion: (4, 4) counts, true by predicted.
        waves: some test waves (STEPS, n).
        wanted: their classes.
        predicted: the classes the network says.
    """

    losses: list[float]
    accuracies: list[float]
    confusion: NDArray[np.int64]
    waves: Array
    wanted: NDArray[np.int64]
    predicted: NDArray[np.int64]


def make_waves(count: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """Waves (STEPS, count, 1), float32, and their classes (count,)."""
    classes = rng.integers(len(NAMES), size=count)
    period = rng.uniform(12, 24, count)
    phase = (np.arange(STEPS)[:, None] / period + rng.random(count)) % 1  # in turns
    shapes = np.stack(
        [
            np.sin(2 * np.pi * phase),
            np.where(phase < 0.5, 1.0, -1.0),
            1 - 4 * np.abs(phase - 0.5),
            2 * phase - 1,
        ]
    )
    waves = shapes[classes, :, np.arange(count)].T * rng.uniform(0.7, 1.3, count)
    waves += NOISE * rng.standard_normal(waves.shape)
    return np.ascontiguousarray(waves[:, :, None], np.float32), classes


def train(
    epochs: int = EPOCHS, seed: int = 0, show: bool = False, place: _shared.Place = _shared.CPU
) -> Result:
    """Trains, testing after every epoch on waves of its own."""
    rng = np.random.default_rng(seed)
    waves, classes = make_waves(TRAIN_WAVES, rng)
    test_waves, test_classes = make_waves(TEST_WAVES, rng)
    model = fr.nn.Sequential(
        fr.nn.RNN(1, 64, **place.recurrent, seed=rng),
        fr.nn.RNN(64, 32, **place.recurrent, seed=rng),
        fr.nn.Last(),
        fr.nn.Linear(32, len(NAMES), **place.linear, seed=rng),
    )
    optimizer = fr.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses: list[float] = []
    accuracies: list[float] = []
    predicted = np.zeros(TEST_WAVES, np.int64)
    bar = _shared.progress(epochs, show)
    for _ in bar:
        model.train()
        batch_losses = []
        for rows in _shared.batches(TRAIN_WAVES, BATCH, rng):
            x = fr.asarray(np.ascontiguousarray(waves[:, rows]), place.device)
            wanted = fr.asarray(classes[rows], place.device)
            loss, _ = model.train_step(x, wanted, fr.losses.cross_entropy, optimizer, CLIP_NORM)
            batch_losses.append((loss, len(rows)))
        losses.append(_shared.mean(batch_losses))
        model.eval()
        scores = model(fr.asarray(test_waves, place.device))
        predicted = np.argmax(fr.asarray(scores, "cpu"), axis=-1)
        accuracies.append(_shared.accuracy(predicted, test_classes))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", test=f"{accuracies[-1]:.1%}")
    confusion = np.zeros((len(NAMES), len(NAMES)), np.int64)
    np.add.at(confusion, (test_classes, predicted), 1)
    return Result(losses, accuracies, confusion, test_waves[:, :, 0], test_classes, predicted)


def plot(result: Result, path: Path) -> None:
    """The course of training, the confusions, and a wave of each kind."""
    figure, axes = _shared.figure(11, 6, rows=2, columns=4)
    for axis in axes[0, 2:]:
        axis.remove()
    grid = axes[0, 2].get_gridspec()
    table = figure.add_subplot(grid[0, 2:])
    _shared.curve(axes[0, 0], result.losses, "training")
    axes[0, 0].set_ylabel("cross-entropy")
    _shared.curve(axes[0, 1], result.accuracies, "test")
    axes[0, 1].set_ylabel("test accuracy")
    table.imshow(result.confusion, cmap="Blues")
    for (row, column), count in np.ndenumerate(result.confusion):
        shade = "white" if count > result.confusion.max() / 2 else "black"
        table.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)
    table.set_xticks(range(len(NAMES)), NAMES, fontsize=8)
    table.set_yticks(range(len(NAMES)), NAMES, fontsize=8)
    table.set_xlabel("said")
    table.set_ylabel("true")
    for kind, axis in enumerate(axes[1]):
        index = int(np.flatnonzero(result.wanted == kind)[0])
        axis.plot(result.waves[:, index], marker=".", linewidth=0.8)
        axis.set_title(f"{NAMES[kind]}; said {NAMES[result.predicted[index]]}", fontsize=9)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _shared.parser(__doc__ or "", epochs=EPOCHS).parse_args(arguments)
    result = train(options.epochs, options.seed, show=True, place=_shared.place(options))
    path = options.plot or Path("waveforms.png")
    plot(result, path)
    print(f"waves told right: {result.accuracies[-1]:.1%} of {len(result.wanted)} (guessing: 25%)")
    print(f"picture: {path}")


if __name__ == "__main__":
    _shared.run(main)
