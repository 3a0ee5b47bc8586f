"""Kind 1: numbers that were wrong without a word, beside PyTorch's, float64's or a closed form."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from fault import Found, equal, fault, near, refusal, torch

import fusedrnn as fr

T, B, H = 5, 3, 4
EXACT = 1e-12


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def peer(module: Any) -> Any:
    """PyTorch's module of the same name with the same weights, float64."""
    theirs = getattr(torch().nn, type(module).__name__)(
        *((H, H) if type(module).__name__ != "LayerNorm" else (H,)), dtype=torch().float64
    )
    theirs.load_state_dict({k: torch().from_numpy(np.array(v)) for k, v in module.state_dict().items()})
    return theirs


def layer(kind: str = "GRU") -> Any:
    options = {} if kind == "LayerNorm" else {"seed": 0}
    return getattr(fr.nn, kind)(*((H,) if kind == "LayerNorm" else (H, H)), dtype=np.float64, **options)


def gradients(ours: Any, theirs: Any) -> dict[str, tuple[Any, Any]]:
    """Pairs of gradients by name, one for all weights of a kind."""
    there = dict(theirs.named_parameters())
    return {f"d{name}": (p.grad, there[name].grad.numpy()) for name, p in ours.named_parameters()}


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


# --------------------------------------------------------------------- 1.1 called twice before backward
@fault("1.1", "Sequential(gru, gru).backward", "PyTorch's gradients, to 1e-12")
def _() -> Found:
    gru = layer()
    both, theirs, x = fr.nn.Sequential(gru, gru), peer(gru), data(T, B, H)
    there = torch().from_numpy(x.copy()).requires_grad_()
    theirs(theirs(there)[0])[0].sum().backward()
    y = both(x)
    both.zero_grad()
    dx = both.backward(np.ones_like(y))
    return near(EXACT, dx=(first(dx), there.grad.numpy()), **gradients(gru, theirs))


@fault("1.1", "one Dropout in two places, with a Linear between", "dx = W^T of dy by the masks that y shows")
def _() -> Found:
    drop, linear = fr.nn.Dropout(0.5, seed=0), fr.nn.Linear(H, H, bias=False, dtype=np.float64, seed=0)
    linear.weight.data = np.diag(np.arange(1.0, H + 1))  # so that y / x is both masks and the diagonal
    model, x = fr.nn.Sequential(drop, linear, drop), 1 + np.abs(data(64, H))
    y, dy = model(x), data(64, H, seed=1)
    return near(EXACT, dx=(model.backward(dy), y / x * dy))


def loop(kind: str, order: str) -> Found:
    module, x = layer(kind), data(T, B, H)
    theirs, there = peer(module), torch().from_numpy(x.copy()).requires_grad_()
    weights = torch().from_numpy(data(T, B, H, seed=1))
    (theirs(there)[0] * weights).sum().backward()
    state, steps = None, []
    for t in range(T):
        y, state = module(x[t : t + 1], state)
        steps.append(y)
    after, dxs = None, [None] * T
    for t in reversed(range(T)):
        told = {"of": steps[t]} if order == "told" else {}
        dxs[t], after = module.backward(weights[t : t + 1].numpy(), after, **told)
    return near(EXACT, dx=(np.concatenate(dxs), there.grad.numpy()), **gradients(module, theirs))


for kind in ("GRU", "LSTM", "RNN"):
    fault(
        "1.1", f"{kind}: a loop over steps, backward in the other order", "PyTorch's of the whole sequence"
    )(partial(loop, kind, "newest"))
fault("1.1", "GRU: the same loop, each call named by of=", "PyTorch's of the whole sequence")(
    partial(loop, "GRU", "told")
)


@fault("1.1", "GRU: forward and backward of a step in turn", "PyTorch's, with the state detached")
def _() -> Found:
    gru, x = layer(), data(T, B, H)
    theirs, state, there = peer(gru), None, None
    for t in range(T):
        y, state = gru(x[t : t + 1], state)
        gru.backward(np.ones_like(y))
        result, there = theirs(torch().from_numpy(x[t : t + 1]), None if there is None else there.detach())
        result.sum().backward()
    return near(EXACT, **gradients(gru, theirs))


