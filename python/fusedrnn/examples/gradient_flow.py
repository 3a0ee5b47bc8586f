"""Where gradients vanish: four networks that are to remember the first symbol of a sequence.

Each sequence starts with one of four keys and goes on with noise; the loss, at the last step alone, asks for
the key. To learn it, a network needs the gradient of that loss back at the first step. `flow=True` has
backward measure how much of it is left at each step, before and after training:

    an Elman network        the gradient shrinks by a factor a step, and is gone
    the same, orthogonal R  keeps lengths as long as tanh is near its middle (Saxe et al. 2014)
    an LSTM                 c keeps a fraction f, the forget gate, which starts near 1/2
    the same, forget bias 1 f starts near 0.73 (Gers et al. 2000; Jozefowicz et al. 2015)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn.examples import _shared
from fusedrnn.examples._shared import Array

KEYS = 4
NOISE = 4  # symbols beside the keys
LENGTH = 40
BATCH = 64
HIDDEN = 48
LEARNING_RATE = 0.003
UPDATES = 400
NETWORKS = ("Elman", "Elman, orthogonal", "LSTM", "LSTM, forget bias 1")
Flow = dict[str, Array]


@dataclass(frozen=True)
class Result:
    """What came out of one network.

    Attributes:
        losses: cross-entropy before each update.
        recalled: share of keys that are right in fresh sequences after training (guessing: 1 / KEYS).
        before, after: the gradient flow of the first update, and of one after training.
    """

    losses: list[float]
    recalled: float
    before: Flow
    after: Flow


def make_network(name: str, seed: int) -> fr.nn.Sequential:
    """One of NETWORKS, with a readout of the last step."""
    symbols = KEYS + NOISE
    recurrent: fr.nn.Module
    if name.startswith("Elman"):
        recurrent = fr.nn.RNN(
            symbols, HIDDEN, init="orthogonal" if name.endswith("orthogonal") else "torch", seed=seed
        )
    else:
        recurrent = fr.nn.LSTM(
            symbols, HIDDEN, forget_bias=1.0 if name.endswith("forget bias 1") else None, seed=seed
        )
    return fr.nn.Sequential(recurrent, fr.nn.Last(), fr.nn.Linear(HIDDEN, KEYS, seed=seed + 1))


def make_batch(rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """Sequences, one-hot (LENGTH, BATCH, symbols), and their keys (BATCH,)."""
    ids = rng.integers(KEYS, KEYS + NOISE, (LENGTH, BATCH))
    ids[0] = rng.integers(0, KEYS, BATCH)
    return np.eye(KEYS + NOISE, dtype=np.float32)[ids], ids[0]


def train(name: str, updates: int = UPDATES, seed: int = 0, show: bool = False) -> Result:
    """Trains one of NETWORKS, measuring the flow of the first update and of one more after the last."""
    rng = np.random.default_rng(seed)
    model = make_network(name, seed)
    optimizer = fr.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses: list[float] = []
    flows: list[Flow] = []
    bar = _shared.progress(updates, show)
    bar.unit = "update"
    bar.set_description(name)
    for update in bar:
        x, keys = make_batch(rng)
        loss, _ = model.train_step(x, keys, "cross_entropy", optimizer, clip_norm=1.0, flow=update == 0)
        losses.append(loss)
        if update == 0:
            flows += model.flow
    x, keys = make_batch(rng)
    scores = model(x)
    _, dscores = fr.losses.cross_entropy(scores, keys)
    model.backward(dscores, flow=True)
    flows += model.flow
    return Result(losses, _shared.accuracy(np.argmax(scores, axis=-1), keys), *flows)


def plot(results: dict[str, Result], path: Path) -> None:
    """The flow of each network, before training above and after it below, all on one scale."""
    figure, axes = _shared.figure(4 * len(results), 6.5, rows=2, columns=len(results))
    for column, (name, result) in enumerate(results.items()):
        for row, (flow, when) in enumerate(((result.before, "before"), (result.after, "after"))):
            panel: Any = axes[row, column]
            fr.plot.gradient_flow(flow, panel)
            panel.set_title(f"{name}: {when} training", fontsize=10)
            panel.set_ylim(1e-12, 1e2)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = _shared.parser(
        __doc__ or "", epochs=UPDATES, what="updates, each on new sequences", precision=False
    )
    options = parser.parse_args(arguments)
    if _shared.device(options.device) != "cpu":
        raise _shared.DeviceError("gradient flow is not on CUDA yet")
    results = {name: train(name, options.epochs, options.seed, show=True) for name in NETWORKS}
    path = options.plot or Path("gradient_flow.png")
    plot(results, path)
    print(f"gradient at the first step, as a share of that at the last, over {LENGTH} steps:")
    for name, result in results.items():
        before, after = (flow["h"][0, 0, 0] / flow["h"][0, 0, -1] for flow in (result.before, result.after))
        print(f"  {name:20} before {before:8.1e}   after {after:8.1e}   recalled {result.recalled:.0%}")
    print(f"picture: {path}")


if __name__ == "__main__":
    _shared.run(main)
