"""fusedrnn doctor: what is installed, what this machine offers, what is used of it, and why."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

import fusedrnn as fr

SETTINGS = ("FUSEDRNN_ISA", "FUSEDRNN_NUM_THREADS", "OMP_NUM_THREADS")
CUDA_SETTINGS = (
    "FUSEDRNN_CUDA_PLUGIN",
    "FUSEDRNN_CUBLASLT",
    "FUSEDRNN_PLAN",
    "FUSEDRNN_OVERLAP",
    "FUSEDRNN_GRAPHS",
    "CUDA_VISIBLE_DEVICES",
)
EXTRAS = ("tqdm", "matplotlib", "safetensors")


def doctor(device: str = "cpu") -> int:
    """Prints the report; the status is 1 where the compiled module, or `device`, cannot be used, else 0."""
    _section("versions")
    _line("fusedrnn", f"{fr.__version__} in {os.path.dirname(fr.__file__)}")
    _line("python", f"{platform.python_version()}, {sys.executable}")
    _line("numpy", _version("numpy"))
    for name in EXTRAS:
        missing = "not installed: fusedrnn train needs it: pip install 'fusedrnn[train]'"
        _line(name, _version(name) if importlib.util.find_spec(name) else missing)
    _line("system", platform.platform())
    _section("CPU")
    try:
        from fusedrnn import _native

        info = _native.cpu_info()
    except (ImportError, RuntimeError) as error:
        _line("compiled module", f"cannot be used: {error}")
        return 1
    _cpu(info)
    _section("CUDA")
    info = _native.cuda_info()
    _cuda(info, _native)
    return 1 if device == "cuda" and info["why_not"] is not None else 0


def _cpu(info: dict[str, Any]) -> None:
    _line("model", info["model"] or "unknown")
    forced = os.environ.get("FUSEDRNN_ISA")
    why = f"FUSEDRNN_ISA={forced}" if forced else "the widest that runs here"
    _line("instructions", f"{info['isa']} ({why}); available: {', '.join(info['available_isas'])}")
    _line("threads", f"{info['threads']} (from: {info['threads_from']})")
    quota = info["cpu_quota"]
    limit = "" if quota is None else f", of which its control group grants {quota:g}"
    _line(
        "cores", f"{info['physical_cores']} physical, {info['logical_cpus']} logical for this process{limit}"
    )
    names = (("L1d", "l1d_bytes"), ("L2", "l2_bytes"), ("L3", "l3_bytes"))
    _line("caches", ", ".join(f"{name} {_size(info[key])}" for name, key in names))
    _environment(SETTINGS)


def _cuda(info: dict[str, Any], native: Any) -> None:
    _line("usable", "yes" if info["why_not"] is None else f"no: {info['why_not']}")
    _line("plugin", info["path"] or "none")
    if info["why_not"] is None:
        try:
            _line("device", native.cuda_device())
        except RuntimeError as error:
            _line("device", f"does not answer: {error}")
    _environment(CUDA_SETTINGS)


def _environment(names: tuple[str, ...]) -> None:
    set_here = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    _line("environment", ", ".join(set_here) or f"none of {', '.join(names)} is set")


def _size(count: int) -> str:
    if not count:
        return "unknown"
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _section(title: str) -> None:
    print(f"\n{title}" if title != "versions" else title)


def _line(name: str, value: object) -> None:
    print(f"  {name:<16} {value}")
