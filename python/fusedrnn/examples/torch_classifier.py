"""A packed bidirectional classifier, as it stands and after ``ft.replace(model)``.

Which module of Python is a name from? Names of unequal length go through an Embedding as a PackedSequence
into a bidirectional LSTM, whose final states a Linear reads: how PyTorch users classify texts.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from fusedrnn.examples import _swap

MODULES = ("socket", "signal", "errno", "ast", "token", "locale", "html.entities", "unittest", "ssl", "os")
FEATURES, HIDDEN, ROWS = 32, 64, 32


def names() -> tuple[list[Any], list[int]]:
    """The letters of each name, and the number of its module."""
    import torch

    letters, labels = [], []
    for label, module in enumerate(MODULES):
        for name in sorted(vars(importlib.import_module(module))):
            letters.append(torch.tensor([min(ord(c), 127) for c in name]))
            labels.append(label)
    return letters, labels


def build() -> Any:
    """The model."""
    import torch
    from torch.nn.utils.rnn import pack_sequence

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(128, FEATURES)
            self.lstm = torch.nn.LSTM(FEATURES, HIDDEN, bidirectional=True)
            self.linear = torch.nn.Linear(2 * HIDDEN, len(MODULES))

        def forward(self, letters: list[Any]) -> Any:
            packed = pack_sequence([self.embedding(name) for name in letters], enforce_sorted=False)
            _, (hn, _) = self.lstm(packed)
            return self.linear(torch.cat((hn[0], hn[1]), 1))

    torch.manual_seed(0)
    return Classifier()


def run(steps: int) -> _swap.Comparison:
    """Trains both ways for so many batches."""
    letters, labels = names()

    def train(model: Any) -> list[float]:
        import torch

        generator = torch.Generator().manual_seed(1)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(steps):
            chosen = torch.randint(len(labels), (ROWS,), generator=generator).tolist()
            scores = model([letters[i] for i in chosen])
            loss = torch.nn.functional.cross_entropy(scores, torch.tensor([labels[i] for i in chosen]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    return _swap.compare(build, train)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return _swap.main(__doc__ or "", run, 100, argv)


if __name__ == "__main__":
    sys.exit(main())
