"""fusedrnn.torch under autograd and what is built on it: hooks, parametrizations, torch.func, checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch_models import CELLS, KINDS, assert_close, assert_same, ft, pair, run, tensors, torch

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str) -> None:
    torch.manual_seed(0)
    module = getattr(ft, kind)(3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(4, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    names = [name for name, _ in module.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def f(x: Any, h: Any, c: Any, *ws: Any) -> Any:
        given = (h, c) if kind == "LSTM" else h
        named = dict(zip(names, ws, strict=True))
        return tuple(tensors(torch.func.functional_call(module, named, (x, given))))

    c = [states[1]] if kind == "LSTM" else [states[1].detach()]
    assert torch.autograd.gradcheck(f, (x, states[0], *c, *weights), fast_mode=True)


@pytest.mark.parametrize("kind", CELLS)
def test_gradcheck_cells(kind: str) -> None:
    cell = getattr(ft, kind)(3, 4, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def f(x: Any, h: Any) -> Any:
        return tuple(tensors(cell(x, (h, h * 2) if kind == "LSTMCell" else h)))

    assert torch.autograd.gradcheck(f, (x, h))


def test_only_what_needs_gradients_gets_them() -> None:
    theirs, ours = pair("LSTM", 4, 6, 2)
    for module in (theirs, ours):
        module.weight_hh_l0.requires_grad_(False)
        module.bias_hh_l1.requires_grad_(False)
    x = torch.randn(5, 3, 4)
    h, c = torch.randn(2, 3, 6), torch.randn(2, 3, 6, requires_grad=True)
    assert_same(run(ours, (x, (h, c)), [c]), run(theirs, (x, (h, c)), [c]))
    assert ours.weight_hh_l0.grad is None
    for module in (theirs, ours):
        module.requires_grad_(False)
    leaf = torch.randn(5, 3, 4, requires_grad=True)
    assert_same(run(ours, (leaf,), [leaf]), run(theirs, (leaf,), [leaf]))
    assert not ours(x)[0].requires_grad


def test_gradient_through_one_output_only() -> None:
    theirs, ours = pair("LSTM", 4, 6, 2, bidirectional=True)
    for pick in range(3):
        found = []
        for module in (ours, theirs):
            x = torch.ones(5, 3, 4, requires_grad=True)
            module.zero_grad()
            tensors(module(x))[pick].sum().backward()
            found.append([x.grad, *(p.grad for p in module.parameters())])
        for a, b in zip(*found, strict=True):
            assert_close(a, b)


@pytest.mark.parametrize("which", ["x", "h0", "weight", "lengths"])
def test_change_between_forward_and_backward_raises(which: str) -> None:
    module = ft.GRU(4, 6)
    x = torch.randn(5, 3, 4, requires_grad=True) * 1
    h0 = torch.randn(1, 3, 6, requires_grad=True) * 1
    lengths = torch.tensor([5, 3, 2])
    y, _ = module(x, h0, lengths=lengths)
    with torch.no_grad():
        {"x": x, "h0": h0, "weight": module.weight_ih_l0, "lengths": lengths}[which].mul_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_results_may_be_written_to() -> None:
    """Which torch.nn.LSTM refuses: backward reads nothing that the caller was given."""
    theirs, ours = pair("LSTM", 4, 6)
    x = torch.randn(5, 3, 4)
    y, (hn, _) = ours(x)
    y.mul_(3)
    hn.add_(1)
    (y.sum() + hn.sum()).backward()
    y, (hn, _) = theirs(x)
    (3 * y.sum() + hn.sum()).backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(a.grad, b.grad)


def test_second_and_double_backward() -> None:
    module = ft.LSTM(4, 6)
    x = torch.randn(5, 3, 4, requires_grad=True)
    y, _ = module(x)
    y.sum().backward(retain_graph=True)
    first = x.grad.clone()
    y.sum().backward()
    assert torch.equal(x.grad, 2 * first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()
    y, _ = module(x)
    with pytest.raises(RuntimeError, match=r"no double backward.*restore"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_hooks_fire() -> None:
    module = ft.GRU(4, 6)
    fired = []
    module.register_forward_pre_hook(lambda *_: fired.append("pre"))
    module.register_forward_hook(lambda *_: fired.append("forward"))
    module.register_full_backward_hook(lambda *_: fired.append("backward"))
    module.weight_hh_l0.register_hook(lambda g: fired.append("gradient"))
    module.weight_hh_l0.register_post_accumulate_grad_hook(lambda p: fired.append("accumulated"))
    module(torch.randn(5, 3, 4, requires_grad=True))[0].sum().backward()
    assert sorted(fired) == sorted(["pre", "forward", "gradient", "accumulated", "backward"])


def weight_norm(module: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")


def prune(module: Any) -> None:
    from torch.nn.utils import prune

    prune.l1_unstructured(module, "weight_hh_l0", 0.5)


def parametrization(module: Any) -> None:
    class Twice(torch.nn.Module):
        def forward(self, w: Any) -> Any:
            return 2 * w

    torch.nn.utils.parametrize.register_parametrization(module, "weight_ih_l0", Twice())


@pytest.mark.parametrize("change", [weight_norm, prune, parametrization])
@pytest.mark.parametrize("kind", KINDS)
def test_computed_weights(change: Any, kind: str) -> None:
    theirs, ours = pair(kind, 4, 6)
    for module in (theirs, ours):
        torch.manual_seed(0)
        change(module)
    x = torch.randn(5, 3, 4, requires_grad=True)
    a, b = run(ours, (x,), [x]), run(theirs, (x,), [x])
    assert_close(a.outputs[0], b.outputs[0])
    found = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in theirs.named_parameters():
        # torch.nn.LSTM reads a stale weight under some of these and then leaves the gradient out
        if p.grad is not None:
            assert_close(found[name], p.grad)
    assert all(g is not None for g in found.values())
    with torch.no_grad():
        before = ours(x)[0]
        next(p for name, p in ours.named_parameters() if "original" in name or "orig" in name).mul_(2)
        assert not torch.equal(ours(x)[0], before)


def test_functional_call() -> None:
    theirs, ours = pair("LSTM", 4, 6)
    x = torch.randn(5, 3, 4)
    other = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            a = torch.func.functional_call(ours, other, (x,))
            assert_close(a[0], torch.func.functional_call(theirs, other, (x,))[0])
            assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_func_grad(kind: str) -> None:
    theirs, ours = pair(kind, 4, 6)
    x = torch.randn(5, 3, 4)
    weights = {name: p.detach() for name, p in ours.named_parameters()}

    def loss(module: Any) -> Any:
        return lambda w, x: torch.func.functional_call(module, w, (x,))[0].pow(2).sum()

    a = torch.func.grad(loss(ours), argnums=(0, 1))(weights, x)
    b = torch.func.grad(loss(theirs), argnums=(0, 1))(weights, x)
    assert_close(a[1], b[1])
    for name in weights:
        assert_close(a[0][name], b[0][name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_vmap_over_x(kind: str, batch_first: bool) -> None:
    module = getattr(ft, kind)(4, 6, 2, batch_first=batch_first)
    xs = torch.randn(7, 5, 3, 4)
    mapped = torch.func.vmap(module)(xs)
    looped = [module(x) for x in xs]
    for a, *each in zip(tensors(mapped), *(tensors(one) for one in looped), strict=True):
        assert torch.equal(a, torch.stack(each))
    moved = torch.func.vmap(lambda x: module(x)[0], in_dims=2, out_dims=1)(xs.movedim(0, 2))
    assert torch.equal(moved.movedim(1, 0), tensors(mapped)[0])
    hs = torch.randn(7, 2, 5 if batch_first else 3, 6)
    states = (lambda h: (h, h)) if kind == "LSTM" else (lambda h: h)
    mapped = torch.func.vmap(lambda h: module(xs[0], states(h))[0])(hs)
    assert torch.equal(mapped, torch.stack([module(xs[0], states(h))[0] for h in hs]))


def test_per_sample_gradients_and_jacobians() -> None:
    theirs, ours = pair("GRU", 4, 6)
    xs = torch.randn(7, 5, 1, 4)
    weights = {name: p.detach() for name, p in ours.named_parameters()}

    def loss(w: Any, x: Any) -> Any:
        return torch.func.functional_call(ours, w, (x,))[0].pow(2).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, xs)
    for i, x in enumerate(xs):
        alone = torch.func.grad(loss)(weights, x)
        for name in weights:
            assert_close(each[name][i], alone[name])
    of_x = torch.func.vmap(torch.func.grad(loss, argnums=1), in_dims=(None, 0))(weights, xs)
    assert_close(of_x[2], torch.func.grad(loss, argnums=1)(weights, xs[2]))
    jacobian = torch.func.jacrev(lambda x: ours(x)[0])(xs[0])
    assert_close(jacobian, torch.autograd.functional.jacobian(lambda x: theirs(x)[0], xs[0]))
    summed = torch.func.grad(lambda w: torch.func.vmap(lambda x: loss(w, x))(xs).sum())(weights)
    for name in weights:
        assert_close(summed[name], each[name].sum(0))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch about PyTorch
@pytest.mark.parametrize("frozen", [False, True])
def test_forward_mode_raises(frozen: bool) -> None:
    """torch.nn's modules have none either; tangents must not be lost in silence."""
    forward_ad = torch.autograd.forward_ad
    module = ft.LSTM(4, 6).requires_grad_(not frozen)
    x = torch.randn(5, 3, 4)
    with pytest.raises((RuntimeError, NotImplementedError)), forward_ad.dual_level():
        module(forward_ad.make_dual(x, torch.ones_like(x)))
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.func.jvp(lambda x: module(x)[0], (x,), (x,))


