"""What users of PyTorch write first works, or the error says what to write; nothing means something else."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.nn import Parameter

PAIRS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {})]


def model() -> fr.nn.Sequential:
    return fr.nn.Sequential(fr.nn.LSTM(3, 4, seed=0), fr.nn.Last(), fr.nn.Linear(4, 1, seed=0))


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "options"), PAIRS, ids=["tanh", "relu", "gru", "lstm"])
def test_state_dicts_go_both_ways(kind: str, options: dict[str, Any]) -> None:
    import torch

    ours = getattr(fr.nn, kind)(3, 5, 2, bidirectional=True, **options, dtype=np.float64, seed=0)
    theirs = getattr(torch.nn, kind)(3, 5, 2, bidirectional=True, **options, dtype=torch.float64)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in ours.state_dict().items()})
    again = getattr(fr.nn, kind)(3, 5, 2, bidirectional=True, **options, dtype=np.float64, seed=1)
    again.load_state_dict(theirs.state_dict())
    assert all(np.array_equal(a, again.state_dict()[name]) for name, a in ours.state_dict().items())


# What PyTorch orders otherwise is given by name here: in its order it would mean something else.
ELSEWHERE_IN_ORDER = {
    "nonlinearity": lambda: fr.nn.RNN(3, 4, 1, "relu"),
    "amsgrad": lambda: fr.optim.Adam(model().parameters(), 1e-3, (0.9, 0.999), 1e-8, 0.0, False),
    "amsgrad of AdamW": lambda: fr.optim.AdamW(model().parameters(), 1e-3, (0.9, 0.999), 1e-8, 0.0, False),
    "dampening": lambda: fr.optim.SGD(model().parameters(), 0.1, 0.9, 0.1),
    "initial_accumulator_value": lambda: fr.optim.Adagrad(model().parameters(), 0.1, 0.0, 0.0, 0.1),
}


@pytest.mark.parametrize("name", ELSEWHERE_IN_ORDER)
def test_what_is_in_another_order_in_torch_goes_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=r"positional argument|nonlinearity='relu'"):
        ELSEWHERE_IN_ORDER[name]()


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("bias", lambda v: fr.nn.LSTM(3, 4, bias=v)),
        ("batch_first", lambda v: fr.nn.GRU(3, 4, batch_first=v)),
        ("bidirectional", lambda v: fr.nn.RNN(3, 4, bidirectional=v)),
        ("batch_first", lambda v: fr.nn.Last(v)),
        ("bias", lambda v: fr.nn.Linear(3, 4, v)),
        ("bias", lambda v: fr.nn.LayerNorm(3, bias=v)),
        ("elementwise_affine", lambda v: fr.nn.LayerNorm(3, elementwise_affine=v)),
    ],
)
def test_flags_are_bools(name: str, build: Any) -> None:
    for value in (2, None, "no"):
        with pytest.raises(TypeError, match=f"{name} must be True or False, it is {value!r}"):
            build(value)
    build(np.False_)


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        (fr, "no_grad", "model.eval()"),
        (fr.nn, "CrossEntropyLoss", "fr.losses.cross_entropy"),
        (fr.optim, "lr_scheduler", "fr.optim.schedules"),
        (fr.losses, "binary_cross_entropy_with_logits", "takes logits"),
        (model(), "to", 'device="cuda"'),
        (model()[0], "double", "dtype=np.float64"),
        (Parameter(np.zeros(3)), "numel", ".size"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_names_that_are_not_here_say_what_to_write(owner: Any, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{re.escape(hint)}"):
        getattr(owner, name)
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = owner.nonsense
    assert not hasattr(owner, name)


def test_parameters_are_arrays_to_numpy() -> None:
    p = model()[0].weight_hh_l0
    assert np.shares_memory(np.asarray(p), p.data)
    assert not np.asarray(p).flags.writeable
    assert np.asarray(p, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(p), p.data)
    assert np.sum(p) == p.data.sum()


def messages() -> list[tuple[Any, type[Exception], str]]:
    import torch

    m = model()
    x = np.zeros((5, 2, 3), np.float32)
    return [
        (
            lambda: m[0](torch.zeros(5, 2, 3)),
            TypeError,
            "x must be a NumPy array, it is Tensor: use x.detach",
        ),
        (lambda: m[2]([[0.0] * 4]), TypeError, "x must be a NumPy array, it is list: use np.asarray(x)"),
        (lambda: fr.nn.GRU(3, 4, dtype=torch.float32), TypeError, "dtype must be np.float32 or np.float64"),
        (lambda: fr.optim.Adam(m), TypeError, "it is a Sequential: use its parameters()"),
        (lambda: fr.optim.Adam(m[2]), TypeError, "it is a Linear: use its parameters()"),
        (lambda: fr.optim.clip_grad_norm_(m, 1.0), TypeError, "it is a Sequential: use its parameters()"),
        (lambda: fr.optim.Adam(m.parameters(), betas=0.9), TypeError, "betas must be two numbers"),
        (
            lambda: fr.optim.Adam(m.parameters()).step(lambda: 0),
            TypeError,
            "clip_norm must be None or a number",
        ),
        (
            lambda: fr.losses.mse(x, x, x),
            TypeError,
            "reduction must be 'mean', 'sum' or 'none', it is of type",
        ),
    ]


@pytest.mark.peer
@pytest.mark.parametrize("number", range(9))
def test_messages_say_what_to_do(number: int) -> None:
    call, raises, text = messages()[number]
    with pytest.raises(raises, match=re.escape(text)):
        call()


@pytest.mark.peer
def test_training_steps_take_an_optimizer_of_the_model() -> None:
    import torch

    m, copy = model(), pickle.loads(pickle.dumps(model()))
    x, y = np.ones((5, 2, 3), np.float32), np.ones((2, 1), np.float32)
    with pytest.raises(ValueError, match="optimizer must have parameters of this model"):
        m.train_step(x, y, "mse", fr.optim.SGD(copy.parameters()))
    with pytest.raises(TypeError, match=r"optimizer must be one of fusedrnn\.optim"):
        m.train_step(x, y, "mse", torch.optim.SGD([torch.zeros(1)]))
    before = m.state_dict()
    for _ in range(2):
        m.train_step(x, y, "mse", fr.optim.SGD(m[2].parameters(), lr=0.1))  # a part of the model is trained
    changed = [name for name, a in m.state_dict().items() if not np.array_equal(a, before[name])]
    assert changed == ["2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("part", "name", "hint"),
    [
        (fr.nn, "L1Loss", r"use fr.losses.l1, or fr.losses.L1"),
        (fr.nn, "HuberLoss", "fr.losses.Huber with options"),
        (fr.nn, "SmoothL1Loss", "fr.losses.SmoothL1 with options"),
        (fr.nn, "NLLLoss", "fr.losses.NLL with options"),
        (fr.nn, "KLDivLoss", "gradcheck checks it"),
        (fr.nn, "GELU", "fr.nn.Module with forward and backward"),
        (fr.losses, "HuberLoss", "use Huber"),
        (fr.losses, "smooth_l1_loss", "use smooth_l1"),
        (fr.functional, "nll_loss", "use nll"),
        (fr.functional, "linear", "use linear_forward and linear_backward"),
        (fr.optim, "clip_grad_norm", "use clip_grad_norm_"),
    ],
)
def test_names_of_losses_and_functions(part: Any, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'.*{hint}"):
        getattr(part, name)


def test_set_to_none() -> None:
    m = model()
    for owner in (m, fr.optim.Adam(m.parameters())):
        for given in (True, False):
            with pytest.raises(
                TypeError, match="zero_grad has no option 'set_to_none': gradients are arrays"
            ):
                owner.zero_grad(set_to_none=given)
        owner.zero_grad()
