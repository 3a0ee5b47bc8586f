"""The LSTM with layer normalisation: the kernels against the reference and autograd, modules, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from sequences import Stack, bits, check, check_again, draw, named, run, stacks
from steps import adam, data, twins
from steps import run as run_steps

import fusedrnn as fr
from fusedrnn import _native, cpu, functional, reference

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
@settings(max_examples=60)
@given(stack=stacks("lstm", [CELL]))
def test_against_the_reference(dtype: Any, stack: Stack) -> None:
    check(stack, dtype)


@KERNELS
@pytest.mark.parity
@DTYPES
@pytest.mark.parametrize(
    "stack",
    [
        Stack(CELL, T=40, B=3, I=5, H=7, dy=False, spread=0.3),  # gradients from states alone
        Stack(CELL, T=9, B=33, I=12, H=65, directions=2, lengths=True, resets=True),
        Stack(CELL, T=2, B=600, I=3, H=5),  # more rows than a chunk of the weight gradients' sums
        Stack(CELL, T=2, B=2, I=3, H=1030),  # more units than a chunk of the statistics' sums
        Stack(CELL, T=6, B=3, I=4, H=9, layers=2, directions=2, dy=False, dhn=False),  # through c alone
        Stack(CELL, T=6, B=3, I=4, H=9, layers=2, flow=True, bias=False),
    ],
    ids=str,
)
def test_chosen_sizes(dtype: Any, stack: Stack) -> None:
    check(stack, dtype)


@KERNELS
@pytest.mark.parity
@DTYPES
@settings(max_examples=20)
@given(stack=stacks("lstm", [CELL]))
def test_again(dtype: Any, stack: Stack) -> None:
    check_again(stack, dtype)


@KERNELS
@pytest.mark.parity
@pytest.mark.parametrize("precision", ["bf16", "bf16x3", "bf16x6"])
def test_other_precisions(precision: str) -> None:
    check(
        Stack(CELL, T=7, B=9, I=12, H=19, layers=2, directions=2, lengths=True, resets=True),
        np.float32,
        precision,
    )


@KERNELS
@pytest.mark.parametrize("plan", ["2x1", "1x2", "1x3", "2x2", "2x1x1", "2x2x2"])
@DTYPES
def test_every_grid_gives_the_same_bits(dtype: Any, plan: str) -> None:
    """Rows that are one thread's behind a barrier, of batches that unit groups do not divide."""
    given = draw(Stack(CELL, T=12, B=5, I=6, H=70, layers=2, directions=2, lengths=True, resets=True))
    threads = _native.get_num_threads()
    try:
        _native.set_num_threads(8)
        results = []
        for which in ("1x1", plan):
            _native.force_plan(which)
            results.append(bits(run(given, dtype, None)))
        assert results[0] == results[1]
    finally:
        _native.force_plan("")
        _native.set_num_threads(threads)


@KERNELS
@DTYPES
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_bits_that_it_has_alone(dtype: Any, threads: int) -> None:
    before = _native.get_num_threads()
    module = lstm(num_layers=2, bidirectional=True, dtype=dtype)
    weights, rng = drawn(module), np.random.default_rng(5)
    x, dy = (rng.normal(size=(T, 19, n)).astype(dtype) for n in (I, 2 * H))
    state, dstate = (tuple(rng.normal(size=(2, 4, 19, H)).astype(dtype)) for _ in range(2))

    def rows(first: int, last: int) -> dict[str, bytes]:
        part = [np.ascontiguousarray(a[:, first:last]) for a in (x, *state, dy, *dstate)]
        y, final, tape = functional.lstm_forward(part[0], (part[1], part[2]), weights)
        dx, dstart, _ = functional.lstm_backward(tape, part[3], (part[4], part[5]))
        return bits(named((y[:, :1], [s[:, :1] for s in final], dx[:, :1], [s[:, :1] for s in dstart])))

    try:
        _native.set_num_threads(threads)
        for b in (0, 7, 18):
            assert rows(b, 19) == rows(b, b + 1)
    finally:
        _native.set_num_threads(before)


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
@pytest.mark.parametrize("init", ["torch", "keras", "glorot", "orthogonal", ("chrono", 20)])
def test_initial_weights(init: Any) -> None:
    """Norms begin as none; the forget gate's bias is that of the gate, behind them."""
    module = lstm(num_layers=2, bidirectional=True, init=init, forget_bias=2.0)
    for name, parameter in module.named_parameters():
        if "_ln_" in name:
            assert (parameter.numpy() == name.startswith("weight")).all()
        elif name.startswith("bias"):
            assert (parameter.numpy()[H : 2 * H] == (2.0 if "_ih_" in name else 0.0)).all()


