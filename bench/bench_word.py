"""A word model's training step, and its output layer alone, in every precision of the CPU against PyTorch.

  python bench/bench_word.py --list
  python bench/bench_word.py --fresh               every row; stores results/
  python bench/bench_word.py --quick --only 'step 200 10000'

"step H V": embedding of V words, two LSTM layers of H, output layer of V words, cross-entropy, gradients,
clipping and SGD, over 35 steps of 20 rows: pytorch/examples word_language_model, without dropout. "head H V":
the output layer and what follows it alone. PyTorch's bfloat16 is its best of autocast and .bfloat16(). The
limit is that of the products at the rate of multiply-adds, or of tiles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import peers
import torch
from bench_precision import BFLOAT16, FLOAT32, OUR_FLOAT32
from harness import Case, main
from limits import PARTS
from measure import OURS, Contender, compare
from report import Row, make_row
from roofline import Limits

import fusedrnn as fr
from fusedrnn._core.cells import PRECISIONS_OF

T, B = 35, 20
LEARNING_RATE, CLIP_NORM = 1e-3, 0.25
NEAR = 0.02  # of the loss, whose sums PyTorch rounds to bfloat16 after .bfloat16()


@dataclass(frozen=True)
class Words:
    """A model: H features of V words; with layers of LSTM, or the output layer alone."""

    H: int
    V: int
    layers: int

    @property
    def weights(self) -> int:
        """Elements that products read."""
        return self.layers * 4 * self.H * 2 * self.H + self.H * self.V

    @property
    def gflop(self) -> float:
        """Of a step's products: one forward, two backward."""
        return 3 * 2e-9 * T * B * self.weights

    @property
    def name(self) -> str:
        """Of its rows."""
        return f"{'step' if self.layers else 'head'} {self.H} {self.V}"


MODELS = [
    *(Words(H, V, 2) for H, V in ((200, 10_000), (650, 10_000))),
    *(Words(H, V, 0) for H, V in ((200, 10_000), (1024, 10_000), (200, 50_000))),
]


class Peer(torch.nn.Module):
    """PyTorch's."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(words.V, words.H) if words.layers else None
        self.lstm = torch.nn.LSTM(words.H, words.H, words.layers) if words.layers else None
        self.head = torch.nn.Linear(words.H, words.V)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        if self.embedding is not None and self.lstm is not None:
            x = self.lstm(self.embedding(x))[0]
        scores: torch.Tensor = self.head(x)
        return scores


def ours(words: Words, precision: str) -> fr.nn.Sequential:
    """The model."""
    head = fr.nn.Linear(words.H, words.V, precision=precision, seed=2)
    if not words.layers:
        return fr.nn.Sequential(head)
    lstm = fr.nn.LSTM(words.H, words.H, words.layers, precision=precision, seed=1)
    return fr.nn.Sequential(fr.nn.Embedding(words.V, words.H, seed=0), lstm, head)


def our_step(words: Words, precision: str, x: Any, target: Any) -> Callable[[], float]:
    """A step that returns its loss."""
    model = ours(words, precision)
    optimizer = fr.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    return lambda: float(model.train_step(x, target, "cross_entropy", optimizer, CLIP_NORM)[0])


def their_step(words: Words, x: Any, target: Any, dtype: torch.dtype, autocast: bool) -> Callable[[], float]:
    """The same of PyTorch, from the same weights."""
    model = Peer(words)
    names = ("embedding", "lstm", "head") if words.layers else ("head",)
    state = {}
    for name, value in ours(words, "ieee").state_dict().items():
        index, _, rest = name.partition(".")
        state[f"{names[int(index)]}.{rest}"] = torch.from_numpy(np.array(value))
    model.load_state_dict(state)
    model.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, foreach=True)
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(target).flatten()
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            scores = model(inputs)
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM, foreach=True)
        optimizer.step()
        return loss.item()

    return step


def row(words: Words, precision: str, limits: Limits, seconds: float) -> Row:
    """One model in one precision."""
    rng = np.random.default_rng(0)
    target = rng.integers(words.V, size=(T, B))
    x = (
        rng.integers(words.V, size=(T, B))
        if words.layers
        else rng.standard_normal((T, B, words.H), np.float32)
    )
    contenders = [Contender(OURS, our_step(words, precision, x, target))]
    for library, setting, dtype, autocast in (
        (FLOAT32, "", torch.float32, False),
        (BFLOAT16, "autocast", torch.float32, True),
        (BFLOAT16, ".bfloat16()", torch.bfloat16, False),
    ):
        call = their_step(words, x, target, dtype, autocast)
        for contender in peers.with_threads(setting, call, limits.all.threads):
            contenders.append(replace(contender, library=library))
    if precision != "ieee":
        contenders.append(Contender(OUR_FLOAT32, our_step(words, "ieee", x, target), library=OUR_FLOAT32))
    wanted = contenders[0].call()
    for contender in contenders[1:]:
        loss = contender.call()
        assert abs(loss - wanted) <= NEAR * wanted, f"{contender.name} has a loss of {loss}, ours {wanted}"
    timings = compare(contenders, seconds)
    parts = PARTS[precision]
    tiles = fr.cpu.engine(precision) == "amx"
    least = words.gflop * parts * (parts + 1) / 2 / (limits.all.tile_gflops if tiles else limits.fma_gflops)
    return make_row(
        f"{words.name} {precision}", f"{'step' if words.layers else 'head'} {precision}", limits.all.threads,
        contenders, timings,
        work=words.gflop, unit="GFLOP/s", limit=least, bound="arithmetic",
        shares={"FMA": words.gflop / timings[OURS].median / limits.fma_gflops},
        notes={"precision": precision, "engine": fr.cpu.engine(precision)},
    )  # fmt: skip


def cases() -> list[Case]:
    """All rows."""
    return [
        Case(f"{words.name} {precision}", partial(row, words, precision))
        for words in MODELS
        for precision in PRECISIONS_OF["cpu"]
    ]


if __name__ == "__main__":
    title = f"A word model's step and its output layer (bfloat16 multiplied by {fr.cpu.engine('bf16')}): H V"
    sys.exit(main(str(__doc__), "bench_word", title, cases()))
