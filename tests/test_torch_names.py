"""What users of PyTorch write first works, or the error says what to write; nothing means something else."""

from __future__ import annotations

import gc
import pickle
import re
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.nn import Parameter

PAIRS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {})]


def model() -> fr.nn.Sequential:
    return fr.nn.Sequential(fr.nn.LSTM(3, 4, seed=0), fr.nn.Last(), fr.nn.Linear(4, 1, seed=0))


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "options"), PAIRS, ids=["tanh", "relu", "gru", "lstm"])
def test_state_dicts_go_both_ways(kind: str, options: dict[str, Any]) -> None:
    import torch

    ours = getattr(fr.nn, kind)(3, 5, 2, bidirectional=True, **options, dtype=np.float64, seed=0)
    theirs = getattr(torch.nn, kind)(3, 5, 2, bidirectional=True, **options, dtype=torch.float64)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in ours.state_dict().items()})
    again = getattr(fr.nn, kind)(3, 5, 2, bidirectional=True, **options, dtype=np.float64, seed=1)
    again.load_state_dict(theirs.state_dict())
    assert all(np.array_equal(a, again.state_dict()[name]) for name, a in ours.state_dict().items())


# What PyTorch orders otherwise is given by name here: in its order it would mean something else.
ELSEWHERE_IN_ORDER = {
    "nonlinearity": lambda: fr.nn.RNN(3, 4, 1, "relu"),
    "amsgrad": lambda: fr.optim.Adam(model().parameters(), 1e-3, (0.9, 0.999), 1e-8, 0.0, False),
    "amsgrad of AdamW": lambda: fr.optim.AdamW(model().parameters(), 1e-3, (0.9, 0.999), 1e-8, 0.0, False),
    "dampening": lambda: fr.optim.SGD(model().parameters(), 0.1, 0.9, 0.1),
    "initial_accumulator_value": lambda: fr.optim.Adagrad(model().parameters(), 0.1, 0.0, 0.0, 0.1),
}


