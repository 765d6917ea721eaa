"""`factory init` proposes a build from a folder of data, writes a recipe that composes, and asks nobody who is not there."""

import json

import pytest
import yaml

from factory.cli.init import chosen, recipe_text
from factory.errors import ConfigError, DataError
from factory.pipeline import propose
from factory.pipeline.propose import Choice, Reading, choose_recipe


@pytest.fixture
def data(tmp_path):
    """Rows of multiple choice that the medicine pack reads."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [
        {
            "question": f"Which drug treats condition {i}?",
            "options": {"A": f"drug {i}", "B": "rest", "C": "water", "D": "sleep"},
            "answer_idx": "A",
            "answer": f"drug {i}",
        }
        for i in range(30)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_recipe_is_written_that_composes_and_plans(factory, data):
    done = factory("init", str(data), "--domain", "medicine", "--json")
    assert done.code == 0, done.err
    assert done.json["domain"] == "medicine" and done.json["read"][0]["counts"]["samples"] > 0 and done.json["steps"] > 3
    recipe = yaml.safe_load((data / "factory.yaml").read_text())
    assert recipe["data"]["paths"] == ["."] and recipe["domain"] == "medicine"
    again = factory("init", str(data), "--domain", "medicine")
    assert again.code == 2 and "--force" in again.err
    assert factory("config", "show", "--recipe", str(data / "factory.yaml"), "--json").json["data"]["paths"] == [str(data)]


def test_stages_that_the_files_have_no_rows_for_are_left_out(factory, tmp_path):
    # HuatuoGPT-o1's verifiable questions: nothing to imitate and nothing to read, only questions.
    rows = [
        {"Open-ended Verifiable Question": f"Is {i} even?", "Ground-True Answer": "no" if i % 2 else "yes"} for i in range(30)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = factory("init", str(tmp_path), "--domain", "medicine", "--json")
    counts = done.json["read"][0]["counts"]
    assert counts["samples"] > 20 and not counts.get("lessons") and done.json["left_out"] == ["cpt", "sft"]
    assert "RL finds no reward to climb" in factory("init", str(tmp_path), "--domain", "medicine", "--force").out
    written = (tmp_path / "factory.yaml").read_text()
    assert "sft: null" in written and "plan_error" not in done.json
    kinds = factory("config", "show", "--recipe", str(tmp_path / "factory.yaml"), "--json").json["stages"]
    assert "sft" not in kinds and "rl" in kinds


def test_data_that_no_pack_reads_is_refused_with_the_way_out(factory, tmp_path):
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    done = factory("init", str(tmp_path / "odd.csv"), "--domain", "chemistry")
    assert done.code == 3 and "factory domains new" in done.err and not (tmp_path / "factory.yaml").exists()
    assert factory("init", str(tmp_path / "nothing")).code == 3


def test_equal_packs_are_asked_for_and_never_guessed():
    one, two, less = Reading("a", {"samples": 5}), Reading("b", {"samples": 5}), Reading("c", {"samples": 4})
    with pytest.raises(ConfigError, match="2 packs read these files equally well: a, b"):
        chosen([one, two, less], may_ask=False)
    assert chosen([one, less], may_ask=False) is one
    # Fewer bad rows win among packs that read as many.
    assert Reading("x", {"samples": 5}, bad=1).rank < one.rank
    with pytest.raises(DataError, match="no pack understands"):
        chosen([Reading("a", {"samples": 0}, first_fault="odd")], may_ask=False)


def test_the_base_follows_the_memory(monkeypatch):
    monkeypatch.setattr(propose, "num_gpus", lambda: 0)
    choice = choose_recipe("pathology")
    assert (choice.recipe, choice.base) == ("embedded", "embedded-vl") and "no GPU" in choice.why
    monkeypatch.setattr(propose, "num_gpus", lambda: 1)
    monkeypatch.setattr(propose, "smallest_gpu", lambda: 80 * 2**30)
    large = choose_recipe("pathology")
    assert large.recipe == "qwen2.5-vl-7b" and large.base.startswith("qwen2.5-vl-7b")
    monkeypatch.setattr(propose, "smallest_gpu", lambda: 2**30)
    assert choose_recipe("pathology").base == "embedded-vl"


def test_the_base_that_you_name_is_kept():
    choice = choose_recipe("pathology", base="Qwen/Qwen2.5-VL-7B-Instruct")
    assert (choice.recipe, choice.base) == ("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct")


def test_paths_in_the_file_start_at_the_file(tmp_path):
    (tmp_path / "data").mkdir()
    best, choice = Reading("pathology", {"samples": 200}, ["finding"]), Choice("embedded", "embedded-vl", "why")
    beside = yaml.safe_load(recipe_text(best, choice, tmp_path / "data", tmp_path / "factory.yaml"))
    assert beside["data"]["paths"] == ["./data"]
    elsewhere = yaml.safe_load(recipe_text(best, choice, tmp_path / "data", tmp_path / "other" / "factory.yaml"))
    assert elsewhere["data"]["paths"] == [str(tmp_path / "data")]
    assert "200+ samples" in recipe_text(best, choice, tmp_path / "data", tmp_path / "factory.yaml")
