"""Read handwritten digits row by row with two Elman layers, and say whether they are odd.

The 1797 images of 8 x 8 pixels that scikit-learn carries; a quarter is held out. Each image is a sequence
of eight rows.

    RNN(64) -> RNN(32), last step -> Linear(1) -> sigmoid, binary cross-entropy, Adam
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fusedrnn as fr
from fusedrnn.examples import _shared
from fusedrnn.examples._shared import Array

HELD_OUT = 0.25
BATCH = 32
LEARNING_RATE = 2e-3
CLIP_NORM = 1.0
EPOCHS = 40
SHOWN = 16  # mistakes in the picture


@dataclass(frozen=True)
class Result:
    """A trained reader's course and its mistakes.

    Attributes:
        losses: binary cross-entropy of each epoch.
        norms: mean gradient norm of each epoch, before clipping.
        accuracies: on the held-out images after each epoch.
        mistakes: held-out images it gets wrong (n, 8, 8), surest first.
        chances: what it gives for odd on those (n,).
    """

    losses: list[float]
    norms: list[float]
    accuracies: list[float]
    mistakes: Array
    chances: Array


def load(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Images as sequences (8, N, 8) and whether they are odd (N, 1), float32: to train on, and held out."""
    data = _shared.need("sklearn.datasets").load_digits()
    order = rng.permutation(len(data.target))
    x = np.ascontiguousarray(data.images[order].transpose(1, 0, 2) / 16, np.float32)
    odd = (data.target[order, None] % 2).astype(np.float32)
    cut = int(len(order) * (1 - HELD_OUT))
    return np.ascontiguousarray(x[:, :cut]), odd[:cut], np.ascontiguousarray(x[:, cut:]), odd[cut:]


def train(
    epochs: int = EPOCHS, seed: int = 0, show: bool = False, place: _shared.Place = _shared.CPU
) -> Result:
    """Trains, testing on the held-out images after every epoch."""
    rng = np.random.default_rng(seed)
    x, odd, test_x, test_odd = load(rng)
    model = fr.nn.Sequential(
        fr.nn.RNN(8, 64, **place.recurrent, seed=rng),
        fr.nn.RNN(64, 32, **place.recurrent, seed=rng),
        fr.nn.Last(),
        fr.nn.Linear(32, 1, **place.linear, seed=rng),
    )
    optimizer = fr.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses: list[float] = []
    norms: list[float] = []
    accuracies: list[float] = []
    chances = np.zeros(len(test_odd))
    bar = _shared.progress(epochs, show)
    for _ in bar:
        model.train()
        batch_losses = []
        batch_norms = []
        for rows in _shared.batches(len(odd), BATCH, rng):
            images = fr.asarray(np.ascontiguousarray(x[:, rows]), place.device)
            wanted = fr.asarray(odd[rows], place.device)
            loss, norm = model.train_step(
                images, wanted, fr.losses.binary_cross_entropy, optimizer, CLIP_NORM
            )
            batch_losses.append((loss, len(rows)))
            batch_norms.append((norm, len(rows)))
        losses.append(_shared.mean(batch_losses))
        norms.append(_shared.mean(batch_norms))
        model.eval()
        logits = fr.asarray(model(fr.asarray(test_x, place.device)), "cpu")
        chances = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
        accuracies.append(_shared.accuracy(chances > 0.5, test_odd[:, 0] > 0.5))
        bar.set_postfix(loss=f"{losses[-1]:.4f}", held_out=f"{accuracies[-1]:.1%}")
    wrong = np.flatnonzero((chances > 0.5) != (test_odd[:, 0] > 0.5))
    surest = wrong[np.argsort(-np.abs(chances[wrong] - 0.5))]
    return Result(losses, norms, accuracies, test_x[:, surest].transpose(1, 0, 2), chances[surest])


def plot(result: Result, path: Path) -> None:
    """The course of training, and the worst mistakes."""
    figure, axes = _shared.figure(11, 4.2, rows=2, columns=2 + SHOWN // 2)
    for row in axes:
        for axis in row:
            axis.set_axis_off()
    grid = axes[0, 0].get_gridspec()
    course = figure.add_subplot(grid[:, :2])
    _shared.curve(course, result.losses, "training loss")
    _shared.curve(course, [1 - a for a in result.accuracies], "share wrong, held out")
    course.set_yscale("log")
    course.legend(fontsize=8)
    places = [axis for row in axes for axis in row[2:]]
    for axis, image, chance in zip(places, result.mistakes, result.chances, strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(f"odd? {chance:.0%}", fontsize=8)
    figure.suptitle(f"held out: {result.accuracies[-1]:.1%} right; mistakes, surest first", fontsize=10)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _shared.parser(__doc__ or "", epochs=EPOCHS).parse_args(arguments)
    result = train(options.epochs, options.seed, show=True, place=_shared.place(options))
    path = options.plot or Path("digits.png")
    plot(result, path)
    print(f"held-out digits told right: {result.accuracies[-1]:.1%} (guessing: 50%)")
    print(f"picture: {path}")


if __name__ == "__main__":
    _shared.run(main)
