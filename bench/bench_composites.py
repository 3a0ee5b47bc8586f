"""What variants of a cell cost: training passes beside the plain cell's and PyTorch's composites, in turn.

  python bench/bench_composites.py                             prints a table
  python bench/bench_composites.py --threads 1 --seconds 5     longer, on one thread
  python bench/bench_composites.py --keras                     beside Keras too, in an environment of its own

PyTorch has none of these cells and masks. A user writes a step in its operations; it competes in a loop of
Python, as TorchScript, and compiled. A row is a line of `VARIANTS`. Keras has recurrent dropout of its own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import keras_pass
import numpy as np
import peers
import torch
from measure import OURS, Contender, Timed, compare
from numpy.typing import NDArray

import fusedrnn as fr

Array = NDArray[Any]
# T, B, I, H
SHAPES = ((128, 16, 64, 64), (128, 32, 128, 128), (128, 32, 128, 256), (64, 64, 512, 512))
CHECKED = 8  # steps over which all must agree: over many a normalised state's rounding errors grow


def layer_norm_step(
    h: torch.Tensor, c: torch.Tensor, x: torch.Tensor, w: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step, x being what the input's weights made of it, already normalised, biases included."""
    a = x + torch.nn.functional.layer_norm(h @ w[1].t(), w[6].shape, w[6], w[7])
    i, f, g, o = a.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(torch.nn.functional.layer_norm(c, w[8].shape, w[8], w[9])), c


def layer_norm_inputs(x: torch.Tensor, w: list[torch.Tensor]) -> torch.Tensor:
    """The input's part of all steps at once."""
    return torch.nn.functional.layer_norm(x @ w[0].t(), w[4].shape, w[4], w[5]) + (w[2] + w[3])


def lstm_inputs(x: torch.Tensor, w: list[torch.Tensor]) -> torch.Tensor:
    """The input's part of all steps of a plain LSTM."""
    return x @ w[0].t() + (w[2] + w[3])


