"""The reference itself: every gradient against complex-step differentiation, and its rules on small cases.

For an analytic f, Im f(x + i h) / h is f'(x) with an error of order h^2 and no subtraction: at h = 1e-20 it
is exact to rounding (Squire & Trapp 1998). It shares nothing with the hand-derived backward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fusedrnn import reference
from fusedrnn._core.weight_names import StackShape
from fusedrnn.reference import cells
from fusedrnn.reference.arithmetic import SequentialSums, sequential
from fusedrnn.reference.philox import philox, random_words

Array = NDArray[Any]
H_STEP = 1e-20
CELLS = list(cells.CELLS)


def complex_step(f: Callable[[Mapping[str, Array]], Any], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Derivative of the scalar f by every element of every array."""
    moved = {name: a.astype(np.complex128) for name, a in arrays.items()}
    gradients = {name: np.zeros(a.shape) for name, a in arrays.items()}
    for name, array in moved.items():
        for index in np.ndindex(array.shape):
            array[index] += 1j * H_STEP
            gradients[name][index] = f(moved).imag / H_STEP
            array[index] = array[index].real
    return gradients


def assert_gradients(ours: Mapping[str, Array], truth: Mapping[str, Array]) -> None:
    assert ours.keys() == truth.keys()
    for name, gradient in truth.items():
        assert ours[name].shape == gradient.shape, name
        assert np.abs(gradient).max() > 0, f"{name}: the truth is all 0, so this proves nothing"
        error = np.abs(ours[name] - gradient).max() / np.abs(gradient).max()
        assert error < 1e-13, f"{name}: off by {error:.2e} of the largest"


# ---------------------------------------------------------------- sequences
def draw_stack(
    rng: np.random.Generator,
    cell: str,
    *,
    I: int,
    H: int,
    layers: int = 1,
    directions: int = 1,
    bias: bool = True,
) -> dict[str, Array]:
    shapes = StackShape(layers, directions, bias).shapes(cells.CELLS[cell].weights, I, H)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def forward(
    cell: str, x: Array, h0: Array | None, c0: Array | None, weights: Mapping[str, Array], **options: Any
) -> tuple[Array, Array, Array | None, Any]:
    """Any cell behind one signature -> y, hn, cn, tape."""
    if cell.startswith("lstm"):
        y, (hn, cn), tape = reference.lstm_forward(x, (h0, c0), weights, **options)
        return y, hn, cn, tape
    if cell == "gru":
        y, hn, tape = reference.gru_forward(x, h0, weights, **options)
    else:
        y, hn, tape = reference.rnn_forward(x, h0, weights, nonlinearity=cell[4:], **options)
    return y, hn, None, tape


def backward(
    cell: str, tape: Any, dy: Array | None, dhn: Array | None, dcn: Array | None, **options: Any
) -> tuple[Array | None, Array, Array | None, dict[str, Array]]:
    if cell.startswith("lstm"):
        dx, (dh0, dc0), dweights = reference.lstm_backward(tape, dy, (dhn, dcn), **options)
        return dx, dh0, dc0, dweights
    one = reference.gru_backward if cell == "gru" else reference.rnn_backward
    dx, dh0, dweights = one(tape, dy, dhn, **options)
    return dx, dh0, None, dweights