@pytest.mark.parametrize("name", ELSEWHERE_IN_ORDER)
def test_what_is_in_another_order_in_torch_goes_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=r"positional argument|nonlinearity='relu'"):
        ELSEWHERE_IN_ORDER[name]()


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("bias", lambda v: fr.nn.LSTM(3, 4, bias=v)),
        ("batch_first", lambda v: fr.nn.GRU(3, 4, batch_first=v)),
        ("bidirectional", lambda v: fr.nn.RNN(3, 4, bidirectional=v)),
        ("batch_first", lambda v: fr.nn.Last(v)),
        ("bias", lambda v: fr.nn.Linear(3, 4, v)),
        ("bias", lambda v: fr.nn.LayerNorm(3, bias=v)),
        ("elementwise_affine", lambda v: fr.nn.LayerNorm(3, elementwise_affine=v)),
    ],
)
def test_flags_are_bools(name: str, build: Any) -> None:
    for value in (2, None, "no"):
        with pytest.raises(TypeError, match=f"{name} must be True or False, it is {value!r}"):
            build(value)
    build(np.False_)


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        (fr, "no_grad", "model.eval()"),
        (fr.nn, "CrossEntropyLoss", "fr.losses.cross_entropy"),
        (fr.optim, "lr_scheduler", "fr.optim.schedules"),
        (fr.losses, "binary_cross_entropy_with_logits", "takes logits"),
        (model(), "to", 'device="cuda"'),
        (model()[0], "double", "dtype=np.float64"),
        (Parameter(np.zeros(3)), "numel", ".size"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_names_that_are_not_here_say_what_to_write(owner: Any, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{re.escape(hint)}"):
        getattr(owner, name)
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = owner.nonsense
    assert not hasattr(owner, name)


def test_parameters_are_arrays_to_numpy() -> None:
    p = model()[0].weight_hh_l0
    assert np.shares_memory(np.asarray(p), p.data)
    assert not np.asarray(p).flags.writeable
    assert np.asarray(p, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(p), p.data)
    assert np.sum(p) == p.data.sum()


def messages() -> list[tuple[Any, type[Exception], str]]:
    import torch

    m = model()
    x = np.zeros((5, 2, 3), np.float32)
    return [
        (
            lambda: m[0](torch.zeros(5, 2, 3)),
            TypeError,
            "x must be a NumPy array, it is Tensor: use x.detach",
        ),
        (lambda: m[2]([[0.0] * 4]), TypeError, "x must be a NumPy array, it is list: use np.asarray(x)"),
        (lambda: fr.nn.GRU(3, 4, dtype=torch.float32), TypeError, "dtype must be np.float32 or np.float64"),
        (lambda: fr.optim.Adam(m), TypeError, "it is a Sequential: use its parameters()"),
        (lambda: fr.optim.Adam(m[2]), TypeError, "it is a Linear: use its parameters()"),
        (lambda: fr.optim.clip_grad_norm_(m, 1.0), TypeError, "it is a Sequential: use its parameters()"),
        (lambda: fr.optim.Adam(m.parameters(), betas=0.9), TypeError, "betas must be two numbers"),
        (
            lambda: fr.optim.Adam(m.parameters()).step(lambda: 0),
            TypeError,
            "clip_norm must be None or a number, it is of type function: there is no closure, compute loss",
        ),
        (
            lambda: fr.losses.mse(x, x, x),
            TypeError,
            "reduction must be 'mean', 'sum' or 'none', it is of type",
        ),
    ]


@pytest.mark.peer
@pytest.mark.parametrize("number", range(9))
def test_messages_say_what_to_do(number: int) -> None:
    call, raises, text = messages()[number]
    with pytest.raises(raises, match=re.escape(text)):
        call()


@pytest.mark.peer
def test_training_steps_take_an_optimizer_of_the_model() -> None:
    import torch

    m, copy = model(), pickle.loads(pickle.dumps(model()))
    x, y = np.ones((5, 2, 3), np.float32), np.ones((2, 1), np.float32)
    with pytest.raises(ValueError, match="optimizer must have parameters of this model"):
        m.train_step(x, y, "mse", fr.optim.SGD(copy.parameters()))
    with pytest.raises(TypeError, match=r"optimizer must be one of fusedrnn\.optim"):
        m.train_step(x, y, "mse", torch.optim.SGD([torch.zeros(1)]))
    before = m.state_dict()
    for _ in range(2):
        m.train_step(x, y, "mse", fr.optim.SGD(m[2].parameters(), lr=0.1))  # a part of the model is trained
    changed = [name for name, a in m.state_dict().items() if not np.array_equal(a, before[name])]
    assert changed == ["2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("part", "name", "hint"),
    [
        (fr.nn, "L1Loss", r"use fr.losses.l1, or fr.losses.L1"),
        (fr.nn, "HuberLoss", "fr.losses.Huber with options"),
        (fr.nn, "SmoothL1Loss", "fr.losses.SmoothL1 with options"),
        (fr.nn, "NLLLoss", "fr.losses.NLL with options"),
        (fr.nn, "KLDivLoss", "gradcheck checks it"),
        (fr.nn, "GELU", "fr.nn.Module with forward and backward"),
        (fr.losses, "HuberLoss", "use Huber"),
        (fr.losses, "smooth_l1_loss", "use smooth_l1"),
        (fr.functional, "nll_loss", "use nll"),
        (fr.functional, "linear", "use linear_forward and linear_backward"),
        (fr.optim, "clip_grad_norm", "use clip_grad_norm_"),
    ],
)
def test_names_of_losses_and_functions(part: Any, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'.*{hint}"):
        getattr(part, name)


def test_set_to_none() -> None:
    m = model()
    for owner in (m, fr.optim.Adam(m.parameters())):
        for given in (True, False):
            with pytest.raises(
                TypeError, match="zero_grad has no option 'set_to_none': gradients are arrays"
            ):
                owner.zero_grad(set_to_none=given)
        owner.zero_grad()


def lstm() -> fr.nn.LSTM:
    return fr.nn.LSTM(3, 4, seed=0)


X = np.ones((5, 2, 3), np.float32)
OPTIONS: list[tuple[Any, str]] = [
    (lambda: fr.nn.GRU(3, 4, layer_norm=True), "GRU has no option 'layer_norm': LSTM has it"),
    (lambda: fr.nn.RNN(3, 4, reset_after=False), "RNN has no option 'reset_after': GRU has it"),
    (lambda: fr.nn.LSTM(3, 4, nonlinearity="relu"), "LSTM has no option 'nonlinearity': RNN has it"),
    (lambda: fr.nn.Linear(3, 4, dropout=0.5), "Linear has no option 'dropout': GRU, LSTM and RNN have it"),
    (lambda: fr.nn.LSTM(3, 4, num_layer=2), "LSTM has no option 'num_layer': write num_layers"),
    (lambda: fr.nn.LSTM(3, 4, return_sequences=True), "option 'return_sequences': y holds every step"),
    (lambda: fr.nn.LSTM(3, 4, units=3), "option 'units': write hidden_size"),
    (lambda: fr.nn.LayerNorm(normalized_shape=3), "option 'normalized_shape': write features"),
    (lambda: fr.nn.Tanh(slope=3), "Tanh has no option 'slope': it takes none"),
    (lambda: fr.nn.LSTM(3, 4, qwertz=3), "option 'qwertz': it takes input_size, hidden_size, num_layers, "),
    (lambda: fr.optim.Adam(model().parameters(), momentum=0.9), "option 'momentum': RMSprop and SGD have it"),
    (lambda: fr.optim.SGD(model().parameters(), betas=(0.9, 0.9)), "option 'betas': Adam and AdamW have it"),
    (lambda: fr.optim.RMSprop(model().parameters(), rho=0.9), "option 'rho': write alpha"),
    (lambda: fr.losses.MSE(weight=1.0), "option 'weight': CrossEntropy and NLL have it"),
    (lambda: fr.losses.SmoothL1(delta=1.0), "option 'delta': Huber has it"),
    (lambda: fr.losses.mse(input=X, target=X), "mse has no argument 'input': it is x, of losses pred"),
    (lambda: fr.losses.mse(X, X, size_average=True), "argument 'size_average': write reduction"),
    (lambda: fr.functional.softmax(X, dim=1), "argument 'dim': it is the last axis"),
    (lambda: fr.functional.relu(X, inplace=True), "argument 'inplace': results are arrays of their own"),
    (lambda: fr.functional.dropout(X, 0.5, training=True), "argument 'training': a module's mode"),
    (
        lambda: fr.optim.clip_grad_norm_(model().parameters(), 1.0, foreach=True),
        "argument 'foreach': it is not",
    ),
    (lambda: lstm()(X, hx=None), "LSTM has no argument 'hx': write state"),
    (lambda: lstm()(X, length=None), "LSTM has no argument 'length': write lengths"),
    (lambda: fr.optim.Adam(model().parameters()).step(closure=lambda: 1), "option 'closure': compute loss"),
    (lambda: fr.nn.RNN(3, 4, activation="relu"), "option 'activation': write nonlinearity"),
    (lambda: fr.nn.GRU(3, 4, proj_size=2), "option 'proj_size': states of an LSTM alone are projected"),
    (lambda: fr.nn.Linear(3, 4, use_bias=False), "option 'use_bias': write bias"),
    (lambda: fr.nn.Embedding(3, 4, _weight=X), "option '_weight': set embedding.weight.data = array"),
    # What another class would be told says nothing here.
    (lambda: fr.nn.Linear(3, units=5), "option 'units': write out_features"),
    (lambda: fr.nn.Embedding(3, units=5), "option 'units': it takes num_embeddings, "),
    (lambda: fr.nn.Dropout(use_bias=True), "option 'use_bias': it takes p, seed"),
    (lambda: fr.nn.Linear(3, 4, proj_size=1), "option 'proj_size': LSTM has it"),
    (lambda: fr.nn.Linear(3, 4, stateful=True), "option 'stateful': it takes in_features, "),
    (lambda: fr.nn.LSTM(3, 4, weights=X), "option 'weights': it takes input_size, "),
    (lambda: fr.optim.Adam(model().parameters(), rho=1), "option 'rho': it takes params, lr, betas, "),
    (lambda: fr.optim.SGD(model().parameters(), epsilon=1), "option 'epsilon': it takes params, lr, "),
    (lambda: fr.optim.SGD(model().parameters(), beta1=1), "option 'beta1': it takes params, lr, "),
    (lambda: fr.optim.Adam(model().parameters(), beta1=1), "option 'beta1': write betas=(beta1, beta2)"),
    (lambda: fr.nn.Linear(3, 4)(X, hx=None), "Linear has no argument 'hx': it takes x"),
    (lambda: lstm()(X, dim=0), "LSTM has no argument 'dim': it takes x, state, "),
    (lambda: fr.losses.MSE(hx=None), "MSE has no option 'hx': it takes ignore_index, reduction"),
    (lambda: fr.losses.MSE(dim=1), "MSE has no option 'dim': it takes ignore_index, reduction"),
    (lambda: fr.losses.MSE(size_average=True), "MSE has no option 'size_average': write reduction"),
]


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_unknown_keywords_say_what_to_write(number: int) -> None:
    call, text = OPTIONS[number]
    with pytest.raises(TypeError, match=re.escape(text)):
        call()


def test_a_wrong_argument_keeps_no_module_alive() -> None:
    m = lstm()
    gone = weakref.ref(m)
    with pytest.raises(TypeError, match="write state"):
        m(X, hx=None)
    del m
    gc.collect()
    assert gone() is None


def test_a_models_own_errors_of_arguments_stay_as_they_are() -> None:
    class Own(fr.nn.Module):
        def forward(self, x: Any) -> Any:
            return x + "text"

    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        Own()(x=1, y=2)
    with pytest.raises(TypeError, match="unsupported operand"):
        Own()(x=1)


@pytest.mark.parametrize(
    ("owner", "names", "hint"),
    [
        (model(), "named_children apply add_module append register_forward_hook fit compile", ": "),
        (lstm(), "reset_parameters all_weights register_buffer share_memory get_parameter", ": "),
        (Parameter(np.zeros(3)), "view T clone zero_ fill_ add_ backward register_hook to mean dim", ": "),
        (fr, "zeros randn cat float32 set_grad_enabled autograd jit device utils", ": "),
        (fr.nn, "ModuleDict Conv2d RMSNorm MultiheadAttention Mish Dropout2d RNNBase EmbeddingBag", ": "),
        (fr.nn.init, "xavier_uniform_ kaiming_normal_ zeros_ ones_ trunc_normal_", ": use "),
        (fr.optim, "SparseAdam Adafactor Muon get_total_norm swa_utils", ": "),
        (fr.optim.schedules, "StepLR CosineAnnealingLR OneCycleLR ReduceLROnPlateau", ": schedules are"),
        (fr.losses, "bce CTCLoss", ": "),
        (fr.functional, "pad interpolate scaled_dot_product_attention clip_grad_norm_", ": "),
        (fr.data, "DataLoader TensorDataset pad_sequence", ": "),
        (fr.io, "from_pytorch to_pytorch load_state_dict", ": use "),
    ],
    ids=[
        "Sequential",
        "LSTM",
        "Parameter",
        "",
        "nn",
        "init",
        "optim",
        "schedules",
        "losses",
        "f",
        "data",
        "io",
    ],
)
def test_more_names_that_are_not_here(owner: Any, names: str, hint: str) -> None:
    for name in names.split():
        with pytest.raises(AttributeError, match=f"no attribute '{name}'{hint}"):
            getattr(owner, name)


def test_a_parameter_may_be_frozen_from_the_start() -> None:
    assert not Parameter(np.zeros(3), requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="requires_grad must be True or False, it is 0"):
        Parameter(np.zeros(3), requires_grad=0)  # type: ignore[arg-type]


def test_options_of_losses_pass_through_train_step() -> None:
    """As an object with them, bit by bit, whether the loss is a name or a function."""
    target, losses = np.ones((2, 1), np.float32), []
    given: list[tuple[Any, dict[str, Any]]] = [
        (fr.losses.Huber(0.1, reduction="sum"), {}),
        ("huber", {"delta": 0.1, "reduction": "sum"}),
        (fr.losses.huber, {"delta": 0.1, "reduction": "sum"}),
        (lambda p, t, **options: fr.losses.huber(p, t, **options), {"delta": 0.1, "reduction": "sum"}),
    ]
    for loss, options in given:
        m = model()
        o = fr.optim.SGD(m.parameters(), lr=0.1)
        losses.append([m.train_step(X, target, loss, o, 1.0, **options) for _ in range(4)])
        assert len(m.__dict__.get("_compiled", {})) == (
            not callable(loss) or loss is fr.losses.huber or not options
        )
    assert losses[0] == losses[1] == losses[2] == losses[3]
    assert losses[0] != [m.train_step(X, target, "huber", o, 1.0) for _ in range(4)]
    for loss, options, text in (
        ("mse", {"weight": 1.0}, "MSE has no option 'weight': CrossEntropy and NLL have it"),
        (fr.losses.MSE(), {"reduction": "sum"}, "train_step takes no reduction with MSE"),
    ):
        with pytest.raises(TypeError, match=re.escape(text)):
            m.train_step(X, target, loss, o, **options)
    with pytest.raises(ValueError, match="loss must be a function or one of"):
        m.train_step(X, target, "huge", o, delta=1.0)


def test_misspelled_arguments_of_train_step_are_no_options_of_the_loss() -> None:
    def any_options(p: Any, t: Any, **options: Any) -> Any:
        return fr.losses.mse(p, t)

    def scaled(p: Any, t: Any, scale: float = 1.0, states: Any = None) -> Any:
        value, gradient = fr.losses.mse(p, t)
        return scale * value, scale * gradient

    m, target = model(), np.ones((2, 1), np.float32)
    o = fr.optim.SGD(m.parameters(), lr=0.0)
    before = m.state_dict()
    wrong: list[tuple[Any, str, str]] = [
        (any_options, "clipnorm", "train_step has no argument 'clipnorm': write clip_norm"),
        ("mse", "clipnorm", "train_step has no argument 'clipnorm': write clip_norm"),
        ("cross_entropy", "lenghts", "train_step has no argument 'lenghts': write lengths"),
        (fr.losses.MSE(), "masks", "train_step has no argument 'masks': write mask"),
        (any_options, "hx", "train_step has no argument 'hx': write state"),
        (any_options, "max_norm", "train_step has no argument 'max_norm': write clip_norm"),
        ("cross_entropy", "weigth", "CrossEntropy has no option 'weigth': write weight"),
        (scaled, "scael", "scaled has no argument 'scael': write scale"),
        (scaled, "weight", "scaled has no argument 'weight': it takes p, t, scale, states"),
    ]
    for loss, name, text in wrong:
        with pytest.raises(TypeError, match=re.escape(text)):
            m.train_step(X, target, loss, o, **{name: 1.0})
    assert all(np.array_equal(a, before[name]) for name, a in m.state_dict().items())
    once, _ = m.train_step(X, target, scaled, o)
    assert m.train_step(X, target, scaled, o, scale=2.0)[0] == 2 * once
    assert m.train_step(X, target, scaled, o, states=None)[0] == once  # its own, though nearly `state`
    assert m.train_step(X, target, any_options, o, whatever=1)[0] == once


def test_a_loss_is_made_once_for_its_options() -> None:
    from fusedrnn.training.loss import with_options

    made = with_options("huber", None, {"delta": 0.5})
    assert with_options("huber", None, {"delta": 0.5}) is made
    assert with_options(fr.losses.huber, None, {"delta": 0.5}) is made
    assert with_options("huber", None, {"delta": 0.25}) != made
    with_options("mse", 1, {"reduction": "sum"})
    with pytest.raises(TypeError, match="ignore_index"):  # which equals 1
        with_options("mse", True, {"reduction": "sum"})
    weight = np.ones(3)
    first = with_options("nll", None, {"weight": weight})
    weight[0] = 2.0
    assert with_options("nll", None, {"weight": weight}) != first


OWN_LOSSES = """
import numpy as np, fusedrnn as fr
class Nameless(fr.losses.Loss):
    def __init__(self): pass
class Own(fr.losses.MSE):
    _function = "mse"
class Twice(fr.losses.Loss):
    _function = "mse"
    def __init__(self, **options): raise SystemExit("another's")
m = fr.nn.Sequential(fr.nn.Linear(3, 1))
x, y = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
m.train_step(x, y, "mse", fr.optim.SGD(m.parameters()), reduction="sum")
"""


def test_losses_of_a_users_own_are_no_names() -> None:
    subprocess.run([sys.executable, "-c", OWN_LOSSES], check=True, timeout=120)
