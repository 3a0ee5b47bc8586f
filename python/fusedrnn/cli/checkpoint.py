"""One file that holds a run: weights, optimizer, carried state, configuration, text, random state, position.

The file is safetensors: named arrays, and a text header, read and written by `fr.io.safetensors_file`.
Everything that is not an array is JSON in the header (`contents.py`, `trees.py`).

    format           "fusedrnn-char"
    format_version   "1"
    contents         JSON: config, vocabulary, text, progress, trees
    sha256           of the contents and of every array with its name, dtype and shape; absent in old files
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.files import open_regular
from fusedrnn.cli import memory
from fusedrnn.cli.contents import Checkpoint, from_json, to_json
from fusedrnn.cli.errors import CommandError, file_errors, need
from fusedrnn.cli.fields import shortened
from fusedrnn.io import safetensors_file
from fusedrnn.io.errors import FormatError

__all__ = ["FILE_NAME", "Checkpoint", "checkpoint_path", "checksum", "load", "save"]
FORMAT = "fusedrnn-char"
FORMAT_VERSION = 1
FILE_NAME = "checkpoint.safetensors"
DTYPES = frozenset({"F32", "F64"})
METADATA = frozenset({"format", "format_version", "contents", "sha256"})


def checkpoint_path(path: str | Path) -> Path:
    """The checkpoint a user means: a file, or the one in the directory of a run.

    Raises:
        CommandError: it is no name that a file can have, or cannot be looked at.
    """
    with file_errors(f"cannot read {path}"):
        return Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, or leaves the one that was there.

    Raises:
        CommandError: it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    contents = to_json(checkpoint, arrays)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "contents": contents,
        "sha256": checksum(contents, arrays),
    }
    need("safetensors")
    kept = "; the earlier checkpoint is unchanged" if path.exists() else ""
    try:
        with file_errors(f"cannot write {path}"):
            safetensors_file.write(path, arrays, metadata)
    except CommandError as error:
        raise CommandError(f"{error}{kept}") from None


def look_at(path: Path) -> int:
    """The size of a file that can be read.

    Raises:
        CommandError: it cannot; what is wrong is said in the words of the system.
    """
    with file_errors(f"cannot read {path}"), open_regular(path) as file:
        return file.seek(0, 2)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint back. Its `checked` says whether it had a checksum.

    Raises:
        CommandError: there is none, it is damaged, or it is something else.
    """
    need("safetensors")
    size = look_at(path)

    def accept(header: safetensors_file.Header) -> None:
        _check_format(path, header.metadata)
        for name, entry in header.entries.items():
            if entry.dtype not in DTYPES:
                raise CommandError(f"{path} is damaged: array {shortened(name)} is of dtype {entry.dtype}")
        memory.require(2 * size, str(path), "use a machine with more memory")

    with file_errors(f"cannot read {path}"):
        try:
            arrays, metadata = safetensors_file.read(path, accept)
        except FormatError as error:
            raise CommandError(str(error)) from None
    contents = metadata.get("contents", "")
    if "sha256" in metadata and metadata["sha256"] != checksum(contents, arrays):
        raise CommandError(
            f"{path} is damaged: it does not have the SHA-256 that its header says: use an earlier copy"
        )
    try:
        return from_json(contents, arrays, checked="sha256" in metadata)
    except CommandError as error:
        raise CommandError(f"{path} is damaged: {error}") from None


def checksum(contents: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of a checkpoint's contents and arrays, hexadecimal."""
    digest = hashlib.sha256(contents.encode("utf-8", "surrogatepass"))
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise CommandError(f"{path} is a safetensors file, but no checkpoint of fusedrnn train")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise CommandError(
            f"{path} has format version {shortened(metadata.get('format_version'))[1:-1]}, "
            f"this fusedrnn reads version {FORMAT_VERSION}"
        )
    for name in sorted(set(metadata) - METADATA):
        raise CommandError(f"{path} is damaged: its header has an unknown entry {shortened(name)}")
