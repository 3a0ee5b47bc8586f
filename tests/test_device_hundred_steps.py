"""A hundred training steps on a CUDA device and on the CPU are the same training, for each cell.

Two trainings in float32 whose sums are grouped otherwise drift apart as any two do: a rounding error is a
perturbation of the weights, and training magnifies it. So the tolerance rule (parity.py) is applied where it
says something, to single steps: a hundred times, each from the very state that the CPU has reached by then,
the loss, the norm, every gradient and every parameter after the update must be within what rounding does to
the reference's step from there. All of the device's steps but the first two are one graph, replayed.

What that leaves out is the training as a whole, left to itself. There the rule's bound is the drift itself:
the reference's training in float64 is the truth, and the same in float32, eight times with sums in drawn
orders and a rounding error off, tells how far from it a float32 training has got by a step. Twice that is
allowed. By a step, and not at it: a curve that has drifted crosses the true one now and then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import RUNS, assert_parity
from sequences import on_device, on_host

import fusedrnn as fr
from fusedrnn import reference
from fusedrnn.reference.arithmetic import NUMPY, Arithmetic, sequential

pytestmark = [pytest.mark.parity, pytest.mark.cuda]

Array = NDArray[Any]
State = dict[str, dict[str, Array]]  # param, exp_avg, exp_avg_sq by parameter
STEPS, T, B, WORDS, WIDTH, HIDDEN, CLASSES = 100, 5, 6, 7, 4, 5, 3
DROP, CLIP, LR = 0.2, 0.5, 0.02
CELLS = {"rnn": fr.nn.RNN, "gru": fr.nn.GRU, "lstm": fr.nn.LSTM}


def build(cell: str, device: str) -> tuple[fr.nn.Sequential, fr.optim.Adam]:
    model = fr.nn.Sequential(
        fr.nn.Embedding(WORDS, WIDTH, seed=0, device=device),
        CELLS[cell](WIDTH, HIDDEN, seed=1, device=device),
        fr.nn.LayerNorm(HIDDEN, device=device),
        fr.nn.Dropout(DROP, seed=2),
        fr.nn.Last(),
        fr.nn.Linear(HIDDEN, CLASSES, seed=3, device=device),
    )
    return model, fr.optim.Adam(model.parameters(), lr=LR)


def batch(step: int) -> tuple[Array, Array, Array]:
    """Ids (T, B), lengths (B,), and classes (B,), which are there to be learnt: of the first word."""
    rng = np.random.default_rng(step)
    ids = rng.integers(0, WORDS, (T, B))
    return ids, rng.integers(1, T + 1, B), ids[0] % CLASSES


def state_of(model: fr.nn.Sequential, optimizer: fr.optim.Adam) -> State:
    state = {}
    for name, p in model.named_parameters():
        kept = optimizer.state.get(p, {})
        zeros = np.zeros(p.shape, p.dtype)
        state[name] = {"param": p.numpy()} | {
            key: np.array(on_host(kept.get(key, zeros))) for key in ("exp_avg", "exp_avg_sq")
        }
    return state


def reference_step(
    cell: str, state: State, step: int, key: int, dtype: Any, arithmetic: Arithmetic
) -> tuple[dict[str, Array], State]:
    """Loss, norm, gradients and the parameters afterwards; and the state they belong to."""
    state = {name: {k: a.astype(dtype) for k, a in own.items()} for name, own in state.items()}
    w = {name: own["param"] for name, own in state.items()}
    ids, lengths, classes = batch(step)
    zero, add_product = dtype(0), arithmetic.add_product
    options = {"lengths": lengths, "arithmetic": arithmetic}
    recurrent = {name[2:]: a for name, a in w.items() if name.startswith("1.")}
    embedded = reference.embedding_forward(ids, w["0.weight"])
    forward, backward = (getattr(reference, f"{cell}_{way}") for way in ("forward", "backward"))
    y, _, tape = forward(embedded, None, recurrent, **options)
    normal, mean, rstd = reference.layer_norm_forward(y, w["2.weight"], w["2.bias"])
    last = reference.last_forward(reference.dropout(normal, DROP, key), lengths)
    logits = add_product(zero, last, w["5.weight"].T) + w["5.bias"]
    loss, dlogits = reference.cross_entropy(logits, classes)
    grads = {"5.weight": add_product(zero, dlogits.T, last)}
    grads["5.bias"] = add_product(zero, np.ones((1, B), dtype), dlogits)[0]
    dlast = add_product(zero, dlogits, w["5.weight"])
    dnormal = reference.dropout(reference.last_backward(dlast, T, lengths), DROP, key)
    dy, grads["2.weight"], grads["2.bias"] = reference.layer_norm_backward(
        dnormal, y, w["2.weight"], mean, rstd
    )
    dx, _, drecurrent = backward(tape, dy, None)
    grads |= {f"1.{name}": g for name, g in drecurrent.items()}
    grads["0.weight"] = reference.embedding_backward(dx, ids, WORDS)
    norm = reference.global_norm([grads[name] for name in w])
    factor = min(1.0, CLIP / (float(norm) + 1e-6))
    for name, own in state.items():
        reference.adam_(
            own["param"], grads[name], own["exp_avg"], own["exp_avg_sq"],
            lr=LR, step=step + 1, clip_factor=factor,
        )  # fmt: skip
    results = {"loss": loss, "norm": norm} | {f"d{name}": g for name, g in grads.items()}
    results |= {name: own["param"] for name, own in state.items()}
    return {name: np.asarray(a, dtype) for name, a in results.items()}, state


def kernels_step(
    model: fr.nn.Sequential, optimizer: fr.optim.Adam, step: int, device: str
) -> dict[str, Array]:
    ids, lengths, classes = batch(step)
    x, y = on_device((ids, classes)) if device == "cuda" else (ids, classes)
    loss, norm = model.train_step(x, y, "cross_entropy", optimizer, CLIP, lengths=lengths)
    results: dict[str, Any] = {"loss": float(loss), "norm": float(norm)}
    results |= {f"d{name}": on_host(p.grad) for name, p in model.named_parameters()}
    results |= {name: p.numpy() for name, p in model.named_parameters()}
    return {name: np.array(a, np.float32) for name, a in results.items()}


def follow(there: Any, here: Any) -> None:
    """Gives the device's model and optimizer the CPU's parameters and states."""
    for p, q in zip(there[0].parameters(), here[0].parameters(), strict=True):
        p.data = q.data
        for name, array in here[1].state.get(q, {}).items():
            there[1].state[p][name]._assign(array)


def test_the_reference_is_the_same_training() -> None:
    """What both are held to below is right where nothing but rounding can differ."""
    model, optimizer = build("gru", "cpu")
    state, key = state_of(model, optimizer), model.random_state()["3.dropout_key"]
    ours = kernels_step(model, optimizer, 0, "cpu")
    assert_parity(ours, lambda d, a: reference_step("gru", state, 0, key, d, a)[0], np.float32)


def assert_step(ours: dict[str, Array], cell: str, state: State, step: int, key: int) -> None:
    """The rule for both devices' results of a step from that state."""

    def both(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        results = reference_step(cell, state, step, key, dtype, arithmetic)[0]
        return {f"{where}/{name}": a for where in ("device", "cpu") for name, a in results.items()}

    try:
        assert_parity(ours, both, np.float32)
    except AssertionError as error:
        raise AssertionError(f"step {step}: {error}") from None


@pytest.mark.parametrize("cell", CELLS)
def test_single_steps(cell: str) -> None:
    here, there = build(cell, "cpu"), build(cell, "cuda")
    losses = []
    for step in range(STEPS):
        state, key = state_of(*here), here[0].random_state()["3.dropout_key"]
        assert there[0].random_state() == here[0].random_state()
        if step > 0:
            follow(there, here)
        ours = {f"device/{n}": a for n, a in kernels_step(*there, step, "cuda").items()}
        ours |= {f"cpu/{n}": a for n, a in kernels_step(*here, step, "cpu").items()}
        losses.append(float(ours["cpu/loss"]))
        assert_step(ours, cell, state, step, key)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10]), "nothing was learnt"


