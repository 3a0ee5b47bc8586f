"""Names that users of PyTorch write first and that are something else here: what to write instead."""

from __future__ import annotations

from typing import NoReturn

_DEVICE = 'give the constructor device="cuda" or device="cpu", and carry weights over by state_dict'
_DTYPE = "give the constructor dtype=np.float32 or dtype=np.float64"
_GRAD = "there is no autograd: gradients are what backward adds, and an optimizer updates what it was given"
_LOSS = "losses return the loss and its gradient: use fr.losses.{}, or fr.losses.{} with options"
_LENGTHS = "sequences of unequal length need no packing: use model(x, lengths=lengths)"
_EVAL = "use model.eval(), which keeps nothing for backward"
_SAVE = "use fr.io.save and fr.io.load for models; optimizer.state_dict() goes by np.savez or pickle"

MODULE = {
    **dict.fromkeys(("to", "cuda", "cpu"), _DEVICE),
    **dict.fromkeys(("double", "float", "half", "bfloat16", "type"), _DTYPE),
    "requires_grad_": _GRAD,
    "children": "use modules() or named_modules()",
    "flatten_parameters": "parameters of a module are in one piece of memory already: leave it out",
}
PARAMETER = {
    "numel": "use .size",
    "detach": "use .data (a read-only view) or .numpy() (a copy)",
    "item": "use .data.item()",
    "copy_": "use .data = array",
    **dict.fromkeys(("requires_grad", "requires_grad_"), _GRAD),
}
PACKAGE = {
    **dict.fromkeys(("no_grad", "inference_mode"), _EVAL),
    **dict.fromkeys(("save", "load"), _SAVE),
    **dict.fromkeys(
        ("tensor", "from_numpy", "Tensor"), 'use NumPy arrays, on a GPU fr.asarray(x, device="cuda")'
    ),
    "manual_seed": "use seed= of the modules",
}
NN = {
    "CrossEntropyLoss": _LOSS.format("cross_entropy", "CrossEntropy"),
    "MSELoss": _LOSS.format("mse", "MSE"),
    **dict.fromkeys(
        ("BCELoss", "BCEWithLogitsLoss"),
        _LOSS.format("binary_cross_entropy (of logits)", "BinaryCrossEntropy"),
    ),
    "ModuleList": "set the modules as attributes, or use Sequential",
    "functional": "use fr.functional and fr.losses",
    "utils": "clipping is fr.optim.clip_grad_norm_ and step(clip_norm=...); " + _LENGTHS,
    **dict.fromkeys(
        ("LSTMCell", "GRUCell", "RNNCell"), "call the layer with x of one step (T = 1) and its last state"
    ),
}
OPTIM = {"lr_scheduler": "use fr.optim.schedules, functions of the step: optimizer.lr = schedule(step)"}
LOSSES = {
    "CrossEntropyLoss": "use CrossEntropy",
    "MSELoss": "use MSE",
    "BCEWithLogitsLoss": "use BinaryCrossEntropy, which takes logits",
    "binary_cross_entropy_with_logits": "use binary_cross_entropy, which takes logits",
}


def missing(owner: str, name: str, elsewhere: dict[str, str]) -> NoReturn:
    """Raises the AttributeError that Python would, with what to write instead where that is known."""
    hint = elsewhere.get(name)
    raise AttributeError(f"{owner} has no attribute {name!r}" + (f": {hint}" if hint else ""))
