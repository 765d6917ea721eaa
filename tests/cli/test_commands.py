"""What each command prints, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from factory.plugins import pack_entries, pack_folder

BUILT_IN = [
    (e.name, file.stem) for e in pack_entries() if e.origin == "built-in" for file in (pack_folder(e) / "recipes").glob("*.yaml")
]


def test_config_why_prints_the_chain(factory):
    ended = factory("config", "why", "stages.main.group_size", "-d", "toy", "-r", "longer", "-s", "stages.main.group_size=32")
    lines = ended.out.splitlines()
    assert lines[0] == "stages.main.group_size = 32"
    assert "recipe        16" in lines[2] and "longer.yaml:4)" in lines[2]
    assert lines[3].split() == ["won", "command", "line", "32", "(--set", "stages.main.group_size=32)"]
    chain = factory("config", "why", "seed", "-d", "toy", "--json").json["seed"]
    assert [origin["value"] for origin in chain] == [0, 3]


def test_config_show_prints_what_config_reads(factory, tmp_path):
    file = tmp_path / "resolved.yaml"
    shown = factory("config", "show", "-d", "toy", "-r", "longer", "--seed", "5").out
    file.write_text(shown)
    again = factory("config", "show", "--config", str(file)).out
    assert again == shown and yaml.safe_load(shown)["seed"] == 5
    assert factory("config", "show", "-c", str(file), "--json").json == yaml.safe_load(shown)


@pytest.mark.parametrize(("pack", "recipe"), BUILT_IN)
def test_every_recipe_of_a_built_in_pack_composes_and_round_trips(factory, tmp_path, pack, recipe):
    ended = factory("config", "show", "-d", pack, "-r", recipe)
    assert ended.code == 0, ended.err
    (tmp_path / "resolved.yaml").write_text(ended.out)
    assert factory("config", "show", "-c", str(tmp_path / "resolved.yaml")).out == ended.out


def test_plan_shows_cost_and_echo_and_writes_nothing(factory, home):
    ended = factory("plan", "-d", "toy", "-s", "pack.x=012", "-s", "pack.y=yes")
    assert ended.code == 0, ended.err
    assert not home.exists()
    for wanted in (
        "00-base",
        "01-base-eval",
        "02-warm",
        "03-warm-eval",
        "04-main",
        "pack.x    10      int",
        "pack.y    true    bool",
    ):
        assert wanted in ended.out, wanted
    assert f"{home}/runs/toy-embedded-s3-" in ended.out and "steps to run" in ended.out


def test_plan_json_holds_steps_config_and_echo(factory):
    made = factory("plan", "-d", "toy", "--seed", "4", "--run", "mine", "--json").json
    assert made["run"] == "mine" and made["config"]["seed"] == 4
    assert [step["name"] for step in made["steps"]][:3] == ["00-base", "01-base-eval", "02-warm"]
    assert {"key": "seed", "value": "4", "type": "int", "flag": "--seed 4"} in made["command_line"]


def test_dry_run_is_plan(factory, home):
    assert factory("build", "-d", "toy", "--dry-run", "--json").json == factory("plan", "-d", "toy", "--json").json
    assert not home.exists()


def test_data_check_lists_every_bad_row_and_ends_with_3(factory, tmp_path):
    rows = tmp_path / "rows.txt"
    rows.write_text("1+1\n2+\nx\n3+4\n")
    ended = factory("data", "check", str(rows), "-d", "toy", "--quarantine", str(tmp_path / "aside"))
    assert ended.code == 3
    assert "'2+' is not a sum like 2+3" in ended.out and "'x' is not a sum" in ended.out
    assert "2 good rows, 2 bad, in 1 files" in ended.out
    found = factory("data", "check", str(rows), "-d", "toy", "--json")
    assert found.code == 3
    assert [(row["row"], row["field"]) for row in found.json["bad_rows"]] == [(2, "sum"), (3, "sum")]
    rows.write_text("1+1\n")
    assert factory("data", "check", str(rows), "-d", "toy").code == 0


def test_data_check_reads_every_split_of_a_pack_without_its_own_check(factory, tmp_path, monkeypatch):
    import factory_pack_toy

    monkeypatch.delattr(factory_pack_toy.ToyPack, "check")
    rows = tmp_path / "rows.txt"
    rows.write_text("1+1\nx\n")
    found = factory("data", "check", str(rows), "-d", "toy", "--json")
    assert found.code == 3 and [row["row"] for row in found.json["bad_rows"]] == [2], "the same row met nine times is told once"
    assert found.json["tallies"]["samples train"] == 1


def test_data_preview_prints_items_as_stages_receive_them(factory, tmp_path):
    rows = tmp_path / "rows.txt"
    rows.write_text("1+1\n2+2\n3+3\n")
    shown = factory("data", "preview", str(rows), "-d", "toy", "--what", "lessons", "-n", "2")
    assert shown.code == 0 and shown.out.count("response") == 2 and "The sum is 4." in shown.out
    assert factory("data", "preview", "-d", "toy", "-n", "1", "--json").json[0]["task"] == "add"
    corpus = factory("data", "preview", "-d", "toy", "--what", "corpus", "-n", "1", "--json").json
    assert set(corpus[0]) == {"id", "text", "media", "split", "source"}


def test_domains_list_shows_a_broken_pack_with_its_fault(factory, tmp_path, monkeypatch):
    (tmp_path / "factory_pack_bad").mkdir()
    (tmp_path / "factory_pack_bad" / "__init__.py").write_text("raise RuntimeError('never imported by list')\n")
    (tmp_path / "factory_pack_bad" / "pack.yaml").write_text("name: bad\nlicence: MIT\n")
    info = tmp_path / "factory_pack_bad-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: factory-pack-bad\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[factory.domain_packs]\nbad = factory_pack_bad:PACK\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = {row["name"]: row for row in factory("domains", "list", "--json").json}
    assert "unknown key 'licence'. Did you mean 'license'?" in rows["bad"]["fault"]
    assert rows["toy"]["fault"] is None and rows["toy"]["recipes"] == ["embedded", "longer"]


def test_domains_show_holds_tasks_licences_and_recipes(factory):
    out = factory("domains", "show", "toy").out
    for wanted in (
        "Sums for tests",
        "not for   Anything else.",
        "exact 1",
        "CC0-1.0",
        "Two drills on sums.",
        "factory plan --domain toy",
    ):
        assert wanted in out, wanted
    shown = factory("domains", "show", "toy", "--json").json
    assert shown["origin"] == "factory-pack-toy 1.0" and shown["recipes"]["embedded"] == "Two drills on sums."


def test_domains_check_ends_with_1_when_a_check_fails(factory, monkeypatch):
    import factory_pack_toy

    from factory.testing.conformance import CHECKS

    first = next(iter(CHECKS))
    passed = factory("domains", "check", "toy", "--only", first, "--json")
    assert [row["check"] for row in passed.json["checks"]] == [first]
    assert passed.code == (1 if passed.json["failed"] else 0)
    monkeypatch.setattr(factory_pack_toy.ToyPack, "samples", lambda *_: 1 / 0)
    failed = factory("domains", "check", "toy", "--json")
    assert failed.code == 1 and failed.json["failed"] >= 1


@pytest.fixture
def registered(home: Path, tmp_path: Path):
    """Two models of one recipe in the registry; returns their ids."""
    from factory.registry.home import Home
    from factory.registry.models import Registry
    from factory.registry.records import LineageStep, ModelRecord

    steps = (LineageStep("00-base", "base", None, "f" * 64, "0" * 64), LineageStep("02-rl", "rl", "00-base", "e" * 64, "1" * 64))
    ids = []
    for name, value, lr in (("first", 0.5, 1e-3), ("second", 0.75, 1e-4)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(name.encode())
        record = ModelRecord(
            name=name, version=0, domain="toy", stage="rl", artifacts={}, lineage=steps, seed=0, versions={"torch": "2"},
            base={"ref": "embedded-text", "hash": "b" * 64, "licence": "Apache-2.0"}, data={"pack": {}, "files": {}},
            config={"recipe": "embedded", "stages": {"rl": {"lr": lr}}},
            evals={"rl": {"test": {"name": "accuracy", "value": value, "n": 40, "ci": [value - 0.1, value + 0.1]}}},
            licence="CC0-1.0", intended_use="tests", not_for="use", run=name, created=f"2026-01-0{len(ids) + 1}T00:00:00+00:00",
        )  # fmt: skip
        ids.append(Registry(Home.find().registry).register(record, folder).id)
    return ids


def test_models_list_show_and_compare(factory, registered):
    assert [row["id"] for row in factory("models", "list", "--json").json] == registered[::-1]
    assert "75.0 %" in factory("models", "list").out
    shown = factory("models", "show", "second").out
    assert "75.0 %" in shown and "[65.0, 85.0]" in shown and f"factory export {registered[1]}" in shown and "02-rl" in shown
    sides = factory("models", "compare", *registered).out
    assert (
        "50.0 %" in sides and "75.0 %" in sides and "stages.rl.lr" in sides and "0.0001" in sides and "versions: equal" in sides
    )


def test_models_verify_finds_damage_and_ends_with_1(factory, registered, home):
    assert factory("models", "verify", "--json").json == {"intact": True, "problems": []}
    stored = Path(factory("models", "show", "first", "--json").json["path"]) / "model.safetensors"
    stored.chmod(0o644)
    stored.write_bytes(b"other")
    ended = factory("models", "verify", "first")
    assert ended.code == 1 and "damaged" in ended.out
    assert factory("models", "verify", "second").code == 0


def test_models_reindex_counts_the_manifests(factory, registered, home):
    (home / "registry" / "index.sqlite").write_bytes(b"no database")
    assert factory("models", "reindex", "--json").json == {"models": 2}
    assert len(factory("models", "list", "--json").json) == 2


def test_models_list_says_how_to_begin(factory):
    assert "no models yet" in factory("models", "list").out
    assert factory("models", "list", "--json").json == []


def test_models_bases_lists_the_records(factory):
    assert {"embedded-text", "embedded-vl"} <= {row["name"] for row in factory("models", "bases", "--json").json}


def test_export_never_overwrites(factory, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    ended = factory("export", str(tmp_path / "model"), str(tmp_path / "out"))
    assert ended.code == 5 and "exists already" in ended.err
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


def test_export_writes_a_whole_folder_or_none(factory, tmp_path, monkeypatch):
    def torn(source, out, merged):
        out.mkdir()
        (out / "half").write_text("")
        raise OSError("disk full")

    (tmp_path / "model").mkdir()
    monkeypatch.setattr("factory.stages.models.export.export", torn)
    assert factory("export", str(tmp_path / "model"), str(tmp_path / "out")).code == 70
    assert not (tmp_path / "out").exists()


def test_exported_model_loads_in_transformers(factory, tmp_path):
    from transformers import AutoModelForCausalLM

    from factory.stages.models.embedded import make_embedded

    source = make_embedded("embedded-text", tmp_path / "model", seed=0, texts=["one and two", "three"])
    ended = factory("export", str(source), str(tmp_path / "out"), "--json")
    assert ended.code == 0, ended.err
    assert ended.json["merged"] is True and ended.json["bytes"] > 0
    loaded, original = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (tmp_path / "out", source))
    assert loaded.keys() == original.keys() and all((loaded[key] == original[key]).all() for key in loaded)


@pytest.mark.slow
def test_build_measures_registers_and_resumes(process, home):
    """Base and its measurement only: three worker processes."""
    words = [
        "-d",
        "toy",
        "-s",
        "stages={warm: null, main: null}",
        "-s",
        "eval={samples: 4, validation_samples: 2, max_new_tokens: 4}",
        "--json",
    ]
    first = process("build", *words)
    assert first.code == 0, first.err
    outcome = first.json
    assert [row["stage"] for row in outcome["stages"]] == ["base"] and outcome["result"]["chosen"] == "base"
    assert Path(outcome["report"]).is_file() and "[1/2] 00-base" in first.err
    again = process("build", *words)
    assert again.code == 0 and "finished before, kept" in again.err and "started" not in again.err
    assert again.json["result"] == outcome["result"]
    models = process("models", "list", "--json").json
    assert [row["id"] for row in models] == [outcome["result"]["model"]["id"]]
    measured = process("eval", models[0]["id"], *words[:2], *words[4:])
    assert measured.code == 0, measured.err
    assert measured.json["splits"]["test"]["primary"]["n"] == 4
    assert len(process("models", "list", "--json").json) == 1, "a measurement registers nothing"
    rebuilt = process("build", "--config", f"{outcome['folder']}/resolved.yaml", "--dry-run", "--json")
    assert json.loads(rebuilt.out)["run"] == outcome["run"], "the same settings are the same run"


def test_export_says_how_the_folder_is_loaded(factory, tmp_path):
    from factory.stages.models.embedded import make_embedded

    source = make_embedded("embedded-text", tmp_path / "model", seed=0, texts=["one two three"] * 5)
    ended = factory("export", str(source), str(tmp_path / "whole"), "--adapter")
    assert ended.code == 0, ended.err
    assert "no adapter, so it was exported whole" in ended.out
    assert "transformers.AutoModelForCausalLM.from_pretrained" in ended.out and "peft" not in ended.out
