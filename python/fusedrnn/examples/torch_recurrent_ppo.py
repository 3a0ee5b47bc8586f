"""Updates of recurrent PPO, as they stand and after ``ft.replace(model)``.

The network of sb3-contrib's recurrent policy: an LSTM each for actor and critic, a small MLP behind each.
Episodes begin anew within a rollout. torch.nn.LSTM has to stop there: a Python loop over steps multiplies the
state by 0. The replaced LSTM takes the episode starts as ``resets=`` and does all steps in one call.

PPO's clipped objective (Schulman et al. 2017) on rollouts of random observations, drawn once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from fusedrnn.examples import _swap

STEPS, ROWS, FEATURES, HIDDEN, ACTIONS = 64, 16, 8, 64, 4
CLIP, VALUE_PART, ENTROPY_PART, MAX_NORM = 0.2, 0.5, 0.01, 0.5


def build() -> Any:
    """The policy."""
    import torch

    import fusedrnn.torch as ft

    def through(lstm: Any, x: Any, starts: Any) -> Any:
        if isinstance(lstm, ft.LSTM):
            return lstm(x, resets=starts)[0]
        state = tuple(torch.zeros(1, x.shape[1], HIDDEN) for _ in range(2))
        outputs = []
        for step, start in zip(x, starts, strict=True):
            kept = (~start).float()[None, :, None]
            y, state = lstm(step[None], tuple(s * kept for s in state))
            outputs.append(y)
        return torch.cat(outputs)

    class Policy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor, self.critic = torch.nn.LSTM(FEATURES, HIDDEN), torch.nn.LSTM(FEATURES, HIDDEN)
            self.action = torch.nn.Sequential(
                torch.nn.Linear(HIDDEN, 64), torch.nn.Tanh(), torch.nn.Linear(64, ACTIONS)
            )
            self.value = torch.nn.Sequential(
                torch.nn.Linear(HIDDEN, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)
            )

        def forward(self, x: Any, starts: Any) -> Any:
            scores = self.action(through(self.actor, x, starts))
            return scores.log_softmax(-1), self.value(through(self.critic, x, starts))[..., 0]

    torch.manual_seed(0)
    return Policy()


def run(steps: int) -> _swap.Comparison:
    """Makes so many updates both ways."""
    import torch

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, ROWS, FEATURES, generator=generator)
    starts = torch.rand(STEPS, ROWS, generator=generator) < 0.05
    actions = torch.randint(ACTIONS, (STEPS, ROWS, 1), generator=generator)
    advantages = torch.randn(STEPS, ROWS, generator=generator)
    returns = torch.randn(STEPS, ROWS, generator=generator)

    def train(model: Any) -> list[float]:
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, eps=1e-5)
        with torch.no_grad():
            old = model(x, starts)[0].gather(-1, actions)[..., 0]
        losses = []
        for _ in range(steps):
            log_probabilities, values = model(x, starts)
            ratio = (log_probabilities.gather(-1, actions)[..., 0] - old).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
            value_loss = torch.nn.functional.mse_loss(values, returns)
            entropy = -(log_probabilities.exp() * log_probabilities).sum(-1).mean()
            loss = policy_loss + VALUE_PART * value_loss - ENTROPY_PART * entropy
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    return _swap.compare(build, train)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return _swap.main(__doc__ or "", run, 20, argv)


if __name__ == "__main__":
    sys.exit(main())
