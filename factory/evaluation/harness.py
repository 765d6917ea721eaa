"""lm-eval-harness in its own process and environment, on an exported folder or an address; before and after as paired differences.

FACTORY_LM_EVAL names its `lm_eval` program (of a virtual environment of its own); without it the one on PATH is taken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, ModelError
from factory.evaluation.endpoint import Endpoint
from factory.pipeline.compare import paired_difference

PROGRAM = "FACTORY_LM_EVAL"
PREFIX = "lm-eval:"
SHOWN_LINES = 15


@dataclass(frozen=True)
class Suite:
    """Tasks for the harness."""

    tasks: tuple[str, ...]
    include: Path | None = None
    """Folder with task files of the user's own."""
    limit: int | None = None
    num_fewshot: int | None = None
    chat_template: bool = False
    online: bool = False
    """Let it download its data sets."""


def read_suite(text: str) -> tuple[str, ...]:
    """`lm-eval:a,b` as its tasks. Raises ConfigError."""
    tasks = tuple(filter(None, text.removeprefix(PREFIX).split(",")))
    if not text.startswith(PREFIX) or not tasks:
        raise ConfigError(f"--suite {text}: want {PREFIX}TASK[,TASK], for example {PREFIX}arc_easy,hellaswag.")
    return tasks


def find_program(env: Mapping[str, str] | None = None) -> Path:
    """The harness. Raises ConfigError with how to get it."""
    environment = os.environ if env is None else env
    named = environment.get(PROGRAM) or shutil.which("lm_eval", path=environment.get("PATH"))
    if not named or not Path(named).expanduser().is_file():
        said = f"{PROGRAM}={named} is no file" if named else f"there is no lm_eval on PATH and {PROGRAM} is not set"
        raise ConfigError(
            f"{said}. Install lm-eval-harness in an environment of its own (python -m venv lm && lm/bin/pip install 'lm-eval[hf,api]') "
            f"and set {PROGRAM}=lm/bin/lm_eval."
        )
    return Path(named).expanduser()


def run_harness(model: Path | Endpoint, suite: Suite, out: Path, *, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run the tasks and return the harness's own results file with `folder`.

    Raises:
        ConfigError: no harness.
        ModelError: it failed; the end of what it said is in the message, all of it in `log.txt`.
    """
    command = [str(find_program(env)), *arguments(model, suite, out)]
    out.mkdir(parents=True, exist_ok=True)
    environment = {**(os.environ if env is None else env), "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    # It has an environment of its own: our path would put other versions of its libraries before it.
    environment.pop("PYTHONPATH", None)
    if isinstance(model, Endpoint) and model.api_key:
        environment["OPENAI_API_KEY"] = model.api_key
    if not suite.online:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    results = sorted(out.rglob("results_*.json"))
    if code or not results:
        last = "\n".join((out / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-SHOWN_LINES:])
        hint = "" if suite.online else " Its data sets must be downloaded already, or add --online."
        raise ModelError(f"lm_eval failed (exit {code}).{hint} All it said is in {out / 'log.txt'}; the end:\n{last}")
    return json.loads(results[-1].read_text(encoding="utf-8")) | {"folder": str(results[-1].parent)}


def arguments(model: Path | Endpoint, suite: Suite, out: Path) -> list[str]:
    """The harness's command line without the program. The key of an endpoint is never on it."""
    if isinstance(model, Endpoint):
        # One request at a time: with several, lm-eval 0.4.13 on aiohttp 3.14 ended with "Session is closed".
        kind, about = "local-chat-completions", f"model={model.model},base_url={model.base}/chat/completions,num_concurrent=1"
    else:
        kind, about = ("hf-multimodal" if _sees(model) else "hf"), f"pretrained={model}"
    words = [
        "run",
        "--model",
        kind,
        "--model_args",
        about,
        "--tasks",
        ",".join(suite.tasks),
        "--output_path",
        str(out),
        "--log_samples",
    ]
    words += ["--apply_chat_template"] if suite.chat_template or isinstance(model, Endpoint) else []
    words += ["--include_path", str(suite.include)] if suite.include else []
    words += ["--limit", str(suite.limit)] if suite.limit else []
    words += ["--num_fewshot", str(suite.num_fewshot)] if suite.num_fewshot is not None else []
    return words


def _sees(folder: Path) -> bool:
    """True for a vision-language model, which lm-eval loads by another class; that one generates and has no log-likelihoods."""
    config = folder / "config.json"
    return config.is_file() and "vision_config" in json.loads(config.read_text(encoding="utf-8"))


def figures(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """task -> metric -> value, of the tasks' `metric,filter` keys; standard errors left out."""
    return {
        task: {
            key.removesuffix(",none"): float(value)
            for key, value in row.items()
            if "," in key and "_stderr" not in key and isinstance(value, int | float)
        }
        for task, row in results["results"].items()
    }


def compare(before: Mapping[str, Any], after: Mapping[str, Any], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """One row per task and metric: before, after, and the paired difference over the documents with its 95 % bootstrap interval.

    Metrics that are no mean over documents have no pairs; their difference stands without an interval.
    """
    old, new, rows = figures(before), figures(after), []
    for task in new:
        sides = [scores_of(Path(side["folder"]), task) for side in (before, after)]
        for metric, value in new[task].items():
            start = old.get(task, {}).get(metric)
            pair = paired_difference(sides[0].get(metric, {}), sides[1].get(metric, {}), resamples=resamples, seed=seed)
            row = {
                "task": task,
                "metric": metric,
                "before": start,
                "after": value,
                "diff": None if start is None else value - start,
            }
            rows.append(row | {"diff_ci": None if pair is None else [pair.low, pair.high], "n": 0 if pair is None else pair.n})
    return rows


def scores_of(folder: Path, task: str) -> dict[str, dict[str, float]]:
    """metric -> document -> score, from the newest samples file of a task."""
    files, found = sorted(folder.glob(f"samples_{task}_*.jsonl")), {}
    for line in files[-1].read_text(encoding="utf-8").splitlines() if files else ():
        row = json.loads(line)
        suffix = "" if row.get("filter", "none") == "none" else f",{row['filter']}"
        for metric in row.get("metrics", ()):
            if isinstance(row.get(metric), int | float):
                found.setdefault(f"{metric}{suffix}", {})[str(row["doc_id"])] = float(row[metric])
    return found


def merged_for_harness(folder: Path, out: Path) -> Path:
    """A folder that plain transformers loads: the model's own when it has full weights, else one merged into `out`."""
    if not (folder / "adapter_config.json").is_file():
        return folder
    if not (out / "config.json").is_file():
        from factory.stages.models.export import merge

        partial: Path = out.with_name(f"{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        merge(folder, partial).rename(out)
    return out
