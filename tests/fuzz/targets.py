"""What is fuzzed: everything that reads what others wrote. Each takes bytes; anything but a FactoryError is a fault."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import seeds_medicine
import seeds_rows
import seeds_science
import seeds_signals
from pack_targets import PackTarget, pairs_of_safety

from factory.config.layers import parse_value, read_yaml
from factory.data.report import RowReport
from factory.data.rows import read_rows
from factory.packs.questions import read_questions
from factory.plugins import read_manifest as read_pack_manifest
from factory.registry.archive import take
from factory.registry.models import Registry
from factory.registry.records import LineageStep, ModelRecord, read_record
from factory.rewards.formats import SHAPES, parse
from factory.stages.lesson_files import read_lessons

PACKS: dict[str, PackTarget] = seeds_science.TARGETS | seeds_signals.TARGETS | seeds_medicine.TARGETS | seeds_rows.TARGETS
LIMIT_S = 5.0
"""CPU seconds; an input that takes longer hangs."""


@dataclass(frozen=True)
class Target:
    """A reader with inputs that it takes."""

    read: Callable[[bytes, Path], None]
    """(input, an empty folder of its own) -> nothing; raises FactoryError for what it refuses."""
    seeds: Sequence[bytes]


ANSWERS = [
    b"<think>because of 2</think><answer>B</answer>", b"<think></think>\\boxed{\\frac{1}{2}}", b"Thought process: x\nAnswer: 12 kg",
    b'<think>a</think>```json\n{"answer": [1, 2.5, null]}\n```', b"<think>a<think>b</think></think><answer><answer>C</answer>",
]  # fmt: skip


def read_answer(content: bytes, _: Path) -> None:
    """The tag parser, in every form of answer, strict and lenient."""
    text = content.decode("utf-8", errors="replace")
    for shape in SHAPES:
        for lenient in (False, True):
            parse(text, shape, lenient=lenient)


RECIPES = [
    b"description: a\nextends: embedded\nstages:\n  cpt: {kind: cpt, optim: {lr: 4e-3}}\n  rl:\n    kind: rl\n    pieces: {loss: {clip: {eps_low: 0.2}}}\n",
    b"base: embedded-text\neval: {samples: 6, bootstrap: 20}\npack: {shares: {a: 1, b: 2.5}}\n",
    b"a: &x [1, 2]\nb: *x\nc: 0x10\nd: 1e-5\n",
]


def read_recipe(content: bytes, folder: Path) -> None:
    """A recipe from its file, and the same text as the value of --set."""
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    read_yaml(path, "recipe")
    parse_value(content.decode("utf-8", errors="replace"), "--set a")


def record() -> ModelRecord:
    """A whole manifest."""
    return ModelRecord(
        name="toy", version=1, domain="toy", stage="sft", base={"ref": "embedded-text", "hash": "b" * 64, "licence": "Apache-2.0"},
        artifacts={"model": "a" * 64}, lineage=(LineageStep("00-base", "base", None, "f0", "h0"), LineageStep("02-sft", "sft", "00-base", "f", "h")),
        config={"recipe": "short", "stages": {"sft": {"kind": "sft"}}}, seed=0, versions={"torch": "2"},
        data={"pack": {"name": "toy", "version": "1", "hash": "p"}, "files": {}},
        evals={"sft": {"test": {"name": "accuracy", "value": 0.75, "n": 40, "ci": [0.6, 0.86]}}},
        licence="CC0-1.0", intended_use="tests", not_for="use", run="toy", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def read_manifest(content: bytes, folder: Path) -> None:
    """A manifest of the registry, directly and through the index."""
    path = folder / "manifests" / "toy-v1.json"
    path.parent.mkdir()
    path.write_bytes(content)
    read_record(path)
    Registry(folder).verify()


PACK = b"""\
name: stones
title: Stones
version: 1.0.0
license: Apache-2.0
intended_use: tests
not_for: use
contract: 1
defaults: {base: embedded-text, eval: {samples: 6}}
data: [{name: rocks, license: CC0-1.0, source: drawn}]
"""


def read_pack(content: bytes, folder: Path) -> None:
    """pack.yaml of another's pack."""
    (folder / "pack.yaml").write_bytes(content)
    read_pack_manifest(folder)


QUESTIONS = b"""\
group: specimen
tolerance: 0.01
document: "{colour} and {grain}: {rock}"
tasks:
  rock: {kind: label, ask: "Colour: {colour}. Which rock is it?", answer: rock, labels: [basalt, granite]}
  mass: {kind: number, ask: "Grain: {grain}. Which mass?", answer: mass, reasoning: why}
splits: {validation: 0.2, test: 0.1}
"""


