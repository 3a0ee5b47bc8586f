"""Hostile checkpoints: whatever is in one, a command ends with one line that names what is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import small_training
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

import fusedrnn.cli.plot
from fusedrnn.cli import main, memory
from fusedrnn.cli.checkpoint import checksum, load, save
from fusedrnn.cli.errors import CommandError

VALUES: list[Any] = [
    *(
        None,
        True,
        0,
        1,
        -1,
        5,
        2**31,
        2**63,
        2**64,
        10**400,
        1.5,
        -0.0,
        1e308,
        5e-324,
        float("nan"),
        float("inf"),
    ),
    *("", "x", "lstm", "/dev/zero", "\0", "\ud800", "\x1b[2J", "a" * 300, [], {}, [[]], ["x"], {"a": 1}),
    *({"$array": "nothing"}, {"$array": 3}, {"$map": 3}, {"$map": [[[], 1]]}, {"$map": [1]}, {"$tuple": {}}),
    *({"$tuple": []}, {"$array": "model.0.weight"}, [{"$array": "model.0.weight"}], {"a": 1, "b": 2}),
]


@pytest.fixture
def raw(tmp_path: Path) -> bytes:
    """A checkpoint of a run on a file that can be read again."""
    training = small_training(layers=2, dropout=0.1, epochs=4)
    book = tmp_path / "book.txt"
    book.write_text(training.text.characters, "utf-8")
    for _ in range(3):
        training.step()
    saved = training.checkpoint(1.0)
    saved.text["sources"] = [str(book)]
    save(tmp_path / "c.safetensors", saved)
    return (tmp_path / "c.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusedrnn.cli.plot, "_drawn", lambda *_: b"")


def metadata_of(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    return found


def write(
    path: Path, raw: bytes, contents: str, arrays: dict[str, Any] | None = None, **changes: str
) -> None:
    """A file with other contents and arrays, under a checksum that fits them."""
    kept = load_safetensors(raw) if arrays is None else arrays
    path.parent.mkdir(exist_ok=True)
    entries = {**metadata_of(raw), "contents": contents, "sha256": checksum(contents, kept), **changes}
    path.write_bytes(save_safetensors(kept, entries))


def places(tree: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every place of a JSON tree: its name, and the container and key that lead to it."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield f"{path}.{key}", tree, key
        if isinstance(tree[key], (dict, list)):
            yield from places(tree[key], f"{path}.{key}")


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Status and stderr of a command, which must be one line if it fails, without a control character."""
    capsys.readouterr()
    status = main(arguments)
    err = capsys.readouterr().err
    assert status in (0, 1, 2)
    if status:
        assert err.count("\n") == 1, err
        assert err.rstrip("\n").isprintable()
        assert len(err) < 2000
    return status, err


