"""`fusedrnn sample`: repeatable by seed, faithful to the model's probabilities, clear about what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusedrnn.cli import main
from fusedrnn.cli.checkpoint import checkpoint_path, load
from fusedrnn.cli.generate import choose
from fusedrnn.cli.model import build_model

TEXT = "abcdefgh, and so on.\n" * 200


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a text that repeats every 21 characters, learned by heart."""
    directory = tmp_path_factory.mktemp("sample")
    book = directory / "book.txt"
    book.write_text(TEXT, "utf-8")
    options = ["--hidden", "32", "--embedding", "8", "--batch", "4", "--seq-len", "32", "--lr", "0.02"]
    assert main(["train", str(book), "--output", str(directory / "run"), "--epochs", "8", *options]) == 0
    return directory / "run"


def sample(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["sample", *arguments]) == 0
    return capsys.readouterr().out


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["sample", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_prompt_then_exactly_as_many_characters(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sample(capsys, str(trained), "--prompt", "def", "--length", "50", "--seed", "1")
    assert out.startswith("def")
    assert out.endswith("\n")
    assert len(out) == 3 + 50 + 1
    assert sample(capsys, str(trained), "--prompt", "def", "--length", "0", "--seed", "1") == "def\n"


def test_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run by words samples, resumes to the same bits, and is refused at the other level."""
    book = tmp_path / "book.txt"
    book.write_text(TEXT + "a rare thing.\n", "utf-8")
    options = ["--level", "word", "--hidden", "32", "--embedding", "8", "--batch", "4", "--seq-len", "16"]
    options += ["--lr", "0.02", "--schedule", "constant"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert main(["train", str(book), "--output", whole, "--epochs", "10", *options]) == 0
    assert "different words and characters" in capsys.readouterr().out
    assert main(["train", str(book), "--output", parts, "--epochs", "5", *options]) == 0
    assert main(["train", "--resume", parts, "--epochs", "10"]) == 0
    a, b = (load(checkpoint_path(run)).trees["model"] for run in (whole, parts))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    arguments = ("--prompt", "abcdefgh,", "--length", "51", "--temperature", "0")
    out = sample(capsys, whole, *arguments)
    assert len(out) == 9 + 51 + 1
    assert out[:-1] in TEXT
    assert "does not know the character '!'" in failure(capsys, whole, "--prompt", "a!")
    capsys.readouterr()
    assert main(["train", "--resume", whole, "--level", "char"]) == 2
    assert "--level char does not fit the run to resume" in capsys.readouterr().err


def test_it_writes_what_it_learned(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """State is carried from character to character: what follows 'o' depends on what came before."""
    out = sample(capsys, str(trained), "--prompt", "abcd", "--length", "42", "--temperature", "0")
    assert out[:-1] in TEXT


def test_same_seed_same_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(seed: int) -> str:
        options = ["--length", "200", "--temperature", "3", "--seed", str(seed)]
        return sample(capsys, str(trained / "checkpoint.safetensors"), *options)

    assert written(5) == written(5)
    assert written(5) != written(6)


def test_unseeded_run_tells_its_seed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sample", str(trained), "--length", "80", "--temperature", "3"]) == 0
    captured = capsys.readouterr()
    seed = captured.err.split()[1]
    options = ["--length", "80", "--temperature", "3", "--seed", seed]
    assert sample(capsys, str(trained), *options) == captured.out


def test_stepwise_state_equals_the_whole_sequence(trained: Path) -> None:
    """One character at a time, as sampling reads its own text, gives the scores of one pass over it."""
    saved = load(trained / "checkpoint.safetensors")
    vocabulary = saved.vocabulary
    model = build_model(len(vocabulary), saved.config)
    model.load_state_dict(saved.trees["model"])
    model.eval()
    ids = vocabulary.encode("abc, and so")
    whole = model(ids[:, None])
    state = None
    for t in range(len(ids)):
        scores, state = model(ids[t : t + 1, None], state=state, return_state=True)
        assert scores[0, 0].tobytes() == whole[t, 0].tobytes()


def test_choices_follow_the_probabilities() -> None:
    scores = np.array([0.3, -1.0, 2.0, 1.0], np.float32)
    for temperature in (0.5, 1.0, 2.0):
        rng = np.random.default_rng(0)
        counts = np.bincount([choose(scores, temperature, rng) for _ in range(20_000)], minlength=4)
        wanted = np.exp(scores / temperature) / np.exp(scores / temperature).sum()
        error = np.sqrt(wanted * (1 - wanted) / 20_000)
        assert np.all(np.abs(counts / 20_000 - wanted) < 4 * error)
    assert choose(scores, 0.0, np.random.default_rng(0)) == 2
    assert choose(np.array([1e30, -1e30, 3e38], np.float32), 0.01, np.random.default_rng(0)) == 2


def test_unknown_character(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, str(trained), "--prompt", "abcZ")
    assert line == "fusedrnn sample: the model does not know the character 'Z'"


def test_empty_prompt(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--prompt is empty" in failure(capsys, str(trained), "--prompt", "")


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, str(tmp_path))
    assert line.endswith("checkpoint.safetensors: No such file or directory")


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_damaged_checkpoint(
    share: float, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = (trained / "checkpoint.safetensors").read_bytes()
    path = tmp_path / "half.safetensors"
    path.write_bytes(raw[: int(len(raw) * share)])
    assert f"{path} is damaged or no safetensors file" in failure(capsys, str(path))


def test_reader_that_leaves_early(trained: Path) -> None:
    command = f"{sys.executable} -m fusedrnn sample {trained} --length 20000 --seed 1 | head -c 10"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert len(result.stdout) == 10
    assert result.stderr == ""


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    text = capsys.readouterr().out
    for words in (
        "--prompt",
        "(default: 0.8)",
        "(default: 500)",
        "examples:",
        "The same seed gives the same text",
    ):
        assert words in text
