"""Kind 4, the command line: tracebacks for what users and their surroundings do."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from command import SMALL, TEXT, Ended, altered, here, in_one_line, shell
from fault import Found, fault, write

VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 5, 2**31, 2**63, 10**400, 1.5, 1e308, 5e-324, float("nan"), float("inf")),
    *("", "x", "lstm", "/dev/zero", "\0", "\ud800", "\x1b[2J", "a" * 300, [], {}, [[]], ["x"], {"a": 1}),
    *({"$array": "nothing"}, {"$array": 3}, {"$map": 3}, {"$map": [[[], 1]]}, {"$tuple": {}}, {"$tuple": []}),
    *({"$array": "model.0.weight"}, [{"$array": "model.0.weight"}], {"a": 1, "b": 2}),
]


def places(tree: Any, depth: int = 0) -> Iterator[tuple[int, Any, Any]]:
    """Every place of a JSON tree: its depth, and the container and key that lead to it."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield depth, tree, key
        if isinstance(tree[key], (dict, list)):
            yield from places(tree[key], depth + 1)


def limited(words: list[str]) -> str:
    """How a command ends in a process of its own: "line", "done", or what is wrong with it."""
    read, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        ended = here(words)
        traced = "a traceback" if "Traceback" in ended.err else f"{ended.err.count(chr(10))} lines"
        how = "done" if not ended.status else "line" if ended.in_one_line else traced
        os.write(write_end, how.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read, "rb") as file:
        how = file.read().decode()
    os.waitpid(child, 0)
    return how or "killed"


@fault(
    "4.1",
    "222 checkpoints, each with a field of its contents changed, to sample and train --resume",
    "a line each, or done",
    needs=True,
    seconds=400,
    slow=True,
)
def _(run: Path) -> Found:
    rng, ends = random.Random(0), dict[str, int]()
    here(train())  # imports what the processes below need
    for _ in range(222):

        def change(tree: Any) -> None:
            found = list(places(tree))
            shallow = [place for place in found if place[0] <= 2]
            _, container, key = rng.choice(rng.choice((shallow, found)))
            container[key] = rng.choice(VALUES)

        to = altered(run, run.parent / "altered", change)
        for words in (
            ["sample", str(to), "--length", "3"],
            ["train", "--resume", str(to), "--minutes", "1e-9"],
        ):
            how = limited(words)
            ends[how] = ends.get(how, 0) + 1
        shutil.rmtree(to)
    words = ", ".join(f"{how} {count}" for how, count in sorted(ends.items()))
    return Found(f"of 444 commands: {words}", not set(ends) - {"line", "done"})


def put(*place: Any, value: Any) -> Any:
    def change(tree: Any) -> None:
        for key in place[:-1]:
            tree = tree[key]
        tree[place[-1]] = value

    return change


def nested(tree: Any) -> str:
    tree["trees"]["model"] = "@"
    return json.dumps(tree).replace('"@"', "[" * 100_000 + "]" * 100_000)


for name, change, word in (
    ('cell: "x"', put("config", "cell", value="x"), "cell"),
    ("batch: 0", put("config", "batch", value=0), "batch"),
    ("vocabulary: 5", put("vocabulary", value=5), "vocabulary"),
    ("nested JSON, 100,000 deep", nested, "damaged"),
):
    fault("4.1", f"train --resume of a checkpoint with {name}", f"is damaged, with {word!r}", needs=True)(
        lambda run, change=change, word=word: in_one_line(
            here(["train", "--resume", str(altered(run, run.parent / "altered", change)), "--epochs", "1"]),
            "is damaged",
            word,
        )
    )


@fault(
    "4.1",
    "sample of a checkpoint whose last array is BF16",
    "is damaged, with the array and BF16",
    needs=True,
)
def _(run: Path) -> Found:
    path = run / "checkpoint.safetensors"
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["model.3.bias"]["dtype"] = "BF16"
    header["model.3.bias"]["shape"][0] *= 2
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    return in_one_line(here(["sample", str(run)]), "is damaged", "BF16", "model.3.bias")


# ------------------------------------------------------------------------------------------------ streams
def book() -> Path:
    return write(Path(tempfile.mkdtemp()) / "book.txt", TEXT)


def train(*words: str) -> list[str]:
    text = book()
    return ["train", str(text), "--output", str(text.parent / "out"), "--epochs", "0.1", *SMALL, *words]


