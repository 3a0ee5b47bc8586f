"""The LSTM with layer normalisation: sizes of its own, autograd, weights. More in `test_variants.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sequences import Stack, check
from steps import data

import fusedrnn as fr
from fusedrnn import cpu, functional, reference

CELL = "lstm_layer_norm"
T, B, I, H = 5, 3, 4, 6
KERNELS = pytest.mark.skipif(cpu.isa() in ("cuda", "simt"), reason="CUDA refuses the cell")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
NORMS = ["weight_ln_ih", "bias_ln_ih", "weight_ln_hh", "bias_ln_hh", "weight_ln_c", "bias_ln_c"]


def lstm(**options: Any) -> fr.nn.LSTM:
    return fr.nn.LSTM(I, H, layer_norm=True, seed=0, **options)


def drawn(module: fr.nn.LSTM) -> dict[str, np.ndarray]:
    """Weights of the module's names and shapes, no two alike."""
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=a.shape).astype(a.dtype) for name, a in module.state_dict().items()}


# ------------------------------------------------------------------------------------------- the kernels


@KERNELS
@pytest.mark.parity
@DTYPES
@pytest.mark.parametrize(
    "stack",
    [
        Stack(CELL, T=2, B=2, I=3, H=1030),  # more units than a chunk of the statistics' sums
        Stack(CELL, T=6, B=3, I=4, H=9, layers=2, flow=True, bias=False),
    ],
    ids=str,
)
def test_chosen_sizes(dtype: Any, stack: Stack) -> None:
    check(stack, dtype)


# ------------------------------------------------------------------------------------------- what it is
@pytest.mark.peer
@pytest.mark.parametrize("functions", [functional, reference])
@pytest.mark.parametrize("bias", [True, False])
def test_against_autograd(functions: Any, bias: bool) -> None:
    """The composite that a user of PyTorch writes, two layers, in float64."""
    torch = pytest.importorskip("torch", reason="torch is what it is compared with")
    norm = torch.nn.functional.layer_norm
    module = lstm(num_layers=2, bias=bias, dtype=np.float64)
    weights = drawn(module)
    given = {"x": data(T, B, I, dtype=np.float64)}
    for seed, name in enumerate(("h0", "c0")):
        given[name] = data(2, B, H, seed=seed + 1, dtype=np.float64)
    dy, dhn, dcn = (
        data(*s, seed=k + 5, dtype=np.float64) for k, s in enumerate([(T, B, H), (2, B, H), (2, B, H)])
    )
    leaves = {name: torch.tensor(a, requires_grad=True) for name, a in (given | weights).items()}
    y, finals = leaves["x"], []
    for layer in range(2):
        w = {name.removesuffix(f"_l{layer}"): a for name, a in leaves.items() if name.endswith(f"_l{layer}")}
        h, c, outputs = leaves["h0"][layer], leaves["c0"][layer], []
        for x in y:
            a = norm(x @ w["weight_ih"].T, (4 * H,), w["weight_ln_ih"], w["bias_ln_ih"], 1e-5)
            a = a + norm(h @ w["weight_hh"].T, (4 * H,), w["weight_ln_hh"], w["bias_ln_hh"], 1e-5)
            if bias:
                a = a + w["bias_ih"] + w["bias_hh"]
            i, f, g, o = a.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * norm(c, (H,), w["weight_ln_c"], w["bias_ln_c"], 1e-5).tanh()
            outputs.append(h)
        y = torch.stack(outputs)
        finals.append((h, c))
    hn, cn = (torch.stack(part) for part in zip(*finals, strict=True))
    (y * torch.tensor(dy)).sum().add((hn * torch.tensor(dhn)).sum()).add(
        (cn * torch.tensor(dcn)).sum()
    ).backward()

    ours, (our_hn, our_cn), tape = functions.lstm_forward(given["x"], (given["h0"], given["c0"]), weights)
    dx, (dh0, dc0), dweights = functions.lstm_backward(tape, dy, (dhn, dcn))
    for mine, theirs in ((ours, y), (our_hn, hn), (our_cn, cn)):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-11, atol=1e-12)
    for name, mine in ({"x": dx, "h0": dh0, "c0": dc0} | dweights).items():
        np.testing.assert_allclose(mine, leaves[name].grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=name)
        assert np.abs(mine).max() > 0, name