def test_vmap_over_weights_is_refused() -> None:
    module = ft.LSTM(4, 6)
    stacked = {name: torch.stack([p.detach()] * 3) for name, p in module.named_parameters()}
    x = torch.randn(5, 3, 4)
    with pytest.raises(NotImplementedError, match=r"vmap over weights.*loop"):
        torch.func.vmap(lambda w: torch.func.functional_call(module, w, (x,))[0])(stacked)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(reentrant: bool) -> None:
    theirs, ours = pair("LSTM", 4, 6, 2)
    x = torch.randn(5, 3, 4, requires_grad=True)

    def wrapped(module: Any) -> Any:
        class Wrapped(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, x: Any) -> Any:
                return torch.utils.checkpoint.checkpoint(
                    lambda t: self.module(t)[0], x, use_reentrant=reentrant
                )

        return Wrapped()

    assert_same(run(wrapped(ours), (x,), [x]), run(wrapped(theirs), (x,), [x]))


def test_checkpoint_frees_the_tape() -> None:
    module = ft.GRU(4, 6)
    held: list[int] = []

    def pack(t: Any) -> Any:
        if t.dtype == torch.uint8:
            held.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        module(torch.randn(5, 3, 4))
    assert len(held) == 1  # so hooks see the tape: checkpoint and save_on_cpu can drop or move it


