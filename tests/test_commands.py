"""Commands in README.md and in the pages of docs/ are the program's: each runs, on something small."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from io_oracles import ORACLES, unpacked
from runs import SMALL, write_book

from fusedrnn.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:\.venv/bin/)?fusedrnn (.*)")
# What prepares the environment that this test runs in.
INSTALLING = re.compile(r"python3 -m venv \.venv|\.venv/bin/pip install \S+|\.venv/bin/python -m pytest")


def commands() -> list[tuple[str, str]]:
    """Every command of a block of shell with the page that it is on."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            lines = (line.partition(" #")[0] for line in block.splitlines())
            found += [
                (page.name, part.strip()) for line in lines for part in line.split("&&") if part.strip()
            ]
    return found


def test_there_is_no_other_command() -> None:
    others = [c for _, c in commands() if not PROGRAM.fullmatch(c) and not INSTALLING.fullmatch(c)]
    assert len(commands()) > 10
    assert others == []


RUNNING = [(page, command) for page, command in commands() if PROGRAM.fullmatch(command)]


@pytest.mark.parametrize(("page", "command"), RUNNING, ids=[f"{page}-{command}" for page, command in RUNNING])
def test_command_runs(page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra train, draws what a run leaves")
    monkeypatch.chdir(tmp_path)
    match = PROGRAM.fullmatch(command)
    assert match is not None
    name, *options = shlex.split(match[1])
    path = write_book(tmp_path)
    path.write_text(path.read_text("utf-8") + "The return value is a dog.\n" * 20, "utf-8")  # for the prompts
    book = str(path)
    if name == "train":  # with sizes of its own after those of the page, which must be known too
        options += [] if any(o.endswith(".txt") for o in options) else [book]
        options += [*SMALL, "--epochs", "1"]
    elif name == "sample":
        assert main(["train", book, *SMALL, "--epochs", "1"]) == 0
    elif name in ("convert", "inspect"):
        pytest.importorskip("h5py", reason="h5py, of the extra io, reads Keras's files")
        Path("model.keras").write_bytes(keras_file())
        if name == "inspect":
            assert main(["convert", "model.keras", "model.safetensors"]) == 0
    assert main([name, *options]) == 0


def keras_file() -> bytes:
    """A model that Keras wrote."""
    cases = json.loads((ORACLES / "io_keras.json").read_text("utf-8"))["cases"]
    return unpacked(cases[0]["model.keras"])
