"""A checkpoint as an object, and its contents as JSON; what is read is checked field by field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.fields import shortened
from fusedrnn.cli.model import cell_of, parameter_shapes, state_shapes
from fusedrnn.cli.trees import give_arrays, take_arrays
from fusedrnn.cli.vocabulary import Vocabulary, saved

PARTS = ("config", "vocabulary", "text", "progress", "trees")
LAST_STEP = 2**63 - 1


@dataclass
class Checkpoint:
    """A run at one moment.

    Attributes:
        config: what defines the run.
        vocabulary: what the model reads and writes.
        text: ``sources`` (paths, none for the default text), ``sha256`` and ``length`` of the text.
        progress: ``step`` (updates done; with the text it gives the position in it), ``seconds`` spent.
        trees: by name, nested dicts and lists of numbers, strings and arrays: ``model``, ``optimizer``,
            ``state`` (carried from window to window) and ``random``.
        checked: whether it was read from a file that had a checksum.
    """

    config: TrainConfig
    vocabulary: Vocabulary
    text: dict[str, Any]
    progress: dict[str, Any]
    trees: dict[str, Any] = field(default_factory=dict)
    checked: bool = True


def to_json(checkpoint: Checkpoint, arrays: dict[str, NDArray[Any]]) -> str:
    """A checkpoint as JSON; its arrays move to `arrays`."""
    trees = {name: take_arrays(tree, name, arrays) for name, tree in checkpoint.trees.items()}
    parts = (
        checkpoint.config.to_json(),
        checkpoint.vocabulary.to_json(),
        checkpoint.text,
        checkpoint.progress,
        trees,
    )
    return json.dumps(dict(zip(PARTS, parts, strict=True)), allow_nan=True)


def from_json(contents: str, arrays: Mapping[str, NDArray[Any]], checked: bool) -> Checkpoint:
    """The inverse of `to_json`, of what may be anything.

    Raises:
        CommandError: it is no checkpoint's; the message names the field.
    """
    try:
        parts = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"its contents are no JSON: {error}") from None
    if not isinstance(parts, dict):
        raise CommandError(f"its contents are {shortened(parts)}")
    for name in PARTS:
        if name not in parts:
            raise CommandError(f"its contents have no {name}")
    trees = parts["trees"]
    _expect(isinstance(trees, dict), "trees", trees)
    try:
        given = {name: give_arrays(tree, f"trees.{name}", arrays) for name, tree in trees.items()}
    except RecursionError:
        raise CommandError("trees are nested too deeply") from None
    config = TrainConfig.from_json(parts["config"])
    vocabulary = saved(parts["vocabulary"], config.level)
    _check_text(parts["text"])
    _check_progress(parts["progress"])
    return Checkpoint(config, vocabulary, parts["text"], parts["progress"], given, checked)


def check_model(checkpoint: Checkpoint) -> None:
    """Compares the arrays of the model with its configuration, before a model is made as that says.

    Raises:
        CommandError: they do not fit; the message names the array.
    """
    dtype = np.dtype(checkpoint.config.dtype)
    model = checkpoint.trees.get("model")
    _expect(isinstance(model, dict), "trees.model", model)
    assert isinstance(model, dict)
    if checkpoint.config.layers > len(model):  # a list of names as long as it says could be endless
        raise CommandError(
            f"its configuration says layers = {checkpoint.config.layers}, the model has {len(model)} arrays"
        )
    shapes = parameter_shapes(len(checkpoint.vocabulary), checkpoint.config)
    for name in sorted(shapes.keys() ^ model.keys(), key=str):
        raise CommandError(
            f"trees.model has {'no' if name in shapes else 'an unknown'} array {shortened(name)}, "
            "as its configuration and vocabulary have it"
        )
    for name, shape in shapes.items():
        _expect_array(model[name], f"trees.model.{name}", shape, dtype)


def check_training(checkpoint: Checkpoint) -> None:
    """`check_model`, and the rest of what a resumed run needs.

    Raises:
        CommandError: something is missing or does not fit; the message names it.
    """
    check_model(checkpoint)
    config, trees = checkpoint.config, checkpoint.trees
    random = trees.get("random")
    if not isinstance(random, dict) or not all(_is_count(key, 2**64 - 1) for key in random.values()):
        raise CommandError(f"trees.random is {shortened(random)}")
    state = trees.get("state")
    if state is not None or checkpoint.progress["step"] > 0:
        _expect(isinstance(state, list) and len(state) == 1, "trees.state", state)
        assert isinstance(state, list)
        shapes = state_shapes(config, config.batch)
        parts = state[0] if cell_of(config).cell_state else (state[0],)
        _expect(isinstance(parts, tuple) and len(parts) == len(shapes), "trees.state.0", state[0])
        for i, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
            _expect_array(part, f"trees.state.0.{i}", shape, np.dtype(config.dtype))
    _check_optimizer(trees.get("optimizer"), checkpoint.progress["step"])


def _check_optimizer(optimizer: Any, step: int) -> None:
    """Types of an optimizer's state dict; the optimizer itself compares the rest with what it knows."""
    good = isinstance(optimizer, dict) and set(optimizer) == {"state", "param_groups"}
    _expect(good, "trees.optimizer", optimizer)
    states, groups = optimizer["state"], optimizer["param_groups"]
    _expect(isinstance(states, dict), "trees.optimizer.state", states)
    _expect(isinstance(groups, list), "trees.optimizer.param_groups", groups)
    for key, entry in states.items():
        name = f"trees.optimizer.state.{shortened(key)}"
        _expect(_is_count(key, LAST_STEP), "a key of trees.optimizer.state", key)
        _expect(isinstance(entry, dict), name, entry)
        _expect(_is_count(entry.get("step", 0), step), f"{name}.step", entry.get("step"))
    for i, group in enumerate(groups):
        name = f"trees.optimizer.param_groups.{i}"
        _expect(isinstance(group, dict), name, group)
        for option, value in group.items():
            if option == "param_names":
                names = isinstance(value, (list, tuple)) and all(isinstance(n, str) for n in value)
                _expect(names, f"{name}.param_names", value)
                continue
            numbers = value if isinstance(value, (list, tuple)) else (value,)
            good = all(n is None or (_is_number(n) and abs(n) < LAST_STEP) for n in numbers)
            _expect(good, f"{name}.{shortened(option)}", value)


