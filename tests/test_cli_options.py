"""Options of any value: a run, or a message that says what the value must be; never anything else."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import failure, write_book

import fusedrnn as fr
import fusedrnn.cli.plot
from fusedrnn.cli import main, memory
from fusedrnn.cli.config import FAMILIES, LEARNING_RATES, TrainConfig
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.model import build_model, parameter_bytes, parameter_shapes

NUMBERS = [
    *("0", "-0.0", "-1", "1", "2", "7", "0.5", "1e3", "1e30", "1e308", "1e400", "1e-30", "1e-320", "5e-324"),
    *(
        "0.9999999999999999",
        "1e-17",
        "nan",
        "inf",
        "-inf",
        "",
        " ",
        "x",
        "0x10",
        "1_0",
        "１２",
        "\x1b[2J",
        "\udcff",
    ),
    *("2147483647", "2147483648", "9" * 19, "1" + "0" * 30, "1" + "0" * 400, "9" * 5000),
]
OPTIONS = [
    *(
        "hidden",
        "layers",
        "embedding",
        "dropout",
        "recurrent-dropout",
        "zoneout",
        "weight-dropout",
        "seq-len",
        "batch",
        "lr",
        "warmup",
        "clip-norm",
        "weight-decay",
    ),
    *("epochs", "validation", "seed", "minutes", "every", "threads"),
]
SMALLEST = ["--hidden", "4", "--embedding", "3", "--batch", "2", "--seq-len", "8"]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pictures; a machine of little memory, so that a size that could be had is not asked for."""
    monkeypatch.setattr(fusedrnn.cli.plot, "_drawn", lambda *_: b"")
    monkeypatch.setattr(memory, "available", lambda: 10**8)
    threads = fr.get_num_threads()
    yield
    fr.set_num_threads(threads)


def attempt(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> object:
    """The status; a failure is one line without control characters, after the usage for wrong options."""
    capsys.readouterr()
    try:
        status: object = main(arguments)
        lines = 1
    except SystemExit as ended:
        status, lines = ended.code, 20
    err = capsys.readouterr().err
    assert status in (0, 1, 2), arguments
    if status:
        assert 1 <= err.count("\n") <= lines, err
        assert err.rstrip("\n").splitlines()[-1].isprintable(), err
        assert len(err) < 3000
    else:
        assert err == ""
    return status


@pytest.mark.parametrize("seed", range(6))
def test_any_option_with_any_value(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    book = str(write_book(tmp_path))
    done = 0
    for _ in range(25):
        chosen = {name: rng.choice(NUMBERS) for name in rng.sample(OPTIONS, rng.choice((1, 1, 2)))}
        if "epochs" in chosen or "minutes" not in chosen:
            chosen["minutes"] = "1e-9"
        chosen.setdefault("epochs", "0.01")  # one update
        more = ["--cell", rng.choice(FAMILIES), "--optimizer", rng.choice(sorted(LEARNING_RATES))]
        more += ["--dtype", rng.choice(("float32", "float64")), *(f"--{n}={v}" for n, v in chosen.items())]
        done += attempt(["train", book, "--output", str(tmp_path / "out"), *SMALLEST, *more], capsys) == 0
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert done > 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--lr=1e308", "--lr: must be at most 1e+30, it is 1e308"),
        ("--lr=1e400", "--lr: must be finite, it is 1e400"),
        ("--hidden=1e3", "--hidden: must be a whole number, it is '1e3'"),
        ("--hidden=" + "9" * 30, "--hidden: must be at most 2147483647, it is 9999"),
        ("--batch=" + "9" * 5000, "--batch: must be a whole number, it is '9999"),
        ("--epochs=1e308", "--epochs: must be at most 1e+12, it is 1e308"),
        ("--threads=" + "9" * 30, "--threads: must be at most 2147483647"),
        ("--dropout=nan", "--dropout: must be finite, it is nan"),
    ],
    ids=lambda v: v[:20],
)
def test_what_a_value_must_be(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", option])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_seed_may_have_any_number_of_digits(tmp_path: Path) -> None:
    book, out = str(write_book(tmp_path)), str(tmp_path / "out")
    seed = "1" + "0" * 400
    assert main(["train", book, "--output", out, *SMALLEST, "--minutes", "1e-9", "--seed", seed]) == 0
    assert main(["sample", out, "--length", "3", "--seed", seed]) == 0
    assert main(["train", "--resume", out, "--minutes", "1e-9"]) == 0


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["bf16", "--dtype", "float64"], 2, "--precision bf16 rounds float32, and --dtype is float64"),
        (["tf32"], 1, "--precision tf32: precision='tf32' is not offered on the CPU: that has 'ieee'"),
    ],
)
def test_precisions_that_cannot_be_had(
    options: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = str(write_book(tmp_path))
    assert message in failure(capsys, book, *SMALLEST, "--precision", *options, status=status)


@pytest.mark.parametrize("validation", ["5e-324", "1e-9", "0.9999999999999999"])
def test_shares_of_a_text_that_are_none(
    validation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failure(capsys, str(write_book(tmp_path)), *SMALLEST, "--validation", validation)
    assert "the text is too short: it has 2016 characters" in line
    assert f"--validation {float(validation)}" in line


def test_more_memory_than_the_machine_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = str(write_book(tmp_path))
    for option in ("--hidden=20000", "--layers=60000", "--embedding=1000000000"):
        line = failure(capsys, book, "--output", str(tmp_path / "out"), *SMALLEST, option)
        assert "not enough memory: this run needs about " in line
        assert "lower --hidden, --layers, --embedding, --batch or --seq-len" in line
    assert not (tmp_path / "out").exists()


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    machine = memory.available()
    assert 2**26 < machine < 2**50
    (tmp_path / "max").write_text("12345\n")
    monkeypatch.setattr(memory, "_GROUP_LIMIT", tmp_path / "max")
    assert memory.available() == 12345
    monkeypatch.setattr("resource.getrlimit", lambda _: (123, 456))
    assert memory.available() == 123
    with pytest.raises(
        CommandError, match=r"not enough memory: it needs about 1 GiB, there are .* GiB: do less"
    ):
        memory.require(2**30, "it", "do less")


@pytest.mark.parametrize("cell", FAMILIES)
@pytest.mark.parametrize("layers", [1, 3])
def test_shapes_are_those_of_the_model(cell: str, layers: int) -> None:
    config = TrainConfig(cell=cell, layers=layers, hidden=5, embedding=3, dtype="float64")
    state = build_model(7, config).state_dict()
    assert {name: array.shape for name, array in state.items()} == parameter_shapes(7, config)
    assert sum(array.nbytes for array in state.values()) == parameter_bytes(7, config)
