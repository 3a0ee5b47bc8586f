"""fusedrnn.torch's modules do what torch.nn's do: results, gradients, attributes, state dicts, messages."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest
from torch_models import CELLS, KINDS, assert_close, assert_same, ft, pair, run, state_for, tensors, torch

import fusedrnn as fr

pytestmark = pytest.mark.peer
DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize(
    ("kind", "batch_first", "bidirectional", "layers", "bias"),
    [
        (kind, *rest, layers, bias)
        for kind, rest, (layers, bias) in product(
            KINDS, product((False, True), (False, True)), ((1, True), (2, True), (3, False))
        )
    ],
)
def test_dense_as_torch(kind: str, batch_first: bool, bidirectional: bool, layers: int, bias: bool) -> None:
    for dtype in DTYPES:
        torch.manual_seed(layers)
        theirs, ours = pair(
            kind,
            5,
            7,
            layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            dtype=dtype,
        )
        x = torch.randn((3, 6, 5) if batch_first else (6, 3, 5), dtype=dtype, requires_grad=True)
        state = state_for(theirs, 3, dtype)
        leaves = [x, *tensors(state)]
        assert_same(run(ours, (x, state), leaves), run(theirs, (x, state), leaves))
        assert_same(run(ours, (x,), [x]), run(theirs, (x,), [x]))


@pytest.mark.parametrize("kind", KINDS)
def test_relu_and_unbatched(kind: str) -> None:
    options: dict[str, Any] = {"nonlinearity": "relu"} if kind == "RNN" else {}
    for batch_first in (False, True):
        theirs, ours = pair(kind, 4, 6, 2, batch_first=batch_first, **options)
        x = torch.randn(5, 4, requires_grad=True)
        assert_same(run(ours, (x,), [x]), run(theirs, (x,), [x]))
        state = tuple(torch.randn(2, 6, requires_grad=True) for _ in range(2))
        given = state if kind == "LSTM" else state[0]
        leaves = [x, *tensors(given)]
        assert_same(run(ours, (x, given), leaves), run(theirs, (x, given), leaves))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_cells_as_torch(kind: str, bias: bool) -> None:
    theirs, ours = pair(kind, 4, 6, bias)
    for sizes, state_sizes in (((3, 4), (3, 6)), ((4,), (6,))):
        x = torch.randn(sizes, requires_grad=True)
        state = tuple(torch.randn(state_sizes, requires_grad=True) for _ in range(2))
        given = state if kind == "LSTMCell" else state[0]
        leaves = [x, *tensors(given)]
        assert_same(run(ours, (x, given), leaves), run(theirs, (x, given), leaves))
        assert_same(run(ours, (x,), [x]), run(theirs, (x,), [x]))
        with torch.no_grad():
            for a, b in zip(tensors(ours(x, given)), tensors(theirs(x, given)), strict=True):
                assert_close(a, b)


def test_relu_cell() -> None:
    theirs, ours = pair("RNNCell", 4, 6, nonlinearity="relu")
    x = torch.randn(3, 4, requires_grad=True)
    assert_same(run(ours, (x,), [x]), run(theirs, (x,), [x]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True])
def test_same_bits_as_own_modules(kind: str, grad: bool) -> None:
    """The same call through fr.nn: outputs and gradients bit by bit, lengths and resets included."""
    for dtype, np_dtype in ((torch.float32, np.float32), (torch.float64, np.float64)):
        module = getattr(ft, kind)(5, 7, 2, bidirectional=True, dtype=dtype)
        own = getattr(fr.nn, kind)(5, 7, 2, bidirectional=True, dtype=np_dtype)
        own.load_state_dict({name: p.detach().numpy() for name, p in module.named_parameters()})
        rng = np.random.default_rng(0)
        x = rng.normal(size=(6, 4, 5)).astype(np_dtype)
        lengths, resets = np.array([6, 0, 3, 5]), rng.random((6, 4)) < 0.3
        t = torch.tensor(x, requires_grad=grad)
        if not grad:
            with torch.no_grad():
                y, _ = module(t, lengths=torch.from_numpy(lengths), resets=torch.from_numpy(resets))
            expected, _ = own(x, lengths=lengths, resets=resets)
            np.testing.assert_array_equal(y.numpy(), expected)
            continue
        y, _ = module(t, lengths=lengths.tolist(), resets=resets)
        expected, _ = own(x, lengths=lengths, resets=resets)
        np.testing.assert_array_equal(y.detach().numpy(), expected)
        dy = rng.normal(size=expected.shape).astype(np_dtype)
        y.backward(torch.from_numpy(dy))
        dx, _ = own.backward(dy)
        np.testing.assert_array_equal(t.grad.numpy(), dx)
        for name, p in own.named_parameters():
            np.testing.assert_array_equal(getattr(module, name).grad.numpy(), p.grad, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_as_packed(kind: str) -> None:
    theirs, ours = pair(kind, 3, 5, batch_first=True, bidirectional=True)
    x = torch.randn(4, 6, 3)
    lengths = torch.tensor([2, 6, 1, 4])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    expected, end = theirs(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, True)
    x[torch.arange(6) >= lengths[:, None]] = float("nan")  # not read
    y, ours_end = ours(x, lengths=lengths)
    assert_close(y, expected)
    for a, b in zip(tensors(ours_end), tensors(end), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_resets_cut_the_sequence(kind: str) -> None:
    _, ours = pair(kind, 3, 5)
    x = torch.randn(6, 2, 3)
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[4] = True
    y, _ = ours(x, resets=resets)
    torch.testing.assert_close(y[4:], ours(x[4:])[0], rtol=0, atol=0)
    single, _ = ours(x[:, 0], resets=resets[:, 0])
    torch.testing.assert_close(single, y[:, 0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_state_dict_both_ways(kind: str) -> None:
    theirs, ours = getattr(torch.nn, kind)(3, 5), getattr(ft, kind)(3, 5)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert [tuple(p.shape) for p in theirs.parameters()] == [tuple(p.shape) for p in ours.parameters()]
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_same_initial_weights_by_seed(kind: str) -> None:
    torch.manual_seed(3)
    theirs = getattr(torch.nn, kind)(3, 5)
    torch.manual_seed(3)
    ours = getattr(ft, kind)(3, 5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_constructor_refuses_what_torch_does() -> None:
    for kind in KINDS:
        for args, options in (
            ((0, 5), {}),
            ((3, 0), {}),
            ((3, 5, 0), {}),
            (("3", 5), {}),
            ((3, 5), {"bias": 1}),
            ((3, 5), {"batch_first": "yes"}),
            ((3, 5), {"dropout": 2.0}),
        ):
            with pytest.raises((TypeError, ValueError)) as theirs:
                getattr(torch.nn, kind)(*args, **options)
            with pytest.raises(type(theirs.value)) as ours:
                getattr(ft, kind)(*args, **options)
            assert str(ours.value) == str(theirs.value)
    for module in (torch.nn, ft):
        with pytest.raises(ValueError, match="Unknown nonlinearity 'sigmoid'"):
            module.RNN(3, 5, nonlinearity="sigmoid")
        with pytest.raises(ValueError, match="only supported for LSTM"):
            module.GRU(3, 5, proj_size=2)


def test_constructor_names_what_torch_finds_out_later() -> None:
    for options, name in (
        ({"num_layers": None}, "num_layers"),
        ({"num_layers": 1.0}, "num_layers"),
        ({"dropout": None}, "dropout"),
        ({"bias": None}, "bias"),
        ({"bidirectional": None}, "bidirectional"),
        ({"bidirectional": 2}, "bidirectional"),
    ):
        for kind in KINDS:
            with pytest.raises(TypeError, match=f"^{name} should be"):
                getattr(ft, kind)(3, 5, **options)
    with pytest.raises(TypeError, match=r"^num_layers should be"):
        ft.GRU(3, 5, "2")


def test_cells_take_no_bias_as_torch_does() -> None:
    x = torch.randn(2, 3)
    for bias in (None, 0):
        theirs, ours = pair("GRUCell", 3, 5, bias=bias)
        assert_close(ours(x), theirs(x))


def test_sparse_tensors_are_refused_by_name() -> None:
    def csr(t: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls this layout a beta
            return t.to_sparse_csr()

    x = torch.randn(4, 3)
    for sparse in (torch.Tensor.to_sparse, csr, torch.Tensor.to_mkldnn):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                module, cell = ft.LSTM(3, 5), ft.GRUCell(3, 5)
                assert (module(x)[0].requires_grad, cell(x).requires_grad) == (grad, grad)
                for call in (module, cell):
                    with pytest.raises(TypeError, match=r"^input must be a dense tensor"):
                        call(sparse(x))
                with pytest.raises(TypeError, match=r"^hx must be a dense tensor"):
                    cell(x, sparse(torch.zeros(4, 5)))
                with pytest.raises(TypeError, match=r"^hx must be a dense tensor"):
                    module(x, (torch.zeros(1, 5), sparse(torch.zeros(1, 5))))
                for one in (module, cell):
                    name = next(iter(dict(one.named_parameters())))
                    weight = sparse(getattr(one, name).detach())
                    delattr(one, name)
                    setattr(one, name, weight)
                    with pytest.raises(TypeError, match=r"^each weight must be a dense tensor"):
                        one(x)


def test_lengths_of_an_unbatched_input_are_one_int() -> None:
    module = ft.LSTM(3, 5, bidirectional=True)
    x = torch.randn(4, 3)
    y, (hn, _) = module(x[:, None], lengths=torch.tensor([2]))
    for lengths in (2, torch.tensor(2), np.int64(2), torch.tensor([2])):
        found, (end, _) = module(x, lengths=lengths)
        assert torch.equal(found, y[:, 0])
        assert torch.equal(end, hn[:, 0])
    with pytest.raises(ValueError, match=r"^lengths must be one int where input is unbatched"):
        module(x, lengths=torch.tensor([2, 2]))
    with pytest.raises(ValueError, match=r"^lengths"):
        module(x[:, None], lengths=2)


MISFITS: dict[str, Any] = {
    "dtype": lambda m: m(torch.randn(2, 3, 4, dtype=torch.float64)),
    "features": lambda m: m(torch.randn(2, 3, 5)),
    "axes": lambda m: m(torch.randn(2, 3, 4, 1)),
    "state size": lambda m: m(torch.randn(2, 3, 4), state_like(m, (1, 3, 7))),
    "state rows": lambda m: m(torch.randn(2, 3, 4), state_like(m, (1, 2, 6))),
    "state axes": lambda m: m(torch.randn(2, 3, 4), state_like(m, (3, 6))),
    "state axes unbatched": lambda m: m(torch.randn(2, 4), state_like(m, (1, 3, 6))),
}


def state_like(module: Any, sizes: tuple[int, ...]) -> Any:
    pair_ = isinstance(module, (torch.nn.LSTM, ft.LSTM))
    return (torch.zeros(sizes), torch.zeros(sizes)) if pair_ else torch.zeros(sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_have_torchs_words(kind: str, misfit: str) -> None:
    theirs, ours = pair(kind, 4, 6)
    with pytest.raises((RuntimeError, ValueError)) as expected:
        MISFITS[misfit](theirs)
    for grad, packed in ((True, False), (False, False), (False, True)):
        with torch.set_grad_enabled(grad):
            if packed:
                ours(torch.randn(2, 3, 4))
            with pytest.raises(type(expected.value)) as found:
                MISFITS[misfit](ours)
        assert str(found.value) == str(expected.value)


def test_devices_that_differ_and_devices_without_kernels() -> None:
    _, ours = pair("LSTM", 4, 6)
    with pytest.raises(RuntimeError, match="not at the same device"):
        ours(torch.randn(2, 3, 4, device="meta"))
    y, (hn, _) = ours.to("meta")(torch.randn(2, 3, 4, device="meta"))
    assert y.shape == (2, 3, 6)
    assert hn.device.type == "meta"


def test_cuda_tensors_without_kernels_say_why() -> None:
    from fusedrnn.torch import masks, on_cuda, ops

    reason = fr.cuda.why_not()
    if reason is None:
        pytest.skip("this package's CUDA kernels run here")
    settings = ops.Settings("lstm", 1, 1, True, False, "ieee", 0, masks.NONE)
    with pytest.raises(RuntimeError, match="cannot compute") as error:
        on_cuda.run(settings, 0, torch.zeros(1, 1, 4), None, None, None, None, [], False)
    assert reason in str(error.value)


def test_half_weights_are_refused_with_the_fix() -> None:
    module = ft.LSTM(4, 6, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"float32 and torch.float64.*autocast"):
        module(torch.randn(2, 3, 4, dtype=torch.bfloat16))


def test_odd_layouts() -> None:
    """Transposed, expanded and sliced inputs and states: as contiguous ones."""
    theirs, ours = pair("LSTM", 4, 6)
    wide = torch.randn(5, 3, 8)
    for x in (
        wide[:, :, ::2],
        wide[..., :4],
        torch.randn(3, 5, 4).transpose(0, 1),
        torch.randn(5, 1, 4).expand(5, 3, 4),
    ):
        state = (torch.randn(1, 6, 3).transpose(1, 2), torch.randn(1, 1, 6).expand(1, 3, 6))
        for a, b in zip(tensors(ours(x, state)), tensors(theirs(x, state)), strict=True):
            assert_close(a, b)


def test_empty_sequences_and_batches() -> None:
    _, ours = pair("GRU", 4, 6)
    for sizes in ((0, 3, 4), (5, 0, 4)):
        x = torch.randn(sizes, requires_grad=True)
        y, hn = ours(x)
        assert y.shape == (*sizes[:2], 6)
        (y.sum() + hn.sum()).backward()
        assert x.grad.shape == sizes


def test_copies_and_files() -> None:
    _, ours = pair("LSTM", 4, 6, 2)
    x = torch.randn(5, 3, 4)
    with torch.no_grad():
        expected, _ = ours(x)  # packs
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    others = [
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
        torch.load(buffer, weights_only=False),
    ]
    for other in others:
        with torch.no_grad():
            assert torch.equal(other(x)[0], expected)
            other.weight_hh_l0.mul_(2)
            assert not torch.equal(other(x)[0], expected)
    with torch.no_grad():
        assert torch.equal(ours(x)[0], expected)


def test_dropout_is_governed_by_torchs_seed() -> None:
    module = ft.GRU(4, 16, 3, dropout=0.5)
    x = torch.randn(5, 3, 4)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(module(x)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    with torch.no_grad():  # torch.nn drops in training mode, gradients or not
        torch.manual_seed(1)
        assert torch.equal(module(x)[0], results[0])
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


def test_threads_follow_torch() -> None:
    code = """
