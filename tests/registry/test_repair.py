"""repair mends what the registry's own files allow, changes no weights, and says what is left."""

from __future__ import annotations

import json
import shutil

import pytest

from factory.registry.gc import collect
from factory.registry.repair import repair


def done(found) -> dict[str, str]:
    return {line.path: line.what for line in found.done}


def test_a_whole_registry_is_left_alone(registry, put, tmp_path):
    from factory.registry.models import Registry

    put("a")
    found = repair(registry)
    assert (found.done, found.left) == ((), ())
    assert repair(Registry(tmp_path / "nowhere")).done == () and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("how", ["lost", "torn", "emptied", "old"])
def test_the_index_is_built_again(registry, put, how):
    import sqlite3

    put("a")
    index = registry.index.path
    wanted = registry.list()
    if how == "lost":
        index.unlink()
    elif how == "torn":
        index.write_bytes(index.read_bytes()[:700])
    elif how == "emptied":
        with sqlite3.connect(index) as connection:
            connection.execute("DELETE FROM lineage")
    else:
        with sqlite3.connect(index) as connection:
            connection.execute("UPDATE manifests SET mtime_ns = 0")
    assert (
        done(repair(registry, dry_run=True)) == {"index.sqlite": "would be built again"} and not registry.index.holds_the_truth()
    )
    assert done(repair(registry)) == {"index.sqlite": "built again from 1 manifests"}
    assert registry.index.holds_the_truth() and registry.list() == wanted


BAD = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "list": lambda text: "[]",
    "deep": lambda text: "[" * 200_000,
    "path": lambda text: text.replace(json.loads(text)["artifacts"]["model"], "../../etc"),
    "no number": lambda text: text.replace('"seed": 0', '"seed": Infinity'),
    "other name": lambda text: text.replace('"version": 1', '"version": 7'),
    "figures": lambda text: text.replace('"n": 40', '"n": "many"'),
    "surrogate": lambda text: text.replace("CC0-1.0", "\\ud800"),
}


@pytest.mark.parametrize("how", BAD)
def test_an_unreadable_manifest_is_moved_aside_and_holds_its_objects(registry, put, how):
    put("good", "g")
    stored = put("bad", "b")
    path = registry.root / "manifests" / "bad-v1.json"
    path.write_text(BAD[how](path.read_text()))
    text = path.read_text()
    found = repair(registry)
    assert done(found)["manifests/bad-v1.json"].startswith("moved to aside/bad-v1.json, because ")
    assert (registry.root / "aside" / "bad-v1.json").read_text() == text and not path.exists()
    assert [line.path for line in found.left] == ["aside/bad-v1.json"]
    assert [row["id"] for row in registry.list()] == ["good-v1"]
    assert collect(registry).removed == () and registry.store.verify(stored.artifacts["model"]) == []
    (registry.root / "aside" / "bad-v1.json").unlink()
    assert [removal.path for removal in collect(registry).removed] == [f"objects/{stored.artifacts['model']}"]


def test_a_second_one_of_the_same_name_overwrites_nothing(registry, put):
    for text in ("first", "second"):
        put("a", text)
        (registry.root / "manifests" / "a-v1.json").write_text(text)
        repair(registry)
    assert {path.name: path.read_text() for path in (registry.root / "aside").iterdir()} == {
        "a-v1.json": "first", "a-v1.2.json": "second",
    }  # fmt: skip


def test_lists_of_files_are_mended_from_the_files_or_removed(registry, put):
    stored = put("a")
    digest = stored.artifacts["model"]
    path = registry.root / "objects" / f"{digest}.json"
    rows = path.read_text()
    for damage in (path.unlink, lambda: path.write_text("[]"), lambda: path.write_text('[{"path": 1}]')):
        damage()
        assert registry.verify() and repair(registry).left == () and path.read_text() == rows and registry.verify() == []
    orphan = registry.root / "objects" / f"{'0' * 64}.json"
    orphan.write_text(rows)
    assert "no model needs it" in done(repair(registry))[f"objects/{orphan.name}"] and not orphan.exists()


def test_what_cannot_be_mended_is_left_and_named(registry, put):
    gone, changed = put("gone", "1"), put("changed", "2")
    shutil.rmtree(registry.store.path(gone.artifacts["model"]))
    weights = registry.model_path("changed") / "model.safetensors"
    weights.chmod(0o644)
    weights.write_text("other")
    (registry.root / "objects" / f"{changed.artifacts['model']}.json").unlink()
    found = repair(registry)
    left = {line.path: line.what for line in found.left}
    assert set(left) == {"manifests/gone-v1.json", f"objects/{changed.artifacts['model']}"}
    assert (
        "its files are gone: model" in left["manifests/gone-v1.json"]
        and "A model needs it" in left[f"objects/{changed.artifacts['model']}"]
    )
    assert weights.read_text() == "other" and found.done == ()


def test_the_command_ends_with_1_while_something_is_left(factory, registry, put):
    put("a")
    assert factory("models", "repair").code == 0
    (registry.root / "manifests" / "b-v1.json").write_text("{")
    assert factory("models", "list").code == 8
    dry = factory("models", "repair", "--dry-run", "--json")
    assert (
        dry.code == 0
        and dry.json["done"][0]["path"] == "manifests/b-v1.json"
        and (registry.root / "manifests/b-v1.json").exists()
    )
    ended = factory("models", "repair")
    assert ended.code == 1 and "moved to aside/b-v1.json" in ended.out and "left" in ended.out
    assert factory("models", "list").code == 0


def test_one_bad_manifest_stops_no_build_from_registering(registry, put, caplog):
    put("a")
    (registry.root / "manifests" / "a-v3.json").write_text("{")
    assert put("a", "next").id == "a-v4" and "stays taken" in caplog.text
    assert put("b").id == "b-v1" and registry.show("a-v4").version == 4
