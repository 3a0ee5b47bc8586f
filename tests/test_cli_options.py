"""Options of any value: a run, or a message that says what the value must be; never anything else."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import assert_same_bits, failure, write_book
from variants import VARIANTS

import fusedrnn as fr
import fusedrnn.cli.plot
from fusedrnn.cli import main, memory
from fusedrnn.cli.checkpoint import load
from fusedrnn.cli.config import FAMILIES, LEARNING_RATES, TrainConfig
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.fields import INITS, spelled
from fusedrnn.cli.model import build_model, cell_of, parameter_bytes, parameter_shapes, state_shapes
from fusedrnn.nn.initial_weights import SCHEMES

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
WORDS = ["auto", "chrono", "chrono:2", "chrono:30", "chrono:1e3", "keras", "orthogonal", "identity"]
OPTIONS = [
    *(
        item.name.replace("_", "-")
        for item in fields(TrainConfig)
        if not item.metadata.get("choices") and not isinstance(item.default, bool)
    ),
    *("minutes", "every", "threads"),
]
WORDED = ("init", "recompute")
FLAGS = [item.name for item in fields(TrainConfig) if isinstance(item.default, bool)]
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
    for _ in range(30):
        names = rng.sample(OPTIONS, rng.choice((1, 1, 2)))
        chosen = {n: rng.choice(WORDS if n in WORDED and rng.random() < 0.7 else NUMBERS) for n in names}
        if "epochs" in chosen or "minutes" not in chosen:
            chosen["minutes"] = "1e-9"
        chosen.setdefault("epochs", "0.01")  # one update
        more = ["--cell", rng.choice(FAMILIES), "--optimizer", rng.choice(sorted(LEARNING_RATES))]
        more += ["--dtype", rng.choice(("float32", "float64")), *(f"--{n}={v}" for n, v in chosen.items())]
        more += [
            spelled(name, rng.choice((True, False))) for name in rng.sample(FLAGS, rng.choice((0, 0, 0, 1)))
        ]
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
        ("--forget-bias=inf", "--forget-bias: must be finite, it is inf"),
        ("--proj-size=-1", "--proj-size: must be at least 0, it is -1"),
        ("--recompute=all", "--recompute: must be a whole number of steps, or auto, it is 'all'"),
        ("--recompute=-1", "--recompute: must be a whole number of steps, or auto, it is '-1'"),
        ("--recompute=" + "9" * 15, "--recompute: must be at most 2147483647, it is '9999"),
        (
            "--init=he",
            "--init: must be one of torch, keras, glorot, orthogonal, identity, or chrono:STEPS, it",
        ),
        (
            "--init=chrono",
            "--init: must be one of torch, keras, glorot, orthogonal, identity, or chrono:STEPS",
        ),
        (
            "--init=keras:3",
            "--init: must be one of torch, keras, glorot, orthogonal, identity, or chrono:STEPS",
        ),
        (
            "--init=chrono:2",
            "--init: must be chrono:STEPS, a whole number of steps from 3 on, it is 'chrono:2'",
        ),
        ("--dropout-mode=row", "--dropout-mode: invalid choice: 'row'"),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cell", "gru", "--layer-norm"], "--layer-norm goes with --cell lstm, and --cell is gru"),
        (["--cell", "rnn", "--peephole"], "--peephole goes with --cell lstm, and --cell is rnn"),
        (["--cell", "gru", "--proj-size", "2"], "--proj-size 2 goes with --cell lstm, and --cell is gru"),
        (
            ["--cell", "gru", "--forget-bias", "1"],
            "--forget-bias 1.0 goes with --cell lstm, and --cell is gru",
        ),
        (["--no-reset-after"], "--no-reset-after goes with --cell gru, and --cell is lstm"),
        (["--nonlinearity", "relu"], "--nonlinearity relu goes with --cell rnn, and --cell is lstm"),
        (["--peephole", "--layer-norm"], "--peephole does not go with --layer-norm: use one of the two"),
        (["--peephole", "--proj-size", "2"], "--proj-size 2 does not go with --peephole: use one of the two"),
        (["--proj-size", "4"], "--proj-size 4 must be less than --hidden, which is 4"),
        (["--init", "identity"], "--init identity goes with --cell rnn, and --cell is lstm"),
        (
            ["--cell", "rnn", "--init", "chrono:9"],
            "--init chrono:9 goes with --cell lstm and gru, and --cell is",
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_options_of_layers_that_do_not_go_together(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    line = failure(capsys, str(write_book(tmp_path)), *SMALLEST, "--output", out, *options, status=2)
    assert message in line
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize("cell", VARIANTS)
@pytest.mark.parametrize("layers", [1, 3])
def test_shapes_are_those_of_the_model(cell: str, layers: int) -> None:
    kind, options = VARIANTS[cell]
    given: dict[str, Any] = {"cell": kind.lower(), "layers": layers, "hidden": 5, "embedding": 3}
    config = TrainConfig(**given, **options, dtype="float64").resolved()
    assert cell_of(config).name == cell
    model = build_model(7, config)
    state = model.state_dict()
    _, final = model(np.zeros((2, 6), np.int64), return_state=True)
    states = final[0] if isinstance(final[0], tuple) else final
    assert [s.shape for s in states] == state_shapes(config, 6)
    assert {name: array.shape for name, array in state.items()} == parameter_shapes(7, config)
    assert sum(array.nbytes for array in state.values()) == parameter_bytes(7, config)


def test_schemes_are_those_of_the_layers() -> None:
    assert tuple(SCHEMES) == INITS


# Of each option of the recurrent layer a value that is not the default, with what it needs.
OF_LAYERS: dict[str, dict[str, Any]] = {
    "nonlinearity": {"cell": "rnn", "nonlinearity": "relu"},
    "reset_after": {"cell": "gru", "reset_after": False},
    "peephole": {"peephole": True},
    "layer_norm": {"layer_norm": True},
    "proj_size": {"proj_size": 3},
    "init": {"init": "orthogonal"},
    "forget_bias": {"forget_bias": 3.0},
    "dropout_mode": {"dropout_mode": "sequence", "dropout": 0.1, "layers": 2},
    "recurrent_dropout": {"recurrent_dropout": 0.25},
    "zoneout": {"zoneout": 0.25},
    "weight_dropout": {"weight_dropout": 0.25},
    "recompute": {"recompute": "auto"},
}


def test_every_option_of_layers_is_in_the_table() -> None:
    assert list(OF_LAYERS) == [item.name for item in fields(TrainConfig) if item.metadata.get("layer")]


@pytest.mark.parametrize("name", OF_LAYERS)
def test_every_option_reaches_the_layer(name: str) -> None:
    config = replace(TrainConfig(hidden=5, embedding=3), **OF_LAYERS[name])
    layer = build_model(7, config)[1]
    if name == "init":
        r = layer.weight_hh_l0.data[:5]
        np.testing.assert_allclose(r @ r.T, np.eye(5), atol=1e-6)
    elif name == "forget_bias":
        assert (layer.bias_ih_l0.data[5:10] + layer.bias_hh_l0.data[5:10] == 3).all()
    else:
        kind = fr.nn.RNN if name == "nonlinearity" else fr.nn.GRU if name == "reset_after" else fr.nn.LSTM
        assert type(layer) is kind
        assert getattr(layer, name) == OF_LAYERS[name][name]


def test_steps_of_chrono_reach_the_layer() -> None:
    config = TrainConfig(hidden=400, embedding=3, init="chrono:50")
    layer = build_model(7, config)[1]
    remembers = layer.bias_ih_l0.data[400:800]
    assert 0 <= remembers.min() < 0.5 < 3.5 < remembers.max() <= np.log(49)


@pytest.mark.parametrize("name", OF_LAYERS)
def test_every_option_trains_resumes_samples_and_is_told_apart(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way on the command line; a checkpoint says no to another value."""
    book, out, whole = str(write_book(tmp_path)), str(tmp_path / "out"), str(tmp_path / "whole")
    given = [word for n, v in OF_LAYERS[name].items() for word in spelled(n, v).split()]
    options = [book, *SMALLEST, *given, "--every", "2"]
    assert main(["train", "--output", whole, *options, "--epochs", "0.06"]) == 0
    end = load(Path(whole) / "checkpoint.safetensors")
    assert end.progress["step"] > 3
    assert getattr(end.config, name) == OF_LAYERS[name][name]
    constant = ["--schedule", "constant"]
    assert main(["train", "--output", out, *options, *constant, "--minutes", "1e-9"]) == 0
    assert main(["train", "--resume", out, "--epochs", "0.06"]) == 0
    straight = str(tmp_path / "straight")
    assert main(["train", "--output", straight, *options, *constant, "--epochs", "0.06"]) == 0
    found, expected = (load(Path(d) / "checkpoint.safetensors") for d in (out, straight))
    assert_same_bits(found, expected)
    capsys.readouterr()
    assert main(["sample", out, "--length", "20", "--seed", "1"]) == 0
    once = capsys.readouterr().out
    assert main(["sample", out, "--length", "20", "--seed", "1"]) == 0
    assert capsys.readouterr().out == once
    default = getattr(TrainConfig(), name)
    other = spelled(name, 9.0 if default is None else default).split()
    line = failure(capsys, "--resume", out, *other, status=2)
    assert f"does not fit the run to resume, which has {spelled(name, OF_LAYERS[name][name])}" in line


def test_recomputation_changes_no_bit_of_a_run(tmp_path: Path) -> None:
    book, runs = str(write_book(tmp_path)), []
    for recompute in ("0", "2", "auto"):
        out = tmp_path / recompute
        options = ["--hidden", "8", "--batch", "40", "--seq-len", "16", "--layers", "2", "--epochs", "1"]
        assert main(["train", book, "--output", str(out), *options, "--recompute", recompute]) == 0
        runs.append(load(out / "checkpoint.safetensors"))
    for other in runs[1:]:
        assert_same_bits(replace(other, config=runs[0].config), runs[0])
