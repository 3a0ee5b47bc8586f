"""The list of checks in .ci, and what runs it: sizes, order, side by side, the first failure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".ci"
if not FOLDER.exists():
    pytest.skip("an sdist has no .ci", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from checks import CHECKS, COMPILERS, SETUP, SIZES, TOOLS, Check  # noqa: E402
from run_checks import Ran, chosen, in_order, side_by_side, start  # noqa: E402

ALL = [*SETUP, *CHECKS]
MINUTES = {"quick": 12, "plain": 65}  # on two cores


def sized(name: str) -> int:
    return SIZES.index(next(check.size for check in ALL if check.name == name))


# ---------------------------------------------------------------------------------------------- the list
def test_names_are_unique_and_what_a_check_needs_comes_before_it_and_runs_with_it() -> None:
    names = [check.name for check in ALL]
    assert len(set(names)) == len(names)
    for i, check in enumerate(ALL):
        assert set(check.after) <= set(names[:i]), check.name
        assert all(sized(name) <= sized(check.name) for name in check.after), check.name


@pytest.mark.parametrize("size", MINUTES)
def test_costs_fit_into_the_time_of_a_size(size: str) -> None:
    assert sum(check.cost for check in chosen(size)) <= 2 * 60 * MINUTES[size]


def test_each_size_contains_the_smaller_one() -> None:
    quick, plain, everything = ({check.name for check in chosen(size)} for size in SIZES)
    assert quick < plain < everything == {check.name for check in ALL}


def test_chosen_checks_come_with_what_they_need() -> None:
    assert [check.name for check in chosen("plain", ["lint"])] == ["packages", "tools", "lint"]
    with pytest.raises(SystemExit, match=r"there is no check 'lnt'; there are packages, .*lint"):
        chosen("plain", ["lnt"])


def test_commands_are_bash() -> None:
    for check in ALL:
        parsed = subprocess.run(["bash", "-n", "-c", check.command], capture_output=True, text=True)
        assert parsed.returncode == 0, (check.name, parsed.stderr)


def test_the_cuda_plugin_is_built_for_every_toolkit_that_has_a_package() -> None:
    text = (ROOT / "csrc" / "backend" / "toolkits.hpp").read_text()
    (versions,) = re.findall(r"kCudaToolkits\[\] = \{([\d, ]+)\}", text)
    assert {str(version) for version in COMPILERS} == set(versions.split(", "))
    assert {f"plugin{version}" for version in COMPILERS} <= {check.name for check in CHECKS}


def test_hooks_before_a_commit_use_the_pinned_tools() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pinned = dict(tool.split("==") for tool in TOOLS if "==" in tool)
    found = dict(re.findall(r"repo: \S+/(ruff|mirrors-clang-format)\S*\n +rev: v(\S+)", hooks))
    assert found == {"ruff": pinned["ruff"], "mirrors-clang-format": pinned["clang-format"]}


# --------------------------------------------------------------------------------------------- the runner
def run(
    tmp_path: Path, checks: list[Check], at_once: int = 2, keep_going: bool = False
) -> tuple[list[Ran], str]:
    said: list[str] = []

    def begin(check: Check) -> Ran:
        return start(check, tmp_path, tmp_path, dict(os.environ))

    ended = side_by_side(checks, at_once, begin, said.append, keep_going=keep_going)
    return ended, "\n".join(said)


def check(name: str, command: str, *after: str, cost: int = 1) -> Check:
    return Check(name, "", command, cost, after=after)


def test_two_run_at_once_and_each_log_comes_whole(tmp_path: Path) -> None:
    # Each waits for the other, for a minute at most.
    meet = (
        "touch {0}; timeout 60 bash -c 'until [[ -e {1} ]]; do sleep 0.05; done'; echo {0} met; echo {0} ends"
    )
    ended, said = run(tmp_path, [check("a", meet.format("a", "b")), check("b", meet.format("b", "a"))])
    assert [ran.status for ran in ended] == [0, 0]
    assert "a met\na ends\n" in said
    assert "b met\nb ends\n" in said


def test_no_more_run_than_there_may(tmp_path: Path) -> None:
    alone = "mkdir only; sleep 0.1; rmdir only"  # fails where another has it
    ended, _ = run(tmp_path, [check(name, alone) for name in "abc"], at_once=1)
    assert [ran.status for ran in ended] == [0, 0, 0]


def test_checks_wait_for_what_they_need(tmp_path: Path) -> None:
    ended, _ = run(tmp_path, [check("a", "sleep 0.3; touch made"), check("b", "[[ -e made ]]", "a")])
    assert [(ran.check.name, ran.status) for ran in ended] == [("a", 0), ("b", 0)]


def test_what_takes_a_minute_begins_first_and_then_the_longest_chain() -> None:
    costs = {"lasts": 300, "head": 90, "tail": 250, "middle": 120, "glance": 60}
    checks = [check(name, "", *(["head"] * (name == "tail")), cost=cost) for name, cost in costs.items()]
    assert [c.name for c in in_order(checks)] == ["glance", "head", "lasts", "tail", "middle"]


def test_the_first_failure_stops_the_others_with_all_they_started(tmp_path: Path) -> None:
    lasts = check("lasts", "set -m; bash -c 'echo $$ >pid; sleep 120; true' & wait")  # a group of its own
    fails = check("fails", "for i in {1..600}; do [[ -s pid ]] || sleep 0.1; done; echo the reason; exit 3")
    begin = time.monotonic()
    ended, said = run(tmp_path, [lasts, fails, check("never", "touch never", "fails")])
    assert time.monotonic() - begin < 100
    assert [(ran.check.name, ran.status) for ran in ended] == [("fails", 3)]
    assert "the reason" in said
    assert "fails: FAILED" in said
    assert not (tmp_path / "never").exists()
    left = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not left.exists() or " Z " in left.read_text()


def test_a_run_that_keeps_going_leaves_out_only_what_stands_on_a_failure(tmp_path: Path) -> None:
    checks = [
        check("fails", "exit 3"),
        check("next", "touch next", "fails"),
        check("last", "touch last", "next"),
        check("other", "sleep 0.3"),
    ]
    ended, said = run(tmp_path, checks, keep_going=True)
    assert sorted((ran.check.name, ran.status) for ran in ended) == [("fails", 3), ("other", 0)]
    assert "not run, for they are after fails: next, last" in said
    assert not (tmp_path / "last").exists()


def test_a_command_fails_with_any_of_its_lines(tmp_path: Path) -> None:
    ended, _ = run(tmp_path, [check("a", "false | cat\ntrue")])
    assert ended[-1].status == 1


def test_a_dry_run_lists_checks_and_runs_none() -> None:
    listed = subprocess.run([FOLDER / "run", "--list", "--quick"], capture_output=True, text=True, timeout=60)
    assert listed.returncode == 0, listed.stderr
    names = re.findall(r"^(\S+) +(?:quick|plain|all) ", listed.stdout, re.MULTILINE)
    assert set(names) == {check.name for check in chosen("quick")}