def attempt(capsys: pytest.CaptureFixture[str], directory: Path) -> list[tuple[int, str]]:
    """Both commands that read a checkpoint; a run that can be resumed ends after one update."""
    resumed = ["--resume", str(directory), "--minutes", "1e-9"]
    return [
        outcome(capsys, "sample", str(directory), "--length", "3", "--seed", "1"),
        outcome(capsys, "train", *resumed),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_any_field_with_any_value(
    seed: int, raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random places of the contents with random values, or without one: nothing but one line comes of it."""
    rng = random.Random(seed)
    contents = metadata_of(raw)["contents"]
    failures = 0
    for number in range(30):
        tree = json.loads(contents)
        found = list(places(tree))
        shallow = [place for place in found if place[0].count(".") <= 3]
        _, container, key = rng.choice(shallow if number % 2 else found)
        if rng.random() < 0.15:
            del container[key]
        else:
            container[key] = rng.choice(VALUES)
        text = json.dumps(tree)
        path = tmp_path / f"{number}" / "checkpoint.safetensors"
        write(path, raw, text)
        failures += sum(status != 0 for status, _ in attempt(capsys, path.parent))
        shutil.rmtree(path.parent)
    assert failures > 20


FIELDS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("config", "cell"), "x", "cell = 'x': it must be one of lstm, gru, rnn"),
    (("config", "batch"), 0, "batch = 0: it must be at least 1"),
    (("config", "hidden"), 20000, "trees.model.1.weight_ih_l0 has shape (48, 5)"),
    (("config", "layers"), 60000, "layers = 60000, the model has"),
    (("config", "dropout"), float("nan"), "dropout = nan: it must be finite"),
    (("config", "lr"), None, "lr = None"),
    (("config", "layer_norm"), 1, "its configuration says layer_norm = 1"),
    (("config", "hidden"), True, "its configuration says hidden = True"),
    (("config", "layer_norm"), True, "trees.model has no array '1.bias_ln_c_l0'"),
    (("config", "proj_size"), 12, "proj_size = 12: it must be less than --hidden, which is 12"),
    (("config", "proj_size"), 3, "trees.model has no array '1.weight_hr_l0'"),
    (("config", "reset_after"), False, "reset_after = False: it goes with --cell gru"),
    (("config", "nonlinearity"), "x", "nonlinearity = 'x': it must be one of tanh, relu"),
    (("config", "init"), "chrono:1e9", "init = 'chrono:1e9': it must be chrono:STEPS"),
    (("config", "init"), None, "its configuration says init = None"),
    (("config", "forget_bias"), float("nan"), "forget_bias = nan: it must be finite"),
    (("config", "forget_bias"), "1", "its configuration says forget_bias = '1'"),
    (("config", "recompute"), "half", "recompute = 'half': it must be a whole number of steps, or auto"),
    (("config", "recompute"), -1, "recompute = -1: it must be at least 0"),
    (("config", "recompute"), 1.5, "its configuration says recompute = 1.5"),
    (("config", "dropout_mode"), "x", "dropout_mode = 'x': it must be one of step, sequence"),
    (("config", "epochs"), None, "schedule = 'cosine' without epochs"),
    (("config", "dtype"), "float64", "trees.model.0.weight is float32"),
    (("config",), 3, "its configuration is 3"),
    (("vocabulary",), 5, "its vocabulary is 5"),
    (("vocabulary",), "", "its vocabulary is ''"),
    (("vocabulary",), "ba", "each character once and in order"),
    (("vocabulary",), "abc", "trees.model.0.weight has shape"),
    (("text", "sources"), "x", "text.sources is 'x'"),
    (("text", "length"), -1, "text.length is -1"),
    (("progress", "step"), True, "progress.step is True"),
    (("progress", "seconds"), float("nan"), "progress.seconds is nan"),
    (("trees",), [], "trees is []"),
    (("trees", "model"), {"$map": []}, "layers = 2, the model has 0 arrays"),
]


@pytest.mark.parametrize(("place", "value", "message"), FIELDS, ids=lambda v: str(v)[:30])
def test_the_field_is_named(
    place: tuple[Any, ...],
    value: Any,
    message: str,
    raw: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = json.loads(metadata_of(raw)["contents"])
    container = tree
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = value
    path = tmp_path / "run" / "checkpoint.safetensors"
    write(path, raw, json.dumps(tree))
    for status, err in attempt(capsys, path.parent):
        assert status == 1
        assert f"{path} is damaged: " in err
        assert message in err


RESUMED: list[tuple[tuple[Any, ...], Any, str]] = [
    (("random",), None, "trees.random is None"),
    (("random",), {"$map": [["2.dropout_key", -1]]}, "trees.random is"),
    (("state",), None, "trees.state is None"),
    (("state",), [{"$tuple": []}], "trees.state.0 is ()"),
    (("optimizer",), {"$map": []}, "trees.optimizer is {}"),
    (("state", 0, "$tuple", 0), {"$array": "model.0.weight"}, "trees.state.0.0 has shape"),
    (("optimizer", "$map", 1, 1, 0, "$map", 3, 1), "x", "trees.optimizer.param_groups.0.'eps' is 'x'"),
    (
        ("optimizer", "$map", 0, 1, "$map", 0, 1, "$map", 0, 1),
        2**70,
        "trees.optimizer.state.0.step is 1180591",
    ),
]


@pytest.mark.parametrize(("place", "value", "message"), RESUMED, ids=lambda v: str(v)[:30])
def test_the_field_is_named_at_resume(
    place: tuple[Any, ...],
    value: Any,
    message: str,
    raw: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = json.loads(metadata_of(raw)["contents"])
    container = tree["trees"]
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = value
    path = tmp_path / "run" / "checkpoint.safetensors"
    write(path, raw, json.dumps(tree))
    status, err = outcome(capsys, "train", "--resume", str(path.parent))
    assert (status, message in err) == (1, True), err


def test_shapes_are_compared_before_memory_is_asked_for(
    raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sample", "training"):
        monkeypatch.setattr(f"fusedrnn.cli.{module}.build_model", lambda *_: pytest.fail("a model was made"))
    tree = json.loads(metadata_of(raw)["contents"])
    tree["config"]["hidden"] = 20000
    write(tmp_path / "run" / "checkpoint.safetensors", raw, json.dumps(tree))
    for status, err in attempt(capsys, tmp_path / "run"):
        assert status == 1
        assert "its configuration makes it (80000, 5)" in err


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize("pair", ["[]", '{"$tuple":[]}'], ids=["list", "tuple"])
def test_nested_json(
    pair: str, depth: int, raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening, closing = pair[: pair.index("]")], pair[pair.index("]") :]
    contents = json.loads(metadata_of(raw)["contents"])
    contents["trees"]["model"] = "@"
    nested = json.dumps(contents).replace('"@"', opening * depth + closing * depth)
    path = tmp_path / "run" / "checkpoint.safetensors"
    write(path, raw, nested)
    for status, err in attempt(capsys, path.parent):
        assert status == 1
        assert "is damaged: " in err


def test_arrays_of_other_types(raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run" / "checkpoint.safetensors"
    size = int.from_bytes(raw[:8], "little")
    for dtype in ("BF16", "I32", "F16", "U8", "BOOL", "F8_E4M3", "F999"):
        header = json.loads(raw[8 : 8 + size])
        header["model.3.bias"]["dtype"] = dtype
        scale = {"BF16": 2, "F16": 2, "I32": 1}.get(dtype, 4)
        header["model.3.bias"]["shape"][0] *= scale
        text = json.dumps(header).encode()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
        for status, err in attempt(capsys, path.parent):
            assert status == 1
            assert "is damaged" in err
            assert dtype in err


def test_no_bit_flip_is_loaded_unseen(raw: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.safetensors"
    header = 8 + int.from_bytes(raw[:8], "little")
    for position in [*rng.integers(0, header, 200), *rng.integers(header, len(raw), 100)]:
        flipped = bytearray(raw)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(CommandError, match=r"damaged|no checkpoint|format version"):
            load(path)


def test_a_wrong_checksum_says_so(raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run" / "checkpoint.safetensors"
    write(path, raw, metadata_of(raw)["contents"], sha256="0" * 64)
    for status, err in attempt(capsys, path.parent):
        assert status == 1
        assert "does not have the SHA-256 that its header says" in err


def source(tmp_path: Path, kind: str) -> str:
    if kind == "fifo":
        os.mkfifo(tmp_path / "fifo")
        return str(tmp_path / "fifo")
    if kind == "long":
        (tmp_path / "long").write_bytes(b"a" * 30_000)
        return str(tmp_path / "long")
    return kind


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("/dev/zero", "it is a pipe or a device, not a regular file"),
        ("fifo", "it is a pipe or a device, not a regular file"),
        ("long", "is longer than that"),
        ("/", "Is a directory"),
        ("\0", "embedded null byte"),
        ("\ud800", "surrogates not allowed"),
        ("x" * 5000, "File name too long"),
        ("/proc/self/mem/x", "Not a directory"),
    ],
    ids=lambda v: repr(v)[:20],
)
def test_sources_that_are_no_texts(
    kind: str, message: str, raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads(metadata_of(raw)["contents"])
    tree["text"]["sources"] = [source(tmp_path, kind)]
    write(tmp_path / "run" / "checkpoint.safetensors", raw, json.dumps(tree))
    status = main(["train", "--resume", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert status == 1
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)])
def test_checkpoints_that_are_no_files(
    make: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(str(tmp_path / "checkpoint.safetensors"))
    for status, err in attempt(capsys, tmp_path):
        assert status == 1
        assert "cannot read" in err


def test_more_memory_than_there_is(
    raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    write(tmp_path / "run" / "checkpoint.safetensors", raw, metadata_of(raw)["contents"])
    for status, err in attempt(capsys, tmp_path / "run"):
        assert status == 1
        assert "not enough memory" in err
    status, err = outcome(capsys, "train", str(tmp_path / "book.txt"), "--output", str(tmp_path / "new"))
    assert "not enough memory: a text of 3000 bytes needs" in err
    monkeypatch.setattr(memory, "available", lambda: 10**6)
    status, err = outcome(capsys, "train", str(tmp_path / "book.txt"), "--output", str(tmp_path / "new"))
    assert "this run needs" in err
    assert "lower --hidden" in err
    assert not (tmp_path / "new").exists()


def test_control_characters_of_a_vocabulary_are_not_obeyed(
    raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads(metadata_of(raw)["contents"])
    count = len(tree["vocabulary"])
    tree["vocabulary"] = "".join(
        sorted(["\x1b", "\x07", "\x9b", "\u202e", *"abcdefghijklmnopqrstuvwxyz"][:count])
    )
    write(tmp_path / "run" / "checkpoint.safetensors", raw, json.dumps(tree))
    arguments = ["--length", "300", "--temperature", "100", "--seed", "1"]
    assert main(["sample", str(tmp_path / "run"), *arguments, "--prompt", "\x1b"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\\x1b")
    assert "\\u202e" in out
    assert out.replace("\n", "").isprintable()
