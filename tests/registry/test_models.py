"""Models in the registry: versions, adapters, bases in place, index, lineage, comparison."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from factory.errors import RegistryError
from factory.registry.base_models import base_models, find_base
from factory.registry.home import Home
from factory.registry.lineage import ancestors, lineage_text
from factory.registry.models import Registry, differences, read_chain
from factory.registry.records import LineageStep, ModelRecord

STEPS = (
    LineageStep("00-base", "base", None, "f0", "h0"), LineageStep("02-cpt", "cpt", "00-base", "f1", "h1"),
    LineageStep("04-ctl", "sft", "00-base", "f2", "h2"), LineageStep("06-sft", "sft", "02-cpt", "f3", "h3"),
)  # fmt: skip


def record(name: str = "path-s0", **changes) -> ModelRecord:
    made = ModelRecord(
        name=name, version=0, domain="pathology", stage="sft", base={"ref": "embedded-vl", "hash": "b", "licence": "Apache-2.0"},
        artifacts={}, lineage=STEPS, config={"recipe": "embedded", "stages": {"sft": {"lr": 0.1}}}, seed=0,
        versions={"torch": "2"},
        data={"pack": {"name": "pathology", "version": "1", "hash": "p"}, "files": {}},
        evals={"sft": {"test": {"name": "accuracy", "value": 0.8, "n": 100, "ci": [0.7, 0.9]}, "validation": {"value": 0.7}}},
        licence="Apache-2.0", intended_use="tests", not_for="patients", run=name, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(Home(tmp_path / "home").registry)


def model(folder: Path, weights: str = "w") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(weights)
    return folder


def test_a_record_survives_the_disk(registry, tmp_path):
    stored = registry.register(record(), model(tmp_path / "m"))
    assert registry.show("path-s0") == registry.show("path-s0-v1") == stored
    assert (registry.model_path("path-s0") / "model.safetensors").read_text() == "w"


def test_equal_content_is_one_version_and_other_content_the_next(registry, tmp_path):
    first = registry.register(record(), model(tmp_path / "a"))
    assert registry.register(record(created="2027-01-01T00:00:00+00:00"), tmp_path / "a") == first
    assert registry.register(record(), model(tmp_path / "b", "other")).id == "path-s0-v2"
    assert registry.show("path-s0").version == 2
    assert [row["id"] for row in registry.list("pathology")] == ["path-s0-v1", "path-s0-v2"] and registry.list("medicine") == []


def test_unknown_and_unusable_names(registry, tmp_path):
    registry.register(record(), model(tmp_path / "m"))
    with pytest.raises(RegistryError, match=r"no model 'path-s1' in .*Did you mean 'path-s0'"):
        registry.show("path-s1")
    with pytest.raises(RegistryError, match="cannot name a model"):
        record("../x")


def test_the_index_is_rebuilt_when_missing_damaged_or_old(registry, tmp_path):
    registry.register(record(), model(tmp_path / "m"))
    wanted, index = registry.list(), registry.root / "index.sqlite"
    index.unlink()
    assert registry.list() == wanted
    index.write_bytes(b"not a database")
    assert registry.list() == wanted
    with sqlite3.connect(index) as connection:
        connection.execute("DELETE FROM models")
    assert registry.list() == [] and registry.reindex() == 1 and registry.list() == wanted
    (registry.root / "manifests" / "path-s0-v1.json").unlink()
    assert registry.list() == []
    assert wanted[0]["value"] == 0.8 and wanted[0]["recipe"] == "embedded"


def test_models_are_found_by_a_step_of_their_lineage(registry, tmp_path):
    registry.register(record(), model(tmp_path / "m"))
    assert registry.index.built_from("f3") == ["path-s0-v1"] and registry.index.built_from("f9") == []


def test_verify_names_damage_and_broken_manifests(registry, tmp_path):
    stored = registry.register(record(), model(tmp_path / "m"))
    assert registry.verify() == registry.verify("path-s0") == []
    weights = registry.model_path("path-s0") / "model.safetensors"
    weights.unlink()
    (registry.root / "manifests" / "bad-v1.json").write_text("{}")
    problems = {problem.path: problem.what for problem in registry.verify()}
    assert problems[f"objects/{stored.artifacts['model']}/model.safetensors"] == "missing"
    assert "has format None" in problems["manifests/bad-v1.json"]


def test_an_adapter_is_stored_with_its_chain_and_the_registry_can_be_moved(registry, tmp_path):
    run = tmp_path / "run"
    model(run / "00-base/model", "base")
    for number, earlier in ((2, []), (4, ["../../02-x/model"])):
        folder = run / f"0{number}-x" / "model"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text(f"adapter {number}")
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(run), "r": 8}))
        chain = {"base": "../../00-base/model", "adapters": earlier, "written_at": str(folder)}
        (folder / "adapter_chain.json").write_text(json.dumps(chain))
    stored = registry.register(record(), run / "04-x/model")
    assert set(stored.artifacts) == {"base", "adapter-0", "model"}
    shutil.rmtree(run)
    shutil.move(tmp_path / "home", tmp_path / "moved")
    moved = Registry(Home(tmp_path / "moved").registry)
    base, earlier = read_chain(moved.model_path("path-s0"))
    assert (base / "model.safetensors").read_text() == "base"
    assert [(folder / "adapter_model.safetensors").read_text() for folder in earlier] == ["adapter 2"]
    assert moved.verify() == []
    assert str(tmp_path) not in (moved.model_path("path-s0") / "adapter_config.json").read_text()


def test_the_users_own_base_is_referenced_and_never_touched(registry, tmp_path):
    from factory.registry.files import entries, tree_hash

    base = model(tmp_path / "users-base", "mine")
    link = tmp_path / "run/00-base/model"
    link.parent.mkdir(parents=True)
    link.symlink_to(base)
    before = (base / "model.safetensors").stat()
    own = record(base={"ref": str(base), "hash": tree_hash(entries(base))})
    stored = registry.register(own, link, base_in_place=link)
    after = (base / "model.safetensors").stat()
    assert stored.artifacts == {} and registry.model_path("path-s0") == base
    assert (after.st_nlink, after.st_mode) == (before.st_nlink, before.st_mode)
    assert registry.verify() == []
    (base / "model.safetensors").write_text("changed")
    assert "changed since the build" in registry.verify()[0].what
    shutil.rmtree(base)
    assert "the base model is missing" in registry.verify()[0].what


def test_lineage_follows_starts_and_leaves_out_other_branches(registry):
    assert [step.name for step in ancestors(STEPS, "06-sft")] == ["00-base", "02-cpt", "06-sft"]
    text = lineage_text(record(version=1))
    assert "02-cpt" in text and "04-ctl" not in text and "accuracy 0.800 (n=100)" in text
    with pytest.raises(RegistryError, match="no step '02-cpt', which 06-sft starts from"):
        ancestors(STEPS[2:], "06-sft")
    with pytest.raises(RegistryError, match="in a circle"):
        ancestors((LineageStep("a", "k", "b", "", ""), LineageStep("b", "k", "a", "", "")), "a")


def test_compare_shows_values_and_every_setting_that_differs(registry, tmp_path):
    registry.register(record("one"), model(tmp_path / "a"))
    registry.register(
        record("two", config={"recipe": "embedded", "stages": {"sft": {"lr": 0.2}}}, versions={"torch": "3"}), tmp_path / "a"
    )
    found = registry.compare("one", "two")
    assert found["models"] == ["one-v1", "two-v1"]
    assert (found["config"], found["versions"], found["data"]) == ({"stages.sft.lr": [0.1, 0.2]}, {"torch": ["2", "3"]}, {})
    assert found["evals"]["test"][0]["value"] == 0.8
    assert differences({"a": {"b": 1}}, {"a": 2}) == {"a": [{"b": 1}, 2]}


def test_home_is_where_the_environment_says(tmp_path):
    assert Home.find({"FACTORY_HOME": str(tmp_path)}).runs == tmp_path / "runs"
    assert Home.find({}).root == Path.home() / ".factory"
    assert Home.find({"FACTORY_HOME": "here"}).root == Path(os.getcwd()) / "here"


def test_base_records_state_licence_modality_and_sizes():
    records = base_models()
    assert {"embedded-text", "embedded-vl", "qwen2.5-vl-7b", "qwen3-8b"} <= set(records)
    assert all(r.licence and r.modality in ("text", "vl", "dna") for r in records.values())
    assert all(r.facts(r.name).num_params > 10**8 and r.context >= 32_768 for r in records.values() if r.hub_id)
    assert find_base("Qwen/Qwen2.5-VL-7B-Instruct").name == "qwen2.5-vl-7b" and find_base("nothing") is None
    # Qwen3-8B by its config: untied embeddings, 36 layers of attention (32 heads, 8 kv, 128 wide), MLP 12288, norms.
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12288 + 2 * 4096 + 2 * 128
    assert records["qwen3-8b"].num_params == 2 * 151_936 * 4096 + 36 * layer + 4096
