"""The `fusedrnn` command: train a character model, let it write, look at the installation."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

import fusedrnn as fr
from fusedrnn.cli import convert as convert_command
from fusedrnn.cli import inspect_file, options
from fusedrnn.cli.backend import prepare_backend
from fusedrnn.cli.errors import CommandError, Interrupted, UsageError

EPILOG = """\
start here:
  fusedrnn train              learn Python's own documentation, about two minutes on two cores
  fusedrnn sample runs/001    let the model write
  fusedrnn doctor             what is used of this machine, and why

Each command explains itself with --help.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, 1 (failed), 2 (wrong options) or 128 + signal."""
    parsed = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a text may have what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(parsed)
    except CommandError as error:
        print(f"fusedrnn {parsed.command}: {error}", file=sys.stderr)
        if isinstance(error, Interrupted):
            return error.status
        return 2 if isinstance(error, UsageError) else 1
    except MemoryError as error:
        print(f"fusedrnn {parsed.command}: not enough memory: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"fusedrnn {parsed.command}: interrupted", file=sys.stderr)
        return 130


def _run(parsed: argparse.Namespace) -> int:
    # Imported here, so that --help and doctor work where the compiled module does not.
    if parsed.command == "doctor":
        from fusedrnn.cli.doctor import doctor

        return doctor(parsed.device)
    if parsed.command == "inspect":
        from fusedrnn.cli.inspect_file import inspect

        inspect(parsed)
        return 0
    if parsed.command == "convert":
        from fusedrnn.cli.convert import convert

        convert(parsed)
        return 0
    prepare_backend(parsed.threads)
    if parsed.command == "train":
        from fusedrnn.cli.train import train

        train(options.run_options(parsed))
    else:
        from fusedrnn.cli.sample import sample

        sample(parsed)
    return 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="fusedrnn",
        description="Train recurrent networks on fused C++ kernels.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"fusedrnn {fr.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train a character model on text",
        description="Train a recurrent network to predict the next character of a text, and let it write.",
        epilog=options.TRAIN_EPILOG,
        formatter_class=formatter,
    )
    options.add_train(train)
    sample = commands.add_parser(
        "sample",
        help="let a trained model write",
        description="Let a character model continue a text.",
        epilog=options.SAMPLE_EPILOG,
        formatter_class=formatter,
    )
    options.add_sample(sample)
    doctor = commands.add_parser(
        "doctor",
        help="show versions, instruction sets, threads, caches and the state of CUDA",
        description="Show what is installed, what this machine offers, what is used of it, and why.",
    )
    options.add_device(doctor, "what must be usable for the exit status to be 0")
    convert = commands.add_parser(
        "convert",
        help="turn a model of Keras, PyTorch or ONNX into ours, and ours into theirs",
        description="Read a model in one format and write it in another, as the names of the files say.",
        epilog=convert_command.EPILOG,
        formatter_class=formatter,
    )
    convert_command.add_arguments(convert)
    inspect = commands.add_parser(
        "inspect",
        help="show what is in a file of a model",
        description="Show what is in a file of a model.",
        epilog=inspect_file.EPILOG,
        formatter_class=formatter,
    )
    inspect_file.add_arguments(inspect)
    return parser
