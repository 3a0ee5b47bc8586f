"""fusedrnn.torch.replace: one line, in place; what cannot be replaced is said, never lost."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from torch_models import ft, torch

pytestmark = pytest.mark.peer


class Model(torch.nn.Module):
    """Every kind that replace knows, and what it leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 4)
        self.lstm = torch.nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True)
        self.rest = torch.nn.ModuleDict(
            {"gru": torch.nn.GRU(12, 5, batch_first=True), "rnn": torch.nn.RNN(5, 5)}
        )
        self.cells = torch.nn.ModuleList(
            [torch.nn.LSTMCell(5, 5), torch.nn.GRUCell(5, 5), torch.nn.RNNCell(5, 5)]
        )
        self.linear = torch.nn.Linear(5, 11)

    def forward(self, ids: Any) -> Any:
        y, _ = self.lstm(self.embedding(ids))
        y, _ = self.rest["gru"](y)
        y, _ = self.rest["rnn"](y)
        h, _ = self.cells[0](y[:, -1])
        return self.linear(self.cells[2](self.cells[1](h)))


NAMES = ("lstm", "rest.gru", "rest.rnn", "cells.0", "cells.1", "cells.2")


def test_replace_and_restore() -> None:
    torch.manual_seed(0)
    model = Model()
    ids = torch.randint(11, (3, 7))
    parameters = list(model.parameters())
    before = model(ids)
    state = {name: p.clone() for name, p in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fired: list[str] = []
    model.lstm.register_forward_hook(lambda *_: fired.append("hook"))
    report = ft.replace(model)
    assert report.replaced == NAMES
    assert report.kept == {}
    assert type(model.lstm) is ft.LSTM
    assert type(model.cells[2]) is ft.RNNCell
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == list(state)
    after = model(ids)
    torch.testing.assert_close(after, before)
    assert fired == ["hook"]
    after.sum().backward()
    optimizer.step()
    assert not torch.equal(model.state_dict()["lstm.weight_hh_l0"], state["lstm.weight_hh_l0"])
    expected = model(ids)
    assert ft.replace(model).replaced == ()  # nothing left to do
    assert ft.restore(model) == NAMES
    assert type(model.lstm) is torch.nn.LSTM
    torch.testing.assert_close(model(ids), expected)
    assert ft.restore(model) == ()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_model_that_is_the_layer(kind: str) -> None:
    model = getattr(torch.nn, kind)(3, 5)
    assert ft.replace(model).replaced == ("",)
    assert type(model) is getattr(ft, kind)
    copied = copy.deepcopy(model)
    x = torch.randn(4, 2, 3)
    assert torch.equal(copied(x)[0], model(x)[0])


def test_filter() -> None:
    model = Model()
    report = ft.replace(model, filter=lambda name, module: name.startswith("rest"))
    assert report.replaced == ("rest.gru", "rest.rnn")
    assert report.kept == dict.fromkeys(("lstm", "cells.0", "cells.1", "cells.2"), "the filter keeps it")
    assert "kept lstm: the filter keeps it" in str(report)


class Own(torch.nn.LSTM):
    def forward(self, *args: Any) -> Any:
        y, end = super().forward(*args)
        return y * 2, end


def quantized() -> Any:
    return torch.ao.quantization.quantize_dynamic(
        torch.nn.Sequential(torch.nn.LSTM(3, 5)), {torch.nn.LSTM}, torch.qint8
    )[0]


def scripted() -> Any:
    return torch.jit.script(torch.nn.LSTM(3, 5))


def parametrized() -> Any:
    module = torch.nn.LSTM(3, 5)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    return module


def with_attribute(kind: str, name: str, value: Any, **options: Any) -> Any:
    """Makes a module of torch.nn's that has an attribute by the name of an option of ours."""

    def make() -> Any:
        module = getattr(torch.nn, kind)(3, 5, **options)
        setattr(module, name, value)
        return module

    return make


OBSTACLES: dict[str, tuple[Any, str]] = {
    "subclass": (lambda: Own(3, 5), "Own, whose own methods would be lost"),
    "parametrized": (parametrized, "parametriz"),
    "half": (lambda: torch.nn.GRU(3, 5, dtype=torch.bfloat16), "bfloat16: use module.float"),
    "scripted": (scripted, "a scripted module"),
    "quantized": (quantized, "a quantized module"),
    "another cell": (with_attribute("LSTM", "layer_norm", True), "its attribute layer_norm is not False"),
    "a layer of that name": (
        with_attribute("LSTM", "layer_norm", torch.nn.LayerNorm(5)),
        "its attribute layer_norm is not False",
    ),
    "reset before": (with_attribute("GRU", "reset_after", False), "its attribute reset_after is not True"),
    "recompute of both directions": (
        with_attribute("LSTM", "recompute", 5, bidirectional=True),
        "its attribute recompute must be 0 with bidirectional=True, it is 5",
    ),
    "flow": (with_attribute("RNN", "collect_flow", 1), "its attribute collect_flow must be True or False"),
    "zoneout": (with_attribute("GRU", "zoneout", (0.1, 0.2)), "its attribute zoneout must be"),
    "dropout mode": (with_attribute("LSTM", "dropout_mode", "row"), "its attribute dropout_mode must be"),
    "of a cell": (with_attribute("LSTMCell", "recompute", 5), "its attribute recompute is an option of"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.filterwarnings("ignore")  # both ways are going away
def test_obstacles(obstacle: str) -> None:
    make, reason = OBSTACLES[obstacle]
    model = torch.nn.Sequential(torch.nn.GRU(3, 5), make())
    was = type(model[1])
    with pytest.raises(NotImplementedError, match=reason):
        ft.replace(model)
    assert type(model[0]) is torch.nn.GRU  # before anything is changed
    report = ft.replace(model, unsupported="keep")
    assert report.replaced == ("0",)
    assert reason in report.kept["1"]
    assert type(model[1]) is was


def test_attributes_that_are_options_are_taken_over() -> None:
    """As if they were set behind `replace`: checked, and in the form that the module keeps."""
    model = torch.nn.LSTM(3, 5)
    model.recompute, model.zoneout, model.layer_norm = np.int64(2), [0.1, 0.2], False
    assert ft.replace(model).replaced == ("",)
    assert model.beyond_torch() == {"recompute": 2, "zoneout": (0.1, 0.2)}
    assert type(model.recompute) is int
    model(torch.randn(4, 2, 3))[0].sum().backward()


def test_subclasses_of_ours_are_no_obstacle() -> None:
    class Mine(ft.LSTM):
        pass

    assert ft.replace(torch.nn.Sequential(Mine(3, 5))).replaced == ()


def test_pruned_modules_are_replaced() -> None:
    from torch.nn.utils import prune

    model = torch.nn.GRU(3, 5)
    prune.l1_unstructured(model, "weight_hh_l0", 0.5)
    x = torch.randn(4, 2, 3)
    before = model(x)[0]
    ft.replace(model)
    torch.testing.assert_close(model(x)[0], before)


def test_verify() -> None:
    model = Model().train()
    report = ft.replace(model, verify=torch.randint(11, (3, 7)))
    assert report.difference is not None
    assert report.difference < 1e-5
    assert model.training
    assert model.lstm.training
    assert "largest difference" in str(report)


def test_verify_that_fails_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    monkeypatch.setattr(ft.GRU, "forward", lambda self, x: (torch.zeros(*x.shape[:2], 5), None))
    model.lstm.zoneout = [0.1, 0.2]
    with pytest.raises(RuntimeError, match="verify: outputs differ"):
        ft.replace(model, verify=torch.randint(11, (3, 7)))
    assert model.lstm.zoneout == [0.1, 0.2]
    assert type(model.lstm) is torch.nn.LSTM
    assert type(model.rest["gru"]) is torch.nn.GRU


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="unsupported must be 'raise' or 'keep'"):
        ft.replace(Model(), unsupported="ignore")
    with pytest.raises(ValueError, match="precision must be None or one"):
        ft.replace(Model(), precision="fp4")


def test_precision_is_passed_on() -> None:
    model = torch.nn.LSTM(3, 5)
    ft.replace(model, precision="ieee")
    assert model.precision == "ieee"
    ft.restore(model)
    assert not hasattr(model, "precision")


def test_patched() -> None:
    theirs = torch.nn.LSTM
    with ft.patched():
        model = torch.nn.Sequential(torch.nn.LSTM(3, 5), torch.nn.modules.rnn.GRUCell(3, 5))
        with pytest.raises(RuntimeError), ft.patched():
            raise RuntimeError
    assert torch.nn.LSTM is theirs
    assert type(model[0]) is ft.LSTM
    assert type(model[1]) is ft.GRUCell


def test_verify_sees_numbers_that_are_none() -> None:
    from fusedrnn.torch.swap import _difference

    nan, inf = float("nan"), float("inf")
    one = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="outputs differ"):
        _difference([torch.ones(3)], [torch.full((3,), nan)], one)
    with pytest.raises(RuntimeError, match="outputs differ"):
        _difference([torch.tensor([1.0, inf])], [torch.tensor([1.0, -inf])], one)
    same = torch.tensor([1.0, nan, inf])
    assert _difference([same], [same.clone()], one) == 0


def test_restore_names_what_it_cannot_take_back() -> None:
    model = torch.nn.Sequential(ft.LSTM(3, 4))
    torch.nn.utils.parametrizations.weight_norm(model[0], "weight_hh_l0")
    with pytest.raises(RuntimeError, match="0 has parametrizations"):
        ft.restore(model)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ft.replace(3), "model must be a torch.nn.Module, it is int"),
        (lambda: ft.restore(torch.nn.LSTM), "model must be a torch.nn.Module, it is type"),
        (lambda: ft.replace(torch.nn.LSTM(3, 4), filter=3), "filter must be None or a function, it is int"),
    ],
)
def test_wrong_arguments_are_named(call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call()