import os, sys, torch
import fusedrnn as fr, fusedrnn.torch as ft
m, x = ft.GRU(3, 4), torch.randn(2, 1, 3)
torch.set_num_threads(1); m(x); first = fr.get_num_threads()
torch.set_num_threads(2); m(x); second = fr.get_num_threads()
fr.set_num_threads(3); m(x); torch.set_num_threads(1); m(x); third = fr.get_num_threads()
print(first, second, third)
"""
    for variable, expected in ((None, "1 2 3"), ("1", "1 1 3")):
        environment = {**__import__("os").environ}
        environment.pop("FUSEDRNN_NUM_THREADS", None)
        if variable:
            environment["FUSEDRNN_NUM_THREADS"] = variable
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
        )
        assert result.stdout.split() == expected.split(), result.stderr


def test_import_of_the_package_leaves_torch_alone() -> None:
    code = "import fusedrnn as fr, sys; fr.nn.LSTM(2, 3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("lengths", ["a", {}, 10**30, ["a", "b"]])
def test_lengths_that_are_no_numbers_are_told_so(lengths: Any) -> None:
    module = ft.GRU(3, 4)
    with pytest.raises(TypeError, match="lengths and resets must be tensors, arrays or lists of numbers"):
        module(torch.zeros(2, 2, 3), lengths=lengths)