def test_train_step_has_the_bits_of_the_separate_calls() -> None:
    model = fr.nn.Sequential(
        lstm(num_layers=2, bidirectional=True, dropout=0.3), fr.nn.Linear(2 * H, 2, seed=1)
    )
    steps = [
        {
            "x": data(T, B, I, seed=s),
            "y": data(T, B, 2, seed=s + 9),
            "lengths": np.array([5, 2, 3]),
            "resets": np.random.default_rng(s).random((T, B)) < 0.3,
        }
        for s in range(3)
    ]
    run_steps(twins(model, adam), "mse", steps)
    assert all(np.abs(p.grad).max() > 0 for name, p in model.named_parameters() if "_ln_" in name)


def test_the_module() -> None:
    module = lstm(num_layers=2)
    assert repr(module) == "LSTM(4, 6, num_layers=2, layer_norm=True)"
    x = data(T, B, I)
    again = pickle.loads(pickle.dumps(module))
    assert again.layer_norm
    assert (again(x)[0] == module(x)[0]).all()
    assert (copy.deepcopy(module)(x)[0] == module(x)[0]).all()
    one, _ = module(x[:, 0])  # without a batch
    assert (one == module(x[:, :1])[0][:, 0]).all()
    first = lstm(batch_first=True)
    first.load_state_dict(lstm().state_dict())
    assert (first(x.swapaxes(0, 1).copy())[0] == lstm()(x)[0].swapaxes(0, 1)).all()
    with pytest.raises(ValueError, match="missing: weight_ln_ih_l0"):
        module.load_state_dict(fr.nn.LSTM(I, H, 2).state_dict())
    with pytest.raises(TypeError, match="layer_norm must be True or False, it is 'yes'"):
        fr.nn.LSTM(I, H, layer_norm="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="peephole must be False with layer_norm=True, it is True"):
        lstm(peephole=True)
    plain = fr.nn.LSTM(I, H)
    del plain.__dict__["layer_norm"]  # as pickles from before there was any
    assert not pickle.loads(pickle.dumps(plain)).layer_norm


def test_in_our_own_files(tmp_path: Path) -> None:
    model = fr.nn.Sequential(lstm(num_layers=2, bidirectional=True), fr.nn.Linear(2 * H, 2)).eval()
    fr.io.save(model, tmp_path / "model.safetensors")
    back = fr.io.load(tmp_path / "model.safetensors")
    assert repr(back) == repr(model)
    x = data(T, B, I)
    assert (back(x) == model(x)).all()


@pytest.mark.peer
def test_other_formats_refuse_it_by_name(tmp_path: Path) -> None:
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(layer_norm=True\) has no equal in PyTorch"):
        fr.io.to_torch(lstm())
    pytest.importorskip("onnx", reason="onnx, of the extra io, is what the rest is about")
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(layer_norm=True\) has no equal in ONNX"):
        fr.io.to_onnx(lstm(), tmp_path / "model.onnx")
    pytest.importorskip("keras", reason="keras is what the rest is about")
    with pytest.raises(fr.io.UnsupportedError, match=r"LSTM\(layer_norm=True\) has no equal in Keras"):
        fr.io.to_keras(lstm(batch_first=True), tmp_path / "model.keras")