def read_questions_of_pack(content: bytes, folder: Path) -> None:
    """questions.yaml of a pack that is a table."""
    (folder / "questions.yaml").write_bytes(content)
    read_questions(folder)


def _archive(folder: Path) -> bytes:
    from dataclasses import replace

    from factory.registry.archive import archive

    model = folder / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text("{}")
    registry = Registry(folder / "from")
    stored = registry.register(replace(record(), artifacts={}, version=0), model)
    archive(registry, stored.id, folder / "toy.tar")
    return (folder / "toy.tar").read_bytes()


def read_archive(content: bytes, folder: Path) -> None:
    """`factory models take`; nothing may appear outside the registry, and only whole models in it."""
    path, root = folder / "in.tar", folder / "registry"
    path.write_bytes(content)
    try:
        take(Registry(root), path)
    finally:
        strays = {found.name for found in folder.iterdir()} - {"in.tar", "registry"}
        assert not strays, f"written outside the registry: {strays}"
    assert Registry(root).verify() == []


TABLES: dict[str, list[bytes]] = {
    "jsonl": [
        b'{"id": "1", "q": "a", "n": 1.5}\n{"id": "2", "q": null, "n": [1, {"a": "b"}]}\n',
        b'{"a": "\\u00e9\\ud83d\\ude00"}\n',
    ],
    "json": [
        b'[{"id": 1, "q": "a"}, {"id": 2, "q": "b"}]',
        b'{"data": {"rows": [{"q": "a"}], "x": 1}}',
        b'{"q": ["a", "b"], "n": [1, 2]}',
    ],
    "csv": [b'id,q,n\n1,"a, b",2\n2,"c ""d""",3\n', b"\xef\xbb\xbfid;q\r\n1;a\r\n"],
    "tsv": [b"id\tq\n1\ta\n2\tb\n"],
}


def _table(suffix: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        path = folder / f"rows.{suffix}"
        path.write_bytes(content)
        for _, row in read_rows(path, RowReport(max_bad_fraction=1.0)):
            assert isinstance(row, dict)

    return read


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"q": ["a", "b"], "n": [1, 2], "l": [[1], [2, 3]]}), out)
    return out.getvalue()


def _shard() -> bytes:
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (("a.json", b'{"q": 1}'), ("a.txt", b"text"), ("b.json", b'{"q": 2}')):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


LESSONS = [
    json.dumps({"sample": {"id": "1", "task": "t", "messages": [{"role": "user", "content": "q"}], "media": [], "reference": "a",
                           "meta": {}, "split": "train", "source": "s"}, "response": "r"}).encode() + b"\n"
]  # fmt: skip


def read_lesson_file(content: bytes, folder: Path) -> None:
    """lessons.jsonl of another build."""
    path = folder / "lessons.jsonl"
    path.write_bytes(content)
    read_lessons(path)


def _own() -> dict[str, Callable[[Path], Target]]:
    """Readers of the factory itself."""
    return {
        "answer": lambda _: Target(read_answer, ANSWERS), "recipe": lambda _: Target(read_recipe, RECIPES),
        "manifest": lambda _: Target(read_manifest, [json.dumps(record().to_json()).encode()]),
        "archive": lambda scratch: Target(read_archive, [_archive(scratch)]), "lessons": lambda _: Target(read_lesson_file, LESSONS),
        "pack": lambda _: Target(read_pack, [PACK]), "questions": lambda _: Target(read_questions_of_pack, [QUESTIONS]),
        "parquet": lambda _: Target(_table("parquet"), [_parquet()]), "tar": lambda _: Target(_table("tar"), [_shard()]),
    } | {kind: lambda _, kind=kind: Target(_table(kind), TABLES[kind]) for kind in TABLES}  # fmt: skip


def makers() -> tuple[dict[str, Callable[[Path], Target]], dict[str, str]]:
    """({name: empty folder -> the target}, {name of a target that is left out: why}). Libraries are loaded when a target is made."""
    found, left_out = _own(), {}
    for name, pack in PACKS.items():
        missing = pack.missing()
        if missing:
            left_out[name] = f"{', '.join(missing)} not installed"
        else:
            found[name] = lambda scratch, pack=pack: Target(*pack.reader(scratch))
    found["safety_pairs"] = lambda _: Target(pairs_of_safety, seeds_rows.PAIRS)
    return found, left_out
