"""The base class of layers and models: parameters by name, modes, gradients, state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from numpy.typing import NDArray

from fusedrnn._core import checks, keywords, torch_hints
from fusedrnn._core.arrays import on_host
from fusedrnn._core.parameter import FlatBuffer, Parameter, storages, write
from fusedrnn._native import Call, Calls
from fusedrnn.nn.summary import summary

Array = NDArray[Any]
# A layer as the native training step has it: kind, options, parameters; see
# csrc/bindings/training/layer_builder.hpp.
LayerSpec = tuple[str, dict[str, Any], tuple[Parameter | None, ...]]
Self = TypeVar("Self", bound="Module")


class KeyDifference(NamedTuple):
    """Names that `Module.load_state_dict` passed over (always empty when strict)."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and of models that users write.

    Parameters and modules become parts of a module when they are set as its attributes. There is no automatic
    differentiation: a model writes down `forward`, and `backward` in the opposite order. Every layer keeps
    what its own backward needs (its tape), so `backward` only routes gradients:

        class Tagger(fr.nn.Module):
            def __init__(self, words, tags, seed):
                rng = np.random.default_rng(seed)
                self.embedding = fr.nn.Embedding(words, 32, seed=rng)
                self.gru = fr.nn.GRU(32, 64, bidirectional=True, seed=rng)
                self.head = fr.nn.Linear(128, tags, seed=rng)

            def forward(self, ids, lengths):                  # ids (T, B)
                y, _ = self.gru(self.embedding(ids), lengths=lengths)
                return self.head(y)                           # (T, B, tags)

            def backward(self, dlogits):
                dx, _ = self.gru.backward(self.head.backward(dlogits))
                self.embedding.backward(dx)

        model = Tagger(1000, 9, seed=0)
        optimizer = fr.optim.Adam(model.parameters())
        logits = model(ids, lengths)
        loss, dlogits = fr.losses.cross_entropy(logits, tags, mask=mask)
        model.zero_grad()
        model.backward(dlogits)
        optimizer.step(clip_norm=1.0)

    **Tape.** Every call of a layer in training mode (the initial one) keeps a tape: copies of what backward
    reads, so that arrays handed to forward may be written to at once. A layer may be called several times
    before backward, in a loop over steps or in two places of a model: backward takes the newest call that it
    has not taken yet. Where another one waits that the newest does not come from (its input and state are no
    results of the other), it raises RuntimeError, unless told which one is meant: ``backward(dy, of=y)``,
    with a result y of that call. Containers of this package say so by themselves.

        h, steps = None, []
        for t in range(len(x)):
            y, h = gru(x[t : t + 1], h)                       # each call comes from the one before
            steps.append(y)
        for y in reversed(steps):
            dx, dh = gru.backward(2 * y, dh)                  # newest first

    A tape lives as long as a result of its call, or a tape that reads one, does; the newest in any case.
    Backward may be called again until the layer is called again, but not where the call's results have gone
    and so has another call that stood beside it: which one is meant? `eval` drops all tapes. RuntimeError if
    there is no tape, or if a parameter was written to since the tape was made.

    **Threads.** A module serves one thread at a time in training; in eval mode any number of threads may call
    it at once.

    **Freezing.** ``module.requires_grad_(False)``, or ``parameter.requires_grad = False``, and layers of this
    package have no gradient of a parameter made, and optimizers pass over it.

    **Copies.** `copy.deepcopy` and `pickle` keep parameters, gradients, mode and random state; tapes stay
    behind.

    Attributes:
        training: the mode, set by `train` and `eval`.
        sequence_arguments: which of "lengths" and "resets" `Sequential` hands to this module's forward.
    """

    training: bool
    sequence_arguments: ClassVar[tuple[str, ...]] = ()
    _parameters: dict[str, Parameter]
    _modules: dict[str, Module]
    _buffers: tuple[FlatBuffer, ...]  # in which the parameters set on this very module live
    _grads: tuple[Array, ...]  # the gradients of those, as few arrays as possible
    _calls: Calls  # made in training mode
    _edits: int  # counts changes of attributes and parts; what was derived from them is made anew
    _compiled: dict[Any, Any]  # training steps made of it (fusedrnn.training), if any

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Here and not in __init__, so that a subclass need not call it before it sets attributes.
        if cls.__module__.startswith("fusedrnn."):
            keywords.refuse(cls, kwargs, torch_hints.MODULE_OPTIONS, Module)
        module = super().__new__(cls)
        module.__dict__.update(training=True, _parameters={}, _modules={}, _edits=0)
        module.__dict__["_calls"] = Calls(cls.__name__)
        return module

    # ------------------------------------------------------------------------------------------ computation
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.forward(*args, **kwargs)
        except TypeError:
            if kwargs and type(self).__module__.startswith("fusedrnn."):
                keywords.refuse_arguments(type(self).__name__, self.forward, kwargs)
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a call of the module computes."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        """Adds into the gradient of every parameter and returns the gradient of forward's inputs."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def _version(self) -> int:
        """Changes whenever a parameter set on this very module is written to."""
        total = 0
        for buffer in self._buffers:
            total += buffer.version
        return total

    def _layer_spec(self) -> LayerSpec:
        """This module as a layer of the native training step; only layers of this package are."""
        raise NotImplementedError

    def _recorded(self, of: Any = None) -> Call:
        """The call that backward means, see csrc/bindings/calls/calls.cpp.

        Raises:
            RuntimeError: there is none, another might be meant, or the weights were written to since.
            ValueError: `of` is no result of a call of this module.
        """
        call = self._calls.select(of)
        if call is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward has no tape: call the module in training mode first"
                + ("" if self.training else " (it is in eval mode: use train())")
            )
        if call.version != self._version():
            raise RuntimeError(
                f"{type(self).__name__}.backward: the weights were changed after the forward call that made "
                "its tape: call forward again, or change them after backward"
            )
        return call

    # --------------------------------------------------------------------------------------- parts by name
    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get(name, self) is not value:  # no attribute is the module itself
            self.__dict__["_edits"] += 1
        if isinstance(value, Parameter):
            self._modules.pop(name, None)
            self._parameters[name] = value
            value.name = value.name or name
            self._parameters_changed()
        elif isinstance(value, Module):
            if name in self._parameters:
                del self._parameters[name]
                self._parameters_changed()
            self._modules[name] = value
        elif name in self._parameters:
            raise TypeError(
                f"{name} is a parameter of this {type(self).__name__}, and {type(value).__name__} is none: "
                f"use .{name}.data = array to write to it"
            )
        elif name == "requires_grad":
            raise AttributeError(
                "a module has no requires_grad, its parameters have: .requires_grad_(False) freezes them all"
            )
        else:
            self._modules.pop(name, None)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self.__dict__["_edits"] += 1
        self._modules.pop(name, None)
        if self._parameters.pop(name, None) is not None:
            self._parameters_changed()

    if not TYPE_CHECKING:  # a type checker knows what there is

        def __getattr__(self, name: str) -> Any:
            # Made when asked for: a deep stack has thousands of parameters to set.
            if name in ("_buffers", "_grads"):
                buffers, grads = storages(self._parameters.values())
                self.__dict__.update(_buffers=buffers, _grads=grads)
                return self.__dict__[name]
            return torch_hints.missing(f"{type(self).__name__!r} object", name, torch_hints.MODULE)

    def _parameters_changed(self) -> None:
        """Another parameter object was set on this module: forget what was derived from the former one."""
        self.__dict__.pop("_buffers", None)
        self.__dict__.pop("_grads", None)
        self.__dict__["_edits"] = self._edits + 1
        self._calls.clear()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all within it with dotted names, each once, outer ones first."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            stack += [(_dotted(name, key), part) for key, part in reversed(module._modules.items())]

    def modules(self) -> Iterator[Module]:
        """This module and all within it, each once."""
        for _, module in self.named_modules():
            yield module

    def _all_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every name with its parameter; a parameter in several places comes once for each."""
        for name, parameter in self._parameters.items():
            yield _dotted(prefix, name), parameter
        for name, module in self._modules.items():
            yield from module._all_parameters(_dotted(prefix, name))

    @keywords.hinted
    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names like "lstm.weight_ih_l0"; one in several places comes once."""
        seen: set[int] = set()
        for name, parameter in self._all_parameters(prefix):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    @keywords.hinted
    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once, in the order of `named_parameters`."""
        for _, parameter in self.named_parameters():
            yield parameter

    # -------------------------------------------------------------------------------------- modes, gradients
    def train(self: Self, mode: bool = True) -> Self:
        """Sets training mode, or eval mode with False, here and in all modules within; returns self."""
        training = checks.flag("mode", mode)
        for module in self.modules():
            module.training = training
            if not training:
                module._calls.clear()
        return self

    def eval(self: Self) -> Self:
        """Sets eval mode: no dropout, no tape, and tapes kept so far are dropped; returns self."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Sets `requires_grad` of every parameter, False freezes them; returns self."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: None = None) -> None:
        """Sets the gradient of every parameter to zero. There is no `set_to_none`: they are arrays."""
        keywords.refuse_option("zero_grad", "set_to_none", set_to_none, torch_hints.ZERO_GRAD)
        for module in self.modules():
            for grad in module._grads:
                grad.fill(0)

    # ------------------------------------------------------------------------------------------------ state
    @keywords.hinted
    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter, a NumPy array, by the name that PyTorch gives it in the same module."""
        return {name: parameter.numpy() for name, parameter in self._all_parameters()}

    @keywords.hinted
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> KeyDifference:
        """Writes arrays into the parameters of the same names, once all of them are found to fit.

        Args:
            state_dict: arrays by name: what `state_dict` returned, or anything `fusedrnn.asarray` turns into
                arrays, like the tensors of a PyTorch state dict, and arrays on a CUDA device.
            strict: False passes over parameters without an array and arrays without a parameter.

        Returns:
            The names passed over: ``missing_keys`` and ``unexpected_keys``.

        Raises:
            ValueError: names are missing or unexpected (when strict), or arrays have the wrong shape or
                dtype. The message lists them all. Nothing was written.
        """
        checks.mapping("state_dict", state_dict, "a dict of arrays by name")
        checks.flag("strict", strict)
        own = dict(self._all_parameters())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(map(str, unexpected))}")
        arrays = {}
        for name, parameter in own.items():
            if name not in state_dict:
                continue
            checks.require_no_mask(name, state_dict[name])
            array = on_host(state_dict[name]).copy()  # it may be a view of a parameter written below
            if array.shape != parameter.shape:
                problems.append(f"{name} must have shape {parameter.shape}, it has {array.shape}")
            elif array.dtype != parameter.dtype:
                fix = f": use .astype(np.{parameter.dtype})"
                problems.append(f"{name} must be {parameter.dtype}, it is {array.dtype}{fix}")
            arrays[name] = array
        if problems:
            raise ValueError(f"state_dict does not fit this {type(self).__name__}: " + "; ".join(problems))
        write((own[name], array) for name, array in arrays.items())
        return KeyDifference(missing, unexpected)

    def random_state(self) -> dict[str, int]:
        """The dropout key each module will use next, by dotted name; empty without dropout.

        Together with `state_dict` and the optimizer's state it makes a resumed training run continue to the
        same bits.
        """
        return {
            _dotted(name, "dropout_key"): module.__dict__["_dropout_key"]
            for name, module in self.named_modules()
            if "_dropout_key" in module.__dict__
        }

    def load_random_state(self, state: Mapping[str, int]) -> None:
        """Sets what `random_state` returned.

        Raises:
            TypeError: a key is no int; ValueError: the names are not those of this model's `random_state`, or
                a key is not in [0, 2**64); nothing was written.
        """
        checks.mapping("state", state, "what random_state returned")
        own = {_dotted(name, "dropout_key"): module for name, module in self.named_modules()}
        expected = self.random_state()
        if set(state) != set(expected):
            raise ValueError(f"state must have the names {sorted(expected)}, it has {sorted(state)}")
        for name, key in state.items():
            checks.integer(f"state[{name!r}]", key, 0, 2**64 - 1)
        for name, key in state.items():
            own[name]._dropout_key = int(key)

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_buffers", "_grads", "_calls", "_edits", "_compiled", "_turn", "_flow")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._parameters_changed()

    # ------------------------------------------------------------------------------------------------- text
    def _describe(self) -> str:
        """The constructor's arguments, as text for `repr`."""
        return ""

    def summary(self) -> str:
        """A table for people: each module that has no parts, or parameters of its own, and what those take.

        Parameters are counted once, however many modules share them. Gradients take as many bytes again.

            print(fr.nn.Sequential(fr.nn.LSTM(3, 8), fr.nn.Last(), fr.nn.Linear(8, 1)).summary())
        """
        parts = self.named_modules()
        rows = ((name, module) for name, module in parts if module._parameters or not module._modules)
        return summary(
            self,
            (
                (name, f"{type(m).__name__}({m._describe()})", iter(m._parameters.values()))
                for name, m in rows
            ),
        )

    def __repr__(self) -> str:
        if not self._modules:
            return f"{type(self).__name__}({self._describe()})"
        parts = (f"({name}): {part!r}" for name, part in self._modules.items())
        body = "".join("  " + line + "\n" for part in parts for line in part.splitlines())
        return f"{type(self).__name__}(\n{body})"


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
