"""fusedrnn.torch.optim does what torch.optim and clip_grad_norm_ do, in one pass."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
from torch_models import ft, torch

pytestmark = pytest.mark.peer
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]
NAMES = ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad")


def parameters(dtype: Any = torch.float32) -> tuple[list[Any], list[Any]]:
    torch.manual_seed(0)
    shapes = [(7, 5), (1,), (33,), (2, 3, 4), (4096,), ()]
    theirs = [torch.nn.Parameter(torch.randn(s, dtype=dtype)) for s in shapes]
    return theirs, [torch.nn.Parameter(p.detach().clone()) for p in theirs]


def set_gradients(*lists: list[Any]) -> None:
    for members in zip(*lists, strict=True):
        grad = torch.randn(members[0].shape, dtype=members[0].dtype)
        for p in members:
            p.grad = grad.clone()


def assert_equal_to_rounding(a: list[Any], b: list[Any]) -> None:
    for p, q in zip(a, b, strict=True):
        eps = torch.finfo(p.dtype).eps
        torch.testing.assert_close(p, q, rtol=64 * eps, atol=64 * eps)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("double", [False, True])
def test_as_torch(name: str, options: dict[str, Any], clip: float | None, double: bool) -> None:
    theirs, ours = parameters(torch.float64 if double else torch.float32)
    a = getattr(torch.optim, name)(theirs, **options)
    b = getattr(ft.optim, name)(ours, clip_norm=clip, **options)
    for _ in range(5):
        set_gradients(theirs, ours)
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(theirs, clip)
        a.step()
        b.step()
        assert b.grad_norm == (None if clip is None else pytest.approx(float(norm), rel=1e-5))
        assert_equal_to_rounding(ours, theirs)
        a.zero_grad()
        b.zero_grad()


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_state_dicts_both_ways(name: str, options: dict[str, Any]) -> None:
    theirs, ours = parameters()
    a, b = getattr(torch.optim, name)(theirs, **options), getattr(ft.optim, name)(ours, **options)
    for _ in range(2):
        set_gradients(theirs, ours)
        a.step()
        b.step()
    mine, other = copy.deepcopy(b.state_dict()), copy.deepcopy(a.state_dict())
    assert mine["param_groups"] == other["param_groups"]
    for index, state in other["state"].items():
        assert set(mine["state"][index]) - {"grad_var"} == set(state)  # which torch derives
    a.load_state_dict(mine)
    b.load_state_dict(other)
    for _ in range(2):
        set_gradients(theirs, ours)
        a.step()
        b.step()
    assert_equal_to_rounding(ours, theirs)
    for state in b.state_dict()["state"].values():
        assert "step" not in state or float(state["step"]) == 4


def test_a_variance_that_went_through_torch() -> None:
    """torch.optim carries our grad_var along and updates the means: it is derived anew when it comes back."""
    theirs, ours = parameters()
    a, b = torch.optim.RMSprop(theirs, centered=True), ft.optim.RMSprop(ours, centered=True)
    for optimizer in (b, a):
        for _ in range(5):
            set_gradients(theirs, ours)
            optimizer.step()
        (a if optimizer is b else b).load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all("grad_var" not in state for state in b.state.values())
    set_gradients(theirs, ours)
    b.step()
    for state in b.state.values():
        torch.testing.assert_close(
            state["grad_var"], state["square_avg"] - state["grad_avg"] ** 2, rtol=1e-3, atol=1e-7
        )


@pytest.mark.parametrize("name", NAMES)
def test_copies(name: str) -> None:
    _, ours = parameters()
    optimizer = getattr(ft.optim, name)(ours, clip_norm=2.0, skip_nonfinite=True)
    set_gradients(ours)
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other.clip_norm == 2.0
        assert other.skip_nonfinite
        members = other.param_groups[0]["params"]
        for p, q in zip(members, ours, strict=True):
            p.grad = q.grad.clone()
        other.step()
    optimizer.step()
    assert_equal_to_rounding(members, ours)


def test_gradients_that_come_and_go() -> None:
    """Parameters without gradient are left alone and count no step; gradients may move between steps."""
    theirs, ours = parameters()
    a, b = torch.optim.Adam(theirs), ft.optim.Adam(ours)
    for missing in (None, 2, 2, 0, None):
        set_gradients(theirs, ours)
        if missing is not None:
            theirs[missing].grad = ours[missing].grad = None
        a.step()
        b.step()
        assert_equal_to_rounding(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert float(b.state[p]["step"]) == float(a.state[q]["step"])


def test_groups_dtypes_and_schedulers() -> None:
    theirs, ours = parameters()
    wide = [torch.nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(2)]
    theirs, ours = [*theirs, wide[0]], [*ours, torch.nn.Parameter(wide[0].detach().clone())]

    def groups(members: list[Any]) -> list[dict[str, Any]]:
        return [{"params": members[:2]}, {"params": members[2:], "lr": 0.1, "weight_decay": 0.2}]

    a = torch.optim.AdamW(groups(theirs), lr=0.01)
    b = ft.optim.AdamW(groups(ours), lr=0.01, clip_norm=math.inf)  # measures, clips nothing
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, 5) for o in (a, b)]
    for _ in range(4):
        set_gradients(theirs, ours)
        norm = torch.nn.utils.get_total_norm([p.grad for p in theirs])
        for optimizer, schedule in zip((a, b), schedules, strict=True):
            optimizer.step()
            schedule.step()
        assert b.grad_norm == pytest.approx(float(norm), rel=1e-5)
        assert_equal_to_rounding(ours, theirs)
    extra = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    a.add_param_group({"params": [extra[0]]})
    b.add_param_group({"params": [extra[1]]})
    set_gradients([*theirs, extra[0]], [*ours, extra[1]])
    a.step()
    b.step()
    assert_equal_to_rounding([*ours, extra[1]], [*theirs, extra[0]])


@pytest.mark.parametrize("name", NAMES)
def test_nonfinite_steps_are_skipped_and_not_counted(name: str) -> None:
    _, ours = parameters()
    optimizer = getattr(ft.optim, name)(ours, clip_norm=1.0, skip_nonfinite=True)
    set_gradients(ours)
    optimizer.step()
    before = copy.deepcopy((ours, optimizer.state_dict()))
    ours[1].grad.fill_(math.inf)
    optimizer.step()
    assert optimizer.grad_norm == math.inf
    for p, q in zip(ours, before[0], strict=True):
        assert torch.equal(p, q)
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            assert torch.equal(value, before[1]["state"][index][key])
    other = getattr(ft.optim, name)(ours, skip_nonfinite=True)
    other.step()
    assert other.grad_norm is None
    assert torch.equal(ours[0], before[0][0])


def test_versions_closure_hooks_and_packing() -> None:
    module = ft.LSTM(3, 5)
    optimizer = ft.optim.SGD(module.parameters(), lr=0.5)
    x = torch.randn(4, 2, 3)
    with torch.no_grad():
        before = module(x)[0]
    fired: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: fired.append("pre"))
    optimizer.register_step_post_hook(lambda *_: fired.append("post"))
    versions = [p._version for p in module.parameters()]

    def closure() -> Any:
        optimizer.zero_grad()
        loss = module(x)[0].pow(2).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) > 0
    assert fired == ["pre", "post"]
    assert all(p._version > v for p, v in zip(module.parameters(), versions, strict=True))
    with torch.no_grad():
        assert not torch.equal(module(x)[0], before)


def test_dampening_begins_with_the_second_step_of_each_parameter() -> None:
    """Also where the first was skipped, or a parameter's gradient comes later."""
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    theirs, ours = parameters()
    a, b = torch.optim.SGD(theirs, **options), ft.optim.SGD(ours, skip_nonfinite=True, **options)
    set_gradients(theirs, ours)
    for p in ours:
        p.grad.fill_(math.inf)
    b.step()
    for steps in range(3):
        set_gradients(theirs, ours)
        if steps == 0:
            theirs[0].grad = ours[0].grad = None
        a.step()
        b.step()
        assert_equal_to_rounding(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_options_without_effect_and_options_refused(name: str) -> None:
    make = getattr(ft.optim, name)
    make([torch.nn.Parameter(torch.ones(3))], foreach=True)
    if name != "RMSprop":
        make([torch.nn.Parameter(torch.ones(3))], fused=True)
    for option in ("maximize", "differentiable"):
        with pytest.raises(NotImplementedError, match=f"{option}=True is not supported.*torch.optim.{name}"):
            make([torch.nn.Parameter(torch.ones(3))], **{option: True})
    with pytest.raises(ValueError, match="Invalid learning rate"):
        make([torch.nn.Parameter(torch.ones(3))], lr=-1.0)
    with pytest.raises(ValueError, match="clip_norm must be None or at least 0"):
        make([torch.nn.Parameter(torch.ones(3))], clip_norm=-1.0)


def test_more_that_is_refused() -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(NotImplementedError, match="sparse gradients"):
        ft.optim.Adam(embedding.parameters()).step()
    half = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    half.grad = torch.ones_like(half)
    with pytest.raises(TypeError, match=r"one is torch\.bfloat16"):
        ft.optim.Adam([half]).step()
    turned = torch.nn.Parameter(torch.ones(3, 2).t())
    turned.grad = torch.ones_like(turned)
    with pytest.raises(ValueError, match="contiguous"):
        ft.optim.Adam([turned]).step()


def test_amsgrad() -> None:
    theirs, ours = parameters()
    a, b = torch.optim.Adam(theirs, amsgrad=True), ft.optim.Adam(ours, amsgrad=True)
    for _ in range(4):
        set_gradients(theirs, ours)
        a.step()
        b.step()
    assert_equal_to_rounding(ours, theirs)


def test_expanded_gradients() -> None:
    p = torch.nn.Parameter(torch.zeros(3, 4))
    p.grad = torch.ones(()).expand(3, 4)
    ft.optim.SGD([p], lr=1.0).step()
    assert torch.equal(p, -torch.ones(3, 4))


@pytest.mark.parametrize("how", ["clear", "empty", "moment", "step"])
def test_state_that_is_replaced_is_used(how: str) -> None:
    """As torch.optim does, which looks it up in every step."""
    ends = []
    for module in (torch.optim, ft.optim):
        p = torch.nn.Parameter(torch.zeros(3))
        optimizer = module.Adam([p], lr=1.0, betas=(0.9, 0.9))
        for value in (100.0, 100.0, -1.0, 2.0):
            p.grad = torch.full((3,), value)
            if value == -1.0:
                if how == "clear":
                    optimizer.state.clear()
                elif how == "empty":
                    optimizer.state[p] = {}
                elif how == "moment":
                    optimizer.state[p]["exp_avg"] = torch.zeros(3)
                else:
                    optimizer.state[p]["step"] = torch.tensor(0.0)
            optimizer.step()
        ends.append((p.detach(), float(optimizer.state[p]["step"])))
    torch.testing.assert_close(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_gradients_that_are_negated_when_read() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch._neg_view(torch.ones(3))
    ft.optim.SGD([p], lr=1.0).step()
    assert torch.equal(p.detach(), torch.ones(3))


def test_adagrad_starts_late_parameters_where_the_others_started() -> None:
    for optim in (ft.optim.Adagrad, torch.optim.Adagrad):
        p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
        optimizer = optim([p], lr=0.1, initial_accumulator_value=0.5)
        optimizer.add_param_group({"params": [q]})
        p.grad, q.grad = torch.ones(2), torch.ones(2)
        optimizer.step()
        torch.testing.assert_close(q.detach(), torch.full((2,), 1 - 0.1 / 1.5**0.5))


def test_goes_on_from_states_of_other_strides() -> None:
    p = torch.nn.Parameter(torch.ones(3, 2))
    theirs = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = torch.arange(6.0).reshape(2, 3).t()  # whose strides the state takes
    theirs.step()
    ours = ft.optim.SGD([p], lr=0.1, momentum=0.9)
    ours.load_state_dict(theirs.state_dict())
    assert not ours.state[p]["momentum_buffer"].is_contiguous()
    start, v = p.detach().clone(), theirs.state[p]["momentum_buffer"].clone()
    ours.step()
    torch.testing.assert_close(p.detach(), start - 0.1 * (0.9 * v + p.grad))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"skip_nonfinite": "no"}, "skip_nonfinite must be True or False, it is 'no'"),
        ({"clip_norm": "a"}, "clip_norm must be a number, it is str"),
        ({"clip_norm": True}, "clip_norm must be a number, it is bool"),
    ],
)
def test_clipping_options_of_other_types_are_refused(options: Any, text: str) -> None:
    p = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match=text):
        ft.optim.SGD([p], lr=0.1, **options)
    optimizer = ft.optim.SGD([p], lr=0.1)
    for name, value in options.items():
        setattr(optimizer, name, value)
    p.grad = torch.ones(3)
    with pytest.raises(TypeError, match=text):
        optimizer.step()