CASES: dict[str, dict[str, Any]] = {
    "one layer": {},
    "no bias": {"bias": False},
    "two layers, both directions": {"layers": 2, "directions": 2},
    "lengths": {"lengths": [4, 1, 3], "directions": 2},
    "resets": {"resets": True, "directions": 2},
    "everything": {
        "layers": 2,
        "directions": 2,
        "lengths": [2, 4, 3],
        "resets": True,
        "dropout": 0.4,
        "batch_first": True,
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_sequences(cell: str, case: str) -> None:
    spec = {"layers": 1, "directions": 1, "bias": True, **CASES[case]}
    T, B, I, H = 4, 3, 2, 2
    L, D = spec["layers"], spec["directions"]
    rng = np.random.default_rng(len(case) + 100 * CELLS.index(cell))
    weights = draw_stack(rng, cell, I=I, H=H, layers=L, directions=D, bias=spec["bias"])
    options: dict[str, Any] = {"batch_first": spec.get("batch_first", False)}
    if "lengths" in spec:
        options["lengths"] = np.array(spec["lengths"])
    if "resets" in spec:
        options["resets"] = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], bool)
        if options["batch_first"]:
            options["resets"] = options["resets"].T
    if "dropout" in spec:
        options.update(dropout=spec["dropout"], dropout_key=0x123456789ABCDEF0)
    lead = (B, T) if options["batch_first"] else (T, B)
    arrays = {"x": rng.normal(size=(*lead, I)), "h0": rng.normal(size=(L * D, B, H)), **weights}
    dy, dhn, dcn = rng.normal(size=(*lead, D * H)), rng.normal(size=(L * D, B, H)), None
    if cell.startswith("lstm"):
        arrays["c0"], dcn = rng.normal(size=(L * D, B, H)), rng.normal(size=(L * D, B, H))

    def objective(a: Mapping[str, Array]) -> Any:
        y, hn, cn, _ = forward(cell, a["x"], a["h0"], a.get("c0"), {k: a[k] for k in weights}, **options)
        return (y * dy).sum() + (hn * dhn).sum() + (0 if cn is None else (cn * dcn).sum())

    *_, tape = forward(cell, arrays["x"], arrays["h0"], arrays.get("c0"), weights, **options)
    dx, dh0, dc0, dweights = backward(cell, tape, dy, dhn, dcn)
    ours = {"x": dx, "h0": dh0, **dweights} | ({"c0": dc0} if cell.startswith("lstm") else {})
    assert_gradients(ours, complex_step(objective, arrays))