def test_a_large_offset_of_pre_activations_is_taken_out() -> None:
    """What all pre-activations of a row share leaves no trace but rounding: statistics take two passes."""
    module = lstm()
    weights = drawn(module)
    x = np.concatenate([data(T, B, I - 1), np.ones((T, B, 1), np.float32)], axis=2)
    moved = {name: a.copy() for name, a in weights.items()}
    weights["weight_ih_l0"][:, -1] = 0
    moved["weight_ih_l0"][:, -1] = 3000
    plain, offset = (functional.lstm_forward(x, None, w)[0] for w in (weights, moved))
    np.testing.assert_allclose(offset, plain, atol=2e-3)


@pytest.mark.parametrize("part", ["W x", "R h", "c"])
def test_rows_far_from_zero_keep_their_digits(part: str) -> None:
    """A mean rounded to float32 takes what differences from it are made of.

    W x, R h or c are one thousand ulps around 8192, exact in float32: so both dtypes start from the same.
    """
    results = []
    for dtype in (np.float32, np.float64):
        module = fr.nn.LSTM(1, H, layer_norm=True, bias=False, dtype=dtype, seed=0)
        state = {n: a.astype(np.float32).astype(dtype) for n, a in lstm_of_one().items()}
        x, h0, c0 = np.ones((1, B, 1), dtype), np.zeros((1, B, H), dtype), np.zeros((1, B, H), dtype)
        near = np.random.default_rng(1).integers(-1024, 1024, (4 * H, 1))
        if part == "W x":
            state["weight_ih_l0"] = (8192 + near / 1024).astype(dtype)
        elif part == "R h":
            state["weight_hh_l0"] = np.pad(8192 + near / 1024, ((0, 0), (0, H - 1))).astype(dtype)
            h0[..., 0] = 1
        else:
            c0[...] = 8192 + near[:H, 0] / 1024
        module.load_state_dict(state)
        y, _ = module(x, (h0, c0))
        dy = data(*y.shape, seed=2).astype(np.float32).astype(dtype)
        _, dstate = module.backward(dy)
        grads = [p.grad for n, p in module.named_parameters() if n != "weight_hh_l0" or part == "R h"]
        # The gradient of what is summed over a normalised row is 0, as that of h0 by W x is not.
        results.append([y, dstate[1], *grads])
    for found, right in zip(*results, strict=True):
        assert np.abs(found - right).max() <= 2e-6 * np.abs(right).max()


def lstm_of_one() -> dict[str, np.ndarray]:
    return fr.nn.LSTM(1, H, layer_norm=True, bias=False, seed=0).state_dict()


def test_weights_tell_that_there_is_layer_norm() -> None:
    module = lstm()
    x, weights = data(T, B, I), drawn(module)
    module.load_state_dict(weights)
    usual = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert list(weights) == [f"{name}_l0" for name in usual + NORMS]
    assert [a.shape for a in list(weights.values())[4:]] == [(4 * H,)] * 4 + [(H,)] * 2
    y, _ = module(x)
    for packed in (weights, functional.pack_weights(weights), functional.pack_weights(weights, cell=CELL)):
        assert (functional.lstm_forward(x, None, packed)[0] == y).all()
    assert (reference.lstm_forward(x, None, reference.pack_weights(weights))[0].shape) == y.shape
    with pytest.raises(ValueError, match="weight_ln_c_l0"):
        functional.lstm_forward(x, None, weights | {"weight_ln_c_l0": np.zeros(2 * H, np.float32)})
    del weights["bias_ln_hh_l0"]
    with pytest.raises(ValueError, match="'bias_ln_hh_l0' is missing"):
        functional.lstm_forward(x, None, weights)
    with pytest.raises(ValueError, match="gru"):
        functional.gru_forward(x, None, functional.pack_weights(drawn(module)))


# ------------------------------------------------------------------------------------------- the module
