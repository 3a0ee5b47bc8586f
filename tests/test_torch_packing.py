"""Packed weights that fusedrnn.torch keeps are never stale, whatever wrote to a weight."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from torch_models import CELLS, KINDS, assert_close, ft, pair, tensors, torch

pytestmark = pytest.mark.peer


def optimizer(name: str, **options: Any) -> Any:
    def write(module: Any) -> None:
        opt = getattr(torch.optim, name)(module.parameters(), lr=0.1, **options)
        module(torch.ones(5, 3, 4))[0].sum().backward()
        opt.step()

    return write


def no_grad(write: Any) -> Any:
    def run(module: Any) -> None:
        with torch.no_grad():
            write(module)

    return run


WRITES: dict[str, Any] = {
    "Adam": optimizer("Adam"),
    "Adam foreach": optimizer("Adam", foreach=True),
    "Adam fused": optimizer("Adam", fused=True),
    "AdamW fused": optimizer("AdamW", fused=True),
    "SGD": optimizer("SGD"),
    "SGD fused": optimizer("SGD", fused=True),
    "Adagrad fused": optimizer("Adagrad", fused=True),
    "RMSprop": optimizer("RMSprop"),
    "mul_": no_grad(lambda m: m.weight_hh_l0.mul_(2)),
    "copy_": no_grad(lambda m: m.bias_ih_l0.copy_(torch.ones(m.bias_ih_l0.shape))),
    "set item": no_grad(lambda m: m.weight_ih_l0.__setitem__((0, 0), 9.0)),
    "foreach": no_grad(lambda m: torch._foreach_mul_(list(m.parameters()), 2)),
    "init": lambda m: torch.nn.init.normal_(m.weight_hh_l0),
    "reset_parameters": lambda m: m.reset_parameters(),
    "load_state_dict": lambda m: m.load_state_dict(
        {n: torch.randn_like(p) for n, p in m.state_dict().items()}
    ),
    "load_state_dict assign": lambda m: m.load_state_dict(
        {n: torch.nn.Parameter(torch.randn_like(p)) for n, p in m.state_dict().items()}, assign=True
    ),
    "new parameter": lambda m: setattr(
        m, "weight_hh_l0", torch.nn.Parameter(torch.randn_like(m.weight_hh_l0))
    ),
    "data =": lambda m: setattr(m.weight_hh_l0, "data", torch.randn_like(m.weight_hh_l0)),
    "vector_to_parameters": lambda m: torch.nn.utils.vector_to_parameters(
        torch.randn(sum(p.numel() for p in m.parameters())), m.parameters()
    ),
    "double and back": lambda m: (m.double(), m.weight_hh_l0.data.mul_(2), m.float()),
    "view": no_grad(lambda m: m.weight_hh_l0.view(-1).mul_(2)),
    "swa": lambda m: (
        torch.optim.swa_utils.update_bn([], m)
        or no_grad(lambda n: n.weight_hh_l0.lerp_(torch.ones(()), 0.5))(m)
    ),
}
# PyTorch notes nothing of these: repack() is for them.
UNSEEN: dict[str, Any] = {
    "data.mul_": lambda m: m.weight_hh_l0.data.mul_(2),
    "foreach on data": lambda m: torch._foreach_mul_([p.data for p in m.parameters()], 2),
    "numpy": lambda m: m.weight_hh_l0.detach().numpy().__imul__(2),
}


def infer(module: Any) -> Any:
    with torch.no_grad():
        return module(torch.ones(5, 3, 4))[0].clone()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", KINDS)
def test_writes_are_seen(write: str, kind: str) -> None:
    torch.manual_seed(0)
    theirs, ours = pair(kind, 4, 6)
    before = infer(ours)
    for module in (theirs, ours):
        torch.manual_seed(1)
        WRITES[write](module)
    after = infer(ours)
    assert not torch.equal(before, after)
    assert_close(after, infer(theirs))


@pytest.mark.parametrize("write", UNSEEN)
def test_the_others_by_repack(write: str) -> None:
    theirs, ours = pair("LSTM", 4, 6)
    infer(ours)
    for module in (theirs, ours):
        UNSEEN[write](module)
    ours.repack()
    assert_close(infer(ours), infer(theirs))


@pytest.mark.parametrize("write", UNSEEN)
def test_training_needs_no_repack(write: str) -> None:
    theirs, ours = pair("LSTM", 4, 6)
    x = torch.ones(5, 3, 4)
    ours(x)
    for module in (theirs, ours):
        UNSEEN[write](module)
    assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("write", UNSEEN)
def test_debug_switch_finds_them(write: str) -> None:
    code = f"""
