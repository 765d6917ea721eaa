"""Write a new pack: `factory domains new NAME`, from rules to be replaced, or from a table that the user has.

Everything goes into a folder beside the target first and is renamed when it is complete, so a failure leaves nothing behind.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from factory.contracts import CONTRACT, DataRequest, DomainPack, Sample
from factory.errors import ConfigError, DataError
from factory.packs.propose import Proposal, look, propose
from factory.packs.questions import KINDS
from factory.packs.table import LETTERS, TablePack
from factory.plugins import pack_entries

NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
RULE_TASKS = (("larger", "letter", "Choose the larger of two numbers"), ("even", "yes_no", "Say whether a sum is even"),
              ("sum", "number", "Add two numbers"))  # fmt: skip
"""Task, verifier and title of the pack made by rules."""
NO_ANSWER = ("", "I cannot tell.")
"""Completions in which nothing can be read."""


@dataclass(frozen=True)
class Scaffold:
    """A pack that was written."""

    name: str
    folder: Path
    files: tuple[str, ...]
    """Relative to the folder."""
    proposal: Proposal | None


def new_pack(name: str, target: Path, *, source: Path | None = None, answers: Sequence[str] = (), title: str = "") -> Scaffold:
    """Write a pip-installable pack.

    Args:
        target: folder to be made.
        source: the user's table; None for a pack made by rules.
        answers: columns of `source` to ask for, where the proposal should not choose.

    Raises:
        ConfigError: the name cannot be used or is taken, or the folder exists.
        DataError: the table cannot be read, or holds nothing that can be asked.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a pack. Use small letters, digits and '_', beginning with a letter.")
    taken = next((entry for entry in pack_entries() if entry.name == name), None)
    if taken is not None:
        raise ConfigError(f"there is a pack '{name}' already, from {taken.origin}. Choose another name.")
    if target.exists():
        raise ConfigError(f"{target} exists. Give another folder with --to, or remove it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as partial:
        root = Path(partial) / "pack"
        proposal = _write(name, root, source, answers, title or name.replace("_", " ").capitalize())
        names = tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
        root.rename(target)
    return Scaffold(name, target, names, proposal)


def _write(name: str, root: Path, source: Path | None, answers: Sequence[str], title: str) -> Proposal | None:
    package = root / f"factory_pack_{name}"
    proposal = propose(look(source), answers) if source is not None else None
    values = _values(name, title, source, proposal)
    for part, folder in (("root", root), ("package", package), ("rules" if proposal is None else "table", package)):
        _render(part, folder, values)
    if proposal is None:
        pack = _imported(name, root)
    else:
        assert source is not None
        _copy_data(source, package / "data", proposal)
        pack = TablePack(package)
    cases, rows = fixtures(pack)
    for file, found in (("cases.jsonl", cases), ("completions.jsonl", rows)):
        path = package / "fixtures" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    for cache in root.rglob("__pycache__"):
        shutil.rmtree(cache)
    return proposal


def _values(name: str, title: str, source: Path | None, proposal: Proposal | None) -> dict[str, Any]:
    """What the templates are filled with."""
    common = {"name": name, "title": title, "contract": CONTRACT, "licence": "Apache-2.0", "modality": "text", "kinds": KINDS}
    if proposal is None or source is None:
        tasks = [{"name": task, "verifier": verifier, "title": told} for task, verifier, told in RULE_TASKS]
        own = {"about": "questions that rules make", "data_id": f"{name}-rules", "source": "made by the rules of this pack",
               "data_licence": "Apache-2.0", "max_new_tokens": 32}  # fmt: skip
    else:
        questions = proposal.questions
        scored = [task for task in questions.tasks if task.kind != "long"]
        tasks = [{"name": task.name, "verifier": task.kind, "title": f"{task.answer}: {KINDS[task.kind]}"} for task in scored]
        own = {
            "about": f"the rows of {source.name}", "data_id": f"{name}-table", "source": f"the table {source.name}; write here whose it is",
            "data_licence": "unknown: write here what its owner allows", "modality": "vl" if questions.image else "text",
            "max_new_tokens": 96 if questions.shape == "think_answer" else 24, "file": source.name, "notes": proposal.notes,
            "num_rows": proposal.num_rows, "counts": proposal.counts, "body": _questions_yaml(proposal),
        }  # fmt: skip
    verifiers = {task["verifier"]: KINDS[task["verifier"]] for task in tasks} | {
        "format": "1 when the completion keeps its form, else 0"
    }
    return common | own | {"tasks": tasks, "verifiers": verifiers}


def _questions_yaml(proposal: Proposal) -> str:
    questions = proposal.questions
    plain: dict[str, Any] = {"shape": questions.shape, "splits": dict(questions.splits)}
    plain |= {key: value for key in ("tolerance", "group", "image", "document") if (value := getattr(questions, key))}
    plain["tasks"] = {}
    for task in questions.tasks:
        row: dict[str, Any] = {"kind": task.kind, "ask": task.ask, "answer": task.answer}
        row |= {key: value for key in ("options", "reasoning") if (value := getattr(task, key))}
        plain["tasks"][task.name] = row | ({"labels": list(task.labels)} if task.labels else {})
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110).strip()


