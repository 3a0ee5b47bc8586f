"""Checkpoints: exact round trips, replaced as a whole or not at all, damage reported in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import write_book
from safetensors import safe_open
from safetensors.numpy import save as save_safetensors

from fusedrnn._core.files import write_atomically
from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import Checkpoint, checkpoint_path, load, save
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.vocabulary import Characters


def example() -> Checkpoint:
    rng = np.random.default_rng(3)
    return Checkpoint(
        config=TrainConfig(hidden=7, lr=0.25, epochs=None, schedule="constant"),
        vocabulary=Characters("\n\"'aé€😀"),
        text={"sources": ["/a b/ü.txt"], "sha256": "00ff", "length": 12},
        progress={"step": 41, "seconds": 0.1},
        trees={
            "model": {"0.weight": rng.standard_normal((3, 5)).astype(np.float32)},
            "optimizer": {
                "state": {0: {"step": 41, "exp_avg": rng.standard_normal(4)}, 1: {}},
                "param_groups": [{"betas": (0.9, 0.999), "lr": 1 / 3, "nesterov": False, "momentum": None}],
            },
            "state": [(np.float32([[1.5]]), np.zeros((0, 2)))],
            "random": {"2.dropout_key": 2**64 - 1},
            "scalar": np.float64(0.1),
        },
    )


def same(left: Any, right: Any) -> bool:
    """Equal structure, types, dtypes and bits."""
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    before = example()
    save(path, before)
    after = load(path)
    assert after.config == before.config
    assert after.vocabulary == before.vocabulary
    assert after.text == before.text
    assert after.progress == before.progress
    assert same(before.trees, after.trees)


def test_header_holds_what_is_promised(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save(path, example())
    metadata = metadata_of(path)
    assert metadata["format"] == "fusedrnn-char"
    assert metadata["format_version"] == "1"
    contents = json.loads(metadata["contents"])
    assert set(contents) == {"config", "vocabulary", "text", "progress", "trees"}
    assert set(contents["trees"]) >= {"model", "optimizer", "state", "random"}
    assert contents["text"]["sha256"] == "00ff"


def test_header_has_the_checksum_of_contents_and_arrays(tmp_path: Path) -> None:
    """Computed as the format's description has it, by other means."""
    path = tmp_path / "c.safetensors"
    save(path, example())
    metadata = metadata_of(path)
    digest = hashlib.sha256(metadata["contents"].encode())
    with safe_open(path, framework="numpy") as file:
        for name in sorted(file.keys()):
            array = file.get_tensor(name)
            digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode() + array.tobytes())
    assert metadata["sha256"] == digest.hexdigest()
    assert load(path).checked


def test_unknown_entries_of_the_header_are_refused(tmp_path: Path) -> None:
    """A flipped bit in a name could otherwise hide the checksum."""
    path = tmp_path / "c.safetensors"
    rewritten(path, sha257="0")
    with pytest.raises(CommandError, match="its header has an unknown entry 'sha257'"):
        load(path)


