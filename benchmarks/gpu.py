"""Every training stage on this machine's GPUs with random weights in the shapes of real models: tokens a second, MFU, peak memory.

    python benchmarks/gpu.py                                    # all stages, two text shapes and one with images, LoRA and full
    python benchmarks/gpu.py --stages sft rl --ways zero3 fsdp --shapes qwen3-1.7b
    python benchmarks/gpu.py --quick                            # tiny shapes, also on a CPU: shows that everything runs

Numbers are those of the updates after two warm-up steps; of RL also what is generated. MFU counts the model's own operations (gpu_bases.py)
against the dense bf16 peak that NVIDIA's data sheet gives for the device. One line of the table is one program; one that fails is told
there, and the command ends with 1. The table goes to stdout and to FILE (`--out`), ready for docs/log.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from gpu_bases import SHAPES, Sizes, is_vl, make_base  # noqa: E402
from gpu_job import WAYS  # noqa: E402

STAGES = ("cpt", "sft", "preference", "reward_model", "rl")
PEAK_FLOPS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "B200": 2250e12}
"""Dense bf16 of one device by a part of its name, the first that fits; NVIDIA's data sheets."""
WARM_UP = 2
COLUMNS = ("stage", "base", "weights", "way", "step s", "tokens/s", "MFU", "generated/s", "peak GiB")


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    stage: str
    shape: str
    adapter: str
    way: str

    def refusal(self) -> str:
        """Why the factory does not do it; empty when it does."""
        if self.stage == "rl" and self.way in ("zero3", "fsdp"):
            return "engine=transformers cannot generate with weights that are split; engine=vllm does"
        return ""


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """All that was asked for."""
    yield from (Case(*one) for one in product(given.stages, given.shapes, given.adapters, given.ways))


def measured(case: Case, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What gpu_job.py found. Raises RuntimeError with its last words."""
    job = {
        "kind": case.stage, "base": str(make_base(case.shape, folder / case.shape)), "adapter": case.adapter, "way": case.way,
        "workdir": str(folder / f"{case.stage}-{case.shape}-{case.adapter}-{case.way}"), "processes": given.processes,
        "rows": given.rows * given.processes, "steps": WARM_UP + given.steps, "words": given.words, "micro_batch": given.micro_batch,
        "checkpointing": given.checkpointing, "side_px": (56 if given.quick else 448) if is_vl(case.shape) else 0,
        "image_tokens": (4 if given.quick else 256) if is_vl(case.shape) else 0,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    alone = [sys.executable]
    many = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(given.processes)]
    command = [*(alone if given.processes == 1 else many), str(HERE / "gpu_job.py"), str(folder / "job.json"), str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=given.timeout_s)
    if done.returncode != 0 or not out.is_file():
        sys.stderr.write(done.stderr[-4000:])
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(out.read_text())


def line(case: Case, found: Mapping[str, Any]) -> dict[str, str]:
    """One line of figures: over all processes, per second of the update; MFU and memory per device."""
    shares = [share["steps"][WARM_UP:] for share in found["shares"]]
    # The processes step together, so the slowest says how long a step took.
    seconds = sum(max(steps) for steps in zip(*([one["seconds"] for one in share] for share in shares), strict=True))
    total = {key: sum(one[key] for share in shares for one in share) for key in ("tokens", "learned", "patches", "rows")}
    sizes = Sizes(**found["sizes"])
    length = total["tokens"] / max(total["rows"], 1)
    flops = sizes.flops(
        tokens=total["tokens"],
        learned=total["learned"],
        patches=total["patches"],
        length=length,
        is_adapter=case.adapter != "none",
    )
    peak = next((value for name, value in PEAK_FLOPS.items() if name in found["device"]), None)
    rows = [row for row in found["rows"] if "generated_tokens" in row][WARM_UP:]
    spent = sum(row["time_rollouts_s"] for row in rows)
    return {
        "stage": case.stage, "base": case.shape, "weights": "full" if case.adapter == "none" else case.adapter, "way": case.way,
        "step s": f"{seconds / max(len(shares[0]), 1):.3g}", "tokens/s": f"{total['tokens'] / seconds:,.0f}",
        "MFU": f"{flops / seconds / len(shares) / peak:.1%}" if peak else "-",
        "generated/s": f"{sum(row['generated_tokens'] for row in rows) / spent:,.0f}" if rows else "-",
        "peak GiB": f"{max(share['peak'] for share in found['shares']) / 2**30:.2f}",
    }  # fmt: skip


def table(lines: Sequence[Mapping[str, str]], device: str, given: argparse.Namespace) -> str:
    """Markdown."""
    rows = given.rows * given.processes
    head = [
        f"{device} x {given.processes}, bf16, {given.steps} steps of {rows} rows (RL: rollouts; pairs count as two) of about {given.words} words, "
        f"micro-batches of {given.micro_batch or 'all'}" + (", gradient checkpointing" if given.checkpointing else ""),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " --- |" * len(COLUMNS),
    ]
    return "\n".join([*head, *("| " + " | ".join(one.get(name, "") for name in COLUMNS) + " |" for one in lines)]) + "\n"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line, completed by what the machine has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, few rows, one way: a check that all stages run")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES))
    parser.add_argument("--ways", nargs="*", choices=list(WAYS))
    parser.add_argument("--adapters", nargs="*", choices=("none", "lora"), default=["none", "lora"])
    parser.add_argument("--processes", type=int, default=0, help="default: one for each GPU, one on a CPU")
    parser.add_argument("--rows", type=int, default=0, help="rows of an optimiser step per process")
    parser.add_argument("--words", type=int, default=0, help="length of a text; a word is about one token")
    parser.add_argument("--micro-batch", type=int, default=-1, help="rows of one forward; 0: all")
    parser.add_argument("--steps", type=int, default=0, help="measured steps, after the warm-up")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--timeout-s", type=float, default=3600.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(words)
    import torch

    gpus = torch.cuda.device_count()
    if not gpus and not given.quick:
        parser.error("there is no GPU here; --quick runs tiny shapes on the CPU")
    given.processes = given.processes or max(gpus, 1)
    given.shapes = given.shapes or (["tiny", "tiny-vl"] if given.quick else ["qwen3-0.6b", "qwen3-1.7b", "qwen2.5-vl-2b"])
    given.ways = given.ways or (["zero2"] if given.quick else ["ddp", "zero2", "zero3", "fsdp"])
    given.rows, given.words = given.rows or (4 if given.quick else 64), given.words or (16 if given.quick else 768)
    given.steps = given.steps or (1 if given.quick else 6)
    given.micro_batch = given.micro_batch if given.micro_batch >= 0 else (2 if given.quick else 8)
    return given


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, return 1 when a case failed."""
    given, lines, device, failed = arguments(words), [], "CPU", 0
    with tempfile.TemporaryDirectory(prefix="factory-gpu-") as folder:
        for case in cases(given):
            named = {
                "stage": case.stage,
                "base": case.shape,
                "weights": "full" if case.adapter == "none" else case.adapter,
                "way": case.way,
            }
            started = time.monotonic()
            if case.refusal():
                lines.append(named | {"step s": case.refusal()})
                continue
            try:
                found = measured(case, given, Path(folder))
                device = found["device"]
                lines.append(line(case, found))
            except (RuntimeError, subprocess.TimeoutExpired) as err:
                failed += 1
                lines.append(named | {"step s": f"failed: {err}"})
            sys.stderr.write(f"{case.stage} {case.shape} {case.adapter} {case.way}: {time.monotonic() - started:.0f} s wall\n")
    text = table(lines, device, given)
    sys.stdout.write(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
