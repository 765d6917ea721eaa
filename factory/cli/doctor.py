"""`factory doctor`: is this machine ready to build, and if not, what to do."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, size, table

REQUIRED = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "omegaconf",
    "datasets",
    "safetensors",
    "tokenizers",
    "monai",
    "pillow",
    "pyarrow",
)
OPTIONAL = ("deepspeed", "trl", "torchvision")
IMPORTED = {
    "torch": "Install torch again for this machine.",
    "torchvision": "It was built for another torch: pip uninstall torchvision (not needed), or install the matching one.",
    "transformers": "Install the versions of constraints.txt.",
    "openslide": "pip install openslide-bin openslide-python (whole-slide images).",
    "deepspeed": "Set CUDA_HOME or DS_BUILD_OPS=0, or do without: launch.zero_stage=-1.",
}
"""Module that is imported for trial -> what to do when it fails."""
MIN_FREE_BYTES = 5 * 2**30
MIN_MEMORY_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    check: str
    state: str
    """`ok`, `note` (works, but know it) or `fault` (a build may fail)."""
    found: str
    remedy: str = ""


def doctor(
    cluster: Annotated[bool, typer.Option("--cluster", help="Check every node of the job this runs in instead.")] = False,
    nodes: Annotated[int, typer.Option(min=0, help="With --cluster: ask Slurm for so many nodes and check them.")] = 0,
    extra: Annotated[
        list[str] | None, typer.Option(help="With --nodes: an option of srun, such as --partition=h100. Repeat.")
    ] = None,
    evals: Annotated[bool, typer.Option("--evals", help="Load one row of every task of the installed packs instead.")] = False,
    security: Annotated[bool, typer.Option("--security", help="Check sandbox, permissions, signatures, tokens and foreign packs instead.")] = False,
    suite: Annotated[str | None, typer.Option("--suite", help="With --evals: also these tasks of lm-eval-harness, lm-eval:A,B.")] = None,
    include: Annotated[Path | None, typer.Option("--include", help="With --suite: folder with task files of your own.")] = None,
    online: options.Online = False, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Check versions, threads, memory, disk, GPU and known traps; exit 1 when a build would fail here."""
    if evals:
        from factory.cli.doctor_evals import check_evals

        return check_evals(suite, include, online=online, as_json=as_json)
    if security:
        from factory.cli.doctor_security import check_security

        return check_security(as_json=as_json)
    if cluster or nodes:
        from factory.cli.cluster_check import check_cluster

        return check_cluster(nodes, tuple(extra or ()), as_json=as_json)
    findings = [finding for check in CHECKS for finding in check()]
    faults = [finding for finding in findings if finding.state == "fault"]
    if as_json:
        emit_json({"ready": not faults, "findings": [asdict(finding) for finding in findings]})
    else:
        say(table(("check", "state", "found", "what to do"), [(f.check, f.state, f.found, f.remedy) for f in findings]))
        say("ready to build" if not faults else f"{len(faults)} faults: a build may fail until they are mended")
    if faults:
        raise typer.Exit(1)


def _python() -> list[Finding]:
    is_new = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [Finding("python", "ok" if is_new else "fault", found, "" if is_new else "Use Python 3.11 or newer.")]


def _our_package() -> list[Finding]:
    """`factory` is also the import name of factory_boy's ancestors and of other projects; a second one shadows ours."""
    import factory

    folder = Path(factory.__file__).resolve().parent
    is_ours = (folder / "contracts.py").is_file() and hasattr(factory, "__version__")
    remedy = (
        "" if is_ours else "Another project's `factory` shadows ours (factory_boy?). Uninstall it, or use a fresh environment."
    )
    findings = [Finding("factory", "ok" if is_ours else "fault", f"{getattr(factory, '__version__', '?')} in {folder}", remedy)]
    try:
        other = version("factory_boy")
    except PackageNotFoundError:
        return findings
    advice = "It writes the same folder `factory`: pip uninstall factory_boy, then install ours again."
    return [*findings, Finding("factory_boy", "fault", f"factory_boy {other} is installed here", advice)]


def _versions() -> list[Finding]:
    findings = []
    for name in (*REQUIRED, *OPTIONAL):
        try:
            findings.append(Finding(name, "ok", version(name)))
        except PackageNotFoundError:
            needed = name in REQUIRED
            findings.append(
                Finding(
                    name,
                    "fault" if needed else "note",
                    "not installed",
                    f"pip install {name}" if needed else "Only some builds use it.",
                )
            )
    return findings


