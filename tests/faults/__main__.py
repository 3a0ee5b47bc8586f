"""All inputs that once gave something wrong, on one or more builds of the package, as a table.

    python tests/faults                                          # of the package that is installed
    python tests/faults f9336c7=BUILD now=BUILD --write bench/results/faults.md

BUILD is a folder that holds a built `fusedrnn`. Nothing in the table is written by hand but the inputs and
what is right: each cell is what that build made of the input, in a process with limits (`worker.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KINDS = {
    "1": "Numbers that were wrong in silence",
    "2": "Data that was lost",
    "3": "Crashes, hangs, and memory or time without a limit",
    "4": "Errors that did not help",
    "5": "Hardening",
}
HEADER = """# Inputs that once gave something wrong

`python tests/faults {words}` made this table: {columns}. Each input ran in a process of
its own, under limits of time and memory; each cell is what that build made of it, in bold where that
is right: by PyTorch, by float64 or by a closed form. `tests/test_faults.py` holds the last column.

{summary}
"""


def results(path: str | None) -> dict[tuple[str, str], dict[str, Any]]:
    """What a build makes of every input, by kind and name."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(Path(path).resolve())
    command = [sys.executable, str(HERE / "worker.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        rows = [json.loads(line) for line in process.stdout]
    if process.returncode:
        raise SystemExit(f"worker.py ended with status {process.returncode}")
    return {(row["kind"], row["name"]): row for row in rows}


def cell(text: str, most: int = 130) -> str:
    """A text for a cell of a table: one line, not too long, nothing that changes from run to run."""
    for changing, instead in ((r"0x[0-9a-f]{6,}", "0x.."), (r"DIR/tmp\w{8}", "DIR"), (r"\s+", " ")):
        text = re.sub(changing, instead, text)
    text = text.replace("|", "/")
    return text if len(text) <= most else text[:most] + " .."


def table(columns: dict[str, dict[tuple[str, str], dict[str, Any]]], words: str) -> str:
    last = list(columns.values())[-1]
    counts = {name: sum(row["right"] for row in rows.values()) for name, rows in columns.items()}
    summary = ", ".join(f"{name}: {count} of {len(last)} right" for name, count in counts.items())
    lines = [HEADER.format(words=words, columns=" and ".join(columns), summary=summary + ".")]
    for number, title in KINDS.items():
        lines += [f"## {number}. {title}", ""]
        lines += [
            "| kind | input | right | " + " | ".join(columns) + " |",
            "|---|---|---|" + "---|" * len(columns),
        ]
        for key, row in last.items():
            if key[0].split(".")[0] != number:
                continue
            cells = [cell(rows[key]["gives"]) for rows in columns.values()]
            marked = [
                f"**{c}**" if rows[key]["right"] else c
                for c, rows in zip(cells, columns.values(), strict=True)
            ]
            lines.append("| " + " | ".join([key[0], cell(key[1]), cell(row["expected"]), *marked]) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("builds", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--write", type=Path, metavar="FILE")
    given = parser.parse_args()
    builds = dict(build.split("=", 1) for build in given.builds) or {"installed": None}
    text = table(
        {name: results(path) for name, path in builds.items()}, " ".join(f"{name}=BUILD" for name in builds)
    )
    if given.write:
        given.write.write_text(text, "utf-8")
    print(text if not given.write else text.split("\n## ")[0])


if __name__ == "__main__":
    main()
