"""Names that users of PyTorch write first and that are something else here: what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import NoReturn

_DEVICE = 'give the constructor device="cuda" or device="cpu", and carry weights over by state_dict'
_DTYPE = "give the constructor dtype=np.float32 or dtype=np.float64"
_LOSS = "losses return the loss and its gradient: use fr.losses.{}, or fr.losses.{} with options"
_LENGTHS = "sequences of unequal length need no packing: use model(x, lengths=lengths)"
_EVAL = "use model.eval(), which keeps nothing for backward"
_SAVE = "use fr.io.save and fr.io.load for models; optimizer.state_dict() goes by np.savez or pickle"

MODULE = {
    **dict.fromkeys(("to", "cuda", "cpu"), _DEVICE),
    **dict.fromkeys(("double", "float", "half", "bfloat16", "type"), _DTYPE),
    "children": "use modules() or named_modules()",
    "flatten_parameters": "parameters of a module are in one piece of memory already: leave it out",
}
PARAMETER = {
    "numel": "use .size",
    "detach": "use .data (a read-only view) or .numpy() (a copy)",
    "item": "use .data.item()",
    "copy_": "use .data = array",
}
PACKAGE = {
    **dict.fromkeys(("no_grad", "inference_mode"), _EVAL),
    **dict.fromkeys(("save", "load"), _SAVE),
    **dict.fromkeys(
        ("tensor", "from_numpy", "Tensor"), 'use NumPy arrays, on a GPU fr.asarray(x, device="cuda")'
    ),
    "manual_seed": "use seed= of the modules",
}
ZERO_GRAD = "gradients are arrays here, which become zeros; optimizers pass over parameters that are frozen"
_OWN_LOSS = "write it as a function that returns the loss and its gradient; fr.testing.gradcheck checks it"
_OWN_LAYER = "write it as an fr.nn.Module with forward and backward; fr.testing.gradcheck checks it"
_NAMES = ("mse", "l1", "huber", "smooth_l1", "nll")  # of losses that PyTorch's functions add _loss to
NN = {
    "CrossEntropyLoss": _LOSS.format("cross_entropy", "CrossEntropy"),
    "MSELoss": _LOSS.format("mse", "MSE"),
    "L1Loss": _LOSS.format("l1", "L1"),
    "HuberLoss": _LOSS.format("huber", "Huber"),
    "SmoothL1Loss": _LOSS.format("smooth_l1", "SmoothL1"),
    "NLLLoss": _LOSS.format("nll", "NLL"),
    **dict.fromkeys(
        ("BCELoss", "BCEWithLogitsLoss"),
        _LOSS.format("binary_cross_entropy (of logits)", "BinaryCrossEntropy"),
    ),
    **dict.fromkeys(
        ("KLDivLoss", "CTCLoss", "GaussianNLLLoss", "PoissonNLLLoss", "TripletMarginLoss"), _OWN_LOSS
    ),
    **dict.fromkeys(
        ("GELU", "ELU", "LeakyReLU", "SiLU", "Softplus", "Hardtanh", "BatchNorm1d", "Conv1d"), _OWN_LAYER
    ),
    "Identity": "leave it out",
    "ModuleList": "set the modules as attributes, or use Sequential",
    "functional": "use fr.functional and fr.losses",
    "utils": "clipping is fr.optim.clip_grad_norm_ and step(clip_norm=...); " + _LENGTHS,
    **dict.fromkeys(
        ("LSTMCell", "GRUCell", "RNNCell"), "call the layer with x of one step (T = 1) and its last state"
    ),
}
OPTIM = {
    **dict.fromkeys(
        ("LBFGS", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop"),
        "the optimizers are SGD, Adagrad, RMSprop, Adam and AdamW",
    ),
    "clip_grad_norm": "use clip_grad_norm_",
    "clip_grad_value": "use clip_grad_value_",
    "lr_scheduler": "use fr.optim.schedules, functions of the step: optimizer.lr = schedule(step)",
}
LOSSES = {
    "binary_cross_entropy_with_logits": "use binary_cross_entropy, which takes logits",
    "CrossEntropyLoss": "use CrossEntropy",
    "MSELoss": "use MSE",
    "L1Loss": "use L1",
    "HuberLoss": "use Huber",
    "SmoothL1Loss": "use SmoothL1",
    "NLLLoss": "use NLL",
    **dict.fromkeys(("KLDivLoss", "CTCLoss", "kl_div", "ctc_loss"), _OWN_LOSS),
    **{f"{name}_loss": f"use {name}" for name in _NAMES},
    **dict.fromkeys(("BCELoss", "BCEWithLogitsLoss"), "use BinaryCrossEntropy, which takes logits"),
}
FUNCTIONAL = {
    **{f"{name}_loss": f"use {name}" for name in _NAMES},
    **{name: f"use {name}_forward and {name}_backward" for name in ("linear", "embedding", "layer_norm")},
    **dict.fromkeys(("kl_div", "ctc_loss"), _OWN_LOSS),
    **dict.fromkeys(
        ("gelu", "elu", "leaky_relu", "silu", "softplus"), "write it in NumPy, with its gradient"
    ),
    "binary_cross_entropy_with_logits": "use binary_cross_entropy, which takes logits",
    "one_hot": "use np.eye(classes, dtype=np.float32)[ids]",
    "normalize": "use layer_norm_forward, or NumPy",
}


_FUSED = "it is not needed, every step is one pass over all parameters: leave it out"
OPTIMIZER_OPTIONS = {
    **dict.fromkeys(("foreach", "fused"), _FUSED),
    "maximize": "it is not needed: turn the sign of the loss and its gradient",
    "capturable": "it is not needed, steps on a device can be captured: leave it out",
    "differentiable": "there is no autograd: leave it out",
}
MODULE_OPTIONS = {
    "proj_size": "states of an LSTM alone are projected: put a Linear behind",
    "inplace": "results are arrays of their own: leave it out",
    **dict.fromkeys(
        ("max_norm", "norm_type", "scale_grad_by_freq", "sparse"), "Embedding has no such option"
    ),
}


def refuse(owner: type, given: Iterable[str], options: dict[str, str]) -> None:
    """TypeError for an option of PyTorch's that the owner does not take, with what to write instead."""
    for name in given:
        if name in options and name not in inspect.signature(owner.__init__).parameters:  # type: ignore[misc]
            raise TypeError(f"{owner.__name__} has no option {name!r}: {options[name]}")


def refuse_option(owner: str, name: str, value: object, instead: str) -> None:
    """TypeError where an option of PyTorch's is given, None being not, with what there is instead."""
    if value is not None:
        raise TypeError(f"{owner} has no option {name!r}: {instead}")


def missing(owner: str, name: str, elsewhere: dict[str, str]) -> NoReturn:
    """Raises the AttributeError that Python would, with what to write instead where that is known."""
    hint = elsewhere.get(name)
    raise AttributeError(f"{owner} has no attribute {name!r}" + (f": {hint}" if hint else ""))
