"""fusedrnn doctor: what is installed, what this machine offers, what is used of it, and why."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

import fusedrnn as fr
from fusedrnn.cli.printable import printable
from fusedrnn.cli.streams import Stream

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


def doctor(device: str, out: Stream) -> int:
    """Writes the report; returns 1 where the compiled module, or `device`, cannot be used, else 0."""
    _section(out, "versions")
    _line(out, "fusedrnn", f"{fr.__version__} in {os.path.dirname(fr.__file__)}")
    _line(out, "python", f"{platform.python_version()}, {sys.executable}")
    _line(out, "numpy", _version("numpy"))
    for name in EXTRAS:
        missing = "not installed: fusedrnn train needs it: pip install 'fusedrnn[train]'"
        _line(out, name, _version(name) if importlib.util.find_spec(name) else missing)
    _line(out, "system", platform.platform())
    _section(out, "CPU")
    try:
        from fusedrnn import _native

        info = _native.cpu_info()
    except (ImportError, RuntimeError, OSError) as error:
        _line(out, "compiled module", f"cannot be used: {error}")
        return 1
    _cpu(out, info)
    _section(out, "CUDA")
    info = _native.cuda_info()
    _cuda(out, info, _native)
    return 1 if device == "cuda" and info["why_not"] is not None else 0


def _cpu(out: Stream, info: dict[str, Any]) -> None:
    _line(out, "model", info["model"] or "unknown")
    forced = os.environ.get("FUSEDRNN_ISA")
    why = f"FUSEDRNN_ISA={forced}" if forced else "the widest that runs here"
    _line(out, "instructions", f"{info['isa']} ({why}); available: {', '.join(info['available_isas'])}")
    why_no_amx = info["why_no_amx"]
    _line(
        out, "bfloat16 tiles", "multiplied by AMX" if why_no_amx is None else f"not multiplied: {why_no_amx}"
    )
    advice = "ieee: bf16 gives the bits it has anywhere, but is slower than float32 here"
    if info["isa"] == "amx":
        advice = "bf16: fastest; bf16x6 has float32's accuracy (docs/numerics.md)"
    _line(out, "precision", advice)
    _line(out, "threads", f"{info['threads']} (from: {info['threads_from']})")
    quota = info["cpu_quota"]
    limit = "" if quota is None else f", of which its control group grants {quota:g}"
    _line(
        out,
        "cores",
        f"{info['physical_cores']} physical, {info['logical_cpus']} logical for this process{limit}",
    )
    names = (("L1d", "l1d_bytes"), ("L2", "l2_bytes"), ("L3", "l3_bytes"))
    _line(out, "caches", ", ".join(f"{name} {_size(info[key])}" for name, key in names))
    _environment(out, SETTINGS)


def _cuda(out: Stream, info: dict[str, Any], native: Any) -> None:
    _line(out, "usable", "yes" if info["why_not"] is None else f"no: {info['why_not']}")
    _line(out, "plugin", info["path"] or "none")
    for path, reason in info["not_used"]:
        _line(out, "not used", f"{path}: {reason}")
    if info["why_not"] is None:
        try:
            _line(out, "device", native.cuda_device())
        except RuntimeError as error:
            _line(out, "device", f"does not answer: {error}")
    _environment(out, CUDA_SETTINGS)


def _environment(out: Stream, names: tuple[str, ...]) -> None:
    set_here = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    _line(out, "environment", ", ".join(set_here) or f"none of {', '.join(names)} is set")


def _size(count: int) -> str:
    if not count:
        return "unknown"
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _section(out: Stream, title: str) -> None:
    out.write(f"\n{title}\n" if title != "versions" else f"{title}\n")


def _line(out: Stream, name: str, value: object) -> None:
    out.write(f"  {name:<16} {printable(str(value))}\n")
