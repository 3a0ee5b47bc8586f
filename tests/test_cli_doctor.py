"""`fusedrnn doctor` and the command's own help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fusedrnn as fr
from fusedrnn.cli import main


def doctor(
    path: Path | None = None, command: str = "doctor", **settings: str
) -> subprocess.CompletedProcess[str]:
    """The report of a process of its own, with settings in its environment; `path` has a sitecustomize."""
    words = [sys.executable, "-m", "fusedrnn", command]
    places = os.pathsep.join([*([str(path)] if path else []), str(Path(fr.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": places, **settings}
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)


def test_report_says_what_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"fusedrnn         {fr.__version__}" in text
    assert f"instructions     {fr.cpu.isa()} (" in text
    assert f"available: {', '.join(fr.cpu.available_isas())}" in text
    assert f"threads          {fr.get_num_threads()} (from: " in text
    for words in ("numpy", "physical", "L1d", "L2", "L3", "tqdm", "matplotlib", "safetensors"):
        assert words in text
    tiles = "amx" in fr.cpu.available_isas()
    assert ("bfloat16 tiles   multiplied by AMX" in text) == tiles
    assert ("bfloat16 tiles   not multiplied: " in text) == (not tiles)
    assert f"precision        {'bf16' if fr.cpu.isa() == 'amx' else 'ieee'}: " in text
    reason = fr.cuda.why_not()
    assert ("usable           yes" if reason is None else f"usable           no: {reason}") in text


def test_report_follows_the_environment() -> None:
    result = doctor(FUSEDRNN_ISA="scalar", FUSEDRNN_NUM_THREADS="3")
    assert result.returncode == 0
    assert "scalar (FUSEDRNN_ISA=scalar)" in result.stdout
    assert "threads          3 (from: FUSEDRNN_NUM_THREADS" in result.stdout
    assert "FUSEDRNN_ISA=scalar, FUSEDRNN_NUM_THREADS=3" in result.stdout


def test_missing_extra_is_named(tmp_path: Path) -> None:
    """A path finder that hides tqdm, as where it is not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'tqdm' else found(name, *rest)\n"
    )
    result = doctor(tmp_path)
    assert result.returncode == 0, result.stderr
    assert (
        "tqdm             not installed: fusedrnn train needs it: pip install 'fusedrnn[train]'"
        in result.stdout
    )
    assert "safetensors      not installed" not in result.stdout


def test_broken_compiled_module_is_explained(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fusedrnn._native'] = None\n")
    result = doctor(tmp_path)
    assert result.returncode == 1
    assert "compiled module  cannot be used: " in result.stdout
    assert result.stderr == ""
    result = doctor(tmp_path, command="train")
    assert result.returncode == 1
    assert result.stderr.startswith("fusedrnn train: import of fusedrnn._native halted")


@pytest.mark.parametrize(
    ("name", "value"), [("FUSEDRNN_ISA", "z80"), ("FUSEDRNN_NUM_THREADS", "many"), ("OMP_NUM_THREADS", "4")]
)
def test_environment_that_cannot_be_followed(name: str, value: str, tmp_path: Path) -> None:
    """Ours must be right, and say so in one line in every command; OpenMP's is somebody else's."""
    result = doctor(**{name: value})
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1]), name: value}
    command = [sys.executable, "-m", "fusedrnn", "train", "--epochs", "0.001", "--hidden", "4"]
    trained = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment
    )
    if name.startswith("OMP"):
        assert result.returncode == trained.returncode == 0
        return
    assert result.returncode == trained.returncode == 1
    assert result.stderr == ""
    assert f"compiled module  cannot be used: {name} " in result.stdout
    (line,) = trained.stderr.splitlines()
    assert line.startswith(f"fusedrnn train: {name} ")
    assert f"'{value}'" in line


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fusedrnn {fr.__version__}\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for words in ("train", "sample", "doctor", "start here:"):
        assert words in text


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_status_is_whether_the_device_can_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = {"why_not": "it is Sunday", "path": None, "memory": None, "not_used": []}
    monkeypatch.setattr("fusedrnn._native.cuda_info", lambda: info)
    assert main(["doctor", "--device", "cuda"]) == 1
    assert "usable           no: it is Sunday" in capsys.readouterr().out
    assert main(["doctor", "--device", "auto"]) == 0
    assert main(["doctor"]) == 0
    info["why_not"] = None
    monkeypatch.setattr("fusedrnn._native.cuda_device", lambda: "cuda:0, a GPU")
    assert main(["doctor", "--device", "cuda"]) == 0
