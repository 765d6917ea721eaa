"""The per-sample results of a registered model: the eval step of its run, as long as that run is kept and unchanged."""

from __future__ import annotations

import json
from pathlib import Path

from factory.errors import RegistryError
from factory.registry.files import read_json, sha256_file
from factory.registry.records import ModelRecord

SAMPLES = "samples.jsonl"


def samples_file(root: Path, record: ModelRecord) -> Path:
    """The file with one row per test sample of the kept stage.

    Args:
        root: of the registry; runs lie beside it.

    Raises:
        RegistryError: the run was deleted, moved or changed since the model was registered; the message says which.
    """
    kept = next((step for step in record.lineage if step.kind != "eval" and step.name.split("-", 1)[-1] == record.stage), None)
    measured = next((step for step in record.lineage if kept and step.kind == "eval" and step.start == kept.name), None)
    if measured is None:
        raise RegistryError(
            f"{record.id}: its record names no eval step of the kept stage '{record.stage}'. Measure it: factory eval."
        )
    folder = root.parent / "runs" / Path(record.run).name / "stages" / measured.name
    path = folder / SAMPLES
    if not path.is_file():
        raise RegistryError(f"{record.id}: {path} is gone, and only the run keeps the results of each sample.")
    changed = RegistryError(
        f"{record.id}: {folder} holds other results than those that were registered. Measure it again: factory eval."
    )
    try:
        outputs = read_json(folder / "stage.lock")["outputs"]
        wanted = (outputs["hash"], outputs["files"][SAMPLES]["sha256"])
    except (KeyError, TypeError) as err:
        raise changed from err
    if wanted != (measured.output_hash, sha256_file(path)):
        raise changed
    return path


def questions(path: Path) -> dict[str, str]:
    """Sample id -> what was asked and wanted, as one text, so that equal ids of other questions are told apart."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["id"]: json.dumps([row.get("prompt"), row.get("reference"), row.get("task")]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise RegistryError(f"{path}: cannot be read: {err}. Run the build again.") from err
