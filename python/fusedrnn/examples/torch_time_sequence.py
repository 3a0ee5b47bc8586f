"""PyTorch's time-sequence prediction, as it stands and after ``ft.replace(model)``.

Two LSTM cells and a Linear predict the next value of sine waves, step by step in a Python loop, in float64
with L-BFGS: the model and the training of pytorch/examples time_sequence_prediction, on shorter waves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from fusedrnn.examples import _swap

WAVES, LENGTH, PERIOD, HIDDEN = 97, 60, 20, 51


def waves() -> Any:
    """Sine waves (WAVES, LENGTH) with shifts drawn once."""
    import torch

    generator = torch.Generator().manual_seed(2)
    shift = torch.randint(-4 * PERIOD, 4 * PERIOD, (WAVES, 1), generator=generator)
    return torch.sin((torch.arange(LENGTH) + shift).double() / PERIOD)


def build() -> Any:
    """The model."""
    import torch

    class Sequence_(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm1 = torch.nn.LSTMCell(1, HIDDEN)
            self.lstm2 = torch.nn.LSTMCell(HIDDEN, HIDDEN)
            self.linear = torch.nn.Linear(HIDDEN, 1)

        def forward(self, x: Any) -> Any:
            state1 = state2 = None
            outputs = []
            for step in x.split(1, dim=1):
                state1 = self.lstm1(step, state1)
                state2 = self.lstm2(state1[0], state2)
                outputs.append(self.linear(state2[0]))
            return torch.cat(outputs, dim=1)

    torch.manual_seed(0)
    return Sequence_().double()


def run(steps: int) -> _swap.Comparison:
    """Trains both ways for so many evaluations of the loss."""
    data = waves()

    def train(model: Any) -> list[float]:
        import torch

        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.8, max_iter=steps, max_eval=steps)
        losses: list[float] = []

        def closure() -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(data[:, :-1]), data[:, 1:])
            loss.backward()
            losses.append(float(loss.detach()))
            return loss

        optimizer.step(closure)
        return losses

    return _swap.compare(build, train)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return _swap.main(__doc__ or "", run, 20, argv)


if __name__ == "__main__":
    sys.exit(main())
