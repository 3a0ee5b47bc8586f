"""What defines a training run: every option that changes its numbers, with its default and its help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

from fusedrnn.cli.errors import CommandError, UsageError
from fusedrnn.reference.cells import CELLS
from fusedrnn.reference.rounding import PRECISIONS

FAMILIES = tuple(dict.fromkeys(cell.family for cell in CELLS.values()))
# Every rule of csrc/optim/list.hpp, which a test compares: --help works where the compiled module does not.
LEARNING_RATES = {"adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3, "adagrad": 2e-2, "sgd": 1.0}
LEVELS = ("char", "word")
SCHEDULES = ("cosine", "linear", "constant")
DEFAULT_EPOCHS = 10.0
MANY = 2**31 - 1  # of anything that is counted: what exists is bounded by text and memory before that
LARGE = 1e30  # of any rate: float32 ends soon after


def option(group: str, text: str, default: Any, **extra: Any) -> Any:
    """A field that is also a command-line option: its help group, help text and argparse extras.

    `later=True` marks one that checkpoints of earlier versions lack: their runs had its default.
    """
    return field(default=default, metadata={"group": group, "help": text, **extra})


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
    recurrent_dropout: float = option(
        "model",
        "share of the state's units dropped before the recurrent weights, for a whole row of --seq-len",
        0.0,
        low=0,
        below=1,
        later=True,
    )
    zoneout: float = option(
        "model", "share of units that keep their state for a step", 0.0, low=0, below=1, later=True
    )
    weight_dropout: float = option(
        "model",
        "share of recurrent weights dropped in each update",
        0.0,
        low=0,
        below=1,
        later=True,
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
        if self.lr is not None:
            return self
        rate = LEARNING_RATES[self.optimizer]
        return TrainConfig(**{**asdict(self), "lr": rate})

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
            if isinstance(value, bool) or not isinstance(value, accepted):
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
        return cls(**values)


def out_of_range(value: Any, limits: Mapping[str, Any]) -> str | None:
    """What a value must be and is not: finite, low <=, high >=, above <, below >, one of the choices."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if limits.get("choices") and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}"
    if "low" in limits and value < limits["low"]:
        return f"must be at least {limits['low']:.10g}"
    if "high" in limits and value > limits["high"]:
        return f"must be at most {limits['high']:.10g}"
    if "above" in limits and value <= limits["above"]:
        return f"must be above {limits['above']:.10g}"
    if "below" in limits and value >= limits["below"]:
        return f"must be below {limits['below']:.10g}"
    return None


def shortened(value: object) -> str:
    """A value as Python writes it, of at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested as deep
        text = f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."