@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_never_read_and_gives_zeros(cell: str) -> None:
    rng = np.random.default_rng(5)
    T, B, I, H = 5, 4, 3, 2
    lengths = np.array([3, 0, 5, 1])
    weights = draw_stack(rng, cell, I=I, H=H, layers=2, directions=2)
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, 2 * H))
    h0, c0 = rng.normal(size=(4, B, H)), rng.normal(size=(4, B, H))
    padding = np.arange(T)[:, None] >= lengths
    x[padding], dy[padding] = np.nan, np.nan
    y, hn, cn, tape = forward(cell, x, h0, c0, weights, lengths=lengths)
    dx, dh0, _, dweights = backward(cell, tape, dy, None, None)
    assert dx is not None
    assert (y[padding] == 0).all()
    assert (dx[padding] == 0).all()
    for array in (y, hn, dx, dh0, *dweights.values()):
        assert np.isfinite(array).all()
    assert np.array_equal(hn[:, 1], h0[:, 1])  # a row without steps keeps its initial state
    assert cn is None or np.array_equal(cn[:, 1], c0[:, 1])
    alone, hn_alone, _, _ = forward(cell, x[:3, :1], h0[:, :1], c0[:, :1], weights)
    np.testing.assert_allclose(y[:3, :1], alone, rtol=0, atol=1e-14)
    np.testing.assert_allclose(hn[:, :1], hn_alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_resets_equal_sequences_cut_by_hand(cell: str) -> None:
    rng = np.random.default_rng(6)
    T, H = 7, 3
    weights = draw_stack(rng, cell, I=2, H=H, directions=2)
    x, h0, c0 = rng.normal(size=(T, 1, 2)), rng.normal(size=(2, 1, H)), rng.normal(size=(2, 1, H))
    resets = np.zeros((T, 1), bool)
    resets[[0, 3, 4]] = True
    y, hn, _, _ = forward(cell, x, h0, c0, weights, resets=resets)
    zero = np.zeros((1, 1, H))
    pieces = []
    for a, b in [
        (0, 3),
        (3, 4),
        (4, 7),
    ]:  # only the last sees an initial state, that of the reverse direction
        ends = b == T
        h, c = (np.concatenate([zero, s[1:] if ends else zero]) for s in (h0, c0))
        pieces.append(forward(cell, x[a:b], h, c, weights)[:2])
    np.testing.assert_allclose(y, np.concatenate([p[0] for p in pieces]), rtol=0, atol=1e-14)
    np.testing.assert_allclose(hn[0], pieces[-1][1][0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(hn[1], pieces[0][1][1], rtol=0, atol=1e-14)


def test_dropout_between_layers_is_the_documented_mask() -> None:
    rng = np.random.default_rng(7)
    T, B, I, H, p, key = 3, 2, 2, 4, 0.3, 2**40 + 17
    weights = draw_stack(rng, "gru", I=I, H=H, layers=2, directions=2)
    first = {k: v for k, v in weights.items() if "_l0" in k}
    second = {k.replace("_l1", "_l0"): v for k, v in weights.items() if "_l1" in k}
    x = rng.normal(size=(T, B, I))
    between, _, _ = reference.gru_forward(x, None, first)
    y, _, _ = reference.gru_forward(reference.dropout(between, p, key, stream=1), None, second)
    dropped, _, _ = reference.gru_forward(x, None, weights, dropout=p, dropout_key=key)
    assert np.array_equal(y, dropped)
    plain, _, _ = reference.gru_forward(x, None, weights, dropout=p, dropout_key=key, train=False)
    assert np.array_equal(plain, reference.gru_forward(between, None, second)[0])


def test_dweights_are_added_into_and_need_dx() -> None:
    rng = np.random.default_rng(8)
    weights = draw_stack(rng, "lstm", I=2, H=3)
    x = rng.normal(size=(4, 2, 2))
    y, _, tape = reference.lstm_forward(x, None, weights)
    _, _, fresh = reference.lstm_backward(tape, y)
    into = {k: np.ones_like(v) for k, v in weights.items()}
    dx, _, same = reference.lstm_backward(tape, y, dweights=into, need_dx=False)
    assert dx is None
    for name, array in into.items():
        assert same[name] is array
        np.testing.assert_allclose(array, 1 + fresh[name], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
@pytest.mark.parametrize("cell", CELLS)
def test_results_keep_the_dtype(cell: str, dtype: Any) -> None:
    rng = np.random.default_rng(9)
    weights = {k: v.astype(dtype) for k, v in draw_stack(rng, cell, I=2, H=3, layers=2).items()}
    y, hn, cn, tape = forward(
        cell, rng.normal(size=(3, 2, 2)).astype(dtype), None, None, weights, dropout=0.5
    )
    dx, dh0, dc0, dweights = backward(cell, tape, y, hn, cn)
    for array in (y, hn, dx, dh0, *dweights.values(), *([] if cn is None else [cn, dc0])):
        assert array is not None
        assert array.dtype == dtype


def test_tape_shows_cells_and_gates() -> None:
    rng = np.random.default_rng(10)
    weights = draw_stack(rng, "lstm", I=2, H=3, layers=2, directions=2)
    _, (_, cn), tape = reference.lstm_forward(rng.normal(size=(5, 4, 2)), None, weights)
    assert tape is not None
    assert tape.cells is not None
    assert tape.gates is not None
    assert tape.cells.shape == (4, 5, 4, 3)
    assert tape.gates.shape == (4, 5, 4, 12)
    assert np.array_equal(tape.cells[2, -1], cn[2])
    assert np.array_equal(tape.cells[3, 0], cn[3])
    i, f, g, o = np.split(tape.gates, 4, axis=-1)
    np.testing.assert_allclose(tape.cells[0, 1], f[0, 1] * tape.cells[0, 0] + i[0, 1] * g[0, 1], rtol=1e-14)
    assert (np.abs(o - 0.5) < 0.5).all()
    assert tape.nbytes > 0


def test_wrong_arguments_are_named() -> None:
    rng = np.random.default_rng(11)
    weights = draw_stack(rng, "gru", I=2, H=3)
    x = rng.normal(size=(4, 2, 2))
    with pytest.raises(TypeError, match="weight_ih_l0 must be float32"):
        reference.gru_forward(x.astype(np.float32), None, weights)
    with pytest.raises(ValueError, match="h0 must have shape"):
        reference.gru_forward(x, np.zeros((1, 3, 3)), weights)
    with pytest.raises(ValueError, match="lengths must be in"):
        reference.gru_forward(x, None, weights, lengths=np.array([5, 1]))
    with pytest.raises(ValueError, match="'bias_hh_l0' is missing"):
        reference.gru_forward(x, None, {k: v for k, v in weights.items() if k != "bias_hh_l0"})
    with pytest.raises(ValueError, match="'weight_l0' is no weight"):
        reference.gru_forward(x, None, {"weight_l0": x})
    with pytest.raises(ValueError, match="nonlinearity"):
        reference.rnn_forward(x, None, weights, nonlinearity="sine")


# ---------------------------------------------------------------- layers, losses
def test_gradients_of_linear() -> None:
    rng = np.random.default_rng(20)
    arrays = {"x": rng.normal(size=(4, 2, 3)), "weight": rng.normal(size=(5, 3)), "bias": rng.normal(size=5)}
    dy = rng.normal(size=(4, 2, 5))
    truth = complex_step(lambda a: (reference.linear_forward(**a) * dy).sum(), arrays)
    dx, dweight, dbias = reference.linear_backward(dy, arrays["x"], arrays["weight"])
    assert dx is not None
    assert dbias is not None
    assert_gradients({"x": dx, "weight": dweight, "bias": dbias}, truth)
    assert reference.linear_backward(dy, arrays["x"], arrays["weight"], bias=False, need_dx=False)[::2] == (
        None,
        None,
    )


def test_gradient_of_embedding() -> None:
    rng = np.random.default_rng(21)
    ids, weight, dy = rng.integers(0, 4, size=(5, 2)), rng.normal(size=(6, 3)), rng.normal(size=(5, 2, 3))
    truth = complex_step(
        lambda a: (reference.embedding_forward(ids, a["weight"]) * dy).sum(), {"weight": weight}
    )
    assert_gradients({"weight": reference.embedding_backward(dy, ids, 6)}, truth)
    with pytest.raises(ValueError, match="ids must be in"):
        reference.embedding_forward(ids + 3, weight)


@pytest.mark.parametrize("affine", [True, False])
def test_gradients_of_layer_norm(affine: bool) -> None:
    rng = np.random.default_rng(22)
    arrays = {"x": rng.normal(size=(3, 2, 5))}
    if affine:
        arrays.update(weight=rng.normal(size=5), bias=rng.normal(size=5))
    dy = rng.normal(size=(3, 2, 5))
    truth = complex_step(lambda a: (reference.layer_norm_forward(**a, eps=0.1)[0] * dy).sum(), arrays)
    y, mean, rstd = reference.layer_norm_forward(**arrays, eps=0.1)
    assert y.shape == dy.shape
    assert mean.shape == rstd.shape == (3, 2)
    gradients = reference.layer_norm_backward(dy, arrays["x"], arrays.get("weight"), mean, rstd)
    assert_gradients(dict(zip(("x", "weight", "bias")[: len(arrays)], gradients, strict=False)), truth)


def test_gradients_of_dropout_and_last() -> None:
    rng = np.random.default_rng(23)
    x, dy = rng.normal(size=(5, 4, 2)), rng.normal(size=(5, 4, 2))
    truth = complex_step(lambda a: (reference.dropout(a["x"], 0.4, 99, 3) * dy).sum(), {"x": x})
    assert_gradients({"x": reference.dropout(dy, 0.4, 99, 3)}, truth)
    for lengths in (None, np.array([2, 5, 0, 1])):
        for batch_first in (False, True):
            a = {"x": np.ascontiguousarray(x.swapaxes(0, 1)) if batch_first else x}
            options: dict[str, Any] = {"lengths": lengths, "batch_first": batch_first}
            truth = complex_step(lambda a, o=options: (reference.last_forward(a["x"], **o) * dy[0]).sum(), a)
            assert_gradients({"x": reference.last_backward(dy[0], 5, **options)}, truth)


LOSSES: dict[str, tuple[Any, Callable[[np.random.Generator], Array], int | None]] = {
    "mse": (reference.mse, lambda rng: rng.integers(0, 3, (4, 3)).astype(float), 2),
    "cross_entropy of classes": (reference.cross_entropy, lambda rng: np.array([2, 0, 1, 2]), 0),
    "cross_entropy of probabilities": (
        reference.cross_entropy,
        lambda rng: rng.dirichlet(np.ones(3), 4),
        None,
    ),
    "binary_cross_entropy": (
        reference.binary_cross_entropy,
        lambda rng: rng.integers(0, 2, (4, 3)).astype(float),
        1,
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", ["", "mask", "ignore_index", "both"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(name: str, options: str, reduction: str) -> None:
    loss, draw, ignore_index = LOSSES[name]
    rng = np.random.default_rng(24)
    pred, target = 3 * rng.normal(size=(4, 3)), draw(rng)
    entries = pred.shape[:1] if loss is reference.cross_entropy else pred.shape
    keywords: dict[str, Any] = {"reduction": reduction}
    counts = np.ones(entries, bool)
    if options in ("mask", "both"):
        keywords["mask"] = counts = rng.random(entries) < 0.6
    if options in ("ignore_index", "both") and ignore_index is not None:
        keywords["ignore_index"] = ignore_index
        counts = counts & (target != ignore_index)
    assert counts.any()
    assert options == "" or not counts.all() or ignore_index is None
    truth = complex_step(lambda a: loss(a["pred"], target, **keywords)[0].sum(), {"pred": pred})
    value, dpred = loss(pred, target, **keywords)
    assert_gradients({"pred": dpred}, truth)
    assert (dpred[~counts] == 0).all()
    each, _ = loss(pred, target, "none")
    expected = each * counts if reduction == "none" else each[counts].sum()
    np.testing.assert_allclose(value, expected / (counts.sum() if reduction == "mean" else 1), rtol=1e-14)


def test_losses_of_nothing_and_of_extremes() -> None:
    nothing = np.zeros((2, 3), bool)
    for loss in (reference.mse, reference.binary_cross_entropy):
        value, dpred = loss(np.full((2, 3), np.nan), np.ones((2, 3)), mask=nothing)
        assert value == 0
        assert (dpred == 0).all()
    huge = np.array([[1e4, -1e4, 0.0]])
    value, dpred = reference.cross_entropy(huge, np.array([1]))
    assert value == 2e4
    assert np.array_equal(dpred, [[1, -1, 0]])
    value, dpred = reference.binary_cross_entropy(huge, np.array([[0.0, 1.0, 1.0]]), "none")
    np.testing.assert_allclose(value, [[1e4, 1e4, np.log(2)]])
    assert np.array_equal(dpred, [[1, -1, -0.5]])
    rows = np.array([True, False])
    pred = np.array([[1.0, 2.0], [np.nan, 3.0]])
    value, dpred = reference.mse(pred, np.zeros((2, 2)), mask=rows)
    assert value == 2.5
    assert np.array_equal(dpred, [[1, 2], [0, 0]])
    with pytest.raises(ValueError, match="mask must have shape"):
        reference.cross_entropy(pred, np.array([0, 1]), mask=rows[:1])
    with pytest.raises(ValueError, match="target must be in"):
        reference.cross_entropy(huge, np.array([3]))
    with pytest.raises(ValueError, match="reduction"):
        reference.mse(huge, huge, "average")


# ---------------------------------------------------------------- numbers, sums
def test_philox_known_answers() -> None:
    """Known answers of the paper's authors (Random123, kat_vectors), philox4x32-10."""
    f = 0xFFFFFFFF
    table = [
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([f, f, f, f], [f, f], [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]
    for counter, key, expected in table:
        assert philox(np.array(counter, np.uint64), np.array(key, np.uint64)).tolist() == expected


def test_random_words_come_by_fours() -> None:
    words = random_words(10, key=(7 << 32) | 5, stream=3)
    for i in range(10):
        block = philox(np.array([i >> 2, 0, 3, 0], np.uint64), np.array([5, 7], np.uint64))
        assert words[i] == block[i & 3]


def test_dropout_keeps_the_fraction_and_p_of_0_and_1() -> None:
    x = np.ones(100_000)
    assert abs((reference.dropout(x, 0.25, 1) == 0).mean() - 0.25) < 0.005
    assert set(np.unique(reference.dropout(x, 0.25, 1))) == {0, 1 / 0.75}
    assert np.array_equal(reference.dropout(x, 0.0, 1), x)
    assert (reference.dropout(x, 1.0, 1) == 0).all()
    with pytest.raises(ValueError, match="p must be in"):
        reference.dropout(x, 1.5, 1)


def test_sequential_sums_add_one_term_after_the_other() -> None:
    rng = np.random.default_rng(30)
    base, a, b = (rng.normal(size=s).astype(np.float32) for s in [(3, 5), (3, 400), (400, 5)])
    order = np.random.default_rng(1).permutation(400)
    sums = SequentialSums(1)
    sums._BLOCK = 64  # several blocks
    expected = base.copy()
    for k in order:
        expected += a[:, k, None] * b[k]
    assert np.array_equal(sums(base, a, b), expected)
    assert not np.array_equal(expected, base + a @ b)  # else this would not tell


def test_sequential_arithmetic_changes_bits_only() -> None:
    rng = np.random.default_rng(31)
    weights = {k: v.astype(np.float32) for k, v in draw_stack(rng, "lstm", I=9, H=11).items()}
    x = rng.normal(size=(6, 3, 9)).astype(np.float32)
    runs = [reference.lstm_forward(x, None, weights, arithmetic=sequential(seed))[0] for seed in range(3)]
    assert not np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[1], runs[2])
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-5)


# ---------------------------------------------------------------- optimizers
def test_norm_and_clipping() -> None:
    def arrays() -> list[Array]:
        return [np.array([[3.0, 0.0]]), np.array([-4.0])]

    assert reference.global_norm(arrays()) == 5.0
    assert reference.global_norm([]) == 0.0
    clipped = arrays()
    assert reference.clip_by_global_norm_(clipped, 2.0) == 5.0
    np.testing.assert_allclose(clipped[1], -4.0 * 2.0 / (5.0 + 1e-6), rtol=1e-15)
    untouched = arrays()
    reference.clip_by_global_norm_(untouched, 6.0)
    assert untouched[0][0, 0] == 3.0
    by_value = [np.array([3.0, -0.5, np.nan, -np.inf])]
    reference.clip_by_value_(by_value, 1.0)
    np.testing.assert_array_equal(by_value[0], [1.0, -0.5, np.nan, -1.0])
    poisoned = [np.array([np.nan, 1.0]), np.array([2.0])]
    assert np.isnan(reference.clip_by_global_norm_(poisoned, 1.0))
    assert np.isnan(poisoned[1][0])


def test_clip_factor_scales_before_weight_decay() -> None:
    rng = np.random.default_rng(40)
    param, grad = rng.normal(size=7), rng.normal(size=7)
    rules: list[tuple[Any, int, dict[str, Any]]] = [
        (reference.sgd_, 1, {"momentum": 0.9, "nesterov": True}),
        (reference.adagrad_, 1, {"step": 3, "lr_decay": 0.1}),
        (reference.rmsprop_, 3, {"momentum": 0.5}),
        (reference.adam_, 2, {"step": 2}),
        (reference.adam_, 2, {"step": 2, "decoupled": True}),
    ]
    for rule, states, options in rules:
        results = []
        for g, factor in ((grad, 0.25), (grad * 0.25, None)):
            p = param.copy()
            rule(
                p,
                g,
                *(np.full(7, 0.5) for _ in range(states)),
                lr=0.1,
                weight_decay=0.2,
                clip_factor=factor,
                **options,
            )
            results.append(p)
        assert np.array_equal(*results)
        assert not np.array_equal(results[0], param)
