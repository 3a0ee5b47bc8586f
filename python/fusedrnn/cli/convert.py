"""fusedrnn convert: a model from one format into another."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fusedrnn as fr
from fusedrnn.cli.errors import CommandError, describe_os_error
from fusedrnn.cli.printable import printable

HELP = "turn a model of Keras, PyTorch or ONNX into ours, and ours into theirs"
DESCRIPTION = "Read a model in one format and write it in another, as the names of the files say."
EPILOG = """\
  read      .safetensors  of fr.io.save, or the state dict of one layer of PyTorch
            .keras        of Keras 3
            .json         of a Keras model's to_json(), with --weights FILE.weights.h5
            .onnx         a chain of layers
            runs/001      a run of fusedrnn train, or its checkpoint: the character model
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
        path = Path(arguments.input)
        model = character_model(path) if is_run(path) else read_model(path, arguments.weights)
    with command_errors(f"cannot write {arguments.output}"):
        require_no_run(Path(arguments.output))
        write_model(model, arguments.output, lengths=arguments.lengths)
    count = sum(p.size for p in model.parameters())
    print(f"{model!r}\n{arguments.output}: {count:,} parameters")


def is_run(path: Path) -> bool:
    """Whether a path is a run of `fusedrnn train`, or its checkpoint."""
    if path.suffix != ".safetensors":
        return path.is_dir()
    from fusedrnn.cli.checkpoint import FORMAT

    return fr.io.safetensors_file.read_header(path).metadata.get("format") == FORMAT


def require_no_run(path: Path) -> None:
    """CommandError where a file that would be replaced is a run's checkpoint."""
    with suppress(fr.io.FormatError):  # what is damaged is none
        if path.is_file() and is_run(path):
            raise CommandError(f"{path} is the checkpoint of a run of fusedrnn train: choose another name")


def character_model(path: Path) -> fr.nn.Sequential:
    """The model of a run, in eval mode; its ids are places in the run's vocabulary.

    Raises:
        CommandError: there is no usable checkpoint.
    """
    # Imported here, so that --help works where the compiled module does not.
    from fusedrnn.cli import memory
    from fusedrnn.cli.checkpoint import checkpoint_path, load
    from fusedrnn.cli.contents import check_model
    from fusedrnn.cli.model import build_model, parameter_bytes

    checkpoint = load(checkpoint_path(path))
    check_model(checkpoint)
    pieces = len(checkpoint.vocabulary)
    size = 3 * parameter_bytes(pieces, checkpoint.config)
    memory.require(size, "this model", "use a machine with more memory")
    model = build_model(pieces, checkpoint.config)
    model.load_state_dict(checkpoint.trees["model"])
    return model.eval()


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
        print(printable(f"warning: {warning.message}"))
