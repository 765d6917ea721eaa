"""What work costs as it grows: a registry of many models, tables of many rows, the order of many documents, the log of many rollouts.

    python benchmarks/growth.py [--quick] [--json FILE] [--seed N]

- registry: CPU milliseconds of each query of a registry with 10,000 models (100 with --quick), against a limit of 100 ms, and
  the same with the index one model behind, as the first query after a registration from elsewhere finds it;
- reading a JSON-lines table, and drawing and packing batches, at 1,000 to 1,000,000 rows: CPU per row at the largest size over
  CPU per row at the smallest but one (1,000 rows are too few to time), so 1 is linear;
- memory above base of the rollout log after the last checkpoint of a long run over that of a run a tenth as long.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, cpu_seconds, limited, main, peak_above_base, repeated  # noqa: E402

MODELS = 10_000
QUERY_MS = 100
NEARLY_LINEAR = 1.5
"""Largest cost per row at the largest size over that at a small one; caches of the processor account for some."""


def make_registry(root: Path, count: int) -> None:
    """Manifests of `count` models, four versions of each name, eight domains; written as `Registry.enter` writes them."""
    from factory.registry.files import write_json
    from factory.registry.records import LineageStep, ModelRecord

    for number in range(count):
        steps = tuple(
            LineageStep(kind, kind, None, f"{kind}-{number}", f"{number:064x}") for kind in ("base", "cpt", "sft", "rl")
        )
        record = ModelRecord(
            name=f"model-{number // 4}", version=number % 4 + 1, domain=f"domain-{number % 8}", stage="rl", base={"ref": "embedded-text", "hash": "b" * 64},
            artifacts={"model": f"{number:064x}"}, lineage=steps, config={"recipe": "embedded", "stages": {"rl": {"lr": [1e-4] * 40}}},
            seed=number, versions={"torch": "2"}, data={}, licence="Apache-2.0", intended_use="benchmarks", not_for="anything else",
            evals={"rl": {"test": {"name": "accuracy", "value": 0.5, "ci": [0.4, 0.6], "n": 400}}}, run=f"run-{number}",
            created=f"2026-01-{number % 28 + 1:02}T00:00:00+00:00",
        )  # fmt: skip
        write_json(root / "manifests" / f"{record.id}.json", record.to_json(), is_new=True)


def registry(count: int, repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of each query."""
    from factory.registry.models import Registry

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "manifests").mkdir()
        make_registry(root, count)
        known = Registry(root)
        assert known.reindex() == count == len(known.list())
        touched = root / "manifests" / "model-1-v1.json"

        def behind() -> list[dict[str, Any]]:
            touched.write_text(touched.read_text() + " ")
            return known.list("domain-3")

        queries: dict[str, Callable[[], Any]] = {
            "models list": known.list, "models list --domain": lambda: known.list("domain-3"),
            "models built from a step": lambda: known.index.built_from("sft-77"), "models show NAME": lambda: known.show("model-1"),
            "models why NAME": lambda: known.index.relatives(known.show("model-1")),
            "models list --domain, index one model behind": behind,
        }  # fmt: skip
        return {
            name: [1000 * seconds for seconds in repeated(lambda query=query: cpu_seconds(query), repeats, WARM_UPS)]
            for name, query in queries.items()
        }


def reading(count: int) -> float:
    """CPU microseconds per row of reading and judging a JSON-lines table."""
    from factory.data.report import RowReport
    from factory.data.rows import read_rows

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w") as file:
            file.writelines(
                json.dumps({"id": n, "question": f"what is {n} and {n + 1}?", "answer": str(n)}) + "\n" for n in range(count)
            )

        def work() -> None:
            report = RowReport()
            for _ in read_rows(path, report):
                report.accept()
            assert report.num_good == count

        return 1e6 * cpu_seconds(work) / count


def packing(count: int, seed: int) -> float:
    """CPU microseconds per document of drawing every batch of an epoch and packing it into rows of 1,024 tokens."""
    import random

    from factory.stages.batches import DataOrder
    from factory.stages.packing import first_fit

    rng = random.Random(seed)
    lengths = [min(1024, max(1, round(rng.lognormvariate(5, 0.8)))) for _ in range(count)]

    def work() -> None:
        order = DataOrder(count, 1, 32, seed)
        placed = sum(
            len(row) for step in range(order.num_steps) for row in first_fit([lengths[i] for i in order.indices(step)], 1024)
        )
        assert placed == count

    return 1e6 * cpu_seconds(work) / count


def rollout_log(steps: int) -> float:
    """MiB above base of the log's checkpoint state after so many steps of 16 rollouts of 1 KiB."""
    from factory.stages.rl.record import FILE_NAME, RolloutLog

    with tempfile.TemporaryDirectory() as folder:
        log = RolloutLog(Path(folder), is_main=True)
        log.begin()
        log.state_dict()
        line = json.dumps({"step": 1, "completion": "x" * 1000}) + "\n"
        with (Path(folder) / FILE_NAME).open("a") as file:
            for _ in range(steps):
                file.write(line * 16)
        with peak_above_base() as memory:
            log.load_state_dict(log.state_dict())
        return memory.above_base_bytes / 2**20


def rows(quick: bool, seed: int) -> list[Row]:
    """All of them."""
    count, repeats = (100, 1) if quick else (MODELS, REPEATS)
    found = [
        limited(f"registry of {count:,} models: {name}", f"ours < {QUERY_MS}", times, "CPU ms")
        for name, times in alone("growth:registry", {"count": count, "repeats": repeats}).items()
    ]
    small, large = (200, 2000) if quick else (10_000, 1_000_000)
    for name, side, settings in (("reading a table", "reading", {}), ("drawing and packing batches", "packing", {"seed": seed})):
        costs = [[alone(f"growth:{side}", {"count": n, **settings}) for _ in range(repeats)] for n in (large, small)]
        found.append(
            compared(f"{name}: {large:,} rows", f"ours at {small:,} rows", f"ratio <= {NEARLY_LINEAR}", *costs, "CPU us/row")
        )
    few, many = (100, 1000) if quick else (1000, 10_000)
    memory = [[alone("growth:rollout_log", {"steps": steps}) + 1.0 for _ in range(repeats)] for steps in (many, few)]
    notes = f"{many * 16:,} against {few * 16:,} rollouts in the log; 1 MiB added to both sides, so that two zeros are equal"
    found.append(
        compared(
            "memory of the rollout log's checkpoint",
            "ours, a tenth of the rollouts",
            f"ratio <= {NEARLY_LINEAR}",
            *memory,
            "MiB",
            notes,
        )
    )
    return found


if __name__ == "__main__":
    main(rows, __doc__)
