"""What defines a training run: every option that changes its numbers, with its default and its help."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

from fusedrnn._core.weight_names import MAX_LAYERS
from fusedrnn.cli.errors import CommandError, UsageError

CELLS = ("lstm", "gru", "rnn")
LEARNING_RATES = {"adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3, "adagrad": 2e-2, "sgd": 1.0}
SCHEDULES = ("cosine", "linear", "constant")
DEFAULT_EPOCHS = 10.0


def option(group: str, text: str, default: Any, **extra: Any) -> Any:
    """A field that is also a command-line option: its help group, help text and argparse extras."""
    return field(default=default, metadata={"group": group, "help": text, **extra})


@dataclass(frozen=True)
class TrainConfig:
    """The options that make a run what it is. Two runs with equal configurations and text give equal bits.

    `lr` is None until `resolved` fills the optimizer's own default in; `epochs` None means no end.
    """

    cell: str = option("model", "recurrent cell", "lstm", choices=CELLS)
    layers: int = option("model", "recurrent layers on top of each other", 1, low=1, high=MAX_LAYERS)
    hidden: int = option("model", "hidden units of each layer", 512, low=1)
    embedding: int = option("model", "numbers that stand for a character", 64, low=1)
    dropout: float = option(
        "model", "share of activations dropped between layers and before the output", 0.0, low=0, below=1
    )

    seq_len: int = option("training", "characters back-propagated through at once", 64, low=1)
    batch: int = option("training", "places in the text read side by side", 32, low=1)
    optimizer: str = option("training", "update rule", "adam", choices=tuple(LEARNING_RATES))
    lr: float | None = option("training", "highest learning rate", None, above=0, shown="by optimizer")
    schedule: str = option(
        "training", "how the learning rate falls towards the last epoch", "cosine", choices=SCHEDULES
    )
    warmup: int = option("training", "steps over which the learning rate rises at first", 50, low=0)
    clip_norm: float = option("training", "global gradient norm to clip at; 0 never clips", 1.0, low=0)
    weight_decay: float = option("training", "weight decay", 0.0, low=0)
    epochs: float | None = option("training", "passes over the text", DEFAULT_EPOCHS, above=0)
    validation: float = option("training", "share of the text, its tail, held out", 0.05, above=0, below=1)
    seed: int = option("training", "seed of all random numbers", 0, low=0)
    dtype: str = option("training", "number format", "float32", choices=("float32", "float64"))

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
        if self.lr is not None:
            return self
        return TrainConfig(**{**asdict(self), "lr": LEARNING_RATES[self.optimizer]})

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """From a checkpoint.

        Raises:
            CommandError: an option is missing, unknown or of the wrong type.
        """
        types = get_type_hints(cls)
        names = {f.name for f in fields(cls)}
        for name in sorted(names ^ set(values)):
            what = "no" if name in names else "an unknown"
            raise CommandError(f"its configuration has {what} option {name!r}")
        for name, value in values.items():
            accepted = types[name] | int if types[name] in (float, float | None) else types[name]
            if isinstance(value, bool) or not isinstance(value, accepted):
                raise CommandError(f"its configuration says {name} = {value!r}")
        return cls(**values)
