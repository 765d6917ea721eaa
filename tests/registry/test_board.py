"""The board: who is ranked with whom, and how."""

from dataclasses import replace

from factory.cli.board import ranked
from factory.registry.records import ModelRecord


def record(name, value, *, seed=0, base=0.25, domain="toy", version=1):
    figures = {"name": "accuracy", "n": 10, "ci": [0.1, 0.9]}
    return ModelRecord(
        name, version, domain, "sft", {"ref": "embedded-text", "licence": "Apache-2.0"}, {}, (), {"eval": {"samples": 10, "seed": seed}}, 0, {},
        {"pack": {"version": "1.0", "hash": "h"}, "files": {}}, {"sft": {"test": {**figures, "value": value}}, "base": {"test": {**figures, "value": base}}},
        "MIT", "x", "y", "run", f"2026-01-0{version}",
    )  # fmt: skip


def test_the_best_comes_first_and_equals_share_a_rank():
    (group,) = ranked([record("a", 0.5), record("b", 0.75), record("c", 0.5, base=None)])
    assert [(row["id"], row["rank"]) for row in group["models"]] == [("b-v1", 1), ("a-v1", 2), ("c-v1", 2)]
    assert [row["gain"] for row in group["models"]] == [0.5, 0.25, None]


def test_other_questions_are_another_group_and_the_unmeasured_are_left_out():
    other_pack = replace(record("d", 0.9), data={"pack": {"version": "1.0", "hash": "other"}, "files": {}})
    groups = ranked([record("a", 0.5), record("b", 0.75, seed=1), record("c", None), other_pack, record("e", 0.1, domain="word")])
    assert sorted(len(group["models"]) for group in groups) == [1, 1, 1, 1] and {group["domain"] for group in groups} == {
        "toy",
        "word",
    }
    assert "c-v1" not in str(groups)