def test_saved_tensors_on_cpu() -> None:
    module = ft.GRU(4, 6)
    x = torch.randn(5, 3, 4, requires_grad=True)
    expected = run(module, (x,), [x])
    with torch.autograd.graph.save_on_cpu():
        assert_same(run(module, (x,), [x]), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind: str) -> None:
    _, ours = pair(kind, 4, 6)
    x = torch.randn(5, 3, 4).to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = ours(x)
        mixed, _ = ours(torch.nn.Linear(4, 4)(x))
    assert y.dtype == mixed.dtype == torch.float32
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert ours.weight_hh_l0.grad.dtype == torch.float32
    with pytest.raises(ValueError, match="does not match weight dtype"):
        ours(x)


def test_deterministic_mode() -> None:
    _, ours = pair("LSTM", 4, 6)
    torch.use_deterministic_algorithms(True)
    try:
        ours(torch.randn(5, 3, 4))[0].sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_inference_mode() -> None:
    theirs, ours = pair("GRU", 4, 6)
    x = torch.randn(5, 3, 4)
    with torch.inference_mode():
        inside = ft.GRU(4, 6)
        inside.load_state_dict(theirs.state_dict())
        for module in (ours, inside, inside):
            assert_close(module(x)[0], theirs(x)[0])


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_with_dropout_is_refused(randomness: str) -> None:
    """Masks belong to the rows of the whole batch: neither would be what its name says."""
    module = ft.LSTM(3, 4, 2, dropout=0.5)
    x = torch.ones(4, 5, 1, 3)
    with pytest.raises(NotImplementedError, match="a recurrent module that draws masks"):
        torch.vmap(lambda x: module(x)[0], randomness=randomness)(x)
    module.eval()
    assert torch.vmap(lambda x: module(x)[0])(x).shape == (4, 5, 1, 4)


