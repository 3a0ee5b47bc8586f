"""fusedrnn convert: a model from one format into another."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fusedrnn.cli.errors import CommandError, describe_os_error

HELP = "turn a model of Keras, PyTorch or ONNX into ours, and ours into theirs"
DESCRIPTION = "Read a model in one format and write it in another, as the names of the files say."
EPILOG = """\
  read      .safetensors  of fr.io.save, or the state dict of one layer of PyTorch
            .keras        of Keras 3
            .json         of a Keras model's to_json(), with --weights FILE.weights.h5
            .onnx         a chain of layers
  written   .safetensors, .onnx, .keras, .weights.h5

examples:
  fusedrnn convert model.keras model.safetensors
  fusedrnn convert model.safetensors model.onnx --lengths
  fusedrnn convert model.json model.onnx --weights model.weights.h5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("input", metavar="IN", help="the model to read")
    parser.add_argument("output", metavar="OUT", help="the file to write or replace")
    parser.add_argument("--weights", metavar="FILE", help="the weights of a .json configuration of Keras")
    parser.add_argument(
        "--lengths", action="store_true", help="make lengths of rows an input of the ONNX file"
    )


def run(arguments: argparse.Namespace) -> None:
    """Reads a model and writes it.

    Raises:
        CommandError: it cannot be read, has no equal, or cannot be written.
    """
    from fusedrnn.io.any_file import read_model, write_model

    with command_errors(f"cannot read {arguments.input}"):
        model = read_model(arguments.input, arguments.weights)
    with command_errors(f"cannot write {arguments.output}"):
        write_model(model, arguments.output, lengths=arguments.lengths)
    count = sum(p.size for p in model.parameters())
    print(f"{model!r}\n{arguments.output}: {count:,} parameters")


@contextmanager
def command_errors(action: str) -> Iterator[None]:
    """Turns what readers and writers raise into a `CommandError`, and prints their warnings as lines."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
    except OSError as error:
        raise CommandError(describe_os_error(error, action)) from None
    except (ValueError, TypeError, ImportError) as error:
        raise CommandError(f"{action}: {error}") from None
    for warning in said:
        print(f"warning: {warning.message}")
