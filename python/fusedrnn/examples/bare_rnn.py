"""Back-propagation through time with nothing around it: plain arrays, plain gradient descent.

A next-step task that needs memory. Each sequence starts with a key, goes on with dots, and ends with the
key again: "B....?B". To predict the last symbol, the network has to carry the key across all the steps
between, and gradient descent only finds out how if the gradient of the last step arrives at the first.

The weights are NumPy arrays, the recurrent layer is `functional.rnn_forward` and `rnn_backward`, the rest
is written out here, in float64. Before training, every gradient is compared with central differences of the
loss. The picture shows how the gradient of the last step's loss fades on its way back, before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import asarray, functional
from fusedrnn.examples import _shared
from fusedrnn.examples._shared import Array

SYMBOLS = "ABCD.?"
KEYS = 4
DOTS = 4
HIDDEN = 32
LEARNING_RATE = 0.3
UPDATES = 1500
DIFFERENCE = 1e-5  # step of the central differences

Weights = dict[str, Array]


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes:
        gradient_error: largest |gradient - central difference| before training, relative to the largest
            gradient of the same weight.
        losses: cross-entropy before each update, mean over all symbols.
        recalled: share of last symbols that are right after training.
        gradient_before: norm of the last loss's gradient by step it arrives at, (T,), before training.
        gradient_after: the same after training.
    """

    gradient_error: float
    losses: list[float]
    recalled: float
    gradient_before: Array
    gradient_after: Array


def make_sequences() -> tuple[Array, NDArray[np.int64]]:
    """All sequences: inputs one-hot (T, KEYS, symbols), and the symbol that follows each (T, KEYS)."""
    texts = [key + "." * DOTS + "?" + key for key in SYMBOLS[:KEYS]]
    ids = np.array([[SYMBOLS.index(c) for c in text] for text in texts]).T
    return np.eye(len(SYMBOLS))[ids[:-1]], ids[1:]


def make_weights(rng: np.random.Generator) -> Weights:
    """A recurrent layer's weights by PyTorch's names, and a readout's."""
    shapes = {
        "weight_ih_l0": (HIDDEN, len(SYMBOLS)),
        "weight_hh_l0": (HIDDEN, HIDDEN),
        "bias_ih_l0": (HIDDEN,),
        "bias_hh_l0": (HIDDEN,),
        "readout": (len(SYMBOLS), HIDDEN),
    }
    bound = 1 / np.sqrt(HIDDEN)
    return {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}


def forward(
    weights: Weights, x: Array, targets: NDArray[np.int64], device: str = "cpu"
) -> tuple[float, Array, Array, Any]:
    """Loss, gradient of the loss with respect to the scores, hidden states and the tape.

    With a device the recurrent layer is there; all else is NumPy's.
    """
    stack = {name: asarray(value, device) for name, value in weights.items() if name != "readout"}
    y, _, tape = functional.rnn_forward(asarray(x, device), None, stack)
    h = asarray(y, "cpu")
    scores = h @ weights["readout"].T
    scores = scores - scores.max(axis=-1, keepdims=True)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    wanted = np.eye(len(SYMBOLS))[targets]
    loss = -float(np.mean(np.log((probabilities * wanted).sum(axis=-1))))
    return loss, (probabilities - wanted) / targets.size, h, tape


def gradients(
    weights: Weights, x: Array, targets: NDArray[np.int64], device: str = "cpu"
) -> tuple[float, Weights]:
    """Loss and its gradient for every weight, by back-propagation through time."""
    loss, dscores, h, tape = forward(weights, x, targets, device)
    dh = dscores @ weights["readout"]
    _, _, dstack = functional.rnn_backward(tape, asarray(dh, device))
    result = {name: asarray(gradient, "cpu") for name, gradient in dstack.items()}
    return loss, {**result, "readout": np.einsum("tbv,tbh->vh", dscores, h)}


def compare_with_differences(
    weights: Weights, x: Array, targets: NDArray[np.int64], device: str = "cpu"
) -> float:
    """Largest difference between `gradients` and central differences of the loss; see `Result`."""
    worst = 0.0
    _, exact = gradients(weights, x, targets, device)
    for name, value in weights.items():
        numeric = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            kept = value[place]
            value[place] = kept + DIFFERENCE
            above = forward(weights, x, targets, device)[0]
            value[place] = kept - DIFFERENCE
            below = forward(weights, x, targets, device)[0]
            value[place] = kept
            numeric[place] = (above - below) / (2 * DIFFERENCE)
        worst = max(worst, float(np.abs(numeric - exact[name]).max() / np.abs(exact[name]).max()))
    return worst


def gradient_by_step(weights: Weights, x: Array, targets: NDArray[np.int64], device: str = "cpu") -> Array:
    """Norm (T,) of the gradient that the last step's loss alone sends to the input of each step."""
    _, dscores, _, tape = forward(weights, x, targets, device)
    dscores[:-1] = 0
    dx, _, _ = functional.rnn_backward(tape, asarray(dscores @ weights["readout"], device))
    norms: Array = np.sqrt(np.sum(np.square(asarray(dx, "cpu")), axis=(1, 2)))
    return norms


def train(updates: int = UPDATES, seed: int = 0, show: bool = False, device: str = "cpu") -> Result:
    """Checks the gradients, then trains by plain gradient descent on all sequences at once."""
    x, targets = make_sequences()
    weights = make_weights(np.random.default_rng(seed))
    gradient_error = compare_with_differences(weights, x, targets, device)
    before = gradient_by_step(weights, x, targets, device)
    losses = []
    bar = _shared.progress(updates, show)
    bar.unit = "update"
    for _ in bar:
        loss, gradient = gradients(weights, x, targets, device)
        for name, value in gradient.items():
            weights[name] -= LEARNING_RATE * value
        losses.append(loss)
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    scores = forward(weights, x, targets, device)[2][-1] @ weights["readout"].T
    recalled = _shared.accuracy(np.argmax(scores, axis=-1), targets[-1])
    after = gradient_by_step(weights, x, targets, device)
    return Result(gradient_error, losses, recalled, before, after)


def plot(result: Result, path: Path) -> None:
    """The loss, and how the gradient fades on its way back."""
    figure, (left, right) = _shared.figure(10, 4, columns=2)
    _shared.curve(left, result.losses, "training")
    left.set_xlabel("update")
    left.set_ylabel("cross-entropy")
    guess = np.log(KEYS) / (DOTS + 2)
    left.axhline(guess, color="gray", linestyle="--", label="all right but the key, which is guessed")
    left.legend(fontsize=8)
    lag = np.arange(len(result.gradient_before))[::-1]
    for norms, label in ((result.gradient_before, "before training"), (result.gradient_after, "after")):
        right.plot(lag, norms / norms[-1], marker="o", label=label)
    right.set_yscale("log")
    right.set_xlabel("steps back in time")
    right.set_ylabel("gradient of the last loss, relative")
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = _shared.parser(
        __doc__ or "", epochs=UPDATES, what="updates, each on all sequences", precision=False
    )
    options = parser.parse_args(arguments)
    result = train(options.epochs, options.seed, show=True, device=_shared.device(options.device))
    path = options.plot or Path("bare_rnn.png")
    plot(result, path)
    print(f"gradients against central differences: {result.gradient_error:.1e} relative")
    print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.4f}")
    print(f"keys recalled after {DOTS} dots: {result.recalled:.0%} (guessing: {1 / KEYS:.0%})")
    print(f"picture: {path}")


if __name__ == "__main__":
    _shared.run(main)
