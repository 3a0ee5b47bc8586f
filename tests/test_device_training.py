"""Training with device="cuda": models of one's own and of `Sequential`, optimizers, clipping, checkpoints.

Each loop is held to the bits of the same loop over NumPy arrays with the same kernels.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sequences import bits, on_device
from test_device_functions import drawn, same_kernels

import fusedrnn as fr
from fusedrnn import optim

pytestmark = [pytest.mark.parity, pytest.mark.cuda]
T, B, WORDS, TAGS = 5, 3, 7, 4
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
    "centred": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, bias_correction=False),
}


class Tagger(fr.nn.Module):
    """A model as users write them, of all kinds of layers."""

    def __init__(self, device: str, dtype: Any = np.float32) -> None:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.embedding = fr.nn.Embedding(WORDS, 6, seed=1, **options)
        self.gru = fr.nn.GRU(6, 5, num_layers=2, dropout=0.2, bidirectional=True, seed=2, **options)
        self.norm = fr.nn.LayerNorm(10, **options)
        self.dropout = fr.nn.Dropout(0.3, seed=3)
        self.head = fr.nn.Linear(10, TAGS, seed=4, **options)
        self.last = fr.nn.Last()
        self.whole = fr.nn.Linear(10, 1, bias=False, seed=5, **options)

    def forward(self, ids: Any, lengths: Any) -> tuple[Any, Any]:
        y, _ = self.gru(self.embedding(ids), lengths=lengths)
        y = self.dropout(self.norm(y))
        return self.head(y), self.whole(self.last(y, lengths))

    def backward(self, dtags: Any, dwhole: Any) -> None:
        dy = added(self.head.backward(dtags), self.last.backward(self.whole.backward(dwhole)))
        dx, _ = self.gru.backward(self.norm.backward(self.dropout.backward(dy)))
        assert self.embedding.backward(dx) is None


def added(a: Any, b: Any) -> Any:
    """The sum, where the arrays are."""
    if isinstance(a, np.ndarray):
        return a + b
    return fr.asarray(a.numpy() + b.numpy())


def batch(step: int, dtype: Any = np.float32) -> tuple[Any, ...]:
    rng = np.random.default_rng(step)
    lengths = rng.integers(1, T + 1, B)
    mask = np.arange(T)[:, None] < lengths
    tags = np.where(mask, rng.integers(0, TAGS, (T, B)), -1)
    return rng.integers(0, WORDS, (T, B)), lengths, mask, tags, rng.standard_normal((B, 1)).astype(dtype)


def place(device: str, arrays: Any) -> Any:
    return on_device(arrays) if device == "cuda" else arrays


def one_step(
    model: Tagger, optimizer: optim.Optimizer, device: str, step: int, dtype: Any = np.float32, **options: Any
) -> list[float]:
    ids, lengths, mask, tags, whole = place(device, batch(step, dtype))
    model.zero_grad()
    logits, pred = model(ids, lengths)
    loss, dlogits = fr.losses.cross_entropy(logits, tags, mask=mask)
    other, dpred = fr.losses.mse(pred, whole)
    model.backward(dlogits, dpred)
    norm = optimizer.step(**options)
    return [float(loss), float(other), *([] if norm is None else [float(norm)])]


def states(model: fr.nn.Module, optimizer: optim.Optimizer) -> dict[str, Any]:
    """All that a checkpoint holds, as bytes and numbers."""
    saved = optimizer.state_dict()
    arrays = {f"{i}/{n}": a for i, own in saved["state"].items() for n, a in own.items() if n != "step"}
    assert all(type(a) is np.ndarray for a in arrays.values())
    steps = {i: own["step"] for i, own in saved["state"].items()}
    return {**bits(model.state_dict()), **bits(arrays), "steps": steps, "groups": saved["param_groups"]}


def trained(device: str, make: Any, steps: int = 3, dtype: Any = np.float32, **options: Any) -> Any:
    model = Tagger(device, dtype)
    optimizer = make(model.parameters())
    curve = [one_step(model, optimizer, device, step, dtype, **options) for step in range(steps)]
    return curve, states(model, optimizer)


def assert_trains_alike(make: Any, **options: Any) -> None:
    with same_kernels():
        curve, expected = trained("cpu", make, **options)
    ours = trained("cuda", make, **options)
    assert ours[0] == curve
    assert ours[1] == expected


# ------------------------------------------------------------------------------------------ whole loops
@pytest.mark.parametrize(
    "clip", [{}, {"clip_norm": 0.05}, {"clip_norm": 1e9, "skip_nonfinite": True}], ids=str
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_of_ones_own(name: str, clip: dict[str, Any]) -> None:
    assert_trains_alike(OPTIMIZERS[name], **clip)


def test_in_float64() -> None:
    assert_trains_alike(OPTIMIZERS["adam"], dtype=np.float64, clip_norm=0.1)


def chains() -> dict[str, tuple[Callable[[str], fr.nn.Sequential], Any, Any, str]]:
    """Models of `Sequential`: how to build one, x, target and loss."""
    nn, ids = fr.nn, np.arange(B * (T + 1)).reshape(B, T + 1) % WORDS
    return {
        "many to one": (
            lambda d: nn.Sequential(
                nn.LSTM(3, 6, device=d, seed=0), nn.LSTM(6, 6, device=d, seed=1), nn.Last(),
                nn.Linear(6, 2, device=d, seed=2),
            ),
            drawn(T, B, 3), drawn(B, 2, seed=1), "mse",
        ),
        "characters": (
            lambda d: nn.Sequential(
                nn.Embedding(WORDS, 4, device=d, seed=0), nn.GRU(4, 6, device=d, seed=1, batch_first=True),
                nn.LayerNorm(6, device=d), nn.Dropout(0.2, seed=2), nn.Linear(6, WORDS, device=d, seed=3),
            ),
            ids[:, :T].copy(), ids[:, 1:].copy(), "cross_entropy",
        ),
        "nested": (
            lambda d: nn.Sequential(
                nn.Sequential(nn.RNN(3, 6, device=d, seed=0, bidirectional=True), nn.Dropout(0.0)),
                nn.Linear(12, 1, device=d, seed=1),
            ),
            drawn(T, B, 3), (drawn(T, B, 1) > 0).astype(np.float32), "binary_cross_entropy",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", chains())
def test_sequential_by_separate_calls(name: str) -> None:
    build, x, target, loss = chains()[name]

    def run(device: str) -> Any:
        model = build(device)
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        inputs, aims = place(device, (x, target))
        curve = []
        for _ in range(3):
            pred = model(inputs)
            value, dpred = getattr(fr.losses, loss)(pred, aims)
            model.zero_grad()
            model.backward(dpred)
            curve.append((float(value), float(optimizer.step(clip_norm=0.5))))
        return curve, states(model, optimizer)

    with same_kernels():
        expected = run("cpu")
    assert run("cuda") == expected


def test_eval_mode() -> None:
    model, here = Tagger("cuda").eval(), Tagger("cpu").eval()
    ids, lengths, *_ = batch(0)
    ours = model(*on_device((ids, lengths)))
    with same_kernels():
        expected = here(ids, lengths)
    for a, b in zip(ours, expected, strict=True):
        assert a.numpy().tobytes() == b.tobytes()
    with pytest.raises(RuntimeError, match="no tape"):
        model.head.backward(ours[0])


# ------------------------------------------------------------------------------ steps that do not count
def poisoned(model: Tagger, value: float) -> None:
    grad = model.head.weight.grad.numpy()
    grad[0, 0] = value
    model.head.weight.grad = grad


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_skipped_step_does_not_count(clip_norm: float | None, value: float) -> None:
    """Decided on the device: the host learns of it when it asks for the step."""
    model = Tagger("cuda")
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    group = optimizer.param_groups[0]
    one_step(model, optimizer, "cuda", 0, clip_norm=clip_norm, skip_nonfinite=True)
    before = states(model, optimizer)
    poisoned(model, value)
    norm = optimizer.step(clip_norm=clip_norm, skip_nonfinite=True)
    assert norm is None if clip_norm is None else not math.isfinite(norm)
    assert states(model, optimizer) == before
    assert group["step"] == 1
    one_step(model, optimizer, "cuda", 1, clip_norm=clip_norm, skip_nonfinite=True)
    one_step(model, optimizer, "cuda", 2, clip_norm=clip_norm)
    assert group["step"] == 3
    assert (
        states(model, optimizer) == trained("cuda", lambda p: optim.Adam(p, lr=0.01), clip_norm=clip_norm)[1]
    )


def test_without_clipping_a_bad_gradient_spoils_its_own_parameter_alone() -> None:
    model = Tagger("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    poisoned(model, math.inf)
    optimizer.step()
    assert np.isinf(model.head.weight.numpy()).sum() == 1
    assert all(np.isfinite(a).all() for name, a in model.state_dict().items() if name != "head.weight")
    assert optimizer.param_groups[0]["step"] == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda g: g["step"],
        lambda g: g.get("step"),
        lambda g: dict(g)["step"],
        lambda g: {**g}["step"],
        lambda g: dict(g.items())["step"],
        lambda g: list(g.values())[list(g).index("step")],
        lambda g: g.copy()["step"],
        lambda g: (g | {})["step"],
        lambda g: json.loads(json.dumps({k: v for k, v in g.items() if k != "params"}))["step"],
        lambda g: int(repr(g).split("'step': ")[1].split(",")[0].rstrip("}")),
        lambda g: 1 if g == dict(g) else 0,
    ],
)
def test_the_step_is_right_however_it_is_read(read: Any) -> None:
    p = fr.nn.Parameter(fr.asarray(drawn(3)))
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.step(skip_nonfinite=True)
    p.grad = np.full(3, np.nan, np.float32)
    optimizer.step(skip_nonfinite=True)
    assert read(optimizer.param_groups[0]) == 1


def test_learning_rates_of_groups_and_schedules() -> None:
    def run(device: str) -> Any:
        model = Tagger(device)
        groups = [
            {"params": model.gru.parameters(), "lr": 0.05},
            {"params": [*model.embedding.parameters(), *model.head.parameters()], "betas": (0.5, 0.9)},
            {"params": [*model.norm.parameters(), *model.whole.parameters()]},
        ]
        optimizer = optim.Adam(groups, lr=0.01)
        schedule = optim.schedules.exponential(0.02, 0.5)
        for step in range(4):
            one_step(model, optimizer, device, step, clip_norm=0.3)
            optimizer.param_groups[0]["lr"] *= 0.5
            if step == 1:
                optimizer.lr = schedule(step)
        return states(model, optimizer)

    with same_kernels():
        expected = run("cpu")
    assert run("cuda") == expected


def test_a_group_without_parameters_changes_nothing() -> None:
    def run(device: str) -> Any:
        model = Tagger(device)
        optimizer = optim.Adam([{"params": []}, {"params": model.parameters()}], lr=0.01)
        for step in range(3):
            one_step(model, optimizer, device, step)
        return states(model, optimizer)["steps"], bits(model.state_dict())

    with same_kernels():
        expected = run("cpu")
    assert run("cuda") == expected


# ------------------------------------------------------------------------------------------- clipping
@pytest.mark.parametrize("max_norm", [0.1, 1e9])
def test_gradient_clipping(max_norm: float) -> None:
    def run(device: str) -> Any:
        model = Tagger(device)
        one_step(model, optim.SGD(model.parameters(), lr=0.0), device, 0)
        norm = float(optim.clip_grad_norm_(model.parameters(), max_norm))
        optim.clip_grad_value_(model.parameters(), 0.01)
        return norm, [np.asarray(place_back(p.grad)).tobytes() for p in model.parameters()]

    with same_kernels():
        expected = run("cpu")
    assert run("cuda") == expected


def place_back(array: Any) -> Any:
    return array.numpy() if isinstance(array, fr.DeviceArray) else array


def test_gradient_clipping_of_what_is_not_finite() -> None:
    model = Tagger("cuda")
    poisoned(model, math.nan)
    before = [place_back(p.grad).tobytes() for p in model.parameters()]
    with pytest.raises(RuntimeError, match="the gradients' norm is nan: nothing was clipped"):
        optim.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    assert [place_back(p.grad).tobytes() for p in model.parameters()] == before
    assert math.isnan(optim.clip_grad_norm_(model.parameters(), 1.0))
    assert all(np.isnan(place_back(p.grad)).all() for p in model.parameters())


# ---------------------------------------------------------------------------------------- checkpoints
@pytest.mark.parametrize(("source", "target"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_checkpoints_go_between_devices(source: str, target: str) -> None:
    """Training goes on elsewhere to the bits that it would have come to."""

    def run(devices: list[str]) -> Any:
        model = Tagger(devices[0])
        optimizer = optim.RMSprop(model.parameters(), lr=0.01, centered=True, momentum=0.3)
        for step, device in enumerate(devices):
            if step == 2:
                saved = model.state_dict(), optimizer.state_dict(), model.random_state()
                model = Tagger(device)
                optimizer = optim.RMSprop(model.parameters(), lr=0.5, centered=True, momentum=0.3)
                model.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
                model.load_random_state(saved[2])
            one_step(model, optimizer, device, step, clip_norm=0.2, skip_nonfinite=True)
        return states(model, optimizer)

    with same_kernels():
        expected = run(["cpu", "cpu", "cpu", "cpu"])
        assert run([source, source, target, target]) == expected


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_train_on(copied: Any) -> None:
    model = Tagger("cuda")
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    one_step(model, optimizer, "cuda", 0, clip_norm=0.2, skip_nonfinite=True)
    twin, other = copied((model, optimizer))
    assert states(twin, other) == states(model, optimizer)
    assert type(other.param_groups[0]) is type(optimizer.param_groups[0]), "nobody counts its updates there"
    before = states(model, optimizer)
    assert one_step(twin, other, "cuda", 1, clip_norm=0.2) is not None
    assert states(model, optimizer) == before
    one_step(model, optimizer, "cuda", 1, clip_norm=0.2)
    assert states(twin, other) == states(model, optimizer)
    assert states(twin, other) != before


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_parameters_are_masters_of_their_rounded_copies(precision: str) -> None:
    """Updates far below the resolution of a narrow type add up, and then change what is computed."""
    lstm = fr.nn.LSTM(4, 5, device="cuda", precision=precision, seed=0)
    x, start = fr.asarray(drawn(3, 2, 4)), lstm.weight_ih_l0.numpy()
    first = lstm(x)[0].numpy()
    optimizer = optim.SGD([lstm.weight_ih_l0], lr=1.0)
    tiny = 2.0**-16 * np.abs(start)  # the resolution of bf16 is 2**-8, that of fp16 and tf32 2**-11
    lstm.weight_ih_l0.grad = -tiny
    optimizer.step()
    once = lstm.weight_ih_l0.numpy()
    assert (np.abs(once - start) > 0).all()
    for _ in range(2**8):
        optimizer.step()
    moved = lstm.weight_ih_l0.numpy() - start
    np.testing.assert_allclose(moved, 257 * tiny, rtol=0.02)
    assert not np.array_equal(lstm(x)[0].numpy(), first)


# ----------------------------------------------------------------------------------------- two devices
def test_parameters_on_two_devices_are_refused() -> None:
    here, there = fr.nn.Linear(2, 3), fr.nn.Linear(2, 3, device="cuda")
    message = (
        "params must be on one device, '\\w+' is on c.+ and '\\w+' on c.+: build all layers with one dev"
    )
    both = [*here.parameters(), *there.parameters()]
    for call in (
        lambda: optim.Adam(both),
        lambda: optim.Adam([{"params": here.parameters()}, {"params": there.parameters()}]),
        lambda: optim.clip_grad_norm_(both, 1.0),
        lambda: optim.clip_grad_value_(both[::-1], 1.0),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    optimizer = optim.Adam(there.parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": here.parameters()})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_layers_take_arrays_of_their_own_device(device: str) -> None:
    other = "cpu" if device == "cuda" else "cuda"
    x, ids = place(other, (drawn(3, 4), np.array([1, 0])))
    must = "x must be a " + (
        "DeviceArray, it is a NumPy array" if device == "cuda" else "NumPy array, it is a Dev"
    )
    for layer in (fr.nn.Linear(4, 2, device=device), fr.nn.LayerNorm(4, device=device)):
        with pytest.raises(TypeError, match=must):
            layer(x)
        own = place(device, drawn(3, 4))
        layer(own)
        with pytest.raises(TypeError, match="dy must be a "):
            layer.backward(place(other, drawn(3, 2 if isinstance(layer, fr.nn.Linear) else 4)))
    with pytest.raises(TypeError, match="ids must be a "):
        fr.nn.Embedding(5, 3, device=device)(ids)


def test_precision_of_linear() -> None:
    with pytest.raises(
        ValueError, match="precision must be 'ieee', the one that Linear computes in on CUDA, it is 'bf16'"
    ):
        fr.nn.Linear(2, 3, device="cuda", precision="bf16")