def _imports() -> list[Finding]:
    """Import what a build imports. An unusable torchvision breaks even text models in transformers."""
    findings = []
    for name, remedy in IMPORTED.items():
        if importlib.util.find_spec(name) is None:
            if name == "openslide":
                findings.append(Finding("import openslide", "note", "not installed", remedy))
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):  # some libraries greet on stdout, which may carry our JSON
                importlib.import_module(name)
            findings.append(Finding(f"import {name}", "ok", "works"))
        # A broken native library raises whatever it likes; the doctor's work is to say so.
        except Exception as err:
            is_needed = name in ("torch", "transformers", "torchvision")
            findings.append(
                Finding(f"import {name}", "fault" if is_needed else "note", f"{type(err).__name__}: {_first_line(err)}", remedy)
            )
    return findings


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [""])[0]


def _threads() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS")
    findings = [Finding("cores", "ok", f"{cores} usable")]
    if said is None or said == "1":
        return [*findings, Finding("OMP_NUM_THREADS", "ok", said or "unset; each stage process gets launch.threads (1)")]
    remedy = "More threads can be 10 to 50 times slower on a shared machine. The factory sets launch.threads; unset it."
    return [*findings, Finding("OMP_NUM_THREADS", "note", said, remedy)]


def _verifiers() -> list[Finding]:
    """How far the workers that run verifiers are cut off on this machine."""
    from factory.rewards.pool_isolation import probe

    try:
        found = probe()
    except OSError as err:
        return [Finding("verifier workers", "fault", str(err), "A build cannot score anything until this works.")]
    told = f"network {found.network}, processes {found.processes}, files {found.files}"
    if (found.network, found.processes, found.files) == ("namespace", "namespace", "read-only"):
        return [Finding("verifier workers", "ok", told)]
    remedy = "Faulty verifiers are held less tightly here. Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)."
    return [Finding("verifier workers", "note", told, remedy)]


def _memory() -> list[Finding]:
    from factory.launch.devices import available_memory

    free = available_memory()
    if free is None:
        return [Finding("memory", "note", "cannot be read on this system")]
    is_enough = free >= MIN_MEMORY_BYTES
    return [
        Finding(
            "memory",
            "ok" if is_enough else "note",
            f"{size(free)} available",
            "" if is_enough else "Embedded builds need about 3 GiB.",
        )
    ]


def _home() -> list[Finding]:
    from factory.registry.home import Home

    home = Home.find().root
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    remedy = "Set FACTORY_HOME to a folder you may write to, on a disk with room."
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return [Finding("FACTORY_HOME", "fault", f"{home}: {existing} is no folder you may write to", remedy)]
    free = shutil.disk_usage(existing).free
    return [
        Finding("FACTORY_HOME", "ok", f"{home}, writable"),
        Finding(
            "disk", "ok" if free >= MIN_FREE_BYTES else "note", f"{size(free)} free", "" if free >= MIN_FREE_BYTES else remedy
        ),
    ]


def _gpu() -> list[Finding]:
    try:
        import torch
    except Exception as err:  # reported by `_imports`, which names the remedy
        return [Finding("gpu", "note", f"unknown, torch does not import: {type(err).__name__}")]
    if not torch.cuda.is_available():
        hint = (
            "nvidia-smi is here, but this torch has no CUDA: install a CUDA build of torch." if shutil.which("nvidia-smi") else ""
        )
        return [Finding("gpu", "note", "none; builds run on the CPU (embedded bases: minutes)", hint)]
    found = []
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use precision=fp32"
        found.append(Finding(f"gpu {index}", "ok", f"{card.name}, {size(card.total_memory)}, {bf16}"))
    return found


def _vllm() -> list[Finding]:
    """The sidecar of `engine: vllm`."""
    from factory.cli.doctor_vllm import vllm_finding

    return [Finding("vllm (own environment)", *vllm_finding())]


def _packs() -> list[Finding]:
    from factory.errors import PluginError
    from factory.plugins import pack_entries, pack_folder, read_manifest

    findings = []
    for entry in pack_entries():
        try:
            manifest = read_manifest(pack_folder(entry))
            findings.append(Finding(f"pack {entry.name}", "ok", f"{manifest.version}, {entry.origin}"))
        except PluginError as err:
            findings.append(Finding(f"pack {entry.name}", "note", str(err), "Mend or uninstall it."))
    return findings or [Finding("packs", "fault", "no domain pack is installed", "Unset FACTORY_PACKS, or install a pack.")]


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _python,
    _our_package,
    _versions,
    _imports,
    _threads,
    _verifiers,
    _memory,
    _home,
    _gpu,
    _vllm,
    _packs,
)
"""Every check in the order of the table; each returns its findings and raises nothing."""