def _render(part: str, target: Path, values: Mapping[str, Any]) -> None:
    """Fill in the templates of `templates/pack/<part>`; each file loses its `.jinja`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["q"] = lambda text: json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML and TOML string too
    root = Path(str(files("factory"))) / "templates" / "pack" / part
    for path in sorted(root.rglob("*.jinja")):
        file = target / path.relative_to(root).with_suffix("")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(environment.from_string(path.read_text(encoding="utf-8")).render(values), encoding="utf-8")


def _copy_data(source: Path, folder: Path, proposal: Proposal) -> None:
    """The table as `rows.<ending>` (its own name could be read as that of a split), and the images that its rows name."""
    folder.mkdir(parents=True)
    shutil.copyfile(source, folder / f"rows{''.join(source.suffixes[-2:] if source.suffix == '.gz' else source.suffixes[-1:])}")
    for row in look(source) if proposal.questions.image else ():
        cell = row.get(proposal.questions.image)
        for name in cell if isinstance(cell, list) else [cell]:
            if not isinstance(name, str):
                continue  # the bytes stand in the table
            image = (source.parent / name).resolve()
            if not image.is_relative_to(source.parent.resolve()) or not image.is_file():
                raise DataError(
                    f"{source}: the image {name!r} is not a file beside the table. Put the images below {source.parent}."
                )
            copy = folder / image.relative_to(source.parent.resolve())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, copy)


def _imported(name: str, root: Path) -> DomainPack:
    """The pack just written, imported from its folder."""
    sys.path.insert(0, str(root))
    try:
        importlib.invalidate_caches()
        for module in [known for known in sys.modules if known.split(".")[0] == f"factory_pack_{name}"]:
            del sys.modules[module]
        return importlib.import_module(f"factory_pack_{name}").PACK
    finally:
        sys.path.remove(str(root))


def fixtures(pack: DomainPack) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of cases.jsonl and completions.jsonl: for each verifier a right, a wrong, an unparsable completion and an exploit.

    Cases are the first held-out samples of each task (training ones where a small table has no other). What the verifier says now is what the fixture says; the kind is checked.
    """
    drawn: dict[str, list[Sample]] = {}
    for split in ("test", "validation", "train"):
        found: dict[str, list[Sample]] = {}
        for sample in pack.samples(split, 0, DataRequest(limit=200)):
            found.setdefault(sample.task, []).append(sample)
        drawn = {**found, **drawn}
    verifiers, cases, rows = pack.verifiers(), {}, []
    covered: set[str] = set()
    for task, samples in drawn.items():
        sample = samples[0]
        other = _another(sample, samples)
        for name in [*pack.manifest.tasks[task]["verifiers"], "accuracy"]:
            if name in covered:
                continue
            covered.add(name)
            cases[sample.id] = sample.to_json()
            rows += [_fixture(name, verifiers[name], sample, *row) for row in _completions(name, pack, sample, other)]
    return list(cases.values()), rows


def _another(sample: Sample, samples: Sequence[Sample]) -> Sample:
    """A sample with another answer; where all of these have the same, one made up: another letter, or a word that is none."""
    found = next((one for one in samples if one.reference != sample.reference), None)
    if found is not None:
        return found
    options = sample.meta.get("options") or ()
    letters = [letter for letter in LETTERS[: len(options)] if letter != sample.reference]
    made_up = letters[0] if letters else {"yes": "no", "no": "yes"}.get(str(sample.reference), "-1")
    return replace(sample, reference=made_up)


def _completions(name: str, pack: Any, sample: Sample, other: Sample) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Kind, candidates (the first that fits the kind is taken), and why the row exists."""
    gold, wrong = pack.gold(sample), pack.gold(other)
    if name == "format":
        yield "right", (wrong,), "the form alone counts"
        yield "wrong", (f"{wrong} and more",), "text outside of the form"
        yield "unparsable", NO_ANSWER, "no marks at all"
    else:
        yield "right", (gold,), "the right answer in the form"
        yield "wrong", (wrong,), "the answer of another question"
        yield "unparsable", NO_ANSWER, "nothing to read"
    hedged = f"{gold}<answer>{other.reference}</answer>"
    yield "exploit", (hedged, f"{wrong}{gold}", f"{gold}{wrong}{gold}"), "two answers, one of them right"


def _fixture(name: str, verifier: Any, sample: Sample, kind: str, candidates: Sequence[str], why: str) -> dict[str, Any]:
    for text in candidates:
        verdict = verifier(text, sample)
        if (verdict.score >= 1.0) == (kind == "right"):
            return {"case": sample.id, "verifier": name, "completion": text, "kind": kind, "score": verdict.score,
                    "status": verdict.status.value, "reason": verdict.reason, "why": why}  # fmt: skip
    raise DataError(
        f"verifier '{name}' gives a {kind} completion of {sample.id} the score {verdict.score:g} ({verdict.reason}). Is the row right?"
    )
