"""A training run as an object: the next update, the held-out loss, and the whole of it as a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn.cli import memory
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.contents import Checkpoint
from fusedrnn.cli.errors import CommandError, ExplodedError
from fusedrnn.cli.model import build_model, cell_of, device_of, parameter_bytes
from fusedrnn.cli.text import Text, split
from fusedrnn.cli.vocabulary import vocabulary_of
from fusedrnn.functional.rules import RULES

FINAL_LR = 0.05  # of the highest learning rate, where the schedules that fall end
BITS = 1 / math.log(2)  # a loss in nats times this is in bits
MAX_BAD = 20  # updates without a finite gradient or a sane loss, one after the other, before the run gives up
ABSURD = 10  # times the loss of guessing blindly: nothing that learns is so sure of what is wrong


@dataclass(frozen=True)
class Update:
    """One update's learning rate, loss in bits per character, and gradient norm before clipping."""

    learning_rate: float
    bits_per_char: float
    grad_norm: float


class Training:
    """Truncated back-propagation through time over a text, one window per update.

    The state is carried from window to window and starts at zero with every pass over the text. Everything an
    update depends on is in `checkpoint`, so a restored run makes the same updates to the last bit.

    Args:
        config: resolved configuration.
        text: what to learn.
        device: where to compute.

    Attributes:
        unit: what the pieces of text are, for people.
        bits: turns a loss, the mean over pieces in nats, into bits per character.
        characters_per_step: that one update learns from, on average.
        flow: of the newest update that was asked for it, see `fusedrnn.nn.Sequential.flow`; None before one.

    Raises:
        CommandError: the text is too short, the device cannot be used, or there cannot be enough memory.
    """

    def __init__(self, config: TrainConfig, text: Text, device: str = "cpu") -> None:
        self.config = config
        self.text = text
        self.vocabulary = vocabulary_of(text.characters, config.level, config.words)
        ids = self.vocabulary.encode(text.characters)
        self.unit = "characters" if config.level == "char" else "words"
        self.streams, self.held_out = split(ids, config.validation, config.batch, config.seq_len, self.unit)
        self.bits = BITS * (len(ids) / len(text.characters))  # of a character, for a loss of a piece in nats
        self.characters_per_step = round(
            self.streams.batch * self.streams.length * len(text.characters) / len(ids)
        )
        self.total_steps = (
            None if config.epochs is None else max(1, round(config.epochs * self.streams.windows))
        )
        memory.require(
            _least_bytes(config, len(self.vocabulary)),
            "this run",
            "lower --hidden, --layers, --embedding, --batch or --seq-len",
        )
        self.model = build_model(len(self.vocabulary), config, device)
        self.device = device_of(self.model)
        self.optimizer = build_optimizer(self.model, config)
        self.schedule = build_schedule(config, self.total_steps)
        self.step_count = 0
        self.bad = 0
        self.state: Any = None
        self.flow: list[Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether all updates of the configuration are done."""
        return self.total_steps is not None and self.step_count >= self.total_steps

    @property
    def epoch(self) -> float:
        """Passes over the text done."""
        return self.step_count / self.streams.windows

    @property
    def blind_bits(self) -> float:
        """Bits per character of guessing blindly."""
        return math.log(len(self.vocabulary)) * self.bits

    def step(self, flow: bool = False) -> Update:
        """Does one update; with `flow` it measures the model's, on the CPU.

        Raises:
            ExplodedError: gradient or loss have been out of bounds for many updates.
        """
        self.model.train()
        window = self.step_count % self.streams.windows
        inputs, targets = moved(self.streams.window(window), self.device)
        rate = self.schedule(self.step_count)
        self.optimizer.lr = rate
        loss, norm, self.state = self.model.train_step(
            inputs,
            targets,
            fr.losses.cross_entropy,
            self.optimizer,
            self.config.clip_norm or math.inf,  # measures the norm in any case
            skip_nonfinite=True,
            state=None if window == 0 else self.state,
            return_state=True,
            flow=flow,
        )
        if flow:
            self.flow = self.model.flow
        self.step_count += 1
        update = Update(rate, float(loss) * self.bits, float(norm))
        self._watch(update)
        return update

    def validation_bits(self) -> float:
        """Bits per character on the held-out tail, read from a zero state on.

        Raises:
            ExplodedError: they are out of bounds.
        """
        self.model.eval()
        state = None
        total = 0.0
        for window in range(self.held_out.windows):
            inputs, targets = moved(self.held_out.window(window), self.device)
            scores, state = self.model(inputs, state=state, return_state=True)
            total += float(fr.losses.cross_entropy(scores, targets)[0])
        bits = total / self.held_out.windows * self.bits
        if not self._is_sane(bits):
            raise ExplodedError(
                f"training has exploded: {bits:.4g} bits per character held out at update {self.step_count}, "
                f"where guessing blindly has {self.blind_bits:.3g}: {self._advice()}"
            )
        return bits

    def checkpoint(self, seconds: float) -> Checkpoint:
        """All it takes to go on from here; `seconds` is the time spent so far."""
        return Checkpoint(
            config=self.config,
            vocabulary=self.vocabulary,
            text={
                "sources": list(self.text.sources),
                "sha256": self.text.sha256,
                "length": len(self.text.characters),
            },
            progress={"step": self.step_count, "seconds": seconds},
            trees={
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "state": moved(self.state, "cpu"),
                "random": self.model.random_state(),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes to where a checkpoint was made, of this text and configuration, as `check_training` has it.

        Raises:
            CommandError: its optimizer's or its random state is of another run.
        """
        try:
            self.model.load_state_dict(checkpoint.trees["model"])
            self.optimizer.load_state_dict(checkpoint.trees["optimizer"])
            self.model.load_random_state(checkpoint.trees["random"])
            self.state = moved(checkpoint.trees["state"], self.device)
            self.step_count = int(checkpoint.progress["step"])
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise CommandError(f"it does not fit its own configuration: {error}") from None

    def _watch(self, update: Update) -> None:
        finite = math.isfinite(update.grad_norm) and math.isfinite(update.bits_per_char)
        self.bad = 0 if finite and self._is_sane(update.bits_per_char) else self.bad + 1
        if self.bad < MAX_BAD:
            return
        what = (
            f"the loss is {update.bits_per_char:.4g} bits per character and has been absurd for {MAX_BAD} "
            f"updates (guessing blindly has {self.blind_bits:.3g})"
            if finite
            else f"the gradient has not been finite for {MAX_BAD} updates, which were skipped"
        )
        raise ExplodedError(f"training has exploded: {what}: {self._advice()}")

    def _is_sane(self, bits: float) -> bool:
        return bits <= ABSURD * self.blind_bits  # not a NaN

    def _advice(self) -> str:
        return f"train again with a lower --lr (it is {self.config.lr:g}) or a lower --clip-norm"


def check_text(checkpoint: Checkpoint, text: Text) -> None:
    """Raises CommandError if this is not the text that a checkpoint's run was trained on."""
    if checkpoint.text["sha256"] != text.sha256:
        raise CommandError(
            f"the text is not the one this run was trained on: {text.title} has "
            f"{len(text.characters)} characters and SHA-256 {text.sha256[:12]}, the run's had "
            f"{checkpoint.text['length']} and {checkpoint.text['sha256'][:12]}"
        )
    config = checkpoint.config
    if checkpoint.vocabulary != vocabulary_of(text.characters, config.level, config.words):
        raise CommandError("its vocabulary is not that of its text")


def _least_bytes(config: TrainConfig, pieces: int) -> int:
    """What a run needs at least: parameters, gradients, packed weights and states, one update's values."""
    kept = len(cell_of(config).gates) + 1 if not config.recompute else 0  # of each step
    cells = config.layers * config.hidden * kept
    values = config.batch * config.seq_len * (cells + config.embedding + 2 * pieces)
    rule = RULES[config.optimizer]
    states = rule.kept({name: scalar.default for name, scalar in rule.scalars.items()})
    copies = 3 + sum(name is not None for name in states)
    return copies * parameter_bytes(pieces, config) + np.dtype(config.dtype).itemsize * values


def moved(arrays: Any, device: str) -> Any:
    """A nest of lists and tuples with its arrays on a device; they stay where they are if they are there."""
    if isinstance(arrays, (list, tuple)):
        return type(arrays)(moved(a, device) for a in arrays)
    return None if arrays is None else fr.asarray(arrays, device)


def build_optimizer(model: fr.nn.Module, config: TrainConfig) -> fr.optim.Optimizer:
    """The optimizer of a resolved configuration, over all parameters of the model."""
    optimizer: fr.optim.Optimizer = fr.optim.BY_KIND[config.optimizer](
        model.named_parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    return optimizer


def build_schedule(config: TrainConfig, total_steps: int | None) -> Callable[[int], float]:
    """The learning rate of every update: a rise over `warmup` updates, then the schedule down to its end."""
    assert config.lr is not None
    schedules = fr.optim.schedules
    if total_steps is None or config.schedule == "constant":
        after = schedules.linear(config.lr, 1, config.lr)
    else:
        falling = {"cosine": schedules.cosine, "linear": schedules.linear}[config.schedule]
        after = falling(config.lr, max(1, total_steps - config.warmup), FINAL_LR * config.lr)
    return schedules.warmup(after, config.warmup) if config.warmup else after
