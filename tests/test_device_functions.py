"""Layers, losses and updates on arrays of a CUDA device: the bits of the same kernels for NumPy arrays.

Those are held to the reference by the tests of each operation, run with ``--backend cuda`` or ``simt``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import device_backend
import numpy as np
import pytest
from sequences import bits, named, on_device, on_host

import fusedrnn as fr
from fusedrnn import _native, functional

pytestmark = [pytest.mark.parity, pytest.mark.cuda]
Array = np.ndarray
FLOATS = [np.float32, np.float64]


@contextmanager
def same_kernels() -> Iterator[None]:
    """The device's kernels for NumPy arrays, which are carried there and back."""
    before = _native.backend()
    device_backend.choose()
    try:
        yield
    finally:
        _native.set_backend(before)


def drawn(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def copied(arguments: tuple[Any, ...]) -> list[Any]:
    return [
        [a.copy() for a in v] if isinstance(v, list) else getattr(v, "copy", lambda v=v: v)()
        for v in arguments
    ]


def numbers(results: Any) -> dict[str, bytes]:
    """All arrays and numbers of a result, wherever they are."""
    if not isinstance(results, (tuple, list)):
        results = (results,)
    return bits(named([np.asarray(r) if isinstance(r, float) else r for r in on_host(results)]))


def assert_same_on_device(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Results, and what the call wrote to its arguments; returns the results on the device."""
    there, here = on_device((copied(arguments), options)), (copied(arguments), options)
    with same_kernels():
        expected = function(*here[0], **here[1])
    ours = function(*there[0], **there[1])
    assert numbers(ours) == numbers(expected)
    assert numbers(flat(there[0])) == numbers(flat(here[0]))
    for result in ours if isinstance(ours, tuple) else (ours,):
        assert result is None or isinstance(result, fr.DeviceArray)
    return ours


def flat(values: list[Any]) -> list[Any]:
    arrays = (np.ndarray, fr.DeviceArray)
    return [a for v in values for a in (v if isinstance(v, list) else [v]) if isinstance(a, arrays)]


# ----------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(dtype: Any, bias: bool) -> None:
    x, weight, dy = drawn(3, 2, 7, dtype=dtype), drawn(5, 7, dtype=dtype), drawn(3, 2, 5, dtype=dtype)
    assert_same_on_device(functional.linear_forward, x, weight, drawn(5, dtype=dtype) if bias else None)
    assert_same_on_device(functional.linear_backward, dy, x, weight, bias=bias, need_dx=bias)


@pytest.mark.parametrize("dtype", FLOATS)
def test_embedding(dtype: Any) -> None:
    ids = np.random.default_rng(0).integers(0, 6, (4, 3))
    assert_same_on_device(functional.embedding_forward, ids, drawn(6, 5, dtype=dtype))
    assert_same_on_device(functional.embedding_backward, drawn(4, 3, 5, dtype=dtype), ids, num_embeddings=6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(dtype: Any, affine: bool) -> None:
    x, dy = drawn(4, 3, 9, dtype=dtype), drawn(4, 3, 9, dtype=dtype, seed=1)
    weight, bias = (drawn(9, dtype=dtype), drawn(9, dtype=dtype, seed=2)) if affine else (None, None)
    _, mean, rstd = assert_same_on_device(functional.layer_norm_forward, x, weight, bias, 1e-3)
    assert_same_on_device(functional.layer_norm_backward, dy, x, weight, mean.numpy(), rstd.numpy())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout(dtype: Any, p: float) -> None:
    assert_same_on_device(functional.dropout, drawn(5, 7, dtype=dtype), p, 2**63 + 5, 3)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("lengths", [None, np.array([0, 4, 2])])
def test_last(batch_first: bool, lengths: Array | None) -> None:
    x = drawn(3, 4, 5) if batch_first else drawn(4, 3, 5)
    assert_same_on_device(functional.last_forward, x, lengths, batch_first)
    assert_same_on_device(functional.last_backward, drawn(3, 5), 4, lengths, batch_first)


# ----------------------------------------------------------------------------------------------- losses
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", ["plain", "mask", "rows", "ignored"])
def test_losses(dtype: Any, reduction: str, options: str) -> None:
    pred, rng = drawn(4, 3, 5, dtype=dtype), np.random.default_rng(1)
    masks = {"mask": rng.random((4, 3, 5)) < 0.6, "rows": rng.random((4, 3)) < 0.6}
    ignored = 0 if options == "ignored" else None
    given = {"reduction": reduction, "ignore_index": ignored}
    target = (rng.random((4, 3, 5)) < 0.5).astype(dtype)
    for name in ("mse", "binary_cross_entropy"):
        loss = getattr(fr.losses, name)
        whole, _ = assert_same_on_device(loss, pred, target, mask=masks.get(options), **given)
        assert whole.shape == ((4, 3, 5) if reduction == "none" else ())
    entries = None if options not in masks else masks["rows"]
    classes = rng.integers(0, 5, (4, 3))
    whole, _ = assert_same_on_device(fr.losses.cross_entropy, pred, classes, mask=entries, **given)
    assert whole.shape == ((4, 3) if reduction == "none" else ())
    if ignored is None:
        soft = rng.random((4, 3, 5)).astype(dtype)
        assert_same_on_device(fr.losses.cross_entropy, pred, soft, mask=entries, **given)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_options_of_losses(dtype: Any, reduction: str, smoothing: float) -> None:
    pred, rng = drawn(4, 3, 5, dtype=dtype), np.random.default_rng(1)
    classes, soft = rng.integers(0, 5, (4, 3)), rng.random((4, 3, 5)).astype(dtype)
    mask = rng.random((4, 3)) < 0.6
    for weight in (None, [0.5, 0, 2, 1, 3]):
        given = {"reduction": reduction, "label_smoothing": smoothing, "weight": weight}
        assert_same_on_device(fr.losses.cross_entropy, pred, classes, mask=mask, **given)
        assert_same_on_device(fr.losses.cross_entropy, pred, classes, ignore_index=2, **given)
        assert_same_on_device(fr.losses.cross_entropy, pred, soft, **given)
    for weight in (3.0, [0.5, 0, 2, 1, 3]):
        given = {"reduction": reduction, "pos_weight": weight}
        assert_same_on_device(fr.losses.binary_cross_entropy, pred, soft, mask=mask, **given)
    there = fr.losses.CrossEntropy(fr.asarray(drawn(5) ** 2))
    assert there == fr.losses.CrossEntropy(drawn(5) ** 2)


def test_a_loss_is_a_number_on_demand() -> None:
    pred, target = drawn(4, 3), drawn(4, 3, seed=1)
    loss, _ = fr.losses.mse(fr.asarray(pred), fr.asarray(target))
    assert (loss.shape, loss.dtype) == ((), np.float64)
    with same_kernels():
        expected, _ = fr.losses.mse(pred, target)
    assert float(loss) == expected
    assert f"{loss:.3f}" == f"{expected:.3f}"
    assert f"{loss}" == repr(loss)
    with pytest.raises(TypeError, match="only an array of one element is a number"):
        float(fr.asarray(pred))


@pytest.mark.parametrize("classes", [[0, 5, 1], [0, 1, -7]])
@pytest.mark.parametrize("hidden", [False, True])
def test_classes_are_looked_at(classes: list[int], hidden: bool) -> None:
    """A class that does not count may be anything; else the first wrong one is named, as on the CPU."""
    pred, target = drawn(3, 5), np.array(classes)
    mask = (target >= 0) & (target < 5) if hidden else None
    if hidden:
        assert_same_on_device(fr.losses.cross_entropy, pred, target, mask=mask)
        bad = target[~mask][0]
        assert_same_on_device(fr.losses.cross_entropy, pred, target, ignore_index=int(bad))
        return
    messages = []
    for arrays in ((pred, target), on_device((pred, target))):
        with pytest.raises(ValueError, match=r"target must be in \[0, 5\) where it counts, it is ") as raised:
            fr.losses.cross_entropy(*arrays)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("bad", [6, -1, 2**62, -(2**63)])
def test_ids_and_lengths_are_looked_at(bad: int) -> None:
    ids, lengths = np.array([[0, 1], [bad, bad - (bad > 0)]]), np.array([4, bad, 1])
    calls = [
        (functional.embedding_forward, (ids, drawn(6, 5)), {}),
        (functional.embedding_backward, (drawn(2, 2, 5), ids), {"num_embeddings": 6}),
        (functional.last_forward, (drawn(4, 3, 5), lengths), {}),
        (functional.last_backward, (drawn(3, 5), 4, lengths), {}),
    ]
    for function, arguments, options in calls:
        messages = []
        for each in (arguments, on_device(arguments)):
            with pytest.raises(ValueError, match=f"it is {bad} at") as raised:
                function(*each, **options)
            messages.append(str(raised.value))
        assert messages[0] == messages[1]


# ------------------------------------------------------------------------------------------- optimizers
RULES: dict[str, tuple[int, list[dict[str, Any]]]] = {
    "sgd_": (1, [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}]),
    "adagrad_": (1, [{"step": 3, "lr_decay": 0.1}]),
    "rmsprop_": (3, [{"momentum": 0.5, "alpha": 0.9}]),
    "adam_": (
        2,
        [
            {"step": 2},
            {"step": 3, "decoupled": True, "weight_decay": 0.1},
            {"step": 1, "bias_correction": False},
        ],
    ),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("clip", [None, 0.25])
def test_updates(rule: str, dtype: Any, clip: float | None) -> None:
    states, choices = RULES[rule]
    arrays = [np.abs(drawn(4, 3, dtype=dtype, seed=i)) for i in range(2 + states)]
    for options in choices:
        update = lambda *a, o=options: (getattr(functional, rule)(*a, lr=0.1, clip_factor=clip, **o), a[0])[1]  # noqa: E731
        assert_same_on_device(update, *arrays)


def test_a_clip_factor_may_be_on_the_device() -> None:
    arrays = [np.abs(drawn(5, seed=i)) for i in range(4)]
    by_number, by_array = on_device((copied(tuple(arrays)), copied(tuple(arrays))))
    functional.adam_(*by_number, lr=0.1, step=1, clip_factor=0.25)
    functional.adam_(*by_array, lr=0.1, step=1, clip_factor=fr.asarray(np.array(0.25)))
    assert numbers(by_number) == numbers(by_array)
    assert numbers(by_number) != numbers(arrays)


@pytest.mark.parametrize("dtypes", [[np.float32], [np.float64], [np.float32, np.float64, np.float32]])
def test_norms_and_clipping(dtypes: list[Any]) -> None:
    grads = [drawn(7, i + 1, dtype=dtype, seed=i) for i, dtype in enumerate(dtypes)]
    norm = assert_same_on_device(functional.global_norm, grads)
    expected = math.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads))
    a_rounding_each = sum(g.size for g in grads) * np.finfo(np.float64).eps
    np.testing.assert_allclose(float(norm), expected, rtol=a_rounding_each)
    clipped = lambda g: (functional.clip_by_global_norm_(g, 0.5), *g)  # noqa: E731
    assert_same_on_device(clipped, grads)
    assert_same_on_device(lambda g: (functional.clip_by_value_(g, 0.5), *g), grads)


def test_no_gradients_have_no_norm() -> None:
    assert functional.global_norm([]) == 0.0
    assert functional.clip_by_global_norm_([], 1.0) == 0.0


# ------------------------------------------------------------------------------- arrays of other places
def test_strided_and_foreign_arrays_are_read_in_place() -> None:
    """What another library offers, with gaps between its rows."""

    class Foreign:
        def __init__(self, base: fr.DeviceArray) -> None:
            self.base = base
            interface = dict(base.__cuda_array_interface__)
            rows, width = base.shape
            interface |= {"shape": (rows // 2, width), "strides": (2 * width * 4, 4)}
            self.__cuda_array_interface__ = interface

    wide = drawn(6, 5)
    x, weight, target = wide[::2], drawn(4, 5), drawn(3, 5, seed=3)
    for function, rest in (
        (functional.linear_forward, (weight,)),
        (functional.layer_norm_forward, ()),
        (fr.losses.mse, (target,)),
        (fr.losses.cross_entropy, (np.array([0, 4, 2]),)),
    ):
        with same_kernels():
            expected = function(x, *rest)
        assert numbers(function(Foreign(fr.asarray(wide)), *on_device(rest))) == numbers(expected)
    ids = Foreign(fr.asarray(np.zeros((6, 5), np.float32)))
    with pytest.raises(TypeError, match="ids must be int64, it is float32"):
        functional.embedding_forward(ids, fr.asarray(weight))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, d: functional.linear_forward(a(3, 4), d(2, 4)), "x must be a DeviceArray on"),
        (lambda a, d: functional.linear_forward(d(3, 4), a(2, 4)), "x must be a NumPy array, it is a Dev"),
        (lambda a, d: functional.linear_forward(d(3, 4), d(2, 4), a(2)), "bias must be a DeviceArray on"),
        (lambda a, d: functional.layer_norm_forward(d(3, 4), a(4)), "weight must be a DeviceArray on"),
        (
            lambda a, d: functional.layer_norm_forward(a(3, 4), d(4)),
            "weight must be a NumPy array, it is a Dev",
        ),
        (lambda a, d: functional.last_forward(d(3, 2, 4), np.array([1, 2])), "lengths must be a DeviceArray"),
        (lambda a, d: fr.losses.mse(d(3, 4), a(3, 4)), "target must be a DeviceArray on"),
        (
            lambda a, d: fr.losses.mse(a(3, 4), d(3, 4)),
            r"target must be a NumPy array, .*: use target\.numpy",
        ),
        (lambda a, d: fr.losses.mse(d(3), d(3), mask=np.ones(3, bool)), "mask must be a DeviceArray on"),
        (lambda a, d: fr.losses.cross_entropy(d(3, 4), np.zeros(3, int)), "target must be a DeviceArray on"),
        (lambda a, d: functional.sgd_(d(3), a(3), lr=0.1), "grad must be a DeviceArray on"),
        (lambda a, d: functional.sgd_(a(3), d(3), lr=0.1), "grad must be a NumPy array, it is a Dev"),
        (
            lambda a, d: functional.sgd_(d(3), d(3), a(3), lr=0.1, momentum=0.5),
            "momentum_buffer must be a DeviceArray",
        ),
        (lambda a, d: functional.global_norm([d(3), a(3)]), r"grads\[1\] must be a DeviceArray on"),
        (lambda a, d: functional.global_norm([a(3), d(3)]), r"grads\[1\] must be a NumPy array"),
    ],
)
def test_arrays_of_two_places_are_refused(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(drawn, lambda *shape: fr.asarray(drawn(*shape)))
