"""Nests of dicts, lists and tuples as JSON; arrays move to a table and are replaced by their names.

{"$array": name}    {"$map": [[key, value], ...]}    {"$tuple": [value, ...]}    [value, ...]    value
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.fields import shortened


def take_arrays(tree: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The tree as JSON; its arrays move to `arrays`, named by their path.

    Raises:
        TypeError: it holds what JSON cannot.
    """
    if isinstance(tree, np.ndarray):
        arrays[name] = np.asarray(tree, order="C")
        return {"$array": name}
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        return {"$map": [[key, take_arrays(value, f"{name}.{key}", arrays)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        values = [take_arrays(value, f"{name}.{i}", arrays) for i, value in enumerate(tree)]
        return {"$tuple": values} if isinstance(tree, tuple) else values
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"{name} is a {type(tree).__name__}, which a checkpoint cannot hold")


def give_arrays(tree: Any, name: str, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of `take_arrays`, of what may be anything.

    Raises:
        CommandError: it is nothing that `take_arrays` makes; the message names the place.
    """
    if isinstance(tree, list):
        return [give_arrays(value, f"{name}.{i}", arrays) for i, value in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    kind, content = next(iter(tree.items())) if len(tree) == 1 else (None, None)
    if kind == "$array" and isinstance(content, str):
        if content not in arrays:
            raise CommandError(f"{name} is the array {shortened(content)}, which is missing")
        return arrays[content]
    if kind == "$tuple" and isinstance(content, list):
        return tuple(give_arrays(content, name, arrays))
    if kind == "$map" and isinstance(content, list) and all(map(_is_entry, content)):
        return {key: give_arrays(value, f"{name}.{shortened(key)}", arrays) for key, value in content}
    raise CommandError(f"{name} is {shortened(tree)}")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], (str, int))
