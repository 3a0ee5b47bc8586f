"""What version 0.1.0 has written goes on loading: tests/data holds it, written by the code of f9336c7.

`model_0.1.0.pickle` is (model, optimizer) of pickle protocol 4: Embedding(7, 4), GRU(4, 5, 2, dropout 0.3),
RNN(5, 3, relu), a bidirectional LSTM(3, 5), LayerNorm(10), Dropout(0.2), Last and Linear(10, 3), after two
steps of centred RMSprop with momentum; `model_0.1.0.npz` has ids and what the model then gave in evaluation.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.cli.checkpoint import load

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


def test_states_of_adam_without_amsgrad_load() -> None:
    """That of a stored checkpoint knows of no AMSGrad, so it had none, whatever it is loaded into."""
    saved = load(DATA / "checkpoint_without_sha256.safetensors").trees["optimizer"]
    assert all("amsgrad" not in group for group in saved["param_groups"])
    shapes = [entry["exp_avg"].shape for _, entry in sorted(saved["state"].items(), key=lambda e: int(e[0]))]
    parameters = [fr.nn.Parameter(np.zeros(shape, np.float32)) for shape in shapes]
    for amsgrad in (False, True):
        optimizer = fr.optim.Adam(parameters, amsgrad=amsgrad)
        optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0]["amsgrad"] is False
        optimizer.step()
        assert set(optimizer.state[parameters[0]]) == {"exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("rule", [fr.optim.Adam, fr.optim.AdamW])
def test_pickles_of_adam_without_amsgrad_load(rule: type[fr.optim.Optimizer]) -> None:
    optimizer = rule([p := fr.nn.Parameter(np.ones(3))])
    p.grad = np.ones(3)
    optimizer.step()
    for options in (optimizer.defaults, *optimizer.param_groups):
        del options["amsgrad"]
    _, again = pickle.loads(pickle.dumps((p, optimizer)))
    assert again.defaults["amsgrad"] is False
    again.step()
    assert again.param_groups[0]["step"] == 2
