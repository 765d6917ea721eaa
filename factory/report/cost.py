"""What a run cost: wall time and device-hours of every step, tokens trained on and generated, and where RL spent its time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.report.read import Run, read_jsonl


@dataclass(frozen=True)
class CostRow:
    """One step."""

    step: str
    kind: str
    seconds: float | None
    """Wall time of the finished step; None while it runs."""
    planned_s: float | None
    device_hours: float | None
    """Wall time x devices held: GPUs, or on a CPU the threads of all processes."""
    trained: float | None
    """Tokens in the loss."""
    generated: float | None
    is_guessed: bool = False
    """`generated` of an eval is the mean length of its test answers times all its answers: only test answers are kept."""
    rollout_share: float | None = None
    """RL: share of the time of its steps spent sampling and verifying."""


@dataclass(frozen=True)
class Cost:
    """All steps, and their sums."""

    rows: list[CostRow]
    device: str
    """`GPU` or `CPU core`."""

    @property
    def seconds(self) -> float:
        """Wall time of all finished steps."""
        return sum(row.seconds or 0.0 for row in self.rows)

    @property
    def device_hours(self) -> float:
        """Of all finished steps."""
        return sum(row.device_hours or 0.0 for row in self.rows)

    @property
    def trained(self) -> float:
        """Tokens in the loss, all stages."""
        return sum(row.trained or 0.0 for row in self.rows)

    @property
    def generated(self) -> float:
        """Tokens sampled, evals included."""
        return sum(row.generated or 0.0 for row in self.rows)


def cost_of(run: Run) -> Cost:
    """Read the locks and metrics of every finished step."""
    planned = {step.get("name"): step for step in run.plan.get("steps", [])}
    launch = run.config.get("launch") or {}
    is_gpu = "gpu" in str((run.record.get("platform") or {}).get("device", "cpu"))
    held = int(launch.get("processes") or 1) * (1 if is_gpu else int(launch.get("threads") or 1))
    rows = []
    for folder in sorted((run.folder / "stages").glob("[0-9][0-9]-*")):
        if folder.suffix != ".partial":
            rows.append(_row(folder, planned.get(folder.name, {}), held))
    return Cost(rows, "GPU" if is_gpu else "CPU core")


def _row(folder: Path, planned: dict[str, Any], held: int) -> CostRow:
    lock = folder / "stage.lock"
    seconds = json.loads(lock.read_text(encoding="utf-8")).get("seconds") if lock.is_file() else None
    metrics = [row for row in read_jsonl(folder / "metrics.jsonl") if "phase" not in row]
    generated, is_guessed = _sum(metrics, "generated_tokens"), False
    if (folder / "samples.jsonl").is_file():
        answers = [row["tokens"] for row in read_jsonl(folder / "samples.jsonl") if "tokens" in row]
        generated, is_guessed = (planned.get("num_samples") or len(answers)) * sum(answers) / max(1, len(answers)), True
    sampling, updating = _sum(metrics, "time_rollouts_s"), _sum(metrics, "time_update_s")
    return CostRow(
        step=folder.name, kind=str(planned.get("kind", "")), seconds=seconds, planned_s=planned.get("seconds"),
        device_hours=None if seconds is None else seconds * held / 3600, trained=_sum(metrics, "tokens"), generated=generated,
        is_guessed=is_guessed, rollout_share=None if sampling is None else sampling / max(1e-9, sampling + (updating or 0.0)),
    )  # fmt: skip


def _sum(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if isinstance(row.get(key), (int, float))]
    return float(sum(values)) if values else None
