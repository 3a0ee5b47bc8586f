"""train_step on a CUDA device, its streams and graphs: nobody waits, and a caller's own graph may have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sequences import on_device, on_host
from steps import B, T, adam, assert_tree, data, labels, regressor, separate, sequences, tagger, twins
from streams import EMULATED, Graph, captured, counts

import fusedrnn as fr

pytestmark = [
    pytest.mark.parity,
    pytest.mark.cuda,
    pytest.mark.skipif(not EMULATED, reason="captures and counts are the emulator's"),
]


def test_nobody_waits_and_nothing_is_allocated_but_results() -> None:
    """Over shapes in turn, all of them seen before, with a learning rate and a mask of every step's own."""
    first, second = regressor(device="cuda", num_layers=2, dropout=0.5), tagger("cuda")
    lengths, resets = np.array([6, 1, 0, 3]), data(T, B) > 0.5
    shapes = [
        {"clip_norm": 1.0},
        {"lengths": lengths, "resets": resets},
        {"lengths": fr.asarray(lengths), "state": [on_device((data(2, B, 5), data(2, B, 5)))]},
        {"mask": fr.asarray(np.ones((B, 2), bool)), "skip_nonfinite": True},
    ]
    steps = [
        (
            model,
            {**more, "x": fr.asarray(step["x"]), "y": fr.asarray(step["y"]), "loss": loss, "optimizer": o},
        )
        for model, loss, options, made in (
            (first, "mse", shapes, sequences(4)),
            (second, "cross_entropy", [{"clip_norm": 1.0}], labels(1)),
        )
        for o in [adam(model.parameters())]
        for step, more in zip(made, options, strict=True)
    ]

    def turn(rate: float) -> list[Any]:
        for _, step in steps:
            step["optimizer"].lr = rate
        return [model.train_step(**step) for model, step in steps]

    for rate in (0.1, 0.2, 0.3):
        losses = [float(result[0]) for result in turn(rate)]
    allocations, waits = counts()
    results = [turn(rate) for rate in (0.2, 0.1, 0.05)]
    made, waited = counts()
    assert waited == waits
    assert made - allocations <= 3 * len(steps)  # the memory of loss and norm, which are the caller's own
    assert [float(result[0]) for result in results[-1]] != losses
    assert counts()[1] > waited  # by those floats: the counter counts


def test_streams_of_the_callers() -> None:
    """What a step keeps is in order, whichever streams the calls of a model are made on."""
    (model, optimizer), (twin, other) = twins(tagger("cuda"), adam)
    for s, stream in enumerate((0, 0xA0, 0xA0, 0xB0, 0xA0, 0xB0, 0, 0xA0)):
        x, y = on_device((labels(s + 1)[s]["x"], labels(s + 1)[s]["y"]))
        with fr.cuda.stream(stream):
            found = on_host(model.train_step(x, y, "cross_entropy", optimizer, 1.0))
        assert_tree(found, on_host(separate(twin, other, "cross_entropy", x, y, 1.0)))


def test_a_graph_of_the_callers() -> None:
    """Replayed with new inputs, learning rates and masks it makes the steps that the separate calls make."""
    (model, optimizer), (twin, other) = twins(tagger("cuda", num_layers=2, dropout=0.2), adam)
    stream = 0xC0
    with fr.cuda.stream(stream):
        x, y = on_device((labels(1)[0]["x"], labels(1)[0]["y"]))
        for _ in range(2):
            found = on_host(model.train_step(x, y, "cross_entropy", optimizer, 1.0))
            assert_tree(found, on_host(separate(twin, other, "cross_entropy", x, y, 1.0)))
        state = model.random_state(), optimizer.param_groups[0]["step"]
        graphs: list[Graph] = []
        with captured(stream, graphs):
            loss, norm = model.train_step(x, y, "cross_entropy", optimizer, 1.0)
        assert (model.random_state(), optimizer.param_groups[0]["step"]) == state  # nothing was done yet
        for s, rate in enumerate((0.05, 0.1, 0.1, 0.02)):
            fresh = labels(s + 1)[s]
            x._assign(fresh["x"])
            y._assign(fresh["y"])
            optimizer.lr = other.lr = rate
            graphs[0].launch(stream)
            expected = separate(twin, other, "cross_entropy", x, y, 1.0)
            assert_tree((float(loss), float(norm)), on_host([a.numpy().item() for a in expected]))
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                np.testing.assert_array_equal(p.numpy(), q.numpy())
        assert optimizer.param_groups[0]["step"] == other.param_groups[0]["step"] == 6
        # From here on the model's calls are made by another native step, with masks of the host's count.
        model.load_random_state(twin.random_state())
        for _ in range(4):
            found = on_host(model.train_step(x, y, "cross_entropy", optimizer, 1.0))
            assert_tree(found, on_host(separate(twin, other, "cross_entropy", x, y, 1.0)))
        graphs[0].free()


def test_a_capture_that_would_not_repeat() -> None:
    """What the host has set since the step before cannot become part of a graph, nor can a first call."""
    model = tagger("cuda")
    optimizer = adam(model.parameters())
    with fr.cuda.stream(0xC1):
        x, y = on_device((labels(1)[0]["x"], labels(1)[0]["y"]))
        with (
            pytest.raises(RuntimeError, match="make one step of this kind before the capture"),
            captured(0xC1, []),
        ):
            model.train_step(x, y, "cross_entropy", optimizer)
        for _ in range(2):
            model.train_step(x, y, "cross_entropy", optimizer)
        model.load_random_state(dict.fromkeys(model.random_state(), 5))
        with (
            pytest.raises(RuntimeError, match="dropout keys were set since the step before"),
            captured(0xC1, []),
        ):
            model.train_step(x, y, "cross_entropy", optimizer)
        model.train_step(x, y, "cross_entropy", optimizer)
        optimizer.param_groups[0]["lr"] = 0.5
        with pytest.raises(RuntimeError, match="cannot be captured"), captured(0xC1, []):
            model.train_step(x, y, "cross_entropy", optimizer)
        model.train_step(x, y, "cross_entropy", optimizer)


def test_weights_that_a_graph_has_changed() -> None:
    """No packing of them from before is used."""
    model = regressor(device="cuda")
    optimizer = adam(model.parameters())
    with fr.cuda.stream(0xC2):
        x, y = on_device((sequences(1)[0]["x"], sequences(1)[0]["y"]))
        for _ in range(2):
            model.train_step(x, y, "mse", optimizer)
        model(x)
        graphs: list[Graph] = []
        with captured(0xC2, graphs):
            model.train_step(x, y, "mse", optimizer)
        before = model(x).numpy()
        graphs[0].launch(0xC2)
        after = model(x).numpy()
        assert not np.array_equal(before, after)
        assert optimizer.param_groups[0]["step"] == 3
        twin = regressor(device="cuda")
        twin.load_state_dict(model.state_dict())
        np.testing.assert_array_equal(twin(x).numpy(), after)
