"""What version 0.1.0 has written goes on loading: tests/data holds it, written by the code of f9336c7.

`model_0.1.0.pickle` is (model, optimizer) of pickle protocol 4: Embedding(7, 4), GRU(4, 5, 2, dropout 0.3),
RNN(5, 3, relu), a bidirectional LSTM(3, 5), LayerNorm(10), Dropout(0.2), Last and Linear(10, 3), after two
steps of centred RMSprop with momentum; `model_0.1.0.npz` has ids and what the model then gave in evaluation.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


def test_pickles_of_models_and_optimizers_load() -> None:
    model, optimizer = pickle.loads((DATA / "model_0.1.0.pickle").read_bytes())
    stored = np.load(DATA / "model_0.1.0.npz")
    model.eval()
    np.testing.assert_array_equal(model(stored["ids"]), stored["y"])
    model.train()
    y = model(stored["ids"])
    model.backward(np.ones_like(y))
    optimizer.step(clip_norm=1.0)
    assert optimizer.param_groups[0]["step"] == 3
    assert set(optimizer.state[next(iter(model.parameters()))]) == {
        "square_avg",
        "momentum_buffer",
        "grad_avg",
    }
