"""What all optimizers share: groups, steps, versions, saving and loading."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusedrnn import optim
from fusedrnn._core.parameter import FlatBuffer, Parameter

Array = NDArray[Any]
RULES = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.5, centered=True),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
}


def parameters(dtype: Any = np.float64) -> list[Parameter]:
    """Three parameters of one buffer, with values and gradients."""
    rng = np.random.default_rng(0)
    made = list(FlatBuffer.allocate({"a": (3, 5), "b": (17,), "c": (2,)}, dtype).values())
    for p in made:
        p.data = rng.normal(size=p.shape).astype(dtype)
        p.grad = rng.normal(size=p.shape).astype(dtype)
    return made


def values(params: list[Parameter]) -> list[Array]:
    return [p.data.copy() for p in params]


def same(a: list[Array], b: list[Array]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Any:
    return RULES[request.param]


# ------------------------------------------------------------------------------------------------- groups
def test_groups_with_options_of_their_own_like_torch() -> None:
    params = parameters()
    tensors = [torch.from_numpy(p.data.copy()).requires_grad_() for p in params]

    def groups(a: list[Any]) -> list[dict[str, Any]]:
        return [{"params": a[:2], "lr": 0.05}, {"params": a[2], "betas": (0.5, 0.6), "weight_decay": 0.3}]

    ours, theirs = optim.Adam(groups(params), lr=0.2), torch.optim.Adam(groups(tensors), lr=0.2)
    for _ in range(5):
        for p, tensor in zip(params, tensors, strict=True):
            tensor.grad = torch.from_numpy(p.grad.copy())
        ours.step()
        theirs.step()
    for p, tensor in zip(params, tensors, strict=True):
        np.testing.assert_allclose(p.data, tensor.detach(), rtol=1e-13)
    assert [g["lr"] for g in ours.param_groups] == [0.05, 0.2]


def test_options_may_be_changed_between_steps() -> None:
    params, others = parameters(), parameters()
    changed, fresh = optim.SGD(params, lr=0.5), optim.SGD(others, lr=0.25)
    changed.lr = 0.25
    assert changed.lr == 0.25
    changed.step()
    fresh.step()
    assert same(values(params), values(others))
    changed.param_groups[0]["momentum"] = 0.9  # a state appears
    changed.step()
    changed.step()
    assert set(changed.state[params[0]]) == {"momentum_buffer"}
    np.testing.assert_allclose(changed.state[params[0]]["momentum_buffer"], params[0].grad * 1.9)


def test_lr_of_several_groups() -> None:
    a, b, _ = parameters()
    opt = optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b]}], lr=0.2)
    with pytest.raises(ValueError, match="lr differs between groups"):
        _ = opt.lr
    opt.lr = 0.3
    assert [g["lr"] for g in opt.param_groups] == [0.3, 0.3]
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="lr must be finite and >= 0"):
            opt.lr = bad
    assert opt.lr == 0.3


def test_parameter_given_twice_counts_once() -> None:
    once, twice = parameters(), parameters()
    a, b = optim.SGD(once, lr=0.1), optim.SGD([*twice, twice[0], twice[0]], lr=0.1)
    assert a.step(clip_norm=1.0) == b.step(clip_norm=1.0)
    assert same(values(once), values(twice))
    p, q, _ = twice
    with pytest.raises(ValueError, match="a parameter may be in one group only, 'a' is in two"):
        optim.SGD([{"params": [p, q]}, {"params": [p]}])


def test_groups_may_be_taken_out_and_put_back_by_hand() -> None:
    p, q, _ = parameters()
    opt = optim.SGD([{"params": [p]}, {"params": [q]}])
    opt.param_groups.pop()
    opt.add_param_group({"params": [q], "lr": 0.5})
    with pytest.raises(ValueError, match="a parameter may be in one group only, 'b' is in two"):
        opt.add_param_group({"params": [q]})
    first, second = opt.param_groups
    opt.param_groups[1] = {**second, "params": []}
    opt.add_param_group({"params": [q]})
    opt.param_groups = [first]
    opt.add_param_group({"params": [q]})
    assert [group["params"] for group in opt.param_groups] == [[p], [q]]


def test_float32_and_float64_in_one_group() -> None:
    small, large = parameters(np.float32), parameters()
    opt = optim.Adam([*small, *large], lr=0.1)
    norm = opt.step(clip_norm=1.0)
    squares = sum((p.grad.astype(np.float64) ** 2).sum() for p in [*small, *large])
    np.testing.assert_allclose(norm, math.sqrt(squares), rtol=1e-14)
    np.testing.assert_allclose(small[0].data, large[0].data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "params must be at least one parameter"),
        ([np.zeros(3)], TypeError, "params must be fusedrnn.nn parameters, one is of type ndarray"),
        (Parameter(np.zeros(3)), TypeError, "params must be an iterable"),
        ([{"params": [], "momentun": 1}], ValueError, "it has \\['momentun'\\]"),
        ([{"lr": 1}], TypeError, "params must be all parameters or all dicts"),
        ([{"params": []}, Parameter(np.zeros(3))], TypeError, "params must be all parameters or all dicts"),
        (
            [{"params": [Parameter(np.zeros(3))], "lr": -1}],
            ValueError,
            "lr must be finite and >= 0, it is -1",
        ),
    ],
)
def test_bad_parameters(params: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optim.SGD(params)


# -------------------------------------------------------------------------------------------------- steps
def test_step_counts_a_version_and_leaves_the_rest_of_a_buffer_alone(rule: Any) -> None:
    a, b, c = parameters()
    others = values([a, c])
    before = b.version, b.data.copy(), b.grad.copy()
    rule([b]).step()
    assert b.version == before[0] + 1
    assert not np.array_equal(b.data, before[1])
    assert np.array_equal(b.grad, before[2])
    assert same(values([a, c]), others)
    assert not a._buffer.data[15:16].any()  # the padding behind a


def test_zero_grad_is_of_own_parameters() -> None:
    a, b, c = parameters()
    optim.SGD([a, c]).zero_grad()
    assert not a.grad.any()
    assert not c.grad.any()
    assert b.grad.all()


def test_non_finite_gradients_can_be_skipped(rule: Any) -> None:
    params, others = parameters(), parameters()
    opt, undisturbed = rule(params), rule(others)
    opt.step(clip_norm=1.0)
    undisturbed.step(clip_norm=1.0)
    state, version, right = copy.deepcopy(opt.state_dict()), params[0].version, values(params)
    for bad in (math.inf, math.nan):
        params[1].grad[3] = bad
        norm = opt.step(clip_norm=1.0, skip_nonfinite=True)
        assert norm is not None
        assert not math.isfinite(norm)
        assert same(values(params), right)
        assert params[0].version == version
        assert opt.state_dict()["param_groups"] == state["param_groups"]
        assert opt.param_groups[0]["step"] == 1
    params[1].grad[3] = others[1].grad[3]
    assert opt.step(clip_norm=1.0, skip_nonfinite=True) == undisturbed.step(clip_norm=1.0)
    assert same(values(params), values(others))
    params[1].grad[3] = math.nan
    opt.step(clip_norm=1.0)
    assert not np.isfinite(params[0].data).any()  # not asked to skip: a NaN norm makes all NaN, as in PyTorch


def test_norm_is_reported_where_asked_for() -> None:
    params = parameters()
    opt = optim.SGD(params, lr=0.1)
    truth = math.sqrt(sum((p.grad**2).sum() for p in params))
    assert opt.step() is None
    for norm in (opt.step(clip_norm=100.0), opt.step(clip_norm=math.inf)):
        np.testing.assert_allclose(norm, truth, rtol=1e-14)


def test_skipping_alone_skips_and_reports_no_norm() -> None:
    params = parameters()
    opt, before = optim.SGD(params, lr=0.1), values(params)
    params[1].grad[3] = math.inf
    assert opt.step(skip_nonfinite=True) is None
    assert same(values(params), before)
    assert opt.param_groups[0]["step"] == 0
    params[1].grad[3] = 1
    assert opt.step(skip_nonfinite=True) is None
    assert not same(values(params), before)
    assert opt.param_groups[0]["step"] == 1


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_bad_clip_norm_changes_nothing(bad: float) -> None:
    params = parameters()
    opt, before = optim.SGD(params, lr=0.1), values(params)
    with pytest.raises(ValueError, match="clip_norm must be None or at least 0, it is"):
        opt.step(clip_norm=bad)
    opt.param_groups[0]["lr"] = bad
    with pytest.raises(ValueError, match="lr must be finite and >= 0, it is"):
        opt.step()
    assert same(values(params), before)


def test_table_follows_parameters_that_moved() -> None:
    params = parameters()
    opt = optim.SGD(params, lr=1.0)
    opt.step()
    params[0].__setstate__(copy.deepcopy(params[0].__getstate__()))  # now lives elsewhere
    before = params[0].data.copy()
    opt.step()
    assert np.array_equal(params[0].data, before - params[0].grad)


# ------------------------------------------------------------------------------------- saving and loading
@pytest.mark.parametrize("steps", [0, 2], ids=["new", "used"])
def test_loading_continues_to_the_same_bits(rule: Any, steps: int) -> None:
    params, others = parameters(), parameters()
    a, b = rule(params), rule(others)
    for _ in range(steps):  # states of its own, which are to be forgotten
        b.step()
    for _ in range(3):
        a.step(clip_norm=1.0)
    a.lr = 0.01
    saved = a.state_dict()
    text = json.dumps({"groups": saved["param_groups"], "keys": list(map(str, saved["state"]))})
    groups = json.loads(text)["groups"]
    b.load_state_dict({"state": {str(k): v for k, v in saved["state"].items()}, "param_groups": groups})
    for p, q in zip(params, others, strict=True):
        q.data = p.data
    for opt in (a, b):
        opt.step(clip_norm=1.0)
        opt.step()
    assert same(values(params), values(others))
    assert b.lr == 0.01


def test_state_dict_is_a_copy_and_has_the_structure_of_torch() -> None:
    params = parameters()
    opt = optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}])
    assert opt.state_dict()["state"] == {}
    opt.step()
    saved = opt.state_dict()
    tensors = [torch.from_numpy(p.data.copy()).requires_grad_() for p in params]
    theirs = torch.optim.Adam([{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.5}])
    for tensor in tensors:
        tensor.grad = torch.ones_like(tensor)
    theirs.step()
    expected = theirs.state_dict()
    assert [g["params"] for g in saved["param_groups"]] == [g["params"] for g in expected["param_groups"]]
    assert {k: set(v) for k, v in saved["state"].items()} == {k: set(v) for k, v in expected["state"].items()}
    saved["state"][0]["exp_avg"][...] = np.nan
    opt.step()
    assert np.isfinite(params[0].data).all()
    opt.load_state_dict(opt.state_dict() | {"param_groups": saved["param_groups"]})


def spoil(saved: dict[str, Any], what: str) -> dict[str, Any]:
    state, groups = saved["state"], saved["param_groups"]
    changes: dict[str, Any] = {
        "no state": lambda: saved.pop("state"),
        "groups": lambda: groups.append(groups[0]),
        "count": lambda: groups[0]["params"].pop(),
        "option": lambda: groups[0].pop("eps"),
        "value": lambda: groups[0].update(lr=-1.0),
        "names": lambda: state[1].pop("exp_avg"),
        "missing": lambda: state.pop(1),
        "more": lambda: state.update({9: state[1]}),
        "steps": lambda: state[1].update(step=7),
        "shape": lambda: state[1].update(exp_avg=np.zeros(3)),
        "dtype": lambda: state[1].update(exp_avg=np.zeros(17, np.float32)),
        "type": lambda: state[1].update(exp_avg=[0.0] * 17),
    }
    changes[what]()
    return saved


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("no state", ValueError, "state_dict must have the list 'param_groups' and the dict 'state'"),
        ("groups", ValueError, "state_dict must have 1 parameter groups, it has 2"),
        ("count", ValueError, r"state_dict\['param_groups'\]\[0\] must have 3 parameters, it has 2"),
        ("option", ValueError, r"state_dict\['param_groups'\]\[0\] must have the options"),
        ("value", ValueError, "lr must be finite and >= 0, it is -1.0"),
        ("names", ValueError, r"state_dict\['state'\]\[1\] must have \['exp_avg', 'exp_avg_sq'\]"),
        ("missing", ValueError, "step must be one number"),
        ("more", ValueError, r"state_dict\['state'\] must have parameters 0..2"),
        ("steps", ValueError, "step must be one number"),
        (
            "shape",
            ValueError,
            r"state_dict\['state'\]\[1\]\['exp_avg'\] must have shape \(17,\), it has \(3,\)",
        ),
        ("dtype", TypeError, r"\['exp_avg'\] must be float64, it is float32"),
        ("type", TypeError, r"\['exp_avg'\] must be a NumPy array, it is a list"),
    ],
)
def test_bad_state_dict_changes_nothing(what: str, error: type[Exception], message: str) -> None:
    params, others = parameters(), parameters()
    opt, undisturbed = optim.Adam(params), optim.Adam(others)
    for o in (opt, undisturbed):
        o.step()
    with pytest.raises(error, match=message):
        opt.load_state_dict(spoil(opt.state_dict(), what))
    for o in (opt, undisturbed):
        o.step()
    assert same(values(params), values(others))


@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))], ids=["copy", "pickle"]
)
def test_copies_with_their_parameters_go_their_own_way(rule: Any, through: Any) -> None:
    params = parameters()
    opt = rule(params)
    opt.step()
    others, other = through((params, opt))
    frozen = values(params)
    other.step()
    assert same(values(params), frozen)
    opt.step()
    assert same(values(params), values(others))
    assert not same(values(params), frozen)


def test_repr_shows_the_options() -> None:
    text = repr(optim.SGD([{"params": parameters()[0]}], lr=0.5))
    assert text == "SGD(lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False)"


def test_an_option_that_changes_in_place_is_looked_at_again() -> None:
    p = Parameter(np.ones(3, np.float32))
    optimizer = optim.Adam([p], lr=0.1)
    group = optimizer.param_groups[0]
    group["betas"] = [0.9, 0.999]
    optimizer.step()
    group["betas"][0] = 2.0
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\)"):
        optimizer.step()
    group["betas"] = (0.9, 0.999)
    optimizer.step()
    group["lr"] = math.nan
    with pytest.raises(ValueError, match="lr must be finite"):
        optimizer.step()
    assert group["step"] == 2


def test_groups_that_are_replaced_leave_nothing_behind() -> None:
    optimizer = optim.Adam([Parameter(np.ones(3, np.float32))], lr=0.1)
    for i in range(30):
        optimizer.param_groups[0] = dict(optimizer.param_groups[0], lr=0.1 + i)
        optimizer.step()
    assert len(optimizer._seen) <= 3