def trains(redirection: str) -> Found:
    words = train()
    ended = shell(words, redirection)
    done = (Path(words[3]) / "samples.txt").exists()
    full = "full" in redirection and "/dev/full" in redirection
    good = (
        done
        and "Traceback" not in ended.err
        and ended.status == (1 if full and "2>" not in redirection else 0)
    )
    return Found(f"{ended.words}; {'trained' if done else 'nothing trained'}", good)


for redirection in ("2>&-", ">&-", "<&- >&- 2>&-", "> /dev/full"):
    fault("4.2", f"train {redirection}", "trained, no traceback", slow=True)(partial(trains, redirection))
for command in ("doctor", "--help"):
    for redirection in (">&-", "> /dev/full"):
        fault("4.2", f"{command} {redirection}", "status 1 and a line")(
            lambda command=command, redirection=redirection: in_one_line(
                shell([command], redirection), "stdout"
            )
        )
fault("4.2", "sample > /dev/full", "status 1 and a line", needs=True)(
    lambda run: in_one_line(shell(["sample", str(run), "--seed", "1"], "> /dev/full"), "stdout")
)


# ------------------------------------------------------------------------------------------------ options
def clean(ended: Ended) -> Found:
    """Right where it fails in one line, or has nothing to complain about."""
    return Found(ended.words, ended.in_one_line or (ended.status == 0 and not ended.err))


@fault("4.3", "train --lr 1e308", "refused, no traceback")
def _() -> Found:
    ended = here(train("--lr", "1e308"))
    return Found(ended.words, ended.status == 2 and "Traceback" not in ended.err)


@fault("4.3", "train --lr 1e30", "says that it has exploded, status 1")
def _() -> Found:
    ended = here(train("--lr", "1e30", "--epochs", "3", "--warmup", "0", "--clip-norm", "0"))
    return Found(ended.words, ended.status == 1 and "exploded" in ended.err)


@fault("4.3", "train with an --output of 300 letters", "a line")
def _() -> Found:
    return in_one_line(here(["train", str(book()), "--output", str(book().parent / ("x" * 300)), *SMALL]))


@fault("4.3", "train into a directory whose parent may not be read", "a line: Permission denied")
def _() -> Found:
    folder = Path(tempfile.mkdtemp())
    text = write(folder / "book.txt", TEXT)
    (folder / "locked").mkdir(mode=0o000)
    for each in (folder, folder.parent):
        each.chmod(0o755)
    here(train())  # imports all that it needs while those files may be read
    if os.geteuid() == 0:  # whom nothing is refused
        os.seteuid(65534)
    try:
        ended = here(["train", str(text), "--output", str(folder / "locked" / "run"), *SMALL])
    finally:
        os.seteuid(os.getuid())
    return in_one_line(ended, "Permission denied")


@fault("4.3", "train a text whose name is not UTF-8", "trained, or a line")
def _() -> Found:
    folder = Path(tempfile.mkdtemp())
    name = os.fsdecode(os.fsencode(folder) + b"/b\xffok.txt")
    write(Path(name), TEXT)
    ended = shell(["train", name, "--output", str(folder / "out"), "--epochs", "0.1", *SMALL])
    return Found(ended.words, ended.status == 0 and (folder / "out" / "training.png").exists())


fault("4.3", "sample --temperature 1e-320", "text, or a line", needs=True)(
    lambda run: clean(here(["sample", str(run), "--temperature", "1e-320", "--length", "20", "--seed", "1"]))
)


@fault("4.3", "sample of a vocabulary with escape sequences", "none written raw", needs=True)
def _(run: Path) -> Found:
    def change(tree: Any) -> None:
        letters = ["\x1b", "\x07", "\x9b", "\u202e", *"abcdefghijklmnopqrstuvwxyz"]
        tree["vocabulary"] = "".join(sorted(letters[: len(tree["vocabulary"])]))

    to = altered(run, run.parent / "altered", change)
    ended = here(
        ["sample", str(to), "--length", "300", "--temperature", "100", "--seed", "1", "--prompt", "\x1b"]
    )
    raw = sum(ended.out.count(letter) for letter in "\x1b\x07\x9b\u202e")
    return Found(f"{ended.words}, {raw} raw", ended.status == 0 and raw == 0)
