"""What the pages of docs/ say is so: every block of Python in them runs, and every public name has one."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fusedrnn as fr

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCKS = {
    f"{page.relative_to(DOCS)}-{number}": block
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
}
# The parts of the package that have a page of the reference: those its __all__ names, but what shares one.
REFERENCE = [page.stem for page in sorted((DOCS / "api").glob("*.md"))]


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 25


@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", BLOCKS[name]]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr


def test_every_part_has_a_page() -> None:
    shared = {"cpu", "cuda", "reference"}  # in fusedrnn.md the first two, in functional.md the third
    parts = {name for name in fr.__all__ if name in fr._PARTS}
    assert set(REFERENCE) == parts - shared | {"fusedrnn", "torch"}


@pytest.mark.parametrize("page", REFERENCE)
def test_every_public_name_has_an_example(page: str) -> None:
    module = importlib.import_module("fusedrnn" if page == "fusedrnn" else f"fusedrnn.{page}")
    text = "".join(block for name, block in BLOCKS.items() if name.startswith(f"api/{page}.md"))
    names = [name for name in module.__all__ if name not in ("reference", *REFERENCE)]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def public() -> dict[str, object]:
    """Every function and class of the reference by its page and name; exceptions say what they are for."""
    found = {}
    for page in REFERENCE:
        module = importlib.import_module("fusedrnn" if page == "fusedrnn" else f"fusedrnn.{page}")
        for name in module.__all__:
            thing = getattr(module, name)
            error = inspect.isclass(thing) and issubclass(thing, Exception)
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and not error:
                found[f"{page}.{name}"] = thing
    return found


def documented(thing: object) -> str:
    """What the reference says of a function, or of a class: its own text, its members' and its bases'."""
    if not inspect.isclass(thing):
        return inspect.getdoc(thing) or ""
    ours = [kind for kind in thing.__mro__ if kind.__module__.startswith("fusedrnn.")]
    parts = [part for kind in ours for name, part in vars(kind).items() if not name.startswith("_")]
    return "\n".join(inspect.getdoc(part) or "" for part in (*ours, *parts))


# Plain records of what a function returned: their attributes are all there is to say.
RECORDS = {"data.Batch", "data.Chunk", "nn.KeyDifference", "torch.Report"}
# A shape in letters, or the words that stand for one.
SHAPE = re.compile(r"\((T|B|N|L|P|I|H|\d|\.\.\.)\b[^)]*[,)]|\bshapes?\b|\blike (x|dy|pred|p|an array)\b")
# What has a paper, and must name it by its year.
PUBLISHED = {
    "functional": "lstm_forward gru_forward rnn_forward layer_norm_forward dropout adagrad_ rmsprop_ adam_",
    "losses": "huber smooth_l1 Huber SmoothL1",
    "nn": "LSTM GRU RNN LayerNorm Dropout",
    "optim": "SGD Adagrad Adam AdamW RMSprop clip_grad_norm_",
    "torch": "LSTM GRU RNN",
}


def test_every_public_name_has_a_docstring_of_shapes_and_errors() -> None:
    names = public()
    assert len(names) > 80
    assert [name for name, thing in names.items() if not inspect.getdoc(thing)] == []
    said = {name: documented(thing) for name, thing in names.items() if name not in RECORDS}
    assert [name for name, text in said.items() if "Raises:" not in text] == []
    arrays = [name for name in said if name.split(".")[0] in ("functional", "losses", "nn", "data")]
    assert [name for name in arrays if not SHAPE.search(said[name])] == []


@pytest.mark.parametrize("name", [f"{page}.{n}" for page, names in PUBLISHED.items() for n in names.split()])
def test_what_was_published_names_its_source(name: str) -> None:
    text = inspect.getdoc(public()[name]) or ""
    assert re.search(r"\b(19|20)\d\d\b", text)


def test_links_lead_somewhere() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
        if not target.startswith("http") and not (page.parent / target).exists()
    ]
    assert missing == []


# Commits that a page quotes: what `git show` prints, word by word.
QUOTED = {
    f"{page.name}-{commit}": (commit, block)
    for page in PAGES
    for commit, block in re.findall(
        r"^```text\n\$ git show --stat=100 --format=%s (\w+)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
    )
}


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=DOCS.parent)


def test_the_three_additions_are_quoted() -> None:
    assert {name.split("-")[0] for name in QUOTED} == {"cell.md", "loss.md", "optimizer.md"}


@pytest.mark.parametrize("name", QUOTED)
def test_a_commit_touches_the_files_that_a_page_quotes(name: str) -> None:
    commit, block = QUOTED[name]
    if shutil.which("git") is None:
        pytest.skip("there is no git to ask")
    known = git("rev-parse", "--show-toplevel", "--is-shallow-repository").stdout.splitlines()
    if known != [str(DOCS.parent), "false"]:
        pytest.skip("there is no history here to compare with")
    shown = git("show", "--stat=100", "--format=%s", commit)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == block
    assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0
