"""Tell which module of Python's library a line of source is from, with an LSTM over its characters.

Five modules that every Python carries; a fifth of their lines is held out. Lines differ in length, so the
model is given their lengths and reads the state at each line's own last character.

    one-hot characters -> LSTM(96), last step -> Linear, cross-entropy, Adam

Trained three times from equal weights: without clipping, with the gradient clipped by its global norm, and
with each of its values clipped. The picture shows what clipping does to the gradient norm.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn.examples import _shared
from fusedrnn.examples._shared import Array

MODULES = ("_pydecimal", "argparse", "tarfile", "mailbox", "typing")
LINES = 700  # of each module
SHORTEST, LONGEST = 20, 64  # characters of a line
HELD_OUT = 0.2
SYMBOLS = 96  # printable ASCII, and one for everything else
HIDDEN = 96
BATCH = 32
LEARNING_RATE = 4e-3
MAX_NORM = 1.0
MAX_VALUE = 0.01
EPOCHS = 12
WAYS = ("no clipping", f"norm at most {MAX_NORM:g}", f"values within {MAX_VALUE:g}")


@dataclass(frozen=True)
class Lines:
    """Lines of source: one-hot characters (LONGEST, N, SYMBOLS), lengths (N,), modules (N,) by number."""

    x: Array
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]

    def rows(self, index: NDArray[np.int64] | slice) -> Lines:
        """Some of them, no longer than the longest among them."""
        lengths = self.lengths[index]
        x = np.ascontiguousarray(self.x[: lengths.max(), index])
        return Lines(x, lengths, self.labels[index])

    def on(self, device: str) -> Lines:
        """All of them on a device."""
        return Lines(*(fr.asarray(a, device) for a in (self.x, self.lengths, self.labels)))


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        losses: cross-entropy of each epoch.
        accuracy: on the held-out lines.
        norms: global gradient norm of every update before clipping.
        clipped_norms: the same after it.
    """

    losses: list[float]
    accuracy: float
    norms: list[float]
    clipped_norms: list[float]


def read_lines(rng: np.random.Generator) -> tuple[Lines, Lines]:
    """Lines to train on, and held-out ones, in random order; no line occurs twice."""
    texts: dict[str, int] = {}
    for label, name in enumerate(MODULES):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        lines = sorted({line.strip() for line in Path(spec.origin).read_text("utf-8").splitlines()})
        fitting = [line for line in lines if SHORTEST <= len(line) <= LONGEST and line not in texts]
        chosen = rng.permutation(len(fitting))[:LINES]
        texts.update({fitting[i]: label for i in chosen})
    order = rng.permutation(len(texts))
    lines = list(texts)
    x = np.zeros((LONGEST, len(lines), SYMBOLS), np.float32)
    for row, place in enumerate(order):
        codes = np.array([ord(c) - 32 if " " <= c <= "~" else SYMBOLS - 1 for c in lines[place]])
        x[np.arange(len(codes)), row, codes] = 1
    lengths = np.array([len(lines[place]) for place in order])
    everything = Lines(x, lengths, np.array([texts[lines[place]] for place in order]))
    cut = int(len(order) * (1 - HELD_OUT))
    return everything.rows(slice(0, cut)), everything.rows(slice(cut, None))


class Classifier(fr.nn.Module):
    """LSTM, its state at each line's end, and a score for each module."""

    def __init__(self, seed: int, place: _shared.Place) -> None:
        rng = np.random.default_rng(seed)
        self.lstm = fr.nn.LSTM(SYMBOLS, HIDDEN, **place.recurrent, seed=rng)
        self.last = fr.nn.Last()
        self.head = fr.nn.Linear(HIDDEN, len(MODULES), **place.linear, seed=rng)

    def forward(self, lines: Lines) -> Array:
        """Scores (N, modules)."""
        y, _ = self.lstm(lines.x, lengths=lines.lengths)
        scores: Array = self.head(self.last(y, lines.lengths))
        return scores

    def backward(self, dscores: Array) -> None:
        """Adds the gradients of all weights."""
        dlast = self.head.backward(dscores)
        assert dlast is not None
        self.lstm.backward(self.last.backward(dlast), need_dx=False)


def train(
    way: str, epochs: int = EPOCHS, seed: int = 0, show: bool = False, place: _shared.Place = _shared.CPU
) -> Result:
    """Trains with one of the `WAYS` of clipping."""
    rng = np.random.default_rng(seed)
    lines, held_out = read_lines(rng)
    model = Classifier(seed, place)
    parameters = list(model.parameters())
    optimizer = fr.optim.Adam(parameters, lr=LEARNING_RATE)
    losses: list[float] = []
    norms: list[Any] = []  # on a device: the host waits for them at the end only
    clipped_norms: list[Any] = []
    bar = _shared.progress(epochs, show)
    bar.set_description(f"{way:<18}")
    for _ in bar:
        batch_losses = []
        for rows in _shared.batches(len(lines.labels), BATCH, rng):
            batch = lines.rows(rows).on(place.device)
            loss, dscores = fr.losses.cross_entropy(model(batch), batch.labels)
            model.zero_grad()
            model.backward(dscores)
            norms.append(fr.functional.global_norm([p.grad for p in parameters]))
            if way == WAYS[1]:
                fr.optim.clip_grad_norm_(parameters, MAX_NORM)
            elif way == WAYS[2]:
                fr.optim.clip_grad_value_(parameters, MAX_VALUE)
            clipped_norms.append(fr.functional.global_norm([p.grad for p in parameters]))
            optimizer.step()
            batch_losses.append((loss, len(rows)))
        losses.append(_shared.mean(batch_losses))
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    model.eval()
    scores = fr.asarray(model(held_out.on(place.device)), "cpu")
    accuracy = _shared.accuracy(np.argmax(scores, axis=-1), held_out.labels)
    return Result(losses, accuracy, [float(n) for n in norms], [float(n) for n in clipped_norms])


def plot(results: dict[str, Result], path: Path) -> None:
    """Losses, and each way's gradient norms before and after clipping."""
    figure, axes = _shared.figure(13, 3.6, columns=4)
    for way, result in results.items():
        _shared.curve(axes[0], result.losses, f"{way}: {result.accuracy:.0%} right")
    axes[0].set_ylabel("cross-entropy")
    axes[0].legend(fontsize=8)
    for axis, (way, result) in zip(axes[1:], results.items(), strict=True):
        axis.plot(result.norms, color="tab:gray", linewidth=0.6, label="before")
        axis.plot(result.clipped_norms, color="tab:blue", linewidth=0.6, label="after")
        axis.set_yscale("log")
        axis.set_title(way, fontsize=10)
        axis.set_xlabel("update")
        axis.sharey(axes[1])
        axis.grid(alpha=0.3)
    axes[1].set_ylabel("gradient norm")
    axes[3].legend(fontsize=8)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _shared.parser(__doc__ or "", epochs=EPOCHS).parse_args(arguments)
    results = {
        way: train(way, options.epochs, options.seed, show=True, place=_shared.place(options)) for way in WAYS
    }
    path = options.plot or Path("authorship.png")
    plot(results, path)
    for way, result in results.items():
        largest = (
            f"largest gradient norm {max(result.norms):.1f}, after clipping {max(result.clipped_norms):.1f}"
        )
        print(f"{way:<20} held-out lines right: {result.accuracy:.1%} (guessing: 20%); {largest}")
    print(f"picture: {path}")


if __name__ == "__main__":
    _shared.run(main)
