"""Turns measured plans into cuda/recurrent/plan_table.hpp, by which CUDA's plans are chosen.

  python bench/plan_table.py RESULTS.json ...    writes the table, and says what it holds
  python bench/plan_table.py                     the table of nothing measured: every entry is step

RESULTS.json are files of bench_rnn.py --device cuda: of each row the plans' times, which are for a cell, a
precision, H and B on one device. An entry is the plan of the least time, step where another is not faster by
2 %: of two that are as fast the simpler one. Rows of an emulator are refused.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fusedrnn._core.cells import CELLS, PRECISIONS

TABLE = Path(__file__).resolve().parents[1] / "cuda" / "recurrent" / "plan_table.hpp"
PLANS = ("step", "cluster", "grid")  # those that are chosen, the simplest first
WORTH = 1.02  # how much faster a plan must be than a simpler one
UNMEASURED = "Nothing has been measured yet: every entry is step."


HEADER = """\
// Which plan was the fastest where, written by bench/plan_table.py. The entry of the nearest H and B counts;
// where there is none of a cell, precision and device, it is step.
//
// {heading}
#pragma once

#include "backend/backend.hpp"

namespace fusedrnn::cuda {{

struct PlanRow {{
  int32_t compute_major;  // of the device's compute capability
  CellKind cell;
  Precision precision;
  int64_t H, B;
  PlanKind plan;
}};

// clang-format off
constexpr PlanRow kPlanTable[] = {{
{rows}
}};
// clang-format on

}}  // namespace fusedrnn::cuda
"""


class Key(NamedTuple):
    """What an entry is for."""

    compute_major: int
    cell: str
    precision: str
    H: int
    B: int


def measurements(contents: Mapping[str, Any]) -> Iterator[tuple[Key, dict[str, float]]]:
    """Each row's key and its plans' times, of one result file.

    Raises:
        ValueError: the rows are not those of a GPU.
    """
    for row in contents["rows"]:
        device = str(contents["runs"][row["run"]]["machine"].get("device", ""))
        capability = re.search(r"compute capability (\d+)\.\d", device)
        if capability is None or "emulator" in device:
            raise ValueError(f"{row['name']}: measured on {device or 'no GPU'!r}, not on a GPU")
        shape, plans = row["notes"]["shape"], row["notes"]["plans"]
        times = {plan: float(plans[plan]) for plan in PLANS if plan in plans}
        key = Key(int(capability[1]), shape["cell"], shape["precision"], int(shape["H"]), int(shape["B"]))
        if times:
            yield key, times


def fastest(times: Mapping[str, float]) -> str:
    """The plan to take: the first that no later one beats by as much as is worth it."""
    best = next(plan for plan in PLANS if plan in times)
    for plan in PLANS:
        if plan in times and times[plan] * WORTH < times[best]:
            best = plan
    return best


def entries(files: Iterable[Mapping[str, Any]]) -> dict[Key, str]:
    """The table's entries. Where a key was measured more than once (training, inference), times are added."""
    together: dict[Key, list[dict[str, float]]] = {}
    for contents in files:
        for key, times in measurements(contents):
            together.setdefault(key, []).append(times)
    table = {}
    for key, rows in sorted(together.items()):
        common = set.intersection(*(set(times) for times in rows))
        if common:
            table[key] = fastest({plan: sum(times[plan] for times in rows) for plan in common})
    return table


def unmeasured() -> dict[Key, str]:
    """An entry of step for every cell that CUDA takes, which units' own weights are not."""
    cells = [name for name, cell in CELLS.items() if all(w.role != "per_unit" for w in cell.weights)]
    return {Key(9, cell, precision, 1, 1): "step" for cell in cells for precision in PRECISIONS}


def text_of(table: Mapping[Key, str], sources: Iterable[str]) -> str:
    """The header."""
    said = " ".join(sources)
    heading = f"Measured: {said}." if said else UNMEASURED
    rows = [
        f"    {{{key.compute_major}, CellKind::{key.cell}, Precision::{key.precision}, {key.H}, {key.B}, "
        f"PlanKind::{plan}}},"
        for key, plan in table.items()
    ]
    return HEADER.format(heading=heading, rows="\n".join(rows))


def main(arguments: list[str] | None = None) -> int:
    """Writes the table. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path, help="files of bench_rnn.py --device cuda")
    parser.add_argument("--output", type=Path, default=TABLE, help="instead of cuda/recurrent/plan_table.hpp")
    options = parser.parse_args(arguments)
    if not options.results:
        options.output.write_text(text_of(unmeasured(), []))
        print(UNMEASURED)
        return 0
    try:
        table = entries(json.loads(path.read_text()) for path in options.results)
    except (OSError, ValueError, KeyError) as error:
        print(f"plan_table: {error}", file=sys.stderr)
        return 1
    if not table:
        print("plan_table: no row has times of plans", file=sys.stderr)
        return 1
    options.output.write_text(text_of(table, [path.name for path in options.results]))
    for key, plan in table.items():
        print(*key, plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
