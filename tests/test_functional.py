"""The recurrent functions' own rules: names of weights, handles, tapes, gradients added into arrays given."""

from __future__ import annotations

import numpy as np
import pytest

from fusedrnn import functional
from fusedrnn._core.cells import CELLS

T, B, I, H = 4, 3, 2, 5
GATES = {cell.family: len(cell.gates) for cell in CELLS.values()}


def weights(cell: str, layers: int = 1, directions: int = 1, bias: bool = True, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    rows = GATES[cell] * H
    result = {}
    for layer in range(layers):
        for suffix in ("", "_reverse")[:directions]:
            shapes = {"weight_ih": (rows, I if layer == 0 else directions * H), "weight_hh": (rows, H)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            for kind, shape in shapes.items():
                result[f"{kind}_l{layer}{suffix}"] = rng.uniform(-0.5, 0.5, shape)
    return result


def calls(cell: str):
    return getattr(functional, f"{cell}_forward"), getattr(functional, f"{cell}_backward")


@pytest.fixture(params=GATES)
def cell(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((T, B, I))


def test_a_handle_is_a_snapshot(cell: str, x: np.ndarray) -> None:
    forward, _ = calls(cell)
    w = weights(cell, 2, 2)
    handle = functional.pack_weights(w)
    assert handle.nbytes >= sum(a.nbytes for a in w.values()) / 2
    y, _, _ = forward(x, None, w)
    np.testing.assert_array_equal(forward(x, None, handle)[0], y)
    w["weight_hh_l0"][...] *= 2
    np.testing.assert_array_equal(forward(x, None, handle)[0], y)
    assert not np.array_equal(forward(x, None, w)[0], y)


def test_the_order_of_a_weights_dict_does_not_matter(cell: str, x: np.ndarray) -> None:
    forward, _ = calls(cell)
    w = weights(cell, 2, 2)
    backwards = dict(reversed(w.items()))
    np.testing.assert_array_equal(forward(x, None, backwards)[0], forward(x, None, w)[0])


def test_gradients_are_added_into_arrays_given(cell: str, x: np.ndarray) -> None:
    forward, backward = calls(cell)
    w = weights(cell, 2)
    y, _, tape = forward(x, None, w)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    _, _, fresh = backward(tape, dy)
    given = {name: np.ones_like(a) for name, a in w.items()}
    dx, _, result = backward(tape, dy, dweights=given, need_dx=False)
    assert dx is None
    for name, array in given.items():
        assert result[name] is array
        np.testing.assert_allclose(array, 1 + fresh[name], rtol=1e-12)


def test_a_tape_outlives_the_weights_it_saw(cell: str, x: np.ndarray) -> None:
    forward, backward = calls(cell)
    w = weights(cell)
    y, _, tape = forward(x, None, w)
    expected, _, _ = backward(tape, np.ones_like(y))
    for array in w.values():
        array[...] = np.nan
    np.testing.assert_array_equal(backward(tape, np.ones_like(y))[0], expected)


def test_names_that_do_not_fit_are_said(cell: str, x: np.ndarray) -> None:
    forward, backward = calls(cell)
    w = weights(cell, 2)
    with pytest.raises(ValueError, match="'kernel' is no weight of a recurrent stack"):
        forward(x, None, {**w, "kernel": w["weight_ih_l0"]})
    lacking = {name: a for name, a in w.items() if name != "bias_hh_l1"}
    with pytest.raises(ValueError, match="'bias_hh_l1' is missing"):
        functional.pack_weights(lacking)
    with pytest.raises(TypeError, match="weights must be a dict of arrays by name, it is a list"):
        forward(x, None, list(w.values()))
    y, _, tape = forward(x, None, w)
    with pytest.raises(ValueError, match="dweights: 'bias_hh_l1' is missing"):
        backward(tape, np.ones_like(y), dweights=lacking)


def test_states_that_do_not_fit_are_said(cell: str, x: np.ndarray) -> None:
    forward, backward = calls(cell)
    w = weights(cell)
    h = np.zeros((1, B, H))
    y, _, tape = forward(x, None, w)
    wrong, message = ((h, h), "must be (h0|dhn) alone, it is a tuple")
    if cell == "lstm":
        wrong, message = h, r"must be a pair \((h0, c0|dhn, dcn)\), it is a ndarray"
    with pytest.raises(TypeError, match="^state " + message):
        forward(x, wrong, w)
    with pytest.raises(TypeError, match="^dstate " + message):
        backward(tape, np.ones_like(y), wrong)
    if cell == "lstm":
        with pytest.raises(TypeError, match=r"state must be a pair \(h0, c0\), it is a tuple of 3"):
            forward(x, (h, h, h), w)


def test_tapes_that_do_not_fit_are_said(cell: str, x: np.ndarray) -> None:
    forward, backward = calls(cell)
    _, _, none = forward(x, None, weights(cell), train=False)
    assert none is None
    message = f"tape must be the one that {cell}_forward returned, it is "
    with pytest.raises(TypeError, match=message + "None, as forward returns with train=False"):
        backward(none, None)
    other = "gru" if cell == "lstm" else "lstm"
    _, _, tape = calls(other)[0](x, None, weights(other))
    with pytest.raises(ValueError, match=message + f"of the cell '{other}'"):
        backward(tape, None)


def test_weights_of_another_cell_are_refused(cell: str, x: np.ndarray) -> None:
    other = "gru" if cell == "lstm" else "lstm"
    with pytest.raises(ValueError, match="weights must be those of a cell with"):
        calls(cell)[0](x, None, weights(other))


def test_packed_weights_may_say_their_cell() -> None:
    w = {"weight_ih_l0": np.zeros((4, 3)), "weight_hh_l0": np.zeros((4, 1))}
    functional.pack_weights(w, cell="lstm")
    with pytest.raises(ValueError, match=r"weights must be those of a cell with 3 gates \(gru\)"):
        functional.pack_weights(w, cell="gru")
    with pytest.raises(ValueError, match=r"cell must be one of 'rnn_tanh', .*, it is 'mgu'"):
        functional.pack_weights(w, cell="mgu")
