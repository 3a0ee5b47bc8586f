"""fusedrnn inspect: what is in a file of a model, without building it where that can be helped."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fusedrnn.cli.convert import character_model, command_errors, is_run
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.printable import printable

HELP = "show what is in a file of a model"
DESCRIPTION = "Show what is in a file of a model."
EPILOG = """\
Shows the format, what the model is made of, every array, and whether fusedrnn reads it, or why it does not.
Files: .safetensors, .keras, .weights.h5, .onnx
"""
Rows = Iterable[tuple[str, str, tuple[int, ...]]]  # name, type and shape of arrays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("file", metavar="FILE", help="the file to look at")


def run(arguments: argparse.Namespace) -> None:
    """Prints what is in a file.

    Raises:
        CommandError: it cannot be read, or is of no kind that is known.
    """
    path = Path(arguments.file)
    show = {".safetensors": _safetensors, ".keras": _keras, ".h5": _weights, ".onnx": _onnx}.get(path.suffix)
    if show is None:
        raise CommandError(f"{path}: .safetensors, .keras, .weights.h5 and .onnx files are shown")
    with command_errors(f"cannot read {path}"):
        from fusedrnn.io.files import regular_size

        print(f"{path}, {regular_size(path):,} bytes")
        show(path)
    if path.suffix != ".h5":
        _verdict(path)


def _verdict(path: Path) -> None:
    """Reads the model, and prints it or why it cannot be read."""
    from fusedrnn.io.any_file import read_model

    try:
        with command_errors("not read by fusedrnn"):
            run = path.suffix == ".safetensors" and is_run(path)
            model = character_model(path) if run else read_model(path)
    except CommandError as error:
        print(printable(str(error)))
        return
    print(f"as fusedrnn reads it, {sum(p.size for p in model.parameters()):,} parameters:\n{model!r}")


def _safetensors(path: Path) -> None:
    from fusedrnn.io import safetensors_file

    header = safetensors_file.read_header(path)
    print("safetensors")
    for name, text in sorted(header.metadata.items()):
        _fact(name, text)
    _arrays((name, e.dtype, e.shape) for name, e in header.entries.items())


def _keras(path: Path) -> None:
    from fusedrnn.io.keras_files import read_archive

    config, metadata, file = read_archive(path)
    file.close()
    print("Keras model")
    for name, value in metadata.items():
        _fact(str(name), value)
    _fact("class", config.get("class_name"))
    layers = config.get("config")
    for layer in layers.get("layers", ()) if isinstance(layers, dict) else ():
        options = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(options, dict):
            _fact(str(options.get("name")), layer.get("class_name"))
    _hdf5(path, archived=True)


def _weights(path: Path) -> None:
    print("HDF5 weights, which have no configuration: convert MODEL.json OUT --weights FILE")
    _hdf5(path, archived=False)


def _hdf5(path: Path, archived: bool) -> None:
    from fusedrnn.io.keras_files import WeightsFile, read_archive

    file = read_archive(path)[2] if archived else WeightsFile(str(path), str(path), os.path.getsize(path))
    try:
        _arrays(file.entries())
    finally:
        file.close()


def _onnx(path: Path) -> None:
    from fusedrnn.io.onnx_graph import Graph

    graph = Graph(path)
    print("ONNX graph")
    _fact("opset", graph.opset)
    _fact("inputs", ", ".join(graph.inputs))
    _fact("outputs", ", ".join(graph.outputs))
    counts = Counter(node.op_type for node in graph.nodes)
    _fact("nodes", ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    _arrays(graph.entries())


def _fact(name: str, value: Any) -> None:
    text = printable(value if isinstance(value, str) else json.dumps(value, default=str))
    print(f"  {printable(name)[:24]:<24} {text[:200]}{'...' if len(text) > 200 else ''}")


def _arrays(rows: Rows) -> None:
    for name, dtype, shape in rows:
        print(f"  {printable(name)[:60]:<44} {dtype:<9} {' x '.join(map(str, shape)) or 'a number'}")
