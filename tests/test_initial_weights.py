"""Initial weights: each scheme of `init` has the distribution of its source; `forget_bias` is a sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from variants import VARIANTS

import fusedrnn as fr
from fusedrnn._core.cells import CELLS as CELL_FACTS
from fusedrnn._core.weight_names import NORMS
from fusedrnn.nn.initial_weights import SCHEMES

I, H = 30, 20
CELLS = {"LSTM": (fr.nn.LSTM, 4), "GRU": (fr.nn.GRU, 3), "RNN": (fr.nn.RNN, 1)}


def made(cell: str, init: Any = "torch", **options: Any) -> dict[str, Any]:
    module = CELLS[cell][0](I, H, 2, bidirectional=True, dtype=np.float64, seed=1, init=init, **options)
    return module.state_dict()


def each(weights: dict[str, Any], name: str) -> list[Any]:
    """A weight of all layers and directions: there are four."""
    found = [w for n, w in weights.items() if n.startswith(name)]
    assert len(found) == 4
    return found


def blocks(cell: str, weight: Any) -> list[Any]:
    return list(np.split(weight, CELLS[cell][1]))


def assert_uniform(weight: Any, bound: float) -> None:
    """Within the bound, and with its variance."""
    assert 0.95 * bound < abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
    assert abs(weight.mean()) < 0.1 * bound


@pytest.mark.parametrize("cell", CELLS)
def test_torch(cell: str) -> None:
    """The default: one uniform distribution, drawn in the order of parameters."""
    weights = made(cell)
    rng = np.random.default_rng(1)
    for weight in weights.values():
        np.testing.assert_array_equal(weight, rng.uniform(-1 / np.sqrt(H), 1 / np.sqrt(H), weight.shape))


@pytest.mark.parametrize("cell", CELLS)
def test_keras(cell: str) -> None:
    gates = CELLS[cell][1]
    weights = made(cell, "keras")
    for w in each(weights, "weight_ih"):
        assert_uniform(w, np.sqrt(6 / (w.shape[1] + gates * H)))
    for r in each(weights, "weight_hh"):
        np.testing.assert_allclose(r.T @ r, np.eye(H), atol=1e-14)
    for bias in each(weights, "bias_ih"):
        wanted = np.repeat([0.0, 1.0, 0.0, 0.0], H) if cell == "LSTM" else np.zeros(gates * H)
        np.testing.assert_array_equal(bias, wanted)
    assert not any(bias.any() for bias in each(weights, "bias_hh"))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("scheme", ["glorot", "orthogonal"])
def test_gate_by_gate(cell: str, scheme: str) -> None:
    weights = made(cell, scheme)
    for w in each(weights, "weight_ih"):
        for block in blocks(cell, w):
            assert_uniform(block, np.sqrt(6 / (H + w.shape[1])))
    for r in each(weights, "weight_hh"):
        for block in blocks(cell, r):
            if scheme == "glorot":
                assert_uniform(block, np.sqrt(6 / (2 * H)))
            else:
                np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-14)
    assert not any(w.any() for n, w in weights.items() if n.startswith("bias"))


def test_orthogonal_is_uniform_over_all() -> None:
    """Both signs of the determinant, and no preferred diagonal, which plain QR has."""
    parameter = fr.nn.Parameter(np.empty((3, 3)))
    drawn = []
    for seed in range(400):
        fr.nn.init.orthogonal_(parameter, np.random.default_rng(seed))
        drawn.append(parameter.data.copy())
    assert 120 < sum(np.linalg.det(q) > 0 for q in drawn) < 280
    assert abs(np.mean(drawn, 0)).max() < 0.1


def test_identity() -> None:
    weights = made("RNN", "identity", nonlinearity="relu")
    for r in each(weights, "weight_hh"):
        np.testing.assert_array_equal(r, np.eye(H))
    for w in each(weights, "weight_ih"):
        assert w.std() == pytest.approx(0.001, rel=0.1)
    assert not any(w.any() for n, w in weights.items() if n.startswith("bias"))


@pytest.mark.parametrize(("cell", "keeps"), [("LSTM", 1), ("GRU", 1)])
def test_chrono(cell: str, keeps: int) -> None:
    steps = 1000
    weights = made(cell, ("chrono", steps))
    plain = made(cell)
    for name, weight in weights.items():
        if name.startswith("weight"):
            np.testing.assert_array_equal(weight, plain[name])
    times = []
    for ih, hh in zip(each(weights, "bias_ih"), each(weights, "bias_hh"), strict=True):
        gates = blocks(cell, ih + hh)
        times.append(np.exp(gates[keeps]))
        if cell == "LSTM":
            np.testing.assert_allclose(gates[0], -gates[1])
    found = np.concatenate(times)
    assert 1 <= found.min() < 100
    assert 900 < found.max() <= steps - 1
    assert len(np.unique(found)) == 4 * H  # each layer and direction has its own


def assert_orthonormal(matrix: Any) -> None:
    """Columns, or rows where there are fewer of them."""
    small = matrix.T @ matrix if len(matrix) >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-13)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cell", VARIANTS)
def test_every_scheme_of_every_cell(cell: str, scheme: str) -> None:
    """Weights by what they are to a cell; of a projection R has fewer columns than a gate has rows."""
    H = 120  # so that the few columns of a projection's R have enough values to tell a distribution by
    kind, options = VARIANTS[cell]
    facts = CELL_FACTS[cell]
    init = ("chrono", 50) if scheme == "chrono" else scheme

    def make() -> Any:
        return getattr(fr.nn, kind)(
            I, H, 2, bidirectional=True, dtype=np.float64, seed=1, init=init, **options
        )

    if (scheme == "identity" and kind != "RNN") or (scheme == "chrono" and kind == "RNN"):
        with pytest.raises(ValueError, match=f'init must not be "{scheme}" for a cell {cell}'):
            make()
        return
    module = make()
    gates, P = len(facts.gates), VARIANTS[cell].units(H)
    for name, (_, spec) in module._stack().weights(facts.weights).items():
        w = getattr(module, name).data
        if spec.name in NORMS:
            assert (w == NORMS[spec.name]).all()
        elif scheme in ("torch", "chrono"):
            assert (scheme == "chrono" and spec.is_bias) or abs(w).max() <= H**-0.5
            assert w.std() > 0
        elif spec.is_bias:
            keras_keeps = scheme == "keras" and kind == "LSTM" and spec.role == "input_bias"
            wanted = np.zeros((gates, H))
            wanted[gates // 4] = 1.0 if keras_keeps else 0.0  # f of i f g o
            np.testing.assert_array_equal(w, wanted[: len(w) // H].ravel())
        elif spec.role == "per_unit":
            assert not w.any()
        elif spec.role == "projection":
            assert_uniform(w, np.sqrt(6 / (P + H)))
        elif spec.role == "input" and scheme != "identity":
            for block in [w] if scheme == "keras" else np.split(w, gates):
                assert_uniform(block, np.sqrt(6 / sum(block.shape)))
        elif spec.role == "recurrent":
            for block in [w] if scheme == "keras" else np.split(w, gates):
                if scheme == "glorot":
                    assert_uniform(block, np.sqrt(6 / sum(block.shape)))
                elif scheme == "identity":
                    np.testing.assert_array_equal(block, np.eye(H))
                else:
                    assert_orthonormal(block)


@pytest.mark.parametrize("cell", [cell for cell in VARIANTS if cell.startswith("lstm")])
def test_forget_bias_of_every_lstm(cell: str) -> None:
    module = fr.nn.LSTM(I, H, 2, forget_bias=2.5, init=("chrono", 9), seed=0, **VARIANTS[cell].options)
    for layer in (0, 1):
        ih, hh = (getattr(module, f"bias_{of}_l{layer}").data for of in ("ih", "hh"))
        assert ((ih + hh)[H : 2 * H] == 2.5).all()


@pytest.mark.parametrize("init", ["torch", "keras", "orthogonal", ("chrono", 50)])
def test_forget_bias(init: Any) -> None:
    weights, plain = made("LSTM", init, forget_bias=2.5), made("LSTM", init)
    for name, weight in weights.items():
        if not name.startswith("bias"):
            np.testing.assert_array_equal(weight, plain[name])
            continue
        np.testing.assert_array_equal(blocks("LSTM", weight)[1], 2.5 if "ih" in name else 0)
        for gate in (0, 2, 3):
            np.testing.assert_array_equal(blocks("LSTM", weight)[gate], blocks("LSTM", plain[name])[gate])


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("LSTM", {"init": "he"}, "init must be one of 'torch', 'keras', .*, it is 'he'"),
        ("LSTM", {"init": 3}, "init must be one of"),
        ("LSTM", {"init": "chrono"}, r'init must be \("chrono", steps\)'),
        ("LSTM", {"init": ("glorot", 5)}, "init must be 'glorot', it is"),
        ("LSTM", {"init": ("chrono", 2)}, "steps of init must be at least 3, they are 2"),
        ("GRU", {"init": "identity"}, 'init must not be "identity" for a cell gru'),
        ("RNN", {"init": ("chrono", 50)}, 'init must not be "chrono" for a cell rnn_tanh'),
        ("GRU", {"forget_bias": 1.0}, "forget_bias must be None: a cell gru has no forget gate"),
        ("LSTM", {"forget_bias": 1.0, "bias": False}, "forget_bias must be None: bias=False leaves none"),
        ("LSTM", {"init": ("chrono", 50), "bias": False}, 'init must not be "chrono" with bias=False'),
    ],
)
def test_errors(cell: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CELLS[cell][0](I, H, **options)


def test_a_forget_bias_that_is_no_number() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="forget_bias must be finite"):
            fr.nn.LSTM(I, H, forget_bias=value)
    with pytest.raises(TypeError, match="forget_bias must be a number, it is str"):
        fr.nn.LSTM(I, H, forget_bias="one")
