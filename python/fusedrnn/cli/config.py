"""What defines a training run: every option that changes its numbers, with its default and its help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from fusedrnn._core.variants import LSTM_OPTIONS
from fusedrnn.cli.errors import CommandError, UsageError
from fusedrnn.cli.fields import (
    LARGE,
    MANY,
    init_problem,
    layer_option,
    option,
    out_of_range,
    recompute_problem,
    shortened,
    spelled,
)
from fusedrnn.reference.cells import CELLS
from fusedrnn.reference.rounding import PRECISIONS

GATES = {cell.family: cell.weights[0].blocks for cell in CELLS.values()}
FAMILIES = tuple(GATES)
# Every rule of csrc/optim/list.hpp, which a test compares: --help works where the compiled module does not.
LEARNING_RATES = {"adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3, "adagrad": 2e-2, "sgd": 1.0}
LEVELS = ("char", "word")
SCHEDULES = ("cosine", "linear", "constant")
DEFAULT_EPOCHS = 10.0


@dataclass(frozen=True)
class TrainConfig:
    """The options that make a run what it is. Two runs with equal configurations and text give equal bits.

    `lr` is None until `resolved` fills the optimizer's own default in; `epochs` None means no end.
    """

    level: str = option(
        "model", "what the model reads and writes, a piece at a time", "char", choices=LEVELS, later=True
    )
    words: int = option(
        "model",
        "with --level word, different words at most: rarer ones are spelled",
        10_000,
        low=1,
        high=MANY,
        later=True,
    )
    cell: str = option("model", "recurrent cell", "lstm", choices=FAMILIES)
    layers: int = option("model", "recurrent layers on top of each other", 1, low=1, high=MANY)
    hidden: int = option("model", "hidden units of each layer", 512, low=1, high=MANY)
    embedding: int = option("model", "numbers that stand for a character or word", 64, low=1, high=MANY)
    dropout: float = option(
        "model", "share of activations dropped between layers and before the output", 0.0, low=0, below=1
    )
    nonlinearity: str = layer_option(
        "of --cell rnn: what the state goes through at every step; relu does not saturate, and can explode",
        "tanh",
        choices=("tanh", "relu"),
        cell="rnn",
    )
    reset_after: bool = layer_option(
        "of --cell gru: the reset gate acts on the product with the recurrent weights, as in PyTorch; "
        "without, on the state before it, as published",
        True,
        cell="gru",
    )
    peephole: bool = layer_option(
        "of --cell lstm: gates also see the cell's state, a weight for each unit, which helps to count steps",
        False,
        cell="lstm",
    )
    layer_norm: bool = layer_option(
        "of --cell lstm: normalise what gates see and the cell's state over each layer's units, which "
        "steadies training at high learning rates",
        False,
        cell="lstm",
    )
    proj_size: int = layer_option(
        "of --cell lstm: project the state to so many units, fewer than --hidden, for fewer weights and "
        "multiplications; 0 does not",
        0,
        low=0,
        high=MANY,
        cell="lstm",
    )
    init: str = layer_option(
        "initial weights of the recurrent layers: torch (all uniform), keras (as there), glorot, orthogonal "
        "(keeps the gradient's size over many steps), identity (of --cell rnn), or chrono:STEPS (gates that "
        "remember for up to so many steps, of lstm and gru)",
        "torch",
        check=init_problem,
        metavar="SCHEME",
    )
    forget_bias: float | None = layer_option(
        "of --cell lstm: what forget gates start from; 1 lets gradients through from the first update on",
        None,
        low=-LARGE,
        high=LARGE,
        cell="lstm",
        shown="by --init",
    )
    dropout_mode: str = layer_option(
        "--dropout between layers drops other units at every step, or the same ones in a row of --seq-len",
        "step",
        choices=("step", "sequence"),
    )
    recurrent_dropout: float = layer_option(
        "share of the state's units dropped before the recurrent weights, for a whole row of --seq-len",
        0.0,
        low=0,
        below=1,
    )
    zoneout: float = layer_option("share of units that keep their state for a step", 0.0, low=0, below=1)
    weight_dropout: float = layer_option(
        "share of recurrent weights dropped in each update", 0.0, low=0, below=1
    )
    recompute: int | str = layer_option(
        "for a long --seq-len in little memory: keep states every N steps, or with auto every root of "
        "--seq-len, and compute the steps between again in backward, to the same bits; 0 keeps all",
        0,
        check=recompute_problem,
        metavar="N",
    )

    seq_len: int = option(
        "training", "characters or words back-propagated through at once", 64, low=1, high=MANY
    )
    batch: int = option("training", "places in the text read side by side", 32, low=1, high=MANY)
    optimizer: str = option("training", "update rule", "adam", choices=tuple(LEARNING_RATES))
    lr: float | None = option(
        "training", "highest learning rate", None, above=0, high=LARGE, shown="by optimizer"
    )
    schedule: str = option(
        "training", "how the learning rate falls towards the last epoch", "cosine", choices=SCHEDULES
    )
    warmup: int = option(
        "training", "steps over which the learning rate rises at first", 50, low=0, high=MANY
    )
    clip_norm: float = option(
        "training", "global gradient norm to clip at; 0 never clips", 1.0, low=0, high=LARGE
    )
    weight_decay: float = option("training", "weight decay", 0.0, low=0, high=LARGE)
    epochs: float | None = option("training", "passes over the text", DEFAULT_EPOCHS, above=0, high=1e12)
    validation: float = option("training", "share of the text, its tail, held out", 0.05, above=0, below=1)
    seed: int = option("training", "seed of all random numbers", 0, low=0)
    dtype: str = option("training", "number format", "float32", choices=("float32", "float64"))
    precision: str = option(
        "training",
        "what operands of matrix products are rounded to; fusedrnn doctor says what is fast here",
        "ieee",
        choices=PRECISIONS,
        later=True,
    )

    def resolved(self) -> TrainConfig:
        """The same run with no option left to be chosen.

        Raises:
            UsageError: options that do not go together.
        """
        if self.epochs is None and self.schedule != "constant":
            raise UsageError(
                f"--schedule {self.schedule} falls towards the last epoch, so it needs --epochs; "
                "--minutes alone goes with --schedule constant"
            )
        if self.precision != "ieee" and self.dtype != "float32":
            raise UsageError(f"--precision {self.precision} rounds float32, and --dtype is {self.dtype}")
        for name, requirement in self._conflicts():
            raise UsageError(f"{spelled(name, getattr(self, name))} {requirement}")
        if self.lr is not None:
            return self
        rate = LEARNING_RATES[self.optimizer]
        return TrainConfig(**{**asdict(self), "lr": rate})

    def _conflicts(self) -> Iterator[tuple[str, str]]:
        """Options of the recurrent layer that do not go together: the name of one, and what it must do."""
        for item in fields(self):
            cell = item.metadata.get("cell")
            if cell not in (None, self.cell) and getattr(self, item.name) != item.default:
                yield item.name, f"goes with --cell {cell}, and --cell is {self.cell}"
        first, *others = [name for name in LSTM_OPTIONS if getattr(self, name)] or [""]
        for name in others:
            yield name, f"does not go with {spelled(first, getattr(self, first))}: use one of the two"
        if self.proj_size >= self.hidden:
            yield "proj_size", f"must be less than --hidden, which is {self.hidden}"
        scheme = self.init.partition(":")[0]
        if scheme in ("identity", "chrono"):  # of cells without gates, and with some
            suited = [family for family in FAMILIES if (GATES[family] == 1) == (scheme == "identity")]
            if self.cell not in suited:
                yield "init", f"goes with --cell {' and '.join(suited)}, and --cell is {self.cell}"

    def layer_arguments(self) -> dict[str, Any]:
        """The options that the recurrent layer takes by their names."""
        of_layer = [item for item in fields(self) if item.metadata.get("layer")]
        given = {
            item.name: getattr(self, item.name)
            for item in of_layer
            if item.metadata.get("cell") in (None, self.cell)
        }
        scheme, colon, steps = self.init.partition(":")
        return given | {"init": (scheme, int(steps)) if colon else scheme}

    @property
    def stack_text(self) -> str:
        """The recurrent layers in a few words."""
        of_cell = [item for item in fields(self) if item.metadata.get("cell") == self.cell]
        values = [(item.name, getattr(self, item.name), item.default) for item in of_cell]
        more = "".join(f", {name}={value}" for name, value, default in values if value != default)
        return f"{self.layers} x {self.cell}({self.hidden}{more})"

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> TrainConfig:
        """From a checkpoint.

        Raises:
            CommandError: an option is missing, unknown, of the wrong type or out of its range.
        """
        if not isinstance(values, dict):
            raise CommandError(f"its configuration is {shortened(values)}")
        values = {f.name: f.default for f in fields(cls) if f.metadata.get("later")} | values
        types = get_type_hints(cls)
        names = {f.name for f in fields(cls)}
        for name in sorted(names ^ set(values)):
            what = "no" if name in names else "an unknown"
            raise CommandError(f"its configuration has {what} option {shortened(name)}")
        for name, value in values.items():
            accepted = types[name] | int if types[name] in (float, float | None) else types[name]
            if isinstance(value, bool) != (types[name] is bool) or not isinstance(value, accepted):
                raise CommandError(f"its configuration says {name} = {shortened(value)}")
        for item in fields(cls):
            value = values[item.name]
            wrong = None if value is None else out_of_range(value, item.metadata)
            if wrong is not None:
                raise CommandError(f"its configuration says {item.name} = {shortened(value)}: it {wrong}")
        if values["lr"] is None:
            raise CommandError("its configuration says lr = None: it must be a number")
        if values["epochs"] is None and values["schedule"] != "constant":
            raise CommandError(f"its configuration says schedule = {values['schedule']!r} without epochs")
        config = cls(**values)
        for name, requirement in config._conflicts():
            raise CommandError(f"its configuration says {name} = {shortened(values[name])}: it {requirement}")
        return config
