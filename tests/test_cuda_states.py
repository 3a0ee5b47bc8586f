"""Whether CUDA can be used is told truly, whatever of it is missing, and with the next step.

What the driver may say of a machine is in native/test_machine.cpp; here are the plugin's states, and the
real plugin before drivers made for the purpose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import plugin_file
import pytest
import stub_library

import fusedrnn as fr
from fusedrnn import _native

PACKAGE = Path(fr.__file__).parent
PLUGIN = plugin_file.NAME

# Says what a user meets: the reason, the error of device="cuda", the warnings of "auto", and doctor's report.
PROGRAM = """
import contextlib, io, json, warnings
import fusedrnn as fr
from fusedrnn.cli import main
found = {"available": fr.cuda.is_available(), "why_not": fr.cuda.why_not()}
try:
    fr.nn.LSTM(2, 3, device="cuda")
except RuntimeError as error:
    found["error"] = str(error)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found["devices"] = [fr.nn.LSTM(2, 3, device="auto").device for _ in range(3)]
found["warnings"] = [str(w.message) for w in said]
with contextlib.redirect_stdout(io.StringIO()) as report:
    main(["doctor"])
print(json.dumps(found | {"report": report.getvalue()}))
"""


def ask(package: Path = PACKAGE, plugin: Path | None = None, **settings: str) -> str:
    """The reason that a process of its own gives, which all ways of asking must agree on.

    Args:
        package: the folder of the package.
        plugin: the file that doctor must name, if it is not the one in that folder.
        **settings: of the environment.
    """
    environment = {k: v for k, v in os.environ.items() if k != "FUSEDRNN_CUDA_PLUGIN"}
    environment |= {"PYTHONPATH": str(package.parent), **settings}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    reason = found["why_not"]
    assert reason
    assert "\n" not in reason
    assert found["available"] is False
    assert found["error"] == f'device="cuda" cannot be used: {reason}'
    assert found["devices"] == ["cpu"] * 3
    assert found["warnings"] == [f'device="auto" uses the CPU: {reason}']
    assert f"  usable           no: {reason}\n" in found["report"]
    named = settings.get("FUSEDRNN_CUDA_PLUGIN") or str(plugin or package / PLUGIN)
    assert (
        f"  plugin           {named if 'has no CUDA plugin' not in reason else 'none'}\n" in found["report"]
    )
    return str(reason)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """This package in a folder of its own, without a plugin."""
    folder = tmp_path / "fusedrnn"
    folder.mkdir()
    for part in PACKAGE.iterdir():
        if part.name not in (PLUGIN, "__pycache__"):
            (folder / part.name).symlink_to(part)
    compiled = Path(_native.__file__)
    if not (folder / compiled.name).exists():
        (folder / compiled.name).symlink_to(compiled)
    return folder


# ------------------------------------------------------------------------------------------- the plugin
def test_not_built(package: Path) -> None:
    packages = " or ".join(name.replace("_", "-") for name in _native.cuda_packages())
    assert ask(package).startswith(
        f"this build has no CUDA plugin: install {packages}, whichever CUDA the driver supports, or build "
    )


@pytest.mark.parametrize("name", _native.cuda_packages())
def test_package_of_its_own(package: Path, name: str) -> None:
    """It installs a folder beside this one; what was built with fusedrnn comes first."""
    own = package.parent / name / PLUGIN
    own.parent.mkdir()
    stub_library.build(own, "int nothing;")
    remedy = f"install {name.replace('_', '-')} of the version of this fusedrnn"
    assert ask(package, own) == f"{own} is no plugin of fusedrnn, it lacks its symbol: {remedy}"
    stub_library.build(package / PLUGIN, "int nothing;")
    assert ask(package).startswith(f"{package / PLUGIN} is no plugin of fusedrnn")


def test_damaged(package: Path) -> None:
    (package / PLUGIN).write_bytes(b"\x7fELF and nothing more")
    reason = ask(package)
    assert reason.startswith(f"the CUDA plugin cannot be opened ({package / PLUGIN}: ")
    assert reason.endswith("): install fusedrnn again")


def test_named_and_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere.so")
    reason = ask(FUSEDRNN_CUDA_PLUGIN=path)
    assert reason.startswith(f"the CUDA plugin cannot be opened ({path}: cannot open shared object file")
    assert reason.endswith("): see what FUSEDRNN_CUDA_PLUGIN names")


def test_no_plugin_of_ours(package: Path) -> None:
    stub_library.build(package / PLUGIN, "int nothing;")
    assert (
        ask(package)
        == f"{package / PLUGIN} is no plugin of fusedrnn, it lacks its symbol: install fusedrnn again"
    )


ENTRY = """
#include "backend/backend.hpp"
#include <cstdio>
using namespace fusedrnn;
extern "C" const Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t bytes) { %s }
"""


def test_its_own_reason_is_told(package: Path) -> None:
    body = 'snprintf(why, bytes, "it is Sunday (version %%u asked)", abi); return nullptr;'
    stub_library.build(package / PLUGIN, ENTRY % body)
    assert ask(package).startswith("it is Sunday (version ")


@pytest.mark.parametrize("field", ["abi", "size"])
def test_table_of_another_version(package: Path, field: str) -> None:
    body = "static Backend table{}; table.abi = abi; table.size = sizeof table;"
    body += f" table.{field} += 8; return &table;"
    stub_library.build(package / PLUGIN, ENTRY % body)
    reason = ask(package)
    assert reason.startswith(
        f"{package / PLUGIN} was built for another version of fusedrnn: its table is of version"
    )
    assert reason.endswith(": install fusedrnn again")


# ---------------------------------------------------------------------------------- one plugin of several
# A plugin of a toolkit, before the driver that the environment states.
OF_TOOLKIT = """
#include "backend/backend.hpp"
#include "../cuda/hw/machine.hpp"
#include <cstdlib>
using namespace fusedrnn;
namespace {
Status describe(char* text, size_t bytes) { return snprintf(text, bytes, "of toolkit TOOLKIT"), Status::ok; }
int32_t device() { return 0; }
}
extern "C" const Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t bytes) {
  const int driver = std::atoi(std::getenv("DRIVER_OF_TEST"));
  const cuda::Machine machine = {TOOLKIT, driver, 1, nullptr, nullptr, "GPU", 90, 80};
  static Backend table{};
  table.abi = abi;
  table.size = sizeof table;
  table.name = "cuda";
  table.memory = kCudaMemory;
  table.describe = describe;
  table.device = device;
  return cuda::usable(machine, why, bytes) ? &table : nullptr;
}
"""
TOO_OLD = "the NVIDIA driver is too old: it supports CUDA up to "
REPORT = """
import json
from fusedrnn import _native
from fusedrnn.cli import main
print(json.dumps(_native.cuda_info()))
main(["doctor"])
"""


def chosen(package: Path, driver: int, **toolkits: int) -> tuple[dict[str, Any], str]:
    """What is used, and doctor's report, before a driver.

    Args:
        package: the folder of the package.
        driver: the CUDA version that it supports.
        **toolkits: by the folders that have a plugin, the CUDA version it was built with.
    """
    for name, toolkit in toolkits.items():
        (package.parent / name).mkdir(exist_ok=True)
        stub_library.build(package.parent / name / PLUGIN, OF_TOOLKIT.replace("TOOLKIT", str(toolkit)))
    environment = {k: v for k, v in os.environ.items() if k != "FUSEDRNN_CUDA_PLUGIN"}
    environment |= {"PYTHONPATH": str(package.parent), "DRIVER_OF_TEST": str(driver)}
    ran = subprocess.run(
        [sys.executable, "-c", REPORT], capture_output=True, text=True, timeout=60, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    info, _, report = ran.stdout.partition("\n")
    return json.loads(info), report


@pytest.mark.parametrize(
    ("driver", "used", "refused"),
    [
        (13000, "fusedrnn_cuda13", []),
        (14020, "fusedrnn_cuda13", []),
        (12090, "fusedrnn_cuda12", ["fusedrnn_cuda13"]),
        (12000, "fusedrnn_cuda12", ["fusedrnn_cuda13"]),
    ],
)
def test_the_driver_chooses(package: Path, driver: int, used: str, refused: list[str]) -> None:
    """The newest toolkit that it takes; doctor names those that it does not, and why."""
    info, report = chosen(package, driver, fusedrnn_cuda12=12090, fusedrnn_cuda13=13000)
    path = package.parent / used / PLUGIN
    assert (info["why_not"], info["path"]) == (None, str(path))
    assert [Path(other).parent.name for other, _ in info["not_used"]] == refused
    assert f"  plugin           {path}\n" in report
    assert f"  device           cuda:0, of toolkit {12090 if refused else 13000}\n" in report
    assert report.count("  not used         ") == len(refused)
    for other, why in info["not_used"]:
        assert why.startswith(f"{TOO_OLD}{driver // 1000}.{driver % 1000 // 10}, the plugin was built with")
        assert f"  not used         {other}: {why}\n" in report


def test_what_was_built_with_the_package_gives_way_to_one_that_the_driver_takes(package: Path) -> None:
    toolkits = {package.name: 13000, "fusedrnn_cuda12": 12090}
    info, _ = chosen(package, 12040, **toolkits)
    assert info["path"] == str(package.parent / "fusedrnn_cuda12" / PLUGIN)
    info, _ = chosen(package, 13000, **toolkits)
    assert info["path"] == str(package / PLUGIN)


def test_no_plugin_fits_the_driver(package: Path) -> None:
    """What is told is what asks least of the machine."""
    info, report = chosen(package, 12040, fusedrnn_cuda13=13000)
    assert info["why_not"] == (
        f"{TOO_OLD}12.4, the plugin was built with the toolkit of CUDA 13.0, which needs a driver for CUDA "
        "13.0 or later: install fusedrnn-cuda12, which has the same kernels (cuda/README.md), or such a "
        "driver (https://www.nvidia.com/drivers)"
    )
    assert f"  usable           no: {info['why_not']}\n" in report
    info, report = chosen(package, 11080, fusedrnn_cuda12=12090, fusedrnn_cuda13=13000)
    assert info["why_not"] == (
        f"{TOO_OLD}11.8, the plugin was built with the toolkit of CUDA 12.9, which needs a driver for CUDA "
        "12.0 or later: install one (https://www.nvidia.com/drivers)"
    )
    assert info["path"] == str(package.parent / "fusedrnn_cuda12" / PLUGIN)
    assert [Path(path).parent.name for path, _ in info["not_used"]] == ["fusedrnn_cuda13"]


@pytest.mark.parametrize("driver", [12040, 13000])
def test_a_damaged_plugin_is_told_though_another_would_do(package: Path, driver: int) -> None:
    """12 behind a 13 that the driver does not take, 13 before a 12 that it would take."""
    damaged, whole = (12, 13) if driver < 13000 else (13, 12)
    path = package.parent / f"fusedrnn_cuda{damaged}" / PLUGIN
    path.parent.mkdir()
    stub_library.build(path, "int nothing;")
    info, _ = chosen(package, driver, **{f"fusedrnn_cuda{whole}": 1000 * whole})
    remedy = f"install fusedrnn-cuda{damaged} of the version of this fusedrnn"
    assert info["why_not"] == f"{path} is no plugin of fusedrnn, it lacks its symbol: {remedy}"


# --------------------------------------------------------------------- the real plugin, drivers of our own
DRIVER = """
#include <cstring>
extern "C" {
int cuDriverGetVersion(int* version) { *version = VERSION; return 0; }
int cuInit(unsigned) { return RESULT; }
static int other() { return 2; }  // out of memory: whatever is asked for next fails
int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* found) {
  if (found != nullptr) *found = 0;
  *function = !strcmp(name, "cuDriverGetVersion") ? (void*)cuDriverGetVersion
              : !strcmp(name, "cuInit")           ? (void*)cuInit
              : strstr(name, "cuGetProcAddress")  ? (void*)cuGetProcAddress_v2
                                                  : (void*)other;
  return 0;
}
int cuGetProcAddress(const char* name, void** function, int v, unsigned long long f) {
  return cuGetProcAddress_v2(name, function, v, f, nullptr);
}
int cuGetExportTable(const void**, const void*) { return 500; }
}
"""
NO_DEVICE, NOT_INITIALIZED = 100, 802


@pytest.mark.skipif(not plugin_file.installed(), reason="there is no CUDA plugin")
@pytest.mark.parametrize(
    ("version", "result", "visible", "message"),
    [
        (0, 0, None, "no NVIDIA driver is found: install one for CUDA "),
        (11040, 0, None, "the NVIDIA driver is too old: it supports CUDA up to 11.4, the plugin was "),
        (99000, NO_DEVICE, None, "the NVIDIA driver finds no GPU: see whether nvidia-smi -L lists one"),
        (99000, NO_DEVICE, "7", 'the NVIDIA driver finds no GPU among CUDA_VISIBLE_DEVICES="7": unset it'),
        (
            99000,
            NOT_INITIALIZED,
            None,
            "the NVIDIA driver does not answer: system not yet initialized: see whether",
        ),
    ],
)
def test_drivers(
    version: int,
    result: int,
    visible: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = DRIVER.replace("VERSION", str(version)).replace("RESULT", str(result))
    stub_library.build(tmp_path / "libcuda.so.1", source)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = {"LD_LIBRARY_PATH": str(tmp_path), **({"CUDA_VISIBLE_DEVICES": visible} if visible else {})}
    assert ask(plugin=plugin_file.installed()[-1], **settings).startswith(message)


@pytest.mark.parametrize("plugin", plugin_file.installed(), ids=lambda path: path.parent.name)
def test_a_package_takes_drivers_of_its_toolkit(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CUDA runtime within it is of that toolkit, and goes on to look for GPUs."""
    toolkit = plugin_file.toolkit(plugin)
    if toolkit is None:
        pytest.skip("it was built with fusedrnn, by whatever toolkit there was")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = {"LD_LIBRARY_PATH": str(tmp_path), "FUSEDRNN_CUDA_PLUGIN": str(plugin)}
    for version in (1000 * toolkit, 1000 * toolkit - 10):
        source = DRIVER.replace("VERSION", str(version)).replace("RESULT", str(NO_DEVICE))
        stub_library.build(tmp_path / "libcuda.so.1", source)
        reason = ask(**settings)
        if version == 1000 * toolkit:
            assert reason.startswith("the NVIDIA driver finds no GPU")
        else:
            assert f"the plugin was built with the toolkit of CUDA {toolkit}." in reason
