"""Does each evaluation still load? One row of every task of a pack, and one document of tasks of lm-eval-harness.

Benchmarks rot (36 dataset paths of lm-eval failed in one sweep, EleutherAI/lm-evaluation-harness#3171), so this loads and not only looks.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, DomainPack
from factory.evaluation.harness import find_program
from factory.rewards.routing import is_pattern

LOOKED_AT = 512
"""Test samples drawn to meet each task of a pack once."""
TIMEOUT_S = 900
_PROBE = """
import json, sys
from lm_eval.tasks import TaskManager, get_task_dict
manager = TaskManager(include_path=sys.argv[2] or None)
for name in json.loads(sys.argv[1]):
    try:
        task = next(iter(get_task_dict([name], manager).values()))
        while isinstance(task, dict):
            task = next(iter(task.values()))
        docs = task.test_docs() if task.has_test_docs() else task.validation_docs()
        doc = next(iter(docs))
        print(json.dumps({"task": name, "state": "ok", "found": str(task.doc_to_text(doc))[:80]}), flush=True)
    except Exception as err:
        said = f"{type(err).__name__}: {err}"
        state = "gated" if "gated" in said.lower() or "401" in said or "403" in said else "broken"
        print(json.dumps({"task": name, "state": state, "found": said[:300]}), flush=True)
"""


@dataclass(frozen=True)
class Loaded:
    """One task."""

    source: str
    """`pack NAME` or `lm-eval`."""
    task: str
    state: str
    """`ok`, `absent` (no row met), `gated` or `broken`."""
    found: str


def pack_tasks(name: str, pack: DomainPack, request: DataRequest, seed: int) -> list[Loaded]:
    """Each task of a pack: its first test sample, put to the verifier of the primary eval with an empty answer."""
    source, first, wanted = f"pack {name}", {}, [task for task in pack.manifest.tasks if not is_pattern(task)]
    try:
        drawn = pack.samples("test", seed, DataRequest(request.paths, LOOKED_AT, options=request.options, online=request.online))
        for sample in drawn:
            first.setdefault(sample.task, sample)
            if all(task in first for task in wanted):
                break
        judges = {one.verifier for one in pack.evals().values() if one.kind == "qa"}
        verifiers = {key: verifier for key, verifier in pack.verifiers().items() if key in judges}
    except Exception as err:  # a third party's pack raises whatever it likes; saying so is the work here
        return [Loaded(source, "all", "broken", f"{type(err).__name__}: {err}")]
    rows = []
    for task in [*wanted, *sorted(set(first) - set(wanted))]:
        sample = first.get(task)
        if sample is None:
            rows.append(Loaded(source, task, "absent", f"none among {LOOKED_AT} test samples"))
            continue
        try:
            verdicts = [verifier("", sample) for verifier in verifiers.values()]
            failed = [verdict.reason for verdict in verdicts if verdict.status.is_masked]
            state, found = ("broken", failed[0]) if failed else ("ok", sample.text().replace("\n", " ")[:80])
        except Exception as err:  # as above
            state, found = "broken", f"{type(err).__name__}: {err}"
        rows.append(Loaded(source, task, state, found))
    return rows


def harness_tasks(
    tasks: Sequence[str], include: Path | None, *, online: bool, env: Mapping[str, str] | None = None
) -> list[Loaded]:
    """Each task of lm-eval-harness: its first document, in the harness's own environment.

    Raises:
        ConfigError: no harness.
    """
    python = find_program(env).parent / "python"
    environment = dict(os.environ if env is None else env) | {"HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("PYTHONPATH", None)
    if not online:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), "-c", _PROBE, json.dumps(list(tasks)), str(include or "")], capture_output=True, text=True, env=environment,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            found[row["task"]] = row
    last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return [
        Loaded(
            "lm-eval",
            task,
            found.get(task, {}).get("state", "broken"),
            found.get(task, {}).get("found", f"the harness ended: {last}"),
        )
        for task in tasks
    ]
