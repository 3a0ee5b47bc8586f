"""PyTorch's word-level language model, as it stands and after ``ft.replace(model)``.

Embedding, two LSTM layers, a decoder; truncated back-propagation over 35 words with the state carried from
piece to piece, SGD with the gradient's norm clipped: the model and the training of pytorch/examples
word_language_model. The text is the reference of Python's own help. Dropout is 0, so that the two curves can
be compared: masks are drawn in another way than torch.nn's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from fusedrnn.examples import _swap

WORDS = 2000
FEATURES = 200
ROWS, STEPS = 20, 35
LEARNING_RATE, CLIP = 5.0, 0.25


def corpus() -> Any:
    """Word numbers (T, ROWS): the text in ROWS columns; rare words are one."""
    from collections import Counter
    from pydoc_data.topics import topics

    import torch

    words = re.findall(r"\w+|[^\w\s]", " ".join(topics.values()))
    known = {word: i + 1 for i, (word, _) in enumerate(Counter(words).most_common(WORDS - 1))}
    ids = torch.tensor([known.get(word, 0) for word in words])
    return ids[: len(ids) // ROWS * ROWS].view(ROWS, -1).t().contiguous()


def build() -> Any:
    """The model."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Embedding(WORDS, FEATURES)
            self.rnn = torch.nn.LSTM(FEATURES, FEATURES, 2)
            self.decoder = torch.nn.Linear(FEATURES, WORDS)
            self.decoder.weight = self.encoder.weight

        def forward(self, ids: Any, state: Any) -> Any:
            y, state = self.rnn(self.encoder(ids), state)
            return self.decoder(y), state

    torch.manual_seed(0)
    model = Model()
    torch.nn.init.uniform_(model.encoder.weight, -0.1, 0.1)
    return model


def run(steps: int) -> _swap.Comparison:
    """Trains both ways for so many pieces of the text."""
    text = corpus()

    def train(model: Any) -> list[float]:
        import torch

        state = None
        losses = []
        for i in range(steps):
            at = i * STEPS % (len(text) - STEPS - 1)
            model.zero_grad()
            state = None if state is None else tuple(s.detach() for s in state)
            scores, state = model(text[at : at + STEPS], state)
            target = text[at + 1 : at + 1 + STEPS].flatten()
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(p.grad, alpha=-LEARNING_RATE)
            losses.append(float(loss.detach()))
        return losses

    return _swap.compare(build, train)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return _swap.main(__doc__ or "", run, 60, argv)


if __name__ == "__main__":
    sys.exit(main())