def siamese(kind: str) -> Found:
    module = fr.nn.Embedding(9, H, dtype=np.float64, seed=0) if kind == "Embedding" else layer(kind)
    inputs = [data(T, B, H, seed=s) for s in (1, 2)]
    if kind == "Embedding":
        inputs = [np.arange(B), np.arange(B) + 3]
    results = [first(module(x)) for x in inputs]
    found = refusal(lambda: module.backward(np.ones_like(results[0])), "of=")
    return found if found.right else Found("takes the tape of the second: " + found.gives, False)


for kind in ("GRU", "LSTM", "Linear", "LayerNorm", "Embedding"):
    fault("1.1", f"{kind}: two inputs, then backward for the first", "an error that says of=")(
        partial(siamese, kind)
    )


@fault("1.1", "GRU: gru(x) - gru(2 x), no result is kept, backward twice", "an error that says of=")
def _() -> Found:
    gru, x = layer(), data(T, B, H)
    dy = gru(x)[0] - gru(2 * x)[0]
    gru.backward(dy)
    return refusal(lambda: gru.backward(-dy), "of=")


@fault("1.1", "GRU: two inputs, backward(of=) for the first", "PyTorch's gradients of the first")
def _() -> Found:
    gru, inputs = layer(), [data(T, B, H, seed=s) for s in (1, 2)]
    theirs, there = peer(gru), torch().from_numpy(inputs[0]).requires_grad_()
    theirs(there)[0].sum().backward()
    results = [gru(x)[0] for x in inputs]
    dx, _ = gru.backward(np.ones_like(results[0]), of=results[0])
    return near(EXACT, dx=(dx, there.grad.numpy()), **gradients(gru, theirs))


def twice_in_a_step(build: Callable[[], Any]) -> Found:
    """Three steps of SGD of a model that has its first layer in two places, beside PyTorch's."""
    model, x, target = build(), data(T, B, H), data(T, B, H, seed=1)
    theirs = [peer(module) for module in model if type(module).__name__ != "Dropout"]
    if model[0] is model[1]:
        theirs = [theirs[0]] * 2
    optimizer = fr.optim.SGD(model.parameters(), lr=0.1)
    other = torch().optim.SGD(theirs[0].parameters(), lr=0.1)
    for _ in range(3):
        model.train_step(x, target, "mse", optimizer)
        y = torch().from_numpy(x)
        for module in theirs:
            y = module(y)
            y = y[0] if isinstance(y, tuple) else y
        other.zero_grad()
        torch().nn.functional.mse_loss(y, torch().from_numpy(target)).backward()
        other.step()
    weights = {
        n: (p.data, dict(theirs[0].named_parameters())[n].detach().numpy())
        for n, p in model[0].named_parameters()
    }
    return near(EXACT, **weights)


def repeated(kind: str) -> Any:
    module = layer(kind)
    return fr.nn.Sequential(module, module)


for kind in ("GRU", "LSTM", "Linear"):
    fault(
        "1.1", f"train_step of Sequential(m, m), m {kind}: weights after three steps", "PyTorch's, to 1e-12"
    )(lambda kind=kind: twice_in_a_step(lambda: repeated(kind)))


@fault(
    "1.1", "train_step with one Dropout in two places", "the weights of separate calls with a mask for each"
)
def _() -> Found:
    x, target, models = data(T, B, H), data(T, B, H, seed=1), []
    for _ in range(2):
        drop, linear = fr.nn.Dropout(0.5, seed=0), fr.nn.Linear(H, H, dtype=np.float64, seed=0)
        models.append(fr.nn.Sequential(drop, linear, drop))
    optimizers = [fr.optim.SGD(model.parameters(), lr=0.1) for model in models]
    for _ in range(3):
        models[0].train_step(x, target, "mse", optimizers[0])
        linear = models[1][1]
        weight, bias = np.array(linear.weight.data), np.array(linear.bias.data)
        probe = models[1]
        y = probe(x)  # masks by division: where y is not 0 both kept it, or the first did not matter
        hidden = masked(probe, x)
        dy = 2 * (y - target) / y.size
        kept = (y != 0) * 2.0
        dz = dy * kept
        linear.weight.data = weight - 0.1 * np.einsum("tbi,tbj->ij", dz, hidden)
        linear.bias.data = bias - 0.1 * dz.sum((0, 1))
    pairs = zip(models[0][1].parameters(), models[1][1].parameters(), strict=True)
    return near(EXACT, **{p.name: (p.data, q.data) for p, q in pairs})


