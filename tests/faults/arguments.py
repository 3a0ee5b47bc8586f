"""Kind 4, arguments: errors that did not say what is wrong, and names that users of PyTorch try."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from fault import Found, fault, near, refusal, torch

import fusedrnn as fr

X = np.ones((5, 3, 4), np.float32)


def gru() -> Any:
    module = fr.nn.GRU(4, 4, seed=0)
    module(X)
    return module


def linear() -> Any:
    return fr.nn.Linear(4, 2, seed=0)


def adam() -> Any:
    return fr.optim.Adam(linear().parameters())


def step(loss: Any) -> Any:
    model = fr.nn.Sequential(linear())
    return model.train_step(X, X[..., :2], loss, fr.optim.Adam(model.parameters()))


def updated(**options: Any) -> Any:
    return fr.functional.adam_(
        *(np.zeros(3, np.float32) for _ in range(4)), **{"lr": 0.1, "step": 1, **options}
    )


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    'GRU.backward(dy, need_dx="no")': (lambda: gru().backward(X, need_dx="no"), "need_dx"),
    'lstm_forward(train="no")': (
        lambda: fr.functional.lstm_forward(X, None, fr.nn.LSTM(4, 4, seed=0).state_dict(), train="no"),
        "train",
    ),
    'module.train("no")': (lambda: linear().train("no"), "mode"),
    'adam_(clip_factor="x")': (lambda: updated(clip_factor="x"), "clip_factor"),
    "GRU(4, 4, bias=2)": (lambda: fr.nn.GRU(4, 4, bias=2), "bias"),
    "GRU(True, 4)": (lambda: fr.nn.GRU(True, 4), "input_size"),
    "SGD(nesterov=1)": (lambda: fr.optim.SGD(linear().parameters(), momentum=0.9, nesterov=1), "nesterov"),
    "RMSprop(centered=1)": (lambda: fr.optim.RMSprop(linear().parameters(), centered=1), "centered"),
    "functional.linear_forward of a list": (
        lambda: fr.functional.linear_forward([[1.0, 2.0]], np.ones((2, 2), np.float32)),
        "x",
    ),
    "functional.dropout of a list": (lambda: fr.functional.dropout([1.0], 0.5, 1), "x"),
    "GRU of a list": (lambda: fr.nn.GRU(1, 1)([[[1.0]]]), "x"),
    "losses.mse of lists": (lambda: fr.losses.mse([1.0], [1.0]), "pred"),
    "Embedding(-1, 2)": (lambda: fr.nn.Embedding(-1, 2), "num_embeddings"),
    "embedding_backward(num_embeddings=-1)": (
        lambda: fr.functional.embedding_backward(X[0], np.zeros(3, np.int64), -1),
        "num_embeddings",
    ),
    "functional.global_norm(3)": (lambda: fr.functional.global_norm(3), "list"),
    "optim.Adam(None)": (lambda: fr.optim.Adam(None), "params"),
    "train_step(loss=7)": (lambda: step(7), "loss"),
    "p.grad = a list": (lambda: setattr(linear().weight, "grad", [1.0]), "grad"),
    "functional.lstm_forward of a list": (
        lambda: fr.functional.lstm_forward([[[1.0] * 4]], None, fr.nn.LSTM(4, 4, seed=0).state_dict()),
        "x",
    ),
    "functional.clip_by_value_ of numbers": (lambda: fr.functional.clip_by_value_([1.0], 1.0), "arrays"),
    "Adam(lr='x')": (lambda: fr.optim.Adam(linear().parameters(), lr="x"), "lr"),
    "set_num_threads('2')": (lambda: fr.set_num_threads("2"), "n"),
}
for name, (call, word) in REFUSED.items():
    fault("4.4", name, f"an error that names {word}")(partial(refusal, call, word))


# -------------------------------------------------------------------------------- harmless: it works
def lengths(kind: type) -> Found:
    module = fr.nn.LSTM(4, 4, seed=0)
    right, _ = module(X, lengths=np.array([5, 2, 1]))
    found, _ = module(X, lengths=kind([5, 2, 1]))
    return near(0, y=(found, right))


def as_int32(values: Any) -> Any:
    return np.array(values, np.int32)


for kind, words in ((as_int32, "int32"), (list, "a list")):
    fault("4.4", f"lengths as {words}", "as int64")(partial(lengths, kind))


@fault("4.4", "Embedding of int32 ids, transposed", "rows of the table")
def _() -> Found:
    table, ids = fr.nn.Embedding(9, 2, seed=0), np.arange(6, dtype=np.int32).reshape(2, 3).T
    return near(0, y=(table(ids), table.weight.data[ids]))


@fault("4.4", "cross_entropy of int32 classes, transposed", "PyTorch's loss, to 1e-6")
def _() -> Found:
    logits, classes = (
        np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32),
        np.array([[0, 1, 2], [3, 1, 0]], np.int32).T,
    )
    t = torch()
    right = t.nn.functional.cross_entropy(
        t.from_numpy(logits).reshape(6, 4), t.from_numpy(classes.astype(np.int64)).reshape(6)
    )
    return near(1e-6, loss=(fr.losses.cross_entropy(logits, classes)[0], right.item()))


@fault("4.4", "LSTM of one sequence, (T, I)", "PyTorch's y, to 1e-6")
def _() -> Found:
    t, x = torch(), X[:, 0] * np.arange(1, 5, dtype=np.float32)
    module = fr.nn.LSTM(4, 4, seed=0)
    theirs = t.nn.LSTM(4, 4)
    theirs.load_state_dict({n: t.from_numpy(np.array(a)) for n, a in module.state_dict().items()})
    return near(1e-6, y=(module(x)[0], theirs(t.from_numpy(x))[0].detach().numpy()))


# ------------------------------------------------------------- names and options of PyTorch's
def activation(name: str) -> Found:
    t, x = torch(), np.random.default_rng(0).standard_normal((3, 4))
    options = {"dim": -1} if "oftmax" in name else {}
    there = t.from_numpy(x).requires_grad_()
    y = getattr(t.nn, name)(**options)(there)
    y.square().sum().backward()
    module = getattr(fr.nn, name)()
    found = module(x)
    return near(1e-12, y=(found, y.detach().numpy()), dx=(module.backward(2 * found), there.grad.numpy()))


for name in ("ReLU", "Tanh", "Sigmoid", "Softmax", "LogSoftmax"):
    fault("4.5", f"nn.{name} and its backward", "PyTorch's, to 1e-12")(partial(activation, name))


@fault("4.5", "Embedding(padding_idx=0): gradient of its row", "0, others PyTorch's")
def _() -> Found:
    t, module = torch(), fr.nn.Embedding(5, 2, padding_idx=0, dtype=np.float64, seed=0)
    theirs = t.nn.Embedding(5, 2, padding_idx=0, dtype=t.float64)
    ids = np.array([0, 3, 0, 1])
    theirs(t.from_numpy(ids)).sum().backward()
    module.backward(np.ones_like(module(ids)))
    return near(0, dweight=(module.weight.grad, theirs.weight.grad.numpy()))


def clipped(order: float) -> Found:
    t, g = torch(), np.random.default_rng(0).standard_normal((2, 4))
    module = fr.nn.Linear(4, 2, bias=False, dtype=np.float64, seed=0)
    module.weight.grad = g.copy()
    there = t.nn.Parameter(t.zeros(2, 4, dtype=t.float64))
    there.grad = t.from_numpy(g.copy())
    right = t.nn.utils.clip_grad_norm_([there], 0.5, norm_type=order)
    found = fr.optim.clip_grad_norm_(module.parameters(), 0.5, norm_type=order)
    return near(1e-12, norm=(found, right.item()), grad=(module.weight.grad, there.grad.numpy()))


for order in (1, 2, float("inf")):
    fault("4.5", f"clip_grad_norm_(norm_type={order})", "PyTorch's, to 1e-12")(partial(clipped, order))


def loss(name: str, theirs: str) -> Found:
    t, (a, b) = torch(), np.random.default_rng(0).standard_normal((2, 3, 4)) * 3
    there = t.from_numpy(a).requires_grad_()
    value = getattr(t.nn.functional, theirs)(there, t.from_numpy(b))
    value.backward()
    found, grad = getattr(fr.losses, name)(a, b)
    return near(1e-12, loss=(found, value.item()), grad=(grad, there.grad.numpy()))


for name, theirs in (("l1", "l1_loss"), ("huber", "huber_loss"), ("smooth_l1", "smooth_l1_loss")):
    fault("4.5", f"losses.{name}", "PyTorch's, to 1e-12")(partial(loss, name, theirs))


@fault("4.5", "Adam(amsgrad=True), ten steps", "PyTorch's weights, to 1e-12")
def _() -> Found:
    t, rng = torch(), np.random.default_rng(0)
    ours, there = fr.nn.Parameter(np.zeros(4)), t.nn.Parameter(t.zeros(4, dtype=t.float64))
    optimizers = fr.optim.Adam([ours], amsgrad=True), t.optim.Adam([there], amsgrad=True)
    for _ in range(10):
        g = rng.standard_normal(4)
        ours.grad, there.grad = g, t.from_numpy(g.copy())
        for optimizer in optimizers:
            optimizer.step()
    return near(1e-12, p=(ours.data, there.detach().numpy()))


HINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "optim.LBFGS": (lambda: fr.optim.LBFGS, "Adam"),
    "nn.HuberLoss": (lambda: fr.nn.HuberLoss, "huber"),
    "GRU(proj_size=2)": (lambda: fr.nn.GRU(4, 4, proj_size=2), "LSTM"),
    "Embedding.from_pretrained": (lambda: fr.nn.Embedding.from_pretrained, "weight.data"),
    "state_dict(prefix='a.')": (lambda: linear().state_dict(prefix="a."), "prefix"),
    "parameters(recurse=False)": (lambda: list(linear().parameters(recurse=False)), "recurse"),
    "zero_grad(set_to_none=True)": (lambda: adam().zero_grad(set_to_none=True), "set_to_none"),
    "Adam(maximize=True)": (lambda: fr.optim.Adam(linear().parameters(), maximize=True), "sign"),
    "Adam(foreach=True)": (lambda: fr.optim.Adam(linear().parameters(), foreach=True), "leave it out"),
    "Adam(fused=True)": (lambda: fr.optim.Adam(linear().parameters(), fused=True), "leave it out"),
}
for name, (call, word) in HINTS.items():
    fault("4.5", name, f"an error with a hint: {word!r}")(partial(refusal, call, word))
