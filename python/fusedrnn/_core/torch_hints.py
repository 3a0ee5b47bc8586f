"""Names that users of PyTorch write first and that are something else here: what to write instead."""

from __future__ import annotations

from typing import Any, NoReturn

_DEVICE = 'give the constructor device="cuda" or device="cpu", and carry weights over by state_dict'
_DTYPE = "give the constructor dtype=np.float32 or dtype=np.float64"
_LOSS = "losses return the loss and its gradient: use fr.losses.{}, or fr.losses.{} with options"
_LENGTHS = "sequences of unequal length need no packing: use model(x, lengths=lengths)"
_EVAL = "use model.eval(), which keeps nothing for backward"
_SAVE = "use fr.io.save and fr.io.load for models; optimizer.state_dict() goes by np.savez or pickle"

MODULE = {
    **dict.fromkeys(("to", "cuda", "cpu"), _DEVICE),
    **dict.fromkeys(("double", "float", "half", "bfloat16", "type"), _DTYPE),
    **dict.fromkeys(
        ("children", "named_children", "apply", "get_submodule"), "use modules() or named_modules()"
    ),
    "get_parameter": "use dict(module.named_parameters())",
    "all_weights": "use parameters() or named_parameters()",
    **dict.fromkeys(("add_module", "register_module", "register_parameter"), "set it as an attribute"),
    **dict.fromkeys(("register_buffer", "buffers", "named_buffers"), "arrays may be attributes of a module"),
    **dict.fromkeys(("append", "insert", "extend", "pop"), "make another Sequential(*model, layer)"),
    **dict.fromkeys(
        (
            "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
            "register_backward_hook",
        ),
        "derive a class and write forward and backward",
    ),
    "compile": "there is nothing to compile: Sequential.train_step is one native call",
    **dict.fromkeys(("share_memory", "share_memory_"), "give processes model.state_dict()"),
    "reset_parameters": "make another module, or use fr.nn.init on its parameters",
    **dict.fromkeys(("fit", "predict"), "write the loop: train_step trains, a call in eval mode predicts"),
    "flatten_parameters": "parameters of a module are in one piece of memory already: leave it out",
}  # fmt: skip
_NO_AUTOGRAD = "there is no autograd: a module's backward adds into p.grad"
_WRITE = "write p.data = array, or use p.writable()"
PARAMETER = {
    **dict.fromkeys(("numel", "nelement"), "use .size"),
    "dim": "use .ndim",
    **dict.fromkeys(("detach", "clone"), "use .data (a read-only view) or .numpy() (a copy)"),
    "item": "use .data.item()",
    **dict.fromkeys(("cpu", "cuda", "to", "double", "float", "half"), "it is a module's: " + _DEVICE),
    **dict.fromkeys(("view", "T", "t", "mean", "sum", "norm", "abs", "max", "min"), "use it of .data"),
    "copy_": "use .data = array",
    **dict.fromkeys(("fill_", "zero_", "add_", "sub_", "mul_", "div_", "clamp_"), _WRITE),
    **dict.fromkeys(("normal_", "uniform_"), "use fr.nn.init.normal_ or uniform_"),
    **dict.fromkeys(("backward", "register_hook", "retain_grad", "grad_fn", "is_leaf"), _NO_AUTOGRAD),
}
PACKAGE = {
    **dict.fromkeys(("no_grad", "inference_mode"), _EVAL),
    **dict.fromkeys(("save", "load"), _SAVE),
    **dict.fromkeys(
        ("tensor", "from_numpy", "Tensor"), 'use NumPy arrays, on a GPU fr.asarray(x, device="cuda")'
    ),
    "manual_seed": "use seed= of the modules",
    **dict.fromkeys(
        ("zeros", "ones", "randn", "rand", "arange", "cat", "stack", "float32", "float64", "float16"),
        "use NumPy's",
    ),
    **dict.fromkeys(("set_grad_enabled", "enable_grad", "is_grad_enabled"), "use model.train(mode)"),
    **dict.fromkeys(("autograd", "jit"), "there is no autograd: modules have forward and backward"),
    "compile": "there is nothing to compile: Sequential.train_step is one native call",
    "set_default_dtype": "give the constructors dtype=np.float64",
    "use_deterministic_algorithms": "results are the same bits at every run already",
    "device": 'write device="cpu" or device="cuda" as a text',
    "backends": "see fr.cpu and fr.cuda",
    "utils": "batches are made by fr.data.batches, models saved by fr.io.save",
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
        (
            "KLDivLoss", "CTCLoss", "GaussianNLLLoss", "PoissonNLLLoss", "TripletMarginLoss",
            "SoftMarginLoss", "CosineEmbeddingLoss", "MarginRankingLoss", "HingeEmbeddingLoss",
            "MultiMarginLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss",
            "AdaptiveLogSoftmaxWithLoss",
        ),
        _OWN_LOSS,
    ),
    **dict.fromkeys(
        (
            "GELU", "ELU", "CELU", "SELU", "LeakyReLU", "PReLU", "ReLU6", "SiLU", "Mish", "Softplus",
            "Softsign", "Softmin", "LogSigmoid", "GLU", "Hardtanh", "Hardsigmoid", "Hardswish", "Tanhshrink",
            "Threshold", "BatchNorm1d", "BatchNorm2d", "GroupNorm", "InstanceNorm1d", "RMSNorm", "Conv1d",
            "Conv2d", "MaxPool1d", "AvgPool1d", "AdaptiveAvgPool1d", "Flatten", "Unflatten", "Unfold",
            "Bilinear", "EmbeddingBag", "CosineSimilarity", "PairwiseDistance", "Transformer",
            "TransformerEncoder", "TransformerEncoderLayer", "TransformerDecoder", "MultiheadAttention",
            "Upsample",
        ),
        _OWN_LAYER,
    ),
    **dict.fromkeys(
        ("Dropout1d", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout"),
        'use Dropout; recurrent layers have dropout_mode="sequence"',
    ),
    "Identity": "leave it out",
    **dict.fromkeys(
        ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict"),
        "set the parts as attributes, or use Sequential",
    ),
    "RNNBase": "use Recurrent, of which RNN, GRU and LSTM are made",
    "DataParallel": "one process a device: fusedrnn.torch goes with torch's DistributedDataParallel",
    "functional": "use fr.functional and fr.losses",
    "utils": "clipping is fr.optim.clip_grad_norm_ and step(clip_norm=...); " + _LENGTHS,
    **dict.fromkeys(
        ("LSTMCell", "GRUCell", "RNNCell"), "call the layer with x of one step (T = 1) and its last state"
    ),
}  # fmt: skip
INIT = {
    **dict.fromkeys(
        ("xavier_uniform_", "xavier_uniform", "glorot_uniform"), "use glorot_uniform_(parameter, rng)"
    ),
    **dict.fromkeys(
        ("xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "trunc_normal_", "sparse_"),
        "use glorot_uniform_, normal_ or uniform_, or write p.data = array",
    ),
    "zeros_": "use constant_(parameter, 0.0)",
    "ones_": "use constant_(parameter, 1.0)",
    "eye_": "use identity_",
    "orthogonal": "use orthogonal_(parameter, rng)",
    "calculate_gain": "multiply p.data by the gain",
}
_SCHEDULE = "use fr.optim.schedules, functions of the step: optimizer.lr = schedule(step)"
OPTIM = {
    **dict.fromkeys(
        (
            "LBFGS", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop", "SparseAdam", "Adafactor",
            "Muon", "Lion",
        ),
        "the optimizers are SGD, Adagrad, RMSprop, Adam and AdamW",
    ),
    "clip_grad_norm": "use clip_grad_norm_",
    "clip_grad_value": "use clip_grad_value_",
    "lr_scheduler": _SCHEDULE,
    "get_total_norm": "use fr.functional.global_norm([p.grad for p in parameters])",
    "swa_utils": "average model.state_dict() in NumPy",
}  # fmt: skip
SCHEDULES = dict.fromkeys(
    (
        "StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CosineAnnealingLR", "LambdaLR", "ConstantLR",
        "PolynomialLR", "OneCycleLR", "CyclicLR", "ReduceLROnPlateau", "CosineAnnealingWarmRestarts",
        "SequentialLR",
    ),
    "schedules are functions of the step, exponential, step, linear, cosine and warmup: "
    "optimizer.lr = schedule(step)",
)  # fmt: skip
DATA = {
    **dict.fromkeys(("DataLoader", "Dataset", "TensorDataset"), "use fr.data.batches, of NumPy arrays"),
    **dict.fromkeys(
        ("pad_sequence", "pack_padded_sequence", "pack_sequence"), "fr.data.batches pads: " + _LENGTHS
    ),
}
IO = {
    "from_pytorch": "use from_torch",
    "to_pytorch": "use to_torch",
    "from_pretrained": "use fr.io.load(path), or from_torch, from_keras, from_onnx",
    **dict.fromkeys(("load_state_dict", "save_state_dict"), "use fr.io.load and fr.io.save, of whole models"),
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
    **dict.fromkeys(("bce", "bce_with_logits"), "use binary_cross_entropy, which takes logits"),
    **dict.fromkeys(("BCELoss", "BCEWithLogitsLoss"), "use BinaryCrossEntropy, which takes logits"),
}
FUNCTIONAL = {
    **{f"{name}_loss": f"use {name}" for name in _NAMES},
    **{name: f"use {name}_forward and {name}_backward" for name in ("linear", "embedding", "layer_norm")},
    **dict.fromkeys(("kl_div", "ctc_loss"), _OWN_LOSS),
    **dict.fromkeys(
        (
            "gelu", "elu", "leaky_relu", "silu", "softplus", "logsigmoid", "pad", "interpolate",
            "cosine_similarity", "pairwise_distance", "scaled_dot_product_attention", "conv1d", "batch_norm",
        ),
        "write it in NumPy, with its gradient",
    ),
    **dict.fromkeys(("clip_grad_norm_", "clip_grad_value_"), "they are in fr.optim"),
    "binary_cross_entropy_with_logits": "use binary_cross_entropy, which takes logits",
    "one_hot": "use np.eye(classes, dtype=np.float32)[ids]",
    "normalize": "use layer_norm_forward, or NumPy",
}  # fmt: skip


_FUSED = "it is not needed, every step is one pass over all parameters: leave it out"
# Options and arguments, by the class (for those that derive from it too) or function that does not take them.
# "write x" is said only where x is taken.
OPTIMIZER_OPTIONS = {
    "Optimizer": {
        **dict.fromkeys(("foreach", "fused"), _FUSED),
        "maximize": "it is not needed: turn the sign of the loss and its gradient",
        "capturable": "it is not needed, steps on a device can be captured: leave it out",
        "differentiable": "there is no autograd: leave it out",
        "learning_rate": "write lr",
        "rho": "write alpha",
        "epsilon": "write eps",
        **dict.fromkeys(("beta1", "beta2", "beta_1", "beta_2"), "write betas=(beta1, beta2)"),
        **dict.fromkeys(
            ("clipnorm", "clipvalue", "global_clipnorm"), "use step(clip_norm=) or step(clip_value=)"
        ),
    },
    "Adam": {"decoupled_weight_decay": "use AdamW"},
    "AdamW": {"decoupled_weight_decay": "it is so always: leave it out"},
    "Adagrad": {"initial_accumulator_value": "sums begin as zeros"},
}
CLOSURE = "compute loss and gradients first, then call step()"
_STEPS = "y holds every step: use FinalState or Last for the last one"
MODULE_OPTIONS = {
    "Module": {
        "inplace": "results are arrays of their own: leave it out",
        "requires_grad": "set parameter.requires_grad",
        "use_bias": "write bias",
    },
    "Embedding": {
        **dict.fromkeys(
            ("max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
            "there is no such option, write it yourself",
        ),
        **dict.fromkeys(("_weight", "weights"), "set embedding.weight.data = array"),
    },
    "LayerNorm": {"normalized_shape": "write features", "epsilon": "write eps"},
    "Linear": {"units": "write out_features", "activation": "put ReLU, Tanh or Sigmoid behind it"},
    "RNN": {"activation": "write nonlinearity"},
    "Recurrent": {
        "proj_size": "states of an LSTM alone are projected: put a Linear behind",
        # of Keras
        **dict.fromkeys(("return_sequences", "return_state"), _STEPS),
        "stateful": "give a call the state that the one before returned",
        "go_backwards": "use bidirectional=True, or turn x",
        "unroll": "it is not needed: leave it out",
        "units": "write hidden_size",
        "activation": "put ReLU, Tanh or Sigmoid behind it; RNN has nonlinearity=",
        "recurrent_activation": "gates are sigmoids",
        **dict.fromkeys(("kernel_initializer", "recurrent_initializer", "bias_initializer"), "write init"),
    },
}
_REDUCTION = dict.fromkeys(("size_average", "reduce"), "write reduction")
LOSS_OPTIONS = {"Loss": _REDUCTION}
_AXIS = dict.fromkeys(("dim", "axis"), "it is the last axis: move the axis there")
_OF_ALL = {
    "recurse": "all parts' are among them; of one: [p for p in vars(m).values() if isinstance(p, Parameter)]",
    "remove_duplicate": "each comes once: leave it out",
}
ANY = ""  # stands for every function
ARGUMENTS = {
    ANY: {
        "hx": "write state",
        "initial_state": "write state",
        "input": "it is x, of losses pred, by position",
        "inplace": "results are arrays of their own: leave it out",
        "training": "a module's mode says so: model.train() and model.eval()",
        **_REDUCTION,
    },
    **dict.fromkeys(("parameters", "named_parameters"), _OF_ALL),
    "state_dict": {
        "prefix": "names have none, write {prefix + name: a for name, a in model.state_dict().items()}",
        "destination": "it returns a new dict: leave it out",
        "keep_vars": "arrays are copies: leave it out",
    },
    "load_state_dict": {"assign": "arrays are copied into the parameters: leave it out"},
    "softmax": _AXIS,
    "log_softmax": _AXIS,
    "clip_grad_norm_": {"foreach": _FUSED},
    "clip_grad_value_": {"foreach": _FUSED},
}
TRAIN_STEP = {
    **dict.fromkeys(("hx", "initial_state"), "state"),
    **dict.fromkeys(("max_norm", "global_clipnorm"), "clip_norm"),
}


def missing(owner: str, name: str, elsewhere: dict[str, str]) -> NoReturn:
    """Raises the AttributeError that Python would, with what to write instead where that is known."""
    hint = elsewhere.get(name)
    raise AttributeError(f"{owner} has no attribute {name!r}" + (f": {hint}" if hint else ""))


class Absent:
    """Stands in a class where PyTorch's has something: AttributeError, with what to write instead."""

    def __init__(self, instead: str) -> None:
        self._instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        missing(f"type object {owner.__name__!r}", self._name, {self._name: self._instead})
