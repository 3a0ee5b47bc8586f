"""What a run reads and logs: text, vocabulary, batches, schedules, metrics."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import SMALL, metrics, small_training, write_book

import fusedrnn.cli.plot
from fusedrnn.cli import main
from fusedrnn.cli.errors import CommandError, UsageError
from fusedrnn.cli.metrics import MetricsLog, Row
from fusedrnn.cli.options import RunOptions
from fusedrnn.cli.plot import plot_training
from fusedrnn.cli.text import Streams, Text, read_files, split
from fusedrnn.cli.train import _training
from fusedrnn.cli.training import Training
from fusedrnn.cli.vocabulary import Characters, Words, saved, vocabulary_of


# ------------------------------------------------------------------------------- metrics
def row(step: int, held_out: float | None = None) -> Row:
    return Row(step, step / 7, 1 / 3, 2.5, 0.125, held_out, 1e6 / 3, step * 0.1)


def test_metrics_go_on_where_the_checkpoint_is(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path, 0)
    for step in range(1, 6):
        log.add(row(step, 1.75 if step == 2 else None))
    log.close()
    with path.open("a") as file:
        file.write("6,0.85")  # cut off by a crash
    log = MetricsLog(path, 3)  # the last checkpoint was before the crash
    log.add(row(4))
    log.close()
    assert [r["step"] for r in metrics(tmp_path)] == ["1", "2", "3", "4"]
    assert [r["validation_bits_per_char"] for r in metrics(tmp_path)] == ["", "1.75", "", ""]
    assert [r.step for r in log.rows] == [1, 2, 3, 4]
    assert log.rows[1].validation_bits_per_char == 1.75
    assert log.rows[0].learning_rate == pytest.approx(1 / 3, rel=1e-7)


@pytest.mark.parametrize(
    "text", ["name,age\nada,36\ngrace,85\n", "name,age\nada,36\n", "name,age\n", "x", "\0" * 5000]
)
def test_metrics_of_another_program_are_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    for step in (0, 3):
        with pytest.raises(CommandError, match="line 1 is no line of metrics"):
            MetricsLog(path, step)
    assert path.read_text() == text


# ------------------------------------------------------------------------------- pictures
ROWS = [row(1), row(2, 1.75), Row(3, 0.5, 1e-320, 1e308, math.inf, math.nan, 1e6, 1.0)]
NAMES = [
    "a $b",
    r"\foo$.txt",
    "日本語😀",
    "\udcff\n\x1b[31m",
]  # together a formula that matplotlib cannot read


def test_any_name_and_any_number_can_be_drawn(tmp_path: Path) -> None:
    title = Text("", tuple(f"/tmp/{name}" for name in NAMES)).title
    assert title.isprintable()
    assert plot_training(tmp_path / "t.png", ROWS, title, 1.0) is None
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_gradient_flow_is_a_panel_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = []
    drawn = fusedrnn.cli.plot.gradient_flow

    def counted(flow: Any, axes: Any) -> Any:
        panels.append(flow)
        return drawn(flow, axes)

    monkeypatch.setattr(fusedrnn.cli.plot, "gradient_flow", counted)
    book, out = str(write_book(tmp_path)), tmp_path / "out"
    assert main(["train", book, "--output", str(out), "--epochs", "0.2", *SMALL]) == 0
    assert (out / "training.png").exists()
    assert panels[-1][0]["h"].ndim == 3
    assert (panels[-1][0]["h"] > 0).all()


@pytest.mark.parametrize("flow", ["--flow", "--no-flow"])
def test_gradient_flow_may_be_left_out(flow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(fusedrnn.cli.plot, "_drawn", lambda *given: drawn.append(given[-1]) or b"")
    book, out = str(write_book(tmp_path)), tmp_path / "out"
    assert main(["train", book, "--output", str(out), "--epochs", "0.2", flow, *SMALL]) == 0
    assert (drawn[-1] is None) == (flow == "--no-flow")


def test_gradient_flow_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    options = RunOptions(flow=True)
    training = small_training()
    training.device = "cuda"
    monkeypatch.setattr("fusedrnn.cli.train.Training", lambda *_: training)
    with pytest.raises(UsageError, match="--flow: gradient flow is not on CUDA yet: leave it out"):
        _training(training.config, training.text, options)
    for flow in (None, False):
        assert _training(training.config, training.text, RunOptions(flow=flow)) is training


def test_a_picture_that_cannot_be_drawn_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("latex was not found")

    monkeypatch.setattr(fusedrnn.cli.plot, "_drawn", fail)
    book, out = str(write_book(tmp_path)), tmp_path / "out"
    assert main(["train", book, "--output", str(out), "--epochs", "0.1", *SMALL]) == 0
    assert f"cannot draw {out}/training.png: latex was not found" in capsys.readouterr().err
    assert not (out / "training.png").exists()


def test_titles_of_many_files_are_short() -> None:
    assert Text("", ("/a/b.txt", "/c.txt")).title == "b.txt, c.txt"
    title = Text("", tuple(f"/{i}.txt" for i in range(5000))).title
    assert title.endswith("... (5000 files)")
    assert len(title) <= 100
    assert len(Text("", ("x" * 300,)).title) == 80


# ------------------------------------------------------------------------------- text, batches
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "fifo"])
def test_only_files_that_can_be_read_again_are_texts(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(
        CommandError, match=f"cannot read {path}: it is a pipe or a device, not a regular file"
    ):
        read_files([path])


def test_no_more_is_read_than_a_stored_length_allows(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("é😀" * 10, "utf-8")
    assert read_files([str(path)], 20).characters == "é😀" * 10
    with path.open("ab") as file:
        file.truncate(2**40)  # of which the disk holds nothing
    with pytest.raises(CommandError, match="is longer than that"):
        read_files([str(path)], 20)
    with pytest.raises(CommandError, match="not enough memory: a text of 1099511627776 bytes"):
        read_files([str(path)])


def test_streams_cover_the_text_in_order() -> None:
    ids = np.arange(101)
    streams = Streams(ids, batch=4, length=5)
    assert streams.windows == 5
    for row in range(4):
        inputs = np.concatenate([streams.window(k)[0][:, row] for k in range(5)])
        targets = np.concatenate([streams.window(k)[1][:, row] for k in range(5)])
        assert inputs.tolist() == list(range(25 * row, 25 * row + 25))
        assert targets.tolist() == (inputs + 1).tolist()


@pytest.mark.parametrize("length", [0, 1, 2, 50])
def test_texts_without_a_single_window(length: int) -> None:
    with pytest.raises(CommandError, match=f"it has {length} characters"):
        split(np.zeros(length, np.int64), 0.05, 32, 64)


def test_tail_is_never_trained_on() -> None:
    train, tail = split(np.arange(10_000), 0.1, batch=4, length=8)
    seen = np.concatenate([np.concatenate(train.window(k)).ravel() for k in range(train.windows)])
    held = np.concatenate([tail.window(k)[0].ravel() for k in range(tail.windows)])
    assert seen.max() < 9000 <= held.min()
    assert len(held) > 900


def test_vocabulary_is_sorted_and_exact() -> None:
    vocabulary = Characters.of("banana€😀\n")
    assert vocabulary.pieces == "\nabn€😀"
    assert vocabulary.decode(vocabulary.encode("nab😀")) == "nab😀"
    for unknown in ("x", "😁", "\0", "\udc80"):  # between, above and below those it knows, and no text at all
        with pytest.raises(CommandError, match=f"does not know the character {re.escape(repr(unknown))}"):
            vocabulary.encode("ban" + unknown)


WORDY = "the cat, the cat; the\tdog  sat on the_mat\n\nthe cat é😀 ran -- ran\r\n" * 3


@given(text=st.text("ab \t\n.,;_é😀1", max_size=60))
def test_words_one_after_the_other_are_the_text(text: str) -> None:
    vocabulary = Words.of(text + WORDY, 5)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary_of(text + WORDY, "word", 5) == vocabulary


def test_frequent_words_are_known_and_others_spelled() -> None:
    """A word carries the blank before it: " the" and "the" are two."""
    vocabulary = Words.of(WORDY, 3)
    characters = sorted(set(WORDY))
    assert vocabulary.pieces == [*characters, " cat", " ran", " the"]
    assert len(vocabulary.encode(" cat")) == 1
    assert len(vocabulary.encode(" dog")) == 4
    assert Words.of("once upon", 9).pieces == sorted(set("once upon"))  # nothing comes twice
    with pytest.raises(CommandError, match="does not know the character 'X'"):
        vocabulary.encode("the Xcat")


def test_a_vocabulary_comes_back_from_a_checkpoint() -> None:
    for level in ("char", "word"):
        vocabulary = vocabulary_of(WORDY, level, 100)
        assert saved(json.loads(json.dumps(vocabulary.to_json())), level) == vocabulary


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "it must be a list of words"),
        ([], "it must be a list of words"),
        (["a", ""], "it must be a list of words"),
        (["a", 3], "it must be a list of words"),
        (["a", "a"], "each word once"),
        (["a", "ab"], "each character of its words"),
        (["a", "\ud800"], "half a surrogate pair"),
    ],
)
def test_words_of_a_checkpoint_that_are_none(value: Any, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        saved(value, "word")


def test_bits_of_both_levels_are_of_a_character(tmp_path: Path) -> None:
    """Guessing blindly among V pieces of n characters each costs log2(V) / n bits for a character."""
    chars = small_training()
    assert chars.blind_bits == pytest.approx(np.log2(len(chars.vocabulary)), rel=1e-12)
    words = Training(replace(chars.config, level="word"), Text(WORDY * 9, ()))
    a_character = len(words.vocabulary.encode(words.text.characters)) / len(words.text.characters)
    assert a_character < 0.7
    assert words.blind_bits == pytest.approx(np.log2(len(words.vocabulary)) * a_character, rel=1e-12)
    assert words.step().bits_per_char == pytest.approx(words.blind_bits, rel=0.1)
    assert words.characters_per_step == round(words.streams.batch * words.streams.length / a_character)


def test_schedules() -> None:
    for schedule, middle in (("cosine", 0.525), ("linear", 0.525), ("constant", 1.0)):
        training = small_training(schedule=schedule, lr=2.0, warmup=4)
        total = training.total_steps
        assert total is not None
        rates = [training.schedule(step) for step in range(total + 1)]
        assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
        assert rates[4] == 2.0
        assert rates[(total + 4) // 2] == pytest.approx(2 * middle, rel=0.05)
        assert rates[total] == pytest.approx(2.0 if schedule == "constant" else 0.1)
        assert np.all(np.diff(rates[4:]) <= 0)


def test_streams_start_at_equal_distances_whatever_is_left_of_each() -> None:
    streams = Streams(np.arange(31), batch=3, length=4)  # 10 to a stream, of which two windows take 8
    assert streams.windows == 2
    assert streams.window(0)[0][0].tolist() == [0, 10, 20]
    assert streams.window(1)[1][-1].tolist() == [8, 18, 28]
