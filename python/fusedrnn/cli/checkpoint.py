"""One file that holds a run: weights, optimizer, carried state, configuration, text, random state, position.

The file is safetensors: named arrays, and a text header. Everything that is not an array is JSON in the
header; an array inside a nested structure (the optimizer's state) is replaced there by its name.

    format           "fusedrnn-char"
    format_version   "1"
    contents         JSON: config, vocabulary, text, progress, trees
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.files import write_atomically
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import CommandError, file_errors, need

FORMAT = "fusedrnn-char"
FORMAT_VERSION = 1
FILE_NAME = "checkpoint.safetensors"


@dataclass
class Checkpoint:
    """A run at one moment.

    Attributes:
        config: what defines the run.
        vocabulary: the characters the model knows, in the order of their numbers.
        text: ``sources`` (paths, none for the default text), ``sha256`` and ``length`` of the text.
        progress: ``step`` (updates done; with the text it gives the position in it), ``seconds`` spent, and
            what the progress display carries on from.
        trees: by name, nested dicts and lists of numbers, strings and arrays: ``model``, ``optimizer``,
            ``state`` (carried from window to window) and ``random``.
    """

    config: TrainConfig
    vocabulary: str
    text: dict[str, Any]
    progress: dict[str, Any]
    trees: dict[str, Any] = field(default_factory=dict)


def checkpoint_path(path: str | Path) -> Path:
    """The checkpoint a user means: a file, or the one in the directory of a run."""
    return Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, or leaves the one that was there.

    Raises:
        CommandError: it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    contents = {
        "config": checkpoint.config.to_json(),
        "vocabulary": checkpoint.vocabulary,
        "text": checkpoint.text,
        "progress": checkpoint.progress,
        "trees": {name: _take_arrays(tree, name, arrays) for name, tree in checkpoint.trees.items()},
    }
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "contents": json.dumps(contents, allow_nan=True),
    }
    data = need("safetensors.numpy").save(arrays, metadata)
    kept = "; the earlier checkpoint is unchanged" if path.exists() else ""
    try:
        with file_errors(f"cannot write {path}"):
            write_atomically(path, lambda file: file.write(data))
    except CommandError as error:
        raise CommandError(f"{error}{kept}") from None


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint back.

    Raises:
        CommandError: there is none, it is damaged, or it is something else.
    """
    safetensors = need("safetensors")
    with file_errors(f"cannot read {path}"), path.open("rb"):
        pass  # says what is wrong with the file in the words of the system, which safetensors does not
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise CommandError(f"{path} is damaged or no checkpoint: {error}") from None
    if metadata.get("format") != FORMAT:
        raise CommandError(f"{path} is a safetensors file, but no checkpoint of fusedrnn train")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise CommandError(
            f"{path} has format version {metadata.get('format_version')}, "
            f"this fusedrnn reads version {FORMAT_VERSION}"
        )
    try:
        contents = json.loads(metadata["contents"])
        return Checkpoint(
            config=TrainConfig.from_json(contents["config"]),
            vocabulary=contents["vocabulary"],
            text=contents["text"],
            progress=contents["progress"],
            trees={name: _give_arrays(tree, arrays) for name, tree in contents["trees"].items()},
        )
    except CommandError as error:
        raise CommandError(f"{path} is damaged: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CommandError(f"{path} is damaged: {error!r}") from None


def _take_arrays(tree: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The tree as JSON; its arrays move to `arrays`, named by their path."""
    if isinstance(tree, np.ndarray):
        arrays[name] = np.asarray(tree, order="C")
        return {"$array": name}
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        return {"$map": [[key, _take_arrays(value, f"{name}.{key}", arrays)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        values = [_take_arrays(value, f"{name}.{i}", arrays) for i, value in enumerate(tree)]
        return {"$tuple": values} if isinstance(tree, tuple) else values
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"{name} is a {type(tree).__name__}, which a checkpoint cannot hold")


def _give_arrays(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of `_take_arrays`."""
    if isinstance(tree, list):
        return [_give_arrays(value, arrays) for value in tree]
    if isinstance(tree, dict):
        ((kind, content),) = tree.items()
        if kind == "$array":
            return arrays[content]
        if kind == "$tuple":
            return tuple(_give_arrays(value, arrays) for value in content)
        return {key: _give_arrays(value, arrays) for key, value in content}
    return tree
