"""PyTorch's models in and out, held to PyTorch itself."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from io_models import NO_EQUAL, H, I, assert_agrees, draw_input, masked, outputs, taken, zoo
from variants import VARIANTS

import fusedrnn as fr

torch: Any = pytest.importorskip("torch", reason="torch is what these tests compare with")
pytestmark = pytest.mark.peer


def run(module: Any, x: Any) -> Any:
    with torch.no_grad():
        y = module(torch.from_numpy(x))
    return (y[0] if isinstance(y, tuple) else y).numpy()


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("name", taken("torch"))
def test_out_and_back(name: str, batch_first: bool) -> None:
    model = zoo(batch_first)[name]
    x = draw_input(model)
    module = fr.io.to_torch(model)
    y = outputs(model, x)
    assert_agrees(model, x, y, run(module, x))
    assert list(module.state_dict()) == list(model.state_dict())
    back = fr.io.from_torch(module)
    assert repr(back) == repr(model)
    assert (outputs(back, x) == y).all()


@pytest.mark.parametrize("name", NO_EQUAL["torch"])
def test_what_torch_has_no_equal_of(name: str) -> None:
    with pytest.raises(fr.io.UnsupportedError, match=re.escape(NO_EQUAL["torch"][name])):
        fr.io.to_torch(zoo()[name])


@pytest.mark.parametrize("training", [False, True])
def test_mode_comes_along(training: bool) -> None:
    module = torch.nn.LSTM(I, H).train(training)
    assert fr.io.from_torch(module).training is training
    assert fr.io.to_torch(fr.nn.LSTM(I, H).train(training)).training is training


def test_states_and_float64() -> None:
    module = torch.nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    rng = np.random.default_rng(0)
    x, h0, c0 = rng.normal(size=(6, 4, I)), rng.normal(size=(4, 4, H)), rng.normal(size=(4, 4, H))
    with torch.no_grad():
        theirs = module(torch.from_numpy(x), (torch.from_numpy(h0), torch.from_numpy(c0)))
    y, (hn, cn) = fr.io.from_torch(module)(x, (h0, c0))
    for ours, other in ((y, theirs[0]), (hn, theirs[1][0]), (cn, theirs[1][1])):
        assert np.abs(ours - other.numpy()).max() <= 1e-10 * np.abs(ours).max()  # as test_torch_parity.py


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_state_dict_of_one_layer(kind: str) -> None:
    module = getattr(torch.nn, kind)(I, H, 2, bidirectional=True, batch_first=True)
    named = {f"encoder.{name}": tensor for name, tensor in module.state_dict().items()}
    model = fr.io.from_torch(named, batch_first=True)
    x = draw_input(model)
    assert_agrees(model, x, run(module, x))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", ["lstm_peephole", "lstm_layer_norm", "lstm_projected"])
def test_state_dict_tells_the_cell(cell: str, bias: bool) -> None:
    kind, options = VARIANTS[cell]
    ours = getattr(fr.nn, kind)(I, H, 2, bias=bias, bidirectional=True, seed=1, **options)
    model = fr.io.from_torch(ours.state_dict())
    assert repr(model) == repr(ours)
    x = draw_input(ours)
    assert (outputs(model, x) == outputs(ours, x)).all()


@pytest.mark.parametrize("name", ["weight_peephole_l0", "weight_ln_c_l0"])
def test_weights_of_another_cell_are_refused(name: str) -> None:
    state = dict(torch.nn.GRU(3, 6).state_dict())
    state[name] = torch.zeros(18)
    with pytest.raises(fr.io.FormatError, match=f"{name} is an LSTM's"):
        fr.io.from_torch(state)


def test_state_dict_of_an_rnn_needs_its_nonlinearity() -> None:
    module = torch.nn.RNN(I, H, nonlinearity="relu")
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu'"):
        fr.io.from_torch(module.state_dict())
    model = fr.io.from_torch(module.state_dict(), nonlinearity="relu")
    x = draw_input(model)
    assert_agrees(model, x, run(module, x))


def test_state_dict_into_a_model_of_ones_own() -> None:
    class Theirs(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = torch.nn.LSTM(I, H), torch.nn.Linear(H, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0])

    class Ours(fr.nn.Module):
        def __init__(self) -> None:
            self.lstm, self.head = fr.nn.LSTM(I, H), fr.nn.Linear(H, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0])

    theirs = Theirs().eval()
    for source in (theirs, theirs.state_dict()):
        ours = fr.io.from_torch(source, Ours())
        x = np.random.default_rng(0).normal(size=(6, 4, I)).astype(np.float32)
        assert_agrees(fr.nn.Sequential(ours.lstm, ours.head), x, run(theirs, x))
    with pytest.raises(fr.io.UnsupportedError, match=r"Theirs has no equal here: .*give a model"):
        fr.io.from_torch(theirs)
    with pytest.raises(ValueError, match=r"2 layers \(head, lstm\)"):
        fr.io.from_torch(theirs.state_dict())


def parametrized() -> Any:
    from torch.nn.utils.parametrizations import weight_norm

    return weight_norm(torch.nn.LSTM(I, H), "weight_hh_l0")


class Own:
    """Makes a subclass of nn.LSTM, whose forward may be another one."""

    def __call__(self) -> Any:
        return type("Mine", (torch.nn.LSTM,), {})(I, H)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.nn.LSTM(I, H).bfloat16(), r"weight_ih_l0 is torch\.bfloat16: use float32"),
        (Own(), "Mine has no equal here"),
        (parametrized, "ParametrizedLSTM: make its weights plain"),
        (lambda: torch.nn.LSTMCell(I, H), "LSTMCell has no equal"),
        (lambda: torch.nn.Sequential(torch.nn.GELU()), "module '0': GELU has no equal"),
        (lambda: torch.nn.Embedding(4, 3, max_norm=1.0), r"max_norm=1\.0"),
        (lambda: torch.nn.Embedding(4, 3, scale_grad_by_freq=True), "scale_grad_by_freq=True"),
        (lambda: torch.nn.LayerNorm((2, 3)), "LayerNorm over 2 axes"),
        (lambda: torch.nn.Softmax(0), r"Softmax\(dim=0\) has no equal"),
    ],
)
def test_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(fr.io.UnsupportedError, match=message):
        fr.io.from_torch(make())


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match=r"source must be a torch\.nn\.Module or a state dict, it is str"):
        fr.io.from_torch("model.pt")
    with pytest.raises(fr.io.UnsupportedError, match="Masked has no equal in PyTorch"):
        fr.io.to_torch(masked()["masked ids"])
    with pytest.raises(ValueError, match=r"names .* are not those of one recurrent layer"):
        fr.io.from_torch({"weight": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("kind", [torch.nn.GRU, torch.nn.RNN])
def test_a_projection_of_another_cell_is_refused(kind: Any) -> None:
    state = dict(kind(3, 6).state_dict())
    state["weight_hr_l0"] = torch.zeros(2, 6)
    with pytest.raises(fr.io.FormatError, match="weight_hr_l0 is an LSTM's"):
        fr.io.from_torch(state)