import pytest, torch
from test_torch_packing import UNSEEN, ft, infer
m = ft.LSTM(4, 6)
infer(m)
infer(m)
UNSEEN[{write!r}](m)
with pytest.raises(RuntimeError, match="repack"):
    infer(m)
m.repack()
infer(m)
"""
    environment = {**os.environ, "FUSEDRNN_TORCH_CHECK": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr


def test_unchanged_weights_are_packed_once() -> None:
    module = ft.LSTM(4, 6)
    infer(module)
    kept = module._packing
    infer(module)
    assert module._packing is kept
    module.eval()
    assert module._packing is None


@pytest.mark.parametrize("kind", CELLS)
def test_cells_see_writes(kind: str) -> None:
    theirs, ours = pair(kind, 4, 6)
    with torch.no_grad():
        before = tensors(ours(torch.ones(3, 4)))[0]
        for module in (theirs, ours):
            module.weight_ih.mul_(3)
        after = tensors(ours(torch.ones(3, 4)))[0]
        assert not torch.equal(before, after)
        assert_close(after, tensors(theirs(torch.ones(3, 4)))[0])


def test_parameters_stay_resizable() -> None:
    """What FSDP needs: a NumPy view of a parameter would freeze its storage."""
    module = ft.LSTM(4, 6)
    x = torch.randn(5, 3, 4, requires_grad=True)
    module(x)[0].sum().backward()
    infer(module)
    for t in (*module.parameters(), x, *(p.grad for p in module.parameters())):
        assert t.untyped_storage().resizable()


H = 64  # large enough for freed memory to come back at once, as that of large tensors does


def rounds(module: Any, write: Any, x: Any) -> int:
    """How many of 20 writes a call without gradients sees."""
    seen = set()
    with torch.no_grad():
        for k in range(20):
            seen.add(write(module, k, x)[0].sum().item())
    return len(seen)


def non_contiguous(module: Any, k: int, x: Any) -> Any:
    module.weight_hh_l0.mul_(1.1)
    return module(x)


def perturbed(module: Any, k: int, x: Any) -> Any:
    weights = {name: p * (1 + k) for name, p in module.named_parameters()}
    return torch.func.functional_call(module, weights, (x,))


def made_anew(module: Any, k: int, x: Any) -> Any:
    module.weight_hh_l0 = None
    module.weight_hh_l0 = torch.nn.Parameter(torch.full((4 * H, H), k * 0.01))
    return module(x)


def memory_anew(module: Any, k: int, x: Any) -> Any:
    module.weight_hh_l0.data = torch.empty(0)
    module.weight_hh_l0.data = torch.full((4 * H, H), k * 0.01)
    return module(x)


@pytest.mark.parametrize("write", [non_contiguous, perturbed, made_anew, memory_anew])
def test_new_tensors_at_old_places(write: Any) -> None:
    module = ft.LSTM(8, H).eval()
    if write is non_contiguous:
        module.weight_hh_l0 = torch.nn.Parameter(torch.randn(H, 4 * H).t() * 0.1)
    assert rounds(module, write, torch.randn(5, 2, 8)) == 20


def test_weights_that_are_computed() -> None:
    module = torch.nn.utils.parametrizations.weight_norm(ft.LSTM(8, H).eval(), "weight_hh_l0")

    def write(module: Any, k: int, x: Any) -> Any:
        module.parametrizations.weight_hh_l0.original0.mul_(1.1)
        return module(x)

    assert rounds(module, write, torch.randn(5, 2, 8)) == 20


def test_weights_that_other_processes_write_to() -> None:
    module = ft.LSTM(8, 16).eval()
    module.share_memory()
    x = torch.randn(5, 2, 8)
    with torch.no_grad():
        before = module(x)[0]
        child = os.fork()
        if child == 0:
            module.weight_hh_l0.mul_(3.0)
            os._exit(0)
        os.waitpid(child, 0)
        assert not torch.equal(before, module(x)[0])


def test_collectives(monkeypatch: pytest.MonkeyPatch) -> None:
    """They write without a new version, so nothing is kept while torch.distributed is initialised."""
    module = ft.LSTM(8, 16).eval()
    with torch.no_grad():
        module(torch.randn(5, 2, 8))
        kept = module._packing
        module(torch.randn(5, 2, 8))
        assert module._packing is kept
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        module(torch.randn(5, 2, 8))
    assert module._packing is not kept