@pytest.mark.parametrize("name", ["lengths", "resets"])
def test_numpy_marks_are_copied(name: str) -> None:
    """PyTorch does not note writes to NumPy's memory between forward and backward."""
    module, x = ft.LSTM(8, 4), torch.randn(5, 2, 8)
    marks = np.array([3, 5]) if name == "lengths" else np.zeros((5, 2), bool)
    gradients = []
    for change in (False, True):
        module.zero_grad()
        y, _ = module(x, **{name: marks})
        if change:
            marks[:] = 1
        y.sum().backward()
        gradients.append(module.weight_hh_l0.grad.clone())
    assert torch.equal(*gradients)


def test_marks_as_they_come() -> None:
    module, x = ft.GRU(3, 4), torch.randn(5, 2, 3)
    resets = torch.rand(2, 5) < 0.5
    assert torch.equal(module(x, resets=resets.t())[0], module(x, resets=resets.t().contiguous())[0])
    for wrong in (torch.tensor([3.7, 5.0]), torch.tensor([True, False])):
        with pytest.raises(TypeError, match="lengths must be integers, they are torch"):
            module(x, lengths=wrong)


def test_views_that_are_negated_when_read() -> None:
    module, x = ft.LSTM(3, 4), torch.randn(5, 2, 3)
    assert torch.equal(module(torch._neg_view(x))[0], module(-x)[0])


def test_saved_tensors_that_come_back_unaligned() -> None:
    module, x = ft.LSTM(3, 4), torch.randn(5, 2, 3)

    def moved(t: Any) -> Any:
        if t.dtype != torch.uint8:
            return t
        room = torch.empty(t.numel() + 1, dtype=torch.uint8)
        return room[1:].copy_(t)

    with torch.autograd.graph.saved_tensors_hooks(moved, lambda t: t):
        y, _ = module(x)
    y.sum().backward()
    found = module.weight_hh_l0.grad.clone()
    module.zero_grad()
    module(x)[0].sum().backward()
    assert torch.equal(found, module.weight_hh_l0.grad)


@pytest.mark.parametrize("grad", [True, False])
def test_a_tensor_that_has_outlived_its_transform(grad: bool) -> None:
    """It is read as the tensor that it wraps, as torch.nn reads it."""
    ours, theirs = ft.GRU(3, 4), torch.nn.GRU(3, 4)
    theirs.load_state_dict(ours.state_dict())
    kept: list[torch.Tensor] = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        kept.extend((2 * x, x[:1, :, :1].expand(1, 2, 4) * 3))
        return x.sum()

    torch.func.grad(loss)(torch.randn(5, 2, 3))
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(ours(*kept), theirs(*kept))
        torch.testing.assert_close(ours(*kept), theirs(*kept))  # by the packed weights of the call before


def test_weights_and_marks_that_have_outlived_their_transform() -> None:
    ours, theirs = ft.LSTM(3, 4), torch.nn.LSTM(3, 4)
    theirs.load_state_dict(ours.state_dict())
    x, kept = torch.randn(5, 2, 3), {}

    def loss(weights: Any) -> Any:
        kept.update(weights=weights, resets=torch.rand(5, 2) < 0.5, lengths=torch.tensor([5, 3]))
        return sum(w.sum() for w in weights.values())

    torch.func.grad(loss)({name: p.detach() for name, p in ours.named_parameters()})
    y = torch.func.functional_call(ours, kept["weights"], (x,))[0]
    torch.testing.assert_close(y, torch.func.functional_call(theirs, kept["weights"], (x,))[0])
    assert ours(x, lengths=kept["lengths"], resets=kept["resets"])[0].shape == (5, 2, 4)