def _check_text(text: Any) -> None:
    good = isinstance(text, dict) and set(text) == {"sources", "sha256", "length"}
    _expect(good, "text", text)
    sources = text["sources"]
    good = isinstance(sources, list) and all(isinstance(source, str) for source in sources)
    _expect(good, "text.sources", sources)
    good = isinstance(text["sha256"], str) and re.fullmatch("[0-9a-f]+", text["sha256"]) is not None
    _expect(good, "text.sha256", text["sha256"])
    _expect(_is_count(text["length"], LAST_STEP), "text.length", text["length"])


def _check_progress(progress: Any) -> None:
    _expect(isinstance(progress, dict) and set(progress) == {"step", "seconds"}, "progress", progress)
    _expect(_is_count(progress["step"], LAST_STEP), "progress.step", progress["step"])
    seconds = progress["seconds"]
    good = _is_number(seconds) and not isinstance(seconds, bool) and 0 <= seconds < LAST_STEP
    _expect(good, "progress.seconds", seconds)


def _expect_array(found: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    _expect(isinstance(found, np.ndarray), name, found)
    if found.shape != shape:
        raise CommandError(f"{name} has shape {found.shape}, its configuration makes it {shape}")
    if found.dtype != dtype:
        raise CommandError(f"{name} is {found.dtype}, its configuration says {dtype}")


def _expect(good: bool, name: str, found: Any) -> None:
    if not good:
        raise CommandError(f"{name} is {shortened(found)}")


def _is_count(value: Any, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= high


def _is_number(value: Any) -> bool:
    """Numbers and flags; no NaN, and no number that has no float."""
    return isinstance(value, (int, float)) and -math.inf < value < math.inf