def masked(model: Any, x: np.ndarray) -> np.ndarray:
    """What the first Dropout of the call just made handed on, by another one with the key that it had."""
    again = fr.nn.Dropout(0.5, seed=0)
    again._dropout_key = (model[0]._dropout_key - 2) % 2**64
    return again(x)


# ----------------------------------------------------------- 1.2 inputs overwritten before backward
def overwritten(kind: str) -> Found:
    module, x = layer(kind), data(T, B, H)
    theirs, there = peer(module), torch().from_numpy(x.copy()).requires_grad_()
    result = theirs(there)
    dy = data(T, B, H, seed=1)
    (first(result) * torch().from_numpy(dy)).sum().backward()
    first(module(x))
    x[...] = 0
    dx = first(module.backward(dy))
    return near(EXACT, dx=(dx, there.grad.numpy()), **gradients(module, theirs))


for kind in ("GRU", "LSTM", "RNN", "Linear", "LayerNorm"):
    fault("1.2", f"{kind}: x = 0 between forward and backward", "PyTorch's gradients of the x of forward")(
        partial(overwritten, kind)
    )


@fault(
    "1.2", "Embedding: ids = 0 between forward and backward", "rows of the ids of forward get the gradient"
)
def _() -> Found:
    module, ids = fr.nn.Embedding(9, 2, dtype=np.float64, seed=0), np.array([3, 5, 3])
    y = module(ids)
    ids[...] = 0
    module.backward(np.ones_like(y))
    return equal(module.weight.grad[:, 0].tolist(), [0, 0, 0, 2, 0, 1, 0, 0, 0])


@fault(
    "1.2", "LSTM: h0 = c0 = 0 between forward and backward", "PyTorch's gradients of the states of forward"
)
def _() -> Found:
    module, x, h0, c0 = layer("LSTM"), data(T, B, H), data(1, B, H, seed=1), data(1, B, H, seed=2)
    theirs = peer(module)
    theirs(torch().from_numpy(x), (torch().from_numpy(h0.copy()), torch().from_numpy(c0.copy())))[
        0
    ].sum().backward()
    y, _ = module(x, (h0, c0))
    h0[...], c0[...] = 0, 0
    module.backward(np.ones_like(y))
    return near(EXACT, **gradients(module, theirs))


