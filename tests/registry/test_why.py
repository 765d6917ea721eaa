"""why and compare: the words are those of the record, and pairs are only made of equal questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.registry.files import write_json
from factory.registry.measured import samples_file
from factory.registry.records import LineageStep
from factory.registry.relatives import Keys, relatives_of
from factory.registry.why import explain, settings_that_matter


def test_why_tells_base_steps_data_choice_and_versions(factory, put):
    put()
    out = factory("models", "why", "toy").out
    for wanted in (
        "toy-v1 was built on 2026-01-01", "It starts from embedded-text, licence Apache-2.0, sha256 bbbbbbbbbbbb", "documents 64, optim.lr 0.004",
        "06-sft: sft from 02-cpt", "<- kept", "accuracy 0.750, 95 % interval 0.600 to 0.860, n=40", "(a control: measured, never kept)",
        "lessons 32, epochs 2", "a.jsonl  sha256 dddddddddddd", "1 file of the user", "sft took at most 32 lessons", "torch 2",
        "'sft' was kept by the rule: the highest validation value", "Validation: base 0.200, sft 0.700", "Built from it: no model here",
    ):  # fmt: skip
        assert wanted in out, wanted
    assert out.index("04-ctl") > out.index("not part of this model") and "adapter.rank" not in out


def test_why_names_parents_children_and_kin(factory, registry, put):
    first = put("first", "1")
    child = put("child", "2", base={"ref": str(registry.model_path("first")), "hash": first.artifacts["model"], "licence": "MIT"})
    put(
        "grandchild", "3", base={"ref": "child-v1", "hash": child.artifacts["model"]}, data={"pack": {}, "files": {"b": "d" * 64}}
    )
    put(
        "cousin",
        "4",
        data={"pack": {}, "files": {}},
        lineage=(LineageStep("00-base", "base", None, "f0", "b" * 64),),
        stage="base",
    )
    kin = factory("models", "why", "first", "--json").json["relatives"]
    assert kin["descendants"] == {"child-v1": "built from first-v1", "grandchild-v1": "built from child-v1"}
    assert set(kin["same_base"]) == {"cousin-v1"} and kin["parents"] == {}
    assert kin["same_steps"] == {"child-v1": "02-cpt, 04-ctl", "grandchild-v1": "02-cpt, 04-ctl"}
    assert kin["same_data"] == {"child-v1": "1 equal data file, pack toy 1", "grandchild-v1": "1 equal data file"}
    told = factory("models", "why", "child").out
    assert "That base is itself a model of this registry: first-v1." in told and "grandchild-v1 (built from child-v1)" in told


def test_a_model_that_is_its_base_has_no_descendants(registry, put, making):
    base = put("same", "x", stage="base")
    same = base.__class__(**{**vars(base), "artifacts": {"model": "b" * 64}})
    other = put("other", "y")
    assert relatives_of(same, Keys([other])).descendants == {} and set(relatives_of(same, Keys([other])).same_base) == {
        "other-v1"
    }


def test_why_says_when_the_record_does_not_tell(registry, put, making):
    record = put(evals={}, config={})
    found = explain(record, relatives_of(record, Keys([])))
    assert found["chosen"]["follows_rule"] is None and found["steps"][0]["settings"] == {}
    against = put("b", evals={"cpt": {"validation": {"value": 0.9}}, "sft": {"validation": {"value": 0.1}}})
    assert explain(against, relatives_of(against, Keys([])))["chosen"]["follows_rule"] is False


def test_settings_of_an_unknown_stage_kind_are_told_whole():
    assert settings_that_matter({"kind": "own", "control": False, "depth": 3, "nested": {"a": 1}}) == {"depth": 3}
    assert settings_that_matter({"optim": {"lr": 1}, "reads": [], "depth": 3}) == {"optim.lr": 1}


def test_unknown_models_end_with_8(factory, put):
    put()
    ended = factory("models", "why", "toi", "--json")
    assert ended.code == 8 and "Did you mean 'toy'" in ended.json["error"]["message"]
    assert factory("models", "why", "../../etc/passwd").code == 8


def run_of(home, name: str, scores: dict[str, float], prompt: str = "1+1") -> str:
    """A finished eval step on disk; returns the hash that its record has to name."""
    import hashlib

    folder = home.runs / name / "stages" / "07-sft-eval"
    folder.mkdir(parents=True)
    rows = [
        {"id": key, "prompt": prompt, "reference": "2", "task": "t", "status": "ok", "score": score}
        for key, score in scores.items()
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "samples.jsonl").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_json(folder / "stage.lock", {"outputs": {"hash": f"e6-{name}", "files": {"samples.jsonl": {"sha256": digest}}}})
    return text


def test_compare_pairs_the_samples_of_both_runs(factory, home, put):
    put("one", "1")
    put("two", "2")
    # Differences on the four shared samples: 1, 0, 1, 0 -> mean 0.5. s4 and s5 stand alone.
    run_of(home, "one", {"s0": 0, "s1": 1, "s2": 0, "s3": 1, "s4": 1})
    run_of(home, "two", {"s0": 1, "s1": 1, "s2": 1, "s3": 1, "s5": 0})
    pair = factory("models", "compare", "one", "two", "--json").json["paired"]
    assert (pair["diff"], pair["n"], pair["left_out"], pair["why"]) == (0.5, 4, 2, None)
    low, high = pair["diff_ci"]
    assert 0 <= low < 0.5 < high <= 1
    out = factory("models", "compare", "one", "two").out
    assert (
        "two-v1 minus one-v1 over the same 4 test samples: +50.0 points" in out and "2 samples were measured in one alone" in out
    )
    back = factory("models", "compare", "two", "one", "--json").json["paired"]
    assert back["diff"] == -0.5 and back["diff_ci"] == pytest.approx([-high, -low], abs=0.26)


def test_equal_ids_of_other_questions_are_no_pairs(factory, home, put):
    put("one", "1")
    put("two", "2")
    run_of(home, "one", {"s0": 0})
    run_of(home, "two", {"s0": 1}, prompt="2+2")
    assert "no test sample was put to both" in factory("models", "compare", "one", "two").out


def test_no_pairs_from_runs_that_are_gone_or_changed(factory, home, registry, put):
    put("one", "1")
    put("two", "2")
    assert "is gone, and only the run keeps" in factory("models", "compare", "one", "two").out
    for name in ("one", "two"):
        run_of(home, name, {"s0": 1})
    path = samples_file(registry.root, registry.show("two"))
    path.write_text(path.read_text().replace('"score": 1', '"score": 0'))
    assert "holds other results than those that were registered" in factory("models", "compare", "one", "two").out
    assert isinstance(path, Path) and factory("models", "compare", "one", "one", "--json").json["paired"]["diff"] == 0