def test_a_checkpoint_of_before_checksums_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it came from: tests/data/README.md."""
    old = Path(__file__).parent / "data" / "checkpoint_without_sha256.safetensors"
    assert "sha256" not in metadata_of(old)
    assert not load(old).checked
    assert main(["sample", str(old), "--seed", "1", "--length", "20"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out) == 1 + 20 + 1
    assert captured.err == f"fusedrnn sample: {old} has no checksum, as older versions wrote it\n"
    out = tmp_path / "out"
    resume = ["train", str(write_book(tmp_path)), "--resume", str(old), "--output", str(out)]
    assert main([*resume, "--epochs", "2.2"]) == 0
    assert "has no checksum" in capsys.readouterr().err
    new = load(out / "checkpoint.safetensors")
    assert new.checked
    assert new.progress["step"] > load(old).progress["step"]
    assert main(["train", "--resume", str(out), "--epochs", "2.3"]) == 0
    assert capsys.readouterr().err == ""


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    save(tmp_path / "c.safetensors", example())
    save(tmp_path / "c.safetensors", example())
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_synced_before_and_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        directory = os.path.isdir(f"/proc/self/fd/{handle}")
        events.append("sync directory" if directory else "sync file")
        fsync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        events.append("rename")
        assert source.parent == target.parent, "a rename across file systems would not be atomic"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_atomically(tmp_path / "f", lambda file: file.write(b"x"))
    assert events == ["sync file", "rename", "sync directory"]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "c.safetensors"
    save(path, example())
    earlier = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    changed = example()
    changed.progress["step"] = 42
    if where == "write":
        # A file system with 100 bytes left: part of the data is written, then the write fails.
        def write_some(file: Any) -> None:
            file.write(earlier[:100])
            file.flush()
            fail()

        with pytest.raises(OSError, match="No space"):
            write_atomically(path, write_some)
    else:
        monkeypatch.setattr(os, where, fail)
        with pytest.raises(CommandError, match=r"the disk is full; the earlier checkpoint is unchanged$"):
            save(path, changed)
    assert path.read_bytes() == earlier
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_full_disk_without_an_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CommandError, match=r"the disk is full$"):
        save(tmp_path / "c.safetensors", example())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_cut_off_anywhere(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.safetensors"
    save(path, example())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(CommandError, match=r"c\.safetensors is damaged or no safetensors file") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def metadata_of(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    found: dict[str, str] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    return found


def rewritten(path: Path, **changes: str) -> None:
    """Saves the example with other header entries."""
    save(path, example())
    path.write_bytes(save_safetensors({}, {**metadata_of(path), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "no checkpoint of fusedrnn train"),
        ({"format_version": "2"}, "has format version 2, this fusedrnn reads version 1"),
        ({"contents": "{"}, "is damaged"),
        ({"contents": "{}"}, "is damaged"),
        ({"contents": "[]"}, "is damaged"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = tmp_path / "c.safetensors"
    rewritten(path, **changes)
    with pytest.raises(CommandError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_missing_array(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    rewritten(path)  # the header of the example, but none of its arrays
    with pytest.raises(CommandError, match="is damaged"):
        load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", "7"),
        ("hidden", 1.5),
        ("lr", "big"),
        ("cell", 3),
        ("seed", True),
        ("lr", float("inf")),
        ("cell", "x"),
        ("batch", 0),
        ("layers", 2**40),
        ("dropout", 1),
    ],
)
def test_configuration_of_wrong_type(name: str, value: object) -> None:
    values = {**TrainConfig(lr=1.0).to_json(), name: value}
    with pytest.raises(CommandError, match=f"says {name} ="):
        TrainConfig.from_json(values)


def test_configuration_with_wrong_names() -> None:
    values = TrainConfig().to_json()
    with pytest.raises(CommandError, match="unknown option 'colour'"):
        TrainConfig.from_json({**values, "colour": 1})
    del values["cell"]
    with pytest.raises(CommandError, match="no option 'cell'"):
        TrainConfig.from_json(values)


def test_a_configuration_from_before_precisions() -> None:
    values = TrainConfig(lr=1.0).to_json()
    del values["precision"]
    assert TrainConfig.from_json(values) == TrainConfig(lr=1.0)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read .*nothing\.safetensors: No such file"):
        load(tmp_path / "nothing.safetensors")


def test_a_run_is_its_directory_or_its_file(tmp_path: Path) -> None:
    assert checkpoint_path(tmp_path) == tmp_path / "checkpoint.safetensors"
    assert checkpoint_path(tmp_path / "other") == tmp_path / "other"


def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    checkpoint = example()
    checkpoint.trees["model"] = {"0.weight": object()}
    with pytest.raises(TypeError, match=r"model\.0\.weight is a object"):
        save(tmp_path / "c.safetensors", checkpoint)
    assert list(tmp_path.iterdir()) == []