# ------------------------------------------------------------------------------------ 1.3 Ctrl-C
def interrupted(action: str, moments: int) -> Found:
    """Alarms at moments spread over a call; after each, what the model computes and counts must agree."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    model, fresh = (
        fr.nn.Sequential(fr.nn.LSTM(16, 256, seed=0), fr.nn.Linear(256, 2, seed=1)) for _ in range(2)
    )
    optimizer = fr.optim.Adam(model.parameters(), lr=0.01)
    x, target = np.ones((100, 16, 16), np.float32), np.ones((100, 16, 2), np.float32)
    shrunk = {name: array * np.float32(0.99) for name, array in model.state_dict().items()}
    calls: dict[str, Callable[[], Any]] = {
        "train_step": lambda: model.train_step(x, target, "mse", optimizer),
        "Optimizer.step": optimizer.step,
        "load_state_dict": lambda: model.load_state_dict(shrunk),
        "p.data =": lambda: setattr(model[0].weight_hh_l0, "data", shrunk["0.weight_hh_l0"]),
    }
    call, stopped, wrong, most = calls[action], 0, 0, 0.0
    for _ in range(3):
        model.train_step(x, target, "mse", optimizer)
        start = time.perf_counter()
        call()
        length = time.perf_counter() - start
    original = fresh.state_dict()
    for i in range(moments):
        if "step" not in action:
            model.load_state_dict(original)
        model.eval()
        model(x[:1])  # packs
        model.train()
        count, before = optimizer.param_groups[0]["step"], model.state_dict()
        try:
            signal.setitimer(signal.ITIMER_REAL, max(1e-5, length * (i + 0.5) / moments))
            call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            stopped += 1
        moved = any((before[n] != a).any() for n, a in model.state_dict().items())
        fresh.load_state_dict(model.state_dict())
        off = float(np.abs(model.eval()(x[:1]) - fresh.eval()(x[:1])).max())
        model.train()
        most = max(most, off)
        wrong += off > 0 or ("step" in action and moved != (optimizer.param_groups[0]["step"] == count + 1))
    return Found(
        f"{wrong} of {stopped} interrupts left a mixture, evaluation off by up to {most:.1e}", not wrong
    )


for action, moments in (
    ("train_step", 20),
    ("Optimizer.step", 32),
    ("load_state_dict", 20),
    ("p.data =", 20),
):
    fault(
        "1.3",
        f"Ctrl-C at {moments} moments of {action}",
        "0 mixtures: weights, packing and counts agree",
        seconds=60,
    )(partial(interrupted, action, moments))


# -------------------------------------------------------------------------------- 1.4 global norms
@fault(
    "1.4",
    "norm of float32 and float64 parameters in 200 steps: train_step, separate calls, the exact one",
    "all agree",
)
def _() -> Found:
    models = [fr.nn.Sequential(fr.nn.LSTM(4, 6, seed=0), fr.nn.Linear(6, 2, seed=1)) for _ in range(2)]
    others = [fr.nn.Linear(2, 2, dtype=np.float64, seed=2) for _ in range(2)]
    optimizers = [
        fr.optim.SGD([*other.parameters(), *model.parameters()], lr=0.1)
        for model, other in zip(models, others, strict=True)
    ]
    differ = off = 0
    for seed in range(200):
        for other in others:
            other.weight.grad[...] = data(2, 2, seed=seed)
        x, target = (
            data(T, B, 4, seed=seed).astype(np.float32),
            data(T, B, 2, seed=seed + 1).astype(np.float32),
        )
        fused = models[0].train_step(x, target, "mse", optimizers[0], clip_norm=0.4)[1]
        _, dy = fr.losses.mse(models[1](x), target)
        models[1].zero_grad()
        models[1].backward(dy)
        parameters = [*others[1].parameters(), *models[1].parameters()]
        exact = math.sqrt(math.fsum(float(v) ** 2 for p in parameters for v in p.grad.ravel()))
        separate = optimizers[1].step(clip_norm=0.4)
        differ += fused != separate
        off += abs(separate - exact) > 1e-14 * exact
    return Found(
        f"train_step differs from separate calls in {differ}, these from the exact norm in {off}",
        not (differ or off),
    )


# --------------------------------------------------------------------------- 1.5 centred RMSprop
@fault(
    "1.5",
    "centred RMSprop, g = 1 + 3e-4 noise, float32, 2000 steps: largest step / lr",
    "float64's, to 1%",
    seconds=30,
)
def _() -> Found:
    rng = np.random.default_rng(0)
    parameter = fr.nn.Parameter(np.zeros(1000, np.float32))
    optimizer = fr.optim.RMSprop([parameter], lr=1e-3, centered=True)
    square, mean, most, right = np.zeros(1000), np.zeros(1000), 0.0, 0.0
    for _ in range(2000):
        g = (1 + 3e-4 * rng.standard_normal(1000)).astype(np.float32)
        wide, before = g.astype(np.float64), np.array(parameter.data)
        square, mean = 0.99 * square + 0.01 * wide**2, 0.99 * mean + 0.01 * wide
        right = max(right, float(np.abs(wide / (np.sqrt(square - mean**2) + 1e-8)).max()))
        parameter.grad = g
        optimizer.step()
        most = max(most, float(np.abs(parameter.data.astype(np.float64) - before).max() / 1e-3))
    return Found(f"{most:.6g}, float64 gives {right:.6g}", abs(most - right) < 0.01 * right)


# ------------------------------------------------------------------------------- 1.6 LayerNorm
@fault("1.6", "LayerNorm of 101325 + noise, width 16: dx, dweight", "float64's of the same numbers, to 1e-6")
def _() -> Found:
    x, dy = (101325 + data(32, 16)).astype(np.float32), data(32, 16, seed=1).astype(np.float32)
    norm = fr.nn.LayerNorm(16)
    y = norm(x)
    dx = norm.backward(dy)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    n, g = centred * scale, dy.astype(np.float64)
    right = scale * (g - g.mean(-1, keepdims=True) - n * (g * n).mean(-1, keepdims=True))
    return near(1e-6, y=(y, n), dx=(dx, right), dweight=(norm.weight.grad, (g * n).sum(0)))


# ------------------------------------------------------------------------------- 1.7 Adam
def small_after_large(which: str) -> Found:
    if which == "Adam":
        parameter = fr.nn.Parameter(np.zeros(1, np.float32))
        optimizer = fr.optim.Adam([parameter], betas=(0.0, 0.999))
        for g in (1e3, 1e-6):
            parameter.grad = np.full(1, g, np.float32)
            optimizer.step()
        found = optimizer.state_dict()["state"][0]["exp_avg"]
    else:
        arrays = [np.zeros(1, np.float32) for _ in range(3)]
        for step, g in enumerate((1e3, 1e-6), 1):
            getattr(fr, which).adam_(
                arrays[0],
                np.full(1, g, np.float32),
                arrays[1],
                arrays[2],
                lr=1e-3,
                step=step,
                betas=(0.0, 0.999),
            )
        found = arrays[1]
    return Found(f"{float(found[0]):.3g}", bool(found[0] == np.float32(1e-6)))


for which in ("Adam", "functional", "reference"):
    fault("1.7", f"betas[0] = 0, gradients 1e3 then 1e-6: exp_avg of {which}", "1e-06")(
        partial(small_after_large, which)
    )


# ------------------------------------------------------------------ 1.8 losses of infinite logits
def numbers(found: Any, right: list[float]) -> Found:
    values = np.asarray(found, np.float64).reshape(-1)
    return Found(" ".join(f"{v:.4g}" for v in values), bool(np.allclose(values, right, rtol=1e-6, atol=0)))


INF = np.inf
LOSSES: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "cross_entropy([[-inf, 1, 2]], [[0, 0, 1]])": (
        lambda m: m.cross_entropy(np.array([[-INF, 1, 2]], np.float32), np.array([[0, 0, 1]], np.float32))[0],
        [math.log(1 + math.exp(-1))],
    ),
    "cross_entropy([[-inf, 1, 2]], [2])": (
        lambda m: m.cross_entropy(np.array([[-INF, 1, 2]], np.float32), np.array([2]))[0],
        [math.log(1 + math.exp(-1))],
    ),
    "binary_cross_entropy([inf, -inf, inf, -inf], [1, 0, 0, 1], 'none')": (
        lambda m: m.binary_cross_entropy(
            np.array([INF, -INF, INF, -INF], np.float32), np.array([1, 0, 0, 1], np.float32), "none"
        )[0],
        [0, 0, INF, INF],
    ),
}
for name, (call, values) in LOSSES.items():
    for where in ("losses", "reference"):
        fault("1.8", f"{where}.{name}", " ".join(f"{v:.4g}" for v in values))(
            lambda call=call, values=values, where=where: numbers(call(getattr(fr, where)), values)
        )


# ------------------------------------------------------------------- 1.9 counts that are none
def stepped(where: str, **changed: Any) -> Found:
    arrays = [np.zeros(3, np.float32) for _ in range(4)]
    arrays[1][...] = 1
    found = refusal(lambda: getattr(fr, where).adam_(*arrays, **{"lr": 0.1, "step": 1, **changed}), *changed)
    return found if found.right else Found(f"{found.gives}, weights become {arrays[0][0]:.3g}", False)


for where in ("functional", "reference"):
    for option, value in (
        *(("step", v) for v in (2**64, INF, math.nan, 1.5, 0, -5)),
        *(("clip_factor", v) for v in (-1.0, math.nan, INF)),
    ):
        fault("1.9", f"{where}.adam_({option}={value!r})", f"an error that names {option}")(
            partial(stepped, where, **{option: value})
        )


@fault("1.9", 'param_groups[0]["step"] = -5', "an error that names step")
def _() -> Found:
    linear = fr.nn.Linear(2, 2, seed=0)
    optimizer = fr.optim.Adam(linear.parameters())
    optimizer.step()
    optimizer.param_groups[0]["step"] = -5
    return refusal(optimizer.step, "step")


# ------------------------------------------------------------------ 1.10 accepted in silence
MASKED = np.ma.masked_array(np.ones((2, 3), np.float32), mask=np.eye(2, 3, dtype=bool))


def linear() -> Any:
    return fr.nn.Linear(3, 2, seed=0)


def unknown_weight() -> Any:
    weights = fr.nn.GRU(2, 3, seed=0).state_dict()
    y, _, tape = fr.functional.gru_forward(np.ones((2, 1, 2), np.float32), None, weights)
    dweights = {name: np.zeros_like(array) for name, array in weights.items()}
    return fr.functional.gru_backward(
        tape, y, None, dweights={**dweights, "weight_ih_l7": np.zeros(3, np.float32)}
    )


def other_order() -> Any:
    gru = fr.nn.GRU(3, 1, bias=False, seed=0)  # two weights of one shape
    saved = fr.optim.Adam([gru.weight_ih_l0, gru.weight_hh_l0])
    saved.step()
    return fr.optim.Adam([gru.weight_hh_l0, gru.weight_ih_l0]).load_state_dict(saved.state_dict())


SILENT: dict[str, tuple[Callable[[], Any], str]] = {
    "load_state_dict of a masked array": (
        lambda: linear().load_state_dict({**linear().state_dict(), "weight": MASKED}),
        "mask",
    ),
    "Parameter of a masked array": (lambda: fr.nn.Parameter(MASKED), "mask"),
    "p.data = a masked array": (lambda: setattr(linear().weight, "data", MASKED), "mask"),
    "Linear(dtype=None)": (lambda: fr.nn.Linear(2, 2, dtype=None), "dtype"),
    "LSTM(dtype=None)": (lambda: fr.nn.LSTM(2, 2, dtype=None), "dtype"),
    "dweights with an unknown name": (unknown_weight, "weight_ih_l7"),
    "Adam(set of parameters)": (lambda: fr.optim.Adam(set(linear().parameters())), "order"),
    "an optimizer's state in another order of equal shapes": (other_order, "order"),
}
for name, (call, word) in SILENT.items():
    fault("1.10", name, f"an error that says {word!r}")(partial(refusal, call, word))


@fault("1.10", "reference.clip_by_value_([-9 1 9], np.uint8(5))", "[-5, 1, 5]")
def _() -> Found:
    array = np.array([-9.0, 1.0, 9.0])
    fr.reference.clip_by_value_([array], np.uint8(5))
    return equal(array.tolist(), [-5, 1, 5])


@fault(
    "1.10",
    "relu RNN of inf and -inf, and inf through its backward: kernels and reference",
    "the same numbers",
)
def _() -> Found:
    weights = {"weight_ih_l0": np.eye(4, dtype=np.float32), "weight_hh_l0": np.zeros((4, 4), np.float32)}
    x, x1 = np.array([[[INF, -INF, -1, math.nan]], [[1.0, -1.0, -2.0, 0.0]]], np.float32)[:, None]
    results = []
    with np.errstate(invalid="ignore"):
        for functions in (fr.functional, fr.reference):
            y, *_ = functions.rnn_forward(x, None, weights, nonlinearity="relu")
            _, _, tape = functions.rnn_forward(x1, None, weights, nonlinearity="relu")
            _, dh0, dweights = functions.rnn_backward(tape, np.full_like(x1, INF), None)
            results.append([np.asarray(a) for a in (y, dh0, dweights["weight_ih_l0"])])
    same = [np.array_equal(a, b, equal_nan=True) for a, b in zip(*results, strict=True)]
    words = ", ".join(
        f"{n} {'equal' if s else 'differ'}" for n, s in zip(("y", "dh0", "dW"), same, strict=True)
    )
    return Found(words, all(same))
