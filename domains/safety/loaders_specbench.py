"""SpecBench's folders: prompts.json with the specifications and the scenario beside it.

A prompt is asked under its scenario and all of its specifications, as system turn. The specifications are also documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from factory.contracts import Message
from factory.data.rows import RowFault
from factory.data.shapes import text_cell
from factory.domains.safety.loaders_shapes import request_record
from factory.packs.common_shapes import RowShape
from factory.packs.records import DOCUMENTS, SAMPLES, Record
from factory.packs.sources import FileFormat

KINDS = ("safety_specifications", "behavioral_specifications")
PROMPTS, SPECS, SCENARIO = "prompts.json", "specifications.json", "scenario.json"


def read_json(path: Path) -> Any:
    """One JSON file. Raises RowFault saying what it is instead."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        raise RowFault(path.name, f"cannot be read: {err.strerror}. SpecBench needs it beside {PROMPTS}.") from err
    except (ValueError, RecursionError) as err:
        raise RowFault(path.name, f"is not JSON: {err}. Download it again.") from err


def specifications(path: Path) -> dict[str, list[str]]:
    """The two lists of a specifications.json. Raises RowFault."""
    raw = read_json(path)
    if not isinstance(raw, Mapping) or any(not isinstance(raw.get(kind), list) or not raw[kind] for kind in KINDS):
        raise RowFault(path.name, f"must hold the lists {' and '.join(KINDS)}.")
    return {kind: [str(one) for one in raw[kind]] for kind in KINDS}


def scenario(path: Path) -> dict[str, str]:
    """Name and description of a scenario.json. Raises RowFault."""
    raw = read_json(path)
    if not isinstance(raw, Mapping) or not all(
        isinstance(raw.get(key), str) and raw[key].strip() for key in ("name", "description")
    ):
        raise RowFault(path.name, "must hold a name and a description.")
    return {"name": raw["name"], "description": raw["description"]}


def _read_prompts(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    listed = read_json(path)
    if not isinstance(listed, list):
        raise RowFault(path.name, f"must be a list of prompts, got {type(listed).__name__}.")
    shared = {
        "specbench": {"specifications": specifications(path.with_name(SPECS)), "scenario": scenario(path.with_name(SCENARIO))}
    }
    for number, row in enumerate(listed, 1):
        yield (
            number,
            {**row, **shared} if isinstance(row, Mapping) else RowFault("row", f"must be a mapping, got {type(row).__name__}."),
        )


def _read_specs(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    rows = [(kind, one) for kind, listed in specifications(path).items() for one in listed]
    for number, (kind, one) in enumerate(rows, 1):
        yield number, {"specification": one, "specification_kind": kind}


def _read_scenario(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    yield 1, {"scenario_text": scenario(path)}


def _prompt(row: Mapping[str, Any], settings: Any) -> Record:
    label = text_cell(row, "label")
    if label not in ("safe", "unsafe"):
        raise RowFault("label", f"is {label!r}; want safe or unsafe.")
    plain, adversarial = text_cell(row, "prompt"), str(row.get("adversarial_prompt") or "").strip()
    text = adversarial if adversarial and getattr(settings, "specbench_prompt", "adversarial") == "adversarial" else plain
    shared = row["specbench"]
    record = request_record(
        text, is_safe=label == "safe", key=None, category=shared["scenario"]["name"], origin=str(row.get("source") or "")
    )
    record.turns = (Message("system", system_turn(shared)), Message("user", text.strip()))
    record.meta["specifications"] = {kind: list(listed) for kind, listed in shared["specifications"].items()}
    return record


def system_turn(shared: Mapping[str, Any]) -> str:
    """Scenario and specifications as one system turn."""
    lists = [
        f"{title}:\n" + "\n".join(f"{number}. {one}" for number, one in enumerate(shared["specifications"][kind], 1))
        for title, kind in zip(("Safety specification", "Behaviour specification"), KINDS, strict=True)
    ]
    return f"{shared['scenario']['name']}. {shared['scenario']['description']}\n\n" + "\n\n".join(lists)


def _spec(row: Mapping[str, Any], settings: Any) -> Record:
    return Record(DOCUMENTS, text=text_cell(row, "specification"), meta={"kind": row["specification_kind"]})


def _scenario(row: Mapping[str, Any], settings: Any) -> Record:
    return Record(DOCUMENTS, text=f"{row['scenario_text']['name']}. {row['scenario_text']['description']}")


SPECBENCH_PROMPTS = FileFormat("specbench-prompts", (PROMPTS,), "SpecBench prompts (prompts.json)", _read_prompts)
SPECBENCH_SPECS = FileFormat("specbench-specifications", (SPECS,), "SpecBench specifications (specifications.json)", _read_specs)
SPECBENCH_SCENARIO = FileFormat("specbench-scenario", (SCENARIO,), "SpecBench scenario (scenario.json)", _read_scenario)
SHAPES = (
    RowShape(
        "specbench",
        "SpecBench prompts under their specifications",
        (("specbench",), ("prompt",), ("label",)),
        None,
        SAMPLES,
        _prompt,
    ),
    RowShape(
        "specbench-specification",
        "one specification of SpecBench",
        (("specification",), ("specification_kind",)),
        None,
        DOCUMENTS,
        _spec,
    ),
    RowShape("specbench-scenario", "a scenario of SpecBench", (("scenario_text",),), None, DOCUMENTS, _scenario),
)