@pytest.mark.parametrize("cell", CELLS)
def test_a_training_left_to_itself(cell: str) -> None:
    here, there = build(cell, "cpu"), build(cell, "cuda")
    start, key = state_of(*here), here[0].random_state()["3.dropout_key"]
    curves = {
        where: [float(kernels_step(*pair, step, where)["loss"]) for step in range(STEPS)]
        for where, pair in (("cpu", here), ("cuda", there))
    }

    def curve(dtype: Any, arithmetic: Arithmetic) -> Array:
        state, losses = start, []
        for step in range(STEPS):
            results, state = reference_step(cell, state, step, (key + step) % 2**64, dtype, arithmetic)
            losses.append(results["loss"])
        return np.array(losses, np.float64)

    truth = curve(np.float64, NUMPY)
    errors = np.max([np.abs(curve(np.float32, sequential(seed)) - truth) for seed in range(RUNS)], axis=0)
    allowed = 2 * np.maximum.accumulate(errors) + 4 * np.finfo(np.float32).eps * np.abs(truth).max()
    for where, losses in curves.items():
        off = np.abs(losses - truth)
        worst = int(np.argmax(off - allowed))
        assert (off <= allowed).all(), (
            f"{where}, step {worst}: off by {off[worst]:.2e}, allowed {allowed[worst]:.2e}"
        )
