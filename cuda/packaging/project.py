"""Writes the Python project of the CUDA plugin for a toolkit: python cuda/packaging/project.py 12 FOLDER

cuda/pyproject.toml is the project for CUDA 13. The others are that one with another major version in their
name, in the folder they install and in their description; csrc/backend/toolkits.hpp has those that fusedrnn
looks for. Then, with a compiler and a toolkit of that version in the environment: pip wheel FOLDER
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "cuda" / "pyproject.toml"
TOOLKITS = ROOT / "csrc" / "backend" / "toolkits.hpp"


def toolkits() -> list[int]:
    """Major versions of CUDA, the best first."""
    (found,) = re.findall(r"kCudaToolkits\[\] = \{([\d, ]+)\}", TOOLKITS.read_text())
    return [int(number) for number in found.split(",")]


def project(toolkit: int) -> str:
    """The text of its pyproject.toml, for a folder that has the licence."""
    text = PROJECT.read_text()
    (own,) = re.findall(r'name = "fusedrnn-cuda(\d+)"', text)
    text = text.replace(f"cuda{own}", f"cuda{toolkit}").replace(f"CUDA {own}", f"CUDA {toolkit}")
    return text.replace('"../LICENSE"', '"LICENSE"').replace('"..', f'"{ROOT}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("toolkit", type=int, choices=toolkits(), help="major version of CUDA")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="that is not there yet")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    (options.folder / "pyproject.toml").write_text(project(options.toolkit))
    shutil.copy(ROOT / "LICENSE", options.folder)


if __name__ == "__main__":
    main()
