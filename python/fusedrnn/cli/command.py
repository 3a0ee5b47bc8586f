"""The parser of the whole command line, and what becomes of a command: output, exit status, failures."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from typing import Any

import fusedrnn as fr
from fusedrnn.cli import options
from fusedrnn.cli.errors import CommandError, Interrupted, UsageError, describe_os_error
from fusedrnn.cli.printable import printable_lines
from fusedrnn.cli.streams import Streams, standard_streams

EPILOG = """\
start here:
  fusedrnn train              learn Python's own documentation, about two minutes on two cores
  fusedrnn sample runs/001    let the model write
  fusedrnn doctor             what is used of this machine, and why

Each command explains itself with --help.
"""


def run(arguments: Sequence[str] | None) -> int:
    """Parses and carries out a command line; returns the exit status.

    Raises:
        SystemExit: --help, --version and wrong options, as argparse has it.
    """
    streams = standard_streams()
    try:
        parsed = _parser(streams).parse_args(arguments)
    except SystemExit as ended:
        status = _finished(ended.code if isinstance(ended.code, int) else 1, "", streams)
        if status != ended.code:
            return status
        raise
    return _finished(_guarded(parsed, streams), parsed.command, streams)


def _guarded(parsed: argparse.Namespace, streams: Streams) -> int:
    """The status of a command, whose failures become one line each."""
    try:
        return _carry_out(parsed, streams)
    except CommandError as error:
        streams.note(parsed.command, str(error))
        if isinstance(error, Interrupted):
            return error.status
        return 2 if isinstance(error, UsageError) else 1
    except MemoryError as error:
        advice = "lower --hidden, --layers, --embedding, --batch or --seq-len"
        streams.note(parsed.command, f"not enough memory: {error}: {advice}")
        return 1
    except ImportError as error:
        streams.note(parsed.command, f"a part cannot be loaded: {error}: fusedrnn doctor says more")
        return 1
    except OSError as error:
        streams.note(parsed.command, describe_os_error(error, "the system refuses"))
        return 1
    except KeyboardInterrupt:
        streams.note(parsed.command, "interrupted")
        return 130


def _carry_out(parsed: argparse.Namespace, streams: Streams) -> int:
    # Imported here, so that --help and doctor work where the compiled module does not.
    if parsed.command == "doctor":
        from fusedrnn.cli.doctor import doctor

        return doctor(parsed.device, streams.out)
    from fusedrnn.cli.backend import prepare_backend

    prepare_backend(parsed.threads)
    if parsed.command == "train":
        from fusedrnn.cli.train import train

        train(options.run_options(parsed), streams)
    else:
        from fusedrnn.cli.sample import sample

        sample(parsed, streams)
    return 0


def _finished(status: int, command: str, streams: Streams) -> int:
    """The status, once all output has gone where it should; 1 where it has not."""
    streams.out.finish()
    lost = streams.out.error
    if status == 0 and streams.out.absent and command != "train":
        status = 1
        streams.note(command, "stdout is closed, so there is nowhere to write")
    elif status == 0 and lost is not None:
        status = 1
        # A reader that has gone, `head` for one, has seen enough.
        if not (isinstance(lost, OSError) and lost.errno == errno.EPIPE):
            why = describe_os_error(lost, "") if isinstance(lost, OSError) else f": {lost}"
            done = "; the run itself is done and saved" if command == "train" else ""
            streams.note(command, f"cannot write to stdout{why}{done}")
    streams.err.finish()
    return status


def _parser(streams: Streams) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):  # subcommands have parsers of this class, too
        def _print_message(self, message: str, file: Any = None) -> None:
            (streams.err if file is sys.stderr else streams.out).write(printable_lines(message))

    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(
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
    return parser
