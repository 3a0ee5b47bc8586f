"""200 updates of the character model beside PyTorch's, from equal weights and batches: equal loss curves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.text import Text, default_text
from fusedrnn.cli.training import Training

UPDATES = 200
STACKS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


class TorchModel(torch.nn.Module):
    """The same model in PyTorch, with the weights of ours."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        config, size = training.config, len(training.vocabulary)
        self.embedding = torch.nn.Embedding(size, config.embedding)
        self.stack = STACKS[config.cell](config.embedding, config.hidden, config.layers)
        self.output = torch.nn.Linear(config.hidden, size)
        names = {"0": "embedding", "1": "stack", "3": "output"}  # 2 is dropout
        state = {}
        for key, value in training.model.state_dict().items():
            part, _, name = key.partition(".")
            state[f"{names[part]}.{name}"] = torch.from_numpy(value)
        self.to(getattr(torch, config.dtype)).load_state_dict(state)

    def forward(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        y, state = self.stack(self.embedding(ids), state)
        return self.output(y), state


def torch_curve(training: Training) -> tuple[list[float], list[float]]:
    """Losses in bits and gradient norms of PyTorch's updates on the batches of `training`."""
    config = training.config
    assert config.lr is not None
    model = TorchModel(training)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    state: Any = None
    losses, norms = [], []
    for step in range(UPDATES):
        window = step % training.streams.windows
        inputs, targets = (torch.from_numpy(np.ascontiguousarray(a)) for a in training.streams.window(window))
        scores, state = model(inputs, None if window == 0 else state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm).item())
        optimizer.param_groups[0]["lr"] = training.schedule(step)
        optimizer.step()
        losses.append(loss.item() / math.log(2))
    return losses, norms


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products: PyTorch's second thread would only keep a core spinning that others need."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("cell", "dtype", "tolerance"),
    [
        ("lstm", "float32", 1e-3),
        ("lstm", "float64", 1e-9),
        ("gru", "float64", 1e-9),
        ("rnn", "float64", 1e-9),
    ],
)
def test_loss_curve_is_pytorchs(cell: str, dtype: str, tolerance: float) -> None:
    sizes = {"layers": 2, "hidden": 48, "embedding": 24, "seq_len": 32, "batch": 16}
    config = TrainConfig(cell=cell, dtype=dtype, clip_norm=0.3, lr=5e-3, epochs=4, **sizes)
    text = Text(default_text().characters[:60_000], ())
    training = Training(config.resolved(), text)
    assert training.streams.windows < UPDATES, "the state must start anew once"
    wanted, wanted_norms = torch_curve(training)
    updates = [training.step() for _ in range(UPDATES)]
    losses = [update.bits_per_char for update in updates]
    assert losses[-1] < 0.65 * losses[0], "nothing was learned, the curves say little"
    assert max(wanted_norms) > 2 * config.clip_norm, "nothing was clipped"
    np.testing.assert_allclose(losses, wanted, rtol=tolerance, atol=0)
    if dtype == "float64":
        np.testing.assert_allclose([u.grad_norm for u in updates], wanted_norms, rtol=1e-6, atol=0)