def recurrent_dropout_step(
    h: torch.Tensor, c: torch.Tensor, x: torch.Tensor, w: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step, the last of w being the sequence's mask of h."""
    a = x + (h * w[4]) @ w[1].t()
    i, f, g, o = a.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def with_mask(w: list[torch.Tensor], h: torch.Tensor) -> list[torch.Tensor]:
    """The weights and a mask of h, drawn anew."""
    return [*w, torch.nn.functional.dropout(torch.ones_like(h), 0.25)]


def zoneout_step(
    h: torch.Tensor, c: torch.Tensor, x: torch.Tensor, w: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step, a tenth of the units of either state staying as it is."""
    a = x + h @ w[1].t()
    i, f, g, o = a.chunk(4, dim=1)
    new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    new_h = torch.sigmoid(o) * torch.tanh(new_c)
    return torch.where(torch.rand_like(h) < 0.1, h, new_h), torch.where(torch.rand_like(c) < 0.1, c, new_c)


class Variant(NamedTuple):
    """A cell with options, the plain one, and PyTorch's composite: all steps' inputs, and a step.

    `weights` makes of weights and the first h what steps are given; None: the weights. Where masks are drawn
    they are others than ours, and results cannot be compared.
    """

    cell: str
    options: dict[str, Any]
    inputs: Callable[..., torch.Tensor]
    step: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    draws: bool = False
    in_keras: bool = False
    weights: Callable[..., list[torch.Tensor]] | None = None


VARIANTS = {
    "LSTM layer_norm": Variant("LSTM", {"layer_norm": True}, layer_norm_inputs, layer_norm_step),
    "LSTM recurrent_dropout": Variant(
        "LSTM", {"recurrent_dropout": 0.25}, lstm_inputs, recurrent_dropout_step, True, True, with_mask
    ),
    "LSTM zoneout": Variant("LSTM", {"zoneout": 0.1}, lstm_inputs, zoneout_step, True),
}


def ours(module: Any, x: Array, dy: Array) -> Callable[[], Array]:
    """Forward and backward, with weights that change every time."""
    buffer = next(module.parameters())._buffer

    def call() -> Array:
        buffer.touch()
        module.zero_grad()
        module(x)
        dx: Array = module.backward(dy)[0]
        return dx

    return call


def composite(variant: Variant, step: Any, weights: dict[str, Array], x: Array, dy: Array) -> Any:
    """The same in PyTorch, of steps that `step` makes."""
    w = [torch.from_numpy(a.copy()).requires_grad_() for a in weights.values()]
    inputs, upstream = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def call() -> Array:
        for leaf in (inputs, *w):
            leaf.grad = None
        h = c = torch.zeros(dy.shape[1:])
        outputs = []
        given = w if variant.weights is None else variant.weights(w, h)
        for part in variant.inputs(inputs, w):
            h, c = step(h, c, part, given)
            outputs.append(h)
        torch.stack(outputs).backward(upstream)
        assert inputs.grad is not None
        return inputs.grad.numpy()

    return call


def contenders(variant: Variant, shape: tuple[int, ...], threads: int, compiled: bool) -> list[Contender]:
    """Ours, the plain cell, and PyTorch's ways."""
    T, B, I, H = shape
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((T, B, I), np.float32), rng.standard_normal((T, B, H), np.float32)
    kind = getattr(fr.nn, variant.cell)
    module = kind(I, H, seed=0, **variant.options)
    ways = {"loop": variant.step, "script": torch.jit.script(variant.step)}
    if compiled:
        ways["compile"] = torch.compile(variant.step)
    found = [
        Contender(OURS, ours(module, x, dy)),
        Contender("plain", ours(kind(I, H, seed=0), x, dy), library="plain"),
    ]
    few = x[:CHECKED], dy[:CHECKED]
    wanted = ours(module, *few)()
    for way, step in ways.items():
        checked = composite(variant, step, module.state_dict(), *few)()
        if not variant.draws:
            atol = 1e-4 * np.abs(wanted).max()
            np.testing.assert_allclose(checked, wanted, rtol=1e-3, atol=atol, err_msg=way)
        call = composite(variant, step, module.state_dict(), x, dy)
        found += peers.with_threads(way, call, threads)
    return found


def keras_contenders(variant: Variant, shape: tuple[int, ...], threads: int) -> list[keras_pass.KerasPass]:
    """Keras's ways, once they agree with ours about a pass without masks."""
    T, B, I, H = shape
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((T, B, I), np.float32), rng.standard_normal((T, B, H), np.float32)
    module = fr.nn.LSTM(I, H, seed=0)
    expected = float(np.abs(ours(module, x, dy)()).sum())
    dropout = variant.options["recurrent_dropout"]
    found = []
    for setting in keras_pass.SETTINGS:
        for n in peers.thread_counts(threads):
            child = keras_pass.KerasPass(setting, n, x, dy, module.state_dict(), dropout)
            np.testing.assert_allclose(child.first(), expected, rtol=1e-3, err_msg=child.name)
            found.append(child)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=fr.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2, help="of each contender (default: 2)")
    parser.add_argument("--compile", action="store_true", help="torch.compile competes too: needs a compiler")
    parser.add_argument(
        "--keras", action="store_true", help="Keras competes too: $FUSEDRNN_KERAS_PYTHON, or one is made"
    )
    parser.add_argument("--only", choices=VARIANTS, nargs="+", default=list(VARIANTS))
    options = parser.parse_args()
    fr.set_num_threads(options.threads)
    if options.keras and "FUSEDRNN_KERAS_PYTHON" not in os.environ:
        os.environ["FUSEDRNN_KERAS_PYTHON"] = keras_pass.environment()
    libraries = [peers.TORCH, *([keras_pass.KERAS] if options.keras else [])]
    columns = "".join(f" {library}'s best takes | which |" for library in libraries)
    print(f"| cell, T B I H | training pass, ms | times the plain cell's |{columns}")
    print("|---|---:|---:|" + "---:|---|" * len(libraries))
    for name in options.only:
        for shape in SHAPES:
            sides: list[Timed] = [*contenders(VARIANTS[name], shape, options.threads, options.compile)]
            of_keras = options.keras and VARIANTS[name].in_keras
            children = keras_contenders(VARIANTS[name], shape, options.threads) if of_keras else []
            timings = compare([*sides, *children], options.seconds)
            for child in children:
                child.close()
            mine, plain = timings[OURS].median, timings["plain"].median
            row = f"| {name} {' '.join(map(str, shape))} | {1e3 * mine:.3f} | {mine / plain:.3f} |"
            for library in libraries:
                theirs = {s.name: timings[s.name].median for s in (*sides, *children) if s.library == library}
                best = min(theirs, key=lambda n: theirs[n], default=None)
                row += (
                    " has none | |"
                    if best is None
                    else f" {theirs[best] / mine:.2f} times as long | {best} |"
                )
            print(row, flush=True)


if __name__ == "__main__":
    main()
