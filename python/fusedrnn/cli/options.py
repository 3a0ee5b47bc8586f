"""The command line: its parsers, their help, and what the options amount to."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_type_hints

from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import UsageError
from fusedrnn.cli.fields import MANY, out_of_range, shortened, spelled

TRAIN_EPILOG = """\
examples:
  fusedrnn train                              Python's own documentation, about two minutes
  fusedrnn train book.txt --cell gru --hidden 512 --layers 2 --dropout 0.2 --epochs 20
  fusedrnn train book.txt --level word        words instead of characters
  fusedrnn train notes/*.txt --minutes 30 --schedule constant
  fusedrnn train book.txt --layer-norm --recurrent-dropout 0.2 --zoneout 0.1
  fusedrnn train book.txt --seq-len 2000 --recompute auto --init chrono:2000
  fusedrnn train --resume runs/001            carry on after Ctrl-C, to the same bits
  fusedrnn sample runs/001 --prompt "The "    let the model write

A run writes into its own directory:
  checkpoint.safetensors  the model and all it takes to resume, replaced as a whole or not at all
  metrics.csv             one line per update: loss, gradient norm, learning rate, speed
  training.png            loss, gradient norm, and how the gradient flows through time
  samples.txt             what the model wrote along the way

What the numbers mean: bits per character is the loss in base 2; 6.3 is guessing blindly among 80
characters, English text ends near 2; a model of words is measured in bits per character, too. The
gradient norm should stay of the order of --clip-norm; where it jumps, lower --lr.
"""

SAMPLE_EPILOG = """\
examples:
  fusedrnn sample runs/001
  fusedrnn sample runs/001 --prompt "The return value " --temperature 0.7 --length 1000 --seed 1

A low temperature makes likely text, a high one surprising text; 0 always takes the likeliest piece.
The same seed gives the same text. Control characters, which a terminal would obey, are written as \\x1b.
"""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes its numbers."""

    files: tuple[str, ...] = ()
    output: str | None = None
    resume: str | None = None
    minutes: float | None = None
    every: int | None = None
    device: str = "cpu"
    flow: bool | None = None  # whether to measure gradient flow; None: where the device can
    config: TrainConfig = field(default_factory=TrainConfig)
    given: frozenset[str] = frozenset()  # names of the configuration's options that were on the command line


def number(kind: type, **limits: float) -> Callable[[str], Any]:
    """An argparse type for numbers within limits: low <=, above <, below >."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int and _is_number(text) else "a number"
            raise argparse.ArgumentTypeError(f"must be {what}, it is {shortened(text)}") from None
        wrong = out_of_range(value, limits)
        if wrong is not None:
            raise argparse.ArgumentTypeError(f"{wrong}, it is {shortened(text)[1:-1]}")
        return value

    return parse


def word(check: Callable[[Any], str | None]) -> Callable[[str], Any]:
    """An argparse type for what is a whole number or a word, of which `check` says what is wrong."""

    def parse(text: str) -> Any:
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text
        wrong = check(value)
        if wrong is not None:
            raise argparse.ArgumentTypeError(f"{wrong}, it is {shortened(text)}")
        return value

    return parse


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def add_device(parser: Any, text: str) -> None:
    """The option --device, of a parser or a group of one."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "auto"), default="cpu", help=f"{text} (default: cpu)"
    )


def add_train(parser: argparse.ArgumentParser) -> None:
    """The options of ``fusedrnn train``."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="UTF-8 text to learn, files joined in the order given (default: Python's own documentation)",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--output", metavar="DIR", help="directory to write into (default: the next free runs/NNN)"
    )
    run.add_argument("--resume", metavar="RUN", help="continue a run: its directory or its checkpoint")
    run.add_argument(
        "--minutes",
        type=number(float, above=0),
        metavar="M",
        help="stop after that time, saving as Ctrl-C does; without --epochs there is no other end",
    )
    run.add_argument(
        "--every",
        type=number(int, low=1),
        metavar="STEPS",
        help="updates between validations, each with a checkpoint, a plot and a sample "
        "(default: one pass over the text, at least 100 and at most 1000 updates)",
    )
    run.add_argument(
        "--threads",
        type=number(int, low=1, high=MANY),
        metavar="N",
        help="threads (default: one per physical core)",
    )
    run.add_argument(
        "--flow",
        action=argparse.BooleanOptionalAction,
        help="measure, at updates that are validated, the norm of the gradient of every step's state, and "
        "draw it into training.png: a line that falls towards the first step is a gradient that vanishes; no "
        "number of the run is another for it (default: on the CPU, where kernels can)",
    )
    add_device(run, "where to compute; checkpoints are the same everywhere")
    groups = {name: parser.add_argument_group(name) for name in ("model", "training")}
    types = get_type_hints(TrainConfig)
    for item in fields(TrainConfig):
        extra = dict(item.metadata)
        text, group, choices = extra.pop("help"), extra.pop("group"), extra.pop("choices", None)
        shown = extra.pop("shown", item.default)
        for name in ("later", "layer", "cell"):
            extra.pop(name, None)
        kind = types[item.name]
        keywords: dict[str, Any]
        if kind is bool:
            keywords = {"action": argparse.BooleanOptionalAction}
            shown = spelled(item.name, shown)
        elif choices:
            keywords = {"choices": choices}
        elif "check" in extra:
            keywords = {"type": word(extra["check"]), "metavar": extra["metavar"]}
        else:
            whole = kind is int
            keywords = {"type": number(int if whole else float, **extra), "metavar": "N" if whole else "X"}
        groups[group].add_argument(
            "--" + item.name.replace("_", "-"),
            dest=item.name,
            default=argparse.SUPPRESS,
            help=f"{text} (default: {shown})",
            **keywords,
        )


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """What the parsed options of ``fusedrnn train`` amount to.

    Raises:
        UsageError: options that do not go together.
    """
    from fusedrnn import _native  # here, so that --help works where it does not

    values = vars(arguments)
    for name in ("output", "resume"):
        if values[name] == "":  # an unset variable of a script; it would mean the current directory
            raise UsageError(f"--{name} is empty: name a directory, or leave --{name} out")
    given = {f.name: values[f.name] for f in fields(TrainConfig) if f.name in values}
    config = replace(TrainConfig(), **given)
    if arguments.minutes is not None and "epochs" not in given:
        config = replace(config, epochs=None)
        if "schedule" not in given:
            config = replace(config, schedule="constant")
    if config.layers > _native.MAX_LAYERS:
        raise UsageError(f"--layers must be at most {_native.MAX_LAYERS}, it is {config.layers}")
    if arguments.resume is None:
        config = config.resolved()
    return RunOptions(
        files=tuple(arguments.files),
        output=arguments.output,
        resume=arguments.resume,
        minutes=arguments.minutes,
        every=arguments.every,
        device=arguments.device,
        flow=arguments.flow,
        config=config,
        given=frozenset(given),
    )


def resumed_config(saved: TrainConfig, options: RunOptions) -> TrainConfig:
    """The configuration of a resumed run: the saved one, with a new end if --epochs was given.

    Raises:
        UsageError: another option that defines the run was given a different value.
    """
    for name in sorted(options.given - {"epochs"}):
        old, new = getattr(saved, name), getattr(options.config, name)
        if old != new:
            raise UsageError(
                f"{spelled(name, new)} does not fit the run to resume, which has {spelled(name, old)}"
            )
    return replace(saved, epochs=options.config.epochs) if "epochs" in options.given else saved


def add_sample(parser: argparse.ArgumentParser) -> None:
    """The options of ``fusedrnn sample``."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="directory of a run, or its checkpoint")
    parser.add_argument(
        "--prompt", help="text to continue (default: 'The ' where the model knows these letters)"
    )
    parser.add_argument(
        "--temperature",
        type=number(float, low=0),
        default=0.8,
        metavar="X",
        help="0 takes the likeliest piece, 1 follows the model's probabilities (default: 0.8)",
    )
    parser.add_argument(
        "--length",
        type=number(int, low=0),
        default=500,
        metavar="N",
        help="characters to write (default: 500)",
    )
    parser.add_argument(
        "--seed",
        type=number(int, low=0),
        metavar="N",
        help="seed of the choices (default: another every time)",
    )
    parser.add_argument(
        "--threads",
        type=number(int, low=1, high=MANY),
        metavar="N",
        help="threads (default: one per physical core)",
    )
    add_device(parser, "where to compute")
