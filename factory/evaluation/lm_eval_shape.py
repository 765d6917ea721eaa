"""Results in lm-eval-harness's JSON shape, so that what reads lm-eval reads us: `results_DATE.json`, `samples_TASK_DATE.jsonl`.

Keys as lm-eval 0.4 writes them; what has no place there is under one key `factory`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.registry.files import write_atomic, write_json

FILTER = "none"
"""lm-eval names a metric `metric,filter`."""


def write_lm_eval(
    folder: Path, domain: str, metric: str, rows: Sequence[Mapping[str, Any]], *, model: str, settings: Mapping[str, Any],
    extra: Mapping[str, Any], date: str,
) -> list[Path]:  # fmt: skip
    """Write the results and the samples of each task of a domain.

    Args:
        rows: of `samples.jsonl`: id, task, prompt, completion, score, status, reference.
        settings: of generation, for `config`.
        date: as it stands in the names of the files, e.g. `2026-01-31T10-20-30`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    group = f"factory_{domain}".replace(",", "_")
    names = {task: f"{group}_{task}".replace("/", "_") for task in sorted(by_task)}
    written = []
    for task, name in names.items():
        path = folder / f"samples_{name}_{date}.jsonl"
        lines = [
            json.dumps(_sample(number, row, metric, settings), ensure_ascii=False) for number, row in enumerate(by_task[task])
        ]
        write_atomic(path, "".join(f"{line}\n" for line in lines))
        written.append(path)
    found: dict[str, Any] = {
        "results": {group: _result(group, metric, rows)} | {name: _result(name, metric, by_task[task]) for task, name in names.items()},
        "groups": {group: _result(group, metric, rows)},
        "group_subtasks": {group: list(names.values())},
        "configs": {name: _config(name, metric, settings) for name in names.values()},
        "versions": {name: extra.get("pack_version", "") for name in [group, *names.values()]},
        "n-shot": {name: 0 for name in names.values()},
        "higher_is_better": {name: {metric: True} for name in [group, *names.values()]},
        "n-samples": {names[task]: {"original": len(part), "effective": len(_counted(part))} for task, part in by_task.items()},
        "config": {"model": "factory", "model_args": model, "gen_kwargs": dict(settings), "batch_size": None, "limit": None},
        "git_hash": None, "date": date, "task_hashes": {names[task]: _hash([row["id"] for row in part]) for task, part in by_task.items()},
        "chat_template": None, "chat_template_sha": None, "system_instruction": None, "system_instruction_sha": None,
        "model_source": "factory", "model_name": model, "lm_eval_version": None, "factory": dict(extra),
    }  # fmt: skip
    path = folder / f"results_{date}.json"
    write_json(path, found)
    return [path, *written]


def _counted(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(row["score"]) for row in rows if row["status"] not in ("error", "timeout")]


def _result(name: str, metric: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and its standard error (sample standard deviation / sqrt n, as lm-eval's)."""
    scores = _counted(rows)
    if not scores:
        return {"alias": name, f"{metric},{FILTER}": "N/A", f"{metric}_stderr,{FILTER}": "N/A"}
    mean = math.fsum(scores) / len(scores)
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) if len(scores) > 1 else None
    error: Any = "N/A" if spread is None else spread / math.sqrt(len(scores))
    return {"alias": name, f"{metric},{FILTER}": mean, f"{metric}_stderr,{FILTER}": error}


def _config(name: str, metric: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": name, "output_type": "generate_until", "num_fewshot": 0, "generation_kwargs": dict(settings),
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip


def _sample(number: int, row: Mapping[str, Any], metric: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    said = [attempt["completion"] for attempt in row.get("attempts", ())] or [row["completion"]]
    doc = {"id": row["id"], "task": row["task"], "question": row["prompt"], "answer": row["reference"]}
    return {
        "doc_id": number, "doc": doc, "target": json.dumps(row["reference"], ensure_ascii=False),
        "arguments": {"gen_args_0": {"arg_0": row["prompt"], "arg_1": dict(settings)}}, "resps": [said], "filtered_resps": said,
        "filter": FILTER, "metrics": [metric], "doc_hash": _hash(doc), "prompt_hash": _hash(row["prompt"]),
        "target_hash": _hash(row["reference"]), metric: row["score"], "status": row["status"],
    }  # fmt: skip


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
