"""gc removes what nobody needs, and nothing else."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from factory.errors import ConfigError, RegistryError
from factory.registry import gc as gc_module
from factory.registry.gc import collect


def tree(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if ".lock" not in path.as_posix() and "index" not in path.name
    }


def what(found) -> list[tuple[str, str]]:
    return [(removal.what, removal.path) for removal in found.removed]


def test_orphans_and_leftovers_go_and_models_stay(registry, put):
    kept, dropped = put("kept", "a"), put("dropped", "bbb")
    objects, manifests = registry.root / "objects", registry.root / "manifests"
    before = tree(registry.root)
    digest = dropped.artifacts["model"]
    before -= {f"objects/{digest}", f"objects/{digest}.json", f"objects/{digest}/model.safetensors", "manifests/dropped-v1.json"}
    (manifests / "dropped-v1.json").unlink()
    (objects / ".adding-x").mkdir()
    (objects / ".adding-x" / "f").write_text("half")
    (objects / ".gone-x").mkdir()
    (objects / f".{digest}.json.x.tmp").write_text("half")
    (objects / f"{'0' * 64}.json").write_text("[]")
    (manifests / ".kept-v1.json.x.tmp").write_text("half")
    (objects / "notes.txt").write_text("the user's")
    full = tree(registry.root)
    looked = collect(registry, dry_run=True)
    assert tree(registry.root) == full
    found = collect(registry)
    assert what(found) == what(looked) and found.num_bytes == looked.num_bytes
    assert {kind for kind, _ in what(found)} == {"object", "list", "leftover"} and ("object", f"objects/{digest}") in what(found)
    assert tree(registry.root) == before | {"objects/notes.txt"}
    assert ("objects/notes.txt", "the registry did not make it") in found.kept
    assert registry.verify() == [] and [row["id"] for row in registry.list()] == [kept.id]
    assert collect(registry).removed == ()


def test_keep_last_keeps_the_newest_of_each_name_and_their_parents(registry, put):
    first = put("a", "one")
    for weights in ("two", "three"):
        put("a", weights)
    put("b", "one")
    put("child", "c", base={"ref": "a-v1", "hash": first.artifacts["model"]})
    found = collect(registry, keep_last=1)
    assert [path for kind, path in what(found) if kind == "model"] == ["manifests/a-v2.json"]
    assert ("a-v1", "child-v1 was built from it") in found.kept
    assert {row["id"] for row in registry.list()} == {"a-v1", "a-v3", "b-v1", "child-v1"} and registry.verify() == []


def test_a_shared_object_stays_while_one_model_needs_it(registry, put):
    put("a", "same")
    put("a", "newer")
    other = put("b", "same")
    collect(registry, keep_last=1)
    assert registry.verify() == [] and registry.model_path("b").name == other.artifacts["model"]


def test_the_base_of_a_build_and_of_an_adapter_stays(registry, put, home):
    base, user = put("base", "x"), put("user", "y")
    folder = registry.store.path(base.artifacts["model"])
    for name in ("base-v1", "user-v1"):
        (registry.root / "manifests" / f"{name}.json").unlink()
    link = home.runs / "r" / "stages" / "00-base.partial" / "model"
    link.parent.mkdir(parents=True)
    link.symlink_to(folder)
    assert [path for kind, path in what(collect(registry)) if kind == "object"] == [f"objects/{user.artifacts['model']}"]
    link.unlink()
    assert [path for kind, path in what(collect(registry)) if kind == "object"] == [f"objects/{base.artifacts['model']}"]


def test_young_things_stay_when_an_age_is_given_or_locks_do_not_reach(registry, put, monkeypatch):
    made = put("a")
    (registry.root / "manifests" / "a-v1.json").unlink()
    assert collect(registry, min_age_s=3600).removed == ()
    monkeypatch.setattr(gc_module, "lock_warning", lambda _: "mounted as nfs (nolock)")
    found = collect(registry)
    assert found.removed == () and found.warning and "younger" in found.kept[0][1]
    old = time.time() - 2 * 86_400
    os.utime(registry.store.path(made.artifacts["model"]), (old, old))
    assert len(collect(registry).removed) == 1


def test_an_unreadable_manifest_stops_gc_before_it_removes_anything(registry, put):
    put("a")
    (registry.root / "objects" / ".adding-x").mkdir()
    (registry.root / "manifests" / "a-v1.json").write_text("{")
    before = tree(registry.root)
    with pytest.raises(RegistryError, match="models repair"):
        collect(registry)
    assert tree(registry.root) == before


def test_gc_waits_for_a_running_write_and_gives_up_with_a_remedy(registry, put):
    put("a")
    with registry.writing():
        staging = registry.root / "objects" / ".adding-now"
        staging.mkdir()
        with pytest.raises(RegistryError, match="Wait for them"):
            collect(registry, wait_s=0.1)
        cleaner = threading.Thread(target=collect, args=(registry,))
        cleaner.start()
        time.sleep(0.2)
        assert staging.is_dir()
    cleaner.join(20)
    assert not staging.exists()


def test_wrong_rules_are_refused_and_an_empty_place_is_left_alone(registry, tmp_path):
    from factory.registry.models import Registry

    with pytest.raises(ConfigError, match="1 or more"):
        collect(registry, keep_last=0)
    with pytest.raises(ConfigError, match="0 or more"):
        collect(registry, min_age_s=-1)
    assert collect(Registry(tmp_path / "nowhere")).removed == () and not (tmp_path / "nowhere").exists()


def test_a_link_among_the_objects_is_never_followed(registry, put, tmp_path):
    put("a")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "f").write_text("x")
    (registry.root / "objects" / ("c" * 64)).symlink_to(tmp_path / "precious")
    (registry.root / "objects" / ".adding-link").symlink_to(tmp_path / "precious")
    collect(registry)
    assert (tmp_path / "precious" / "f").read_text() == "x" and not (registry.root / "objects" / ".adding-link").is_symlink()


def test_a_full_disk_while_registering_is_said_and_leaves_no_model(registry, put, monkeypatch):
    import factory.registry.models as models

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "write_json", full)
    with pytest.raises(RegistryError, match=r"No space left on device.*run the same command again"):
        put("a")
    monkeypatch.undo()
    assert registry.list() == [] and registry.verify() == [] and put("a").id == "a-v1"


def test_the_command_frees_and_tells(factory, registry, put):
    put("a", "one")
    put("a", "two")
    dry = factory("models", "gc", "--keep-last", "1", "--dry-run", "--json").json
    assert dry["dry_run"] and [row["what"] for row in dry["removed"]] == ["model", "object"] and len(registry.list()) == 2
    ended = factory("models", "gc", "--keep-last", "1")
    assert ended.code == 0 and "a-v1" in ended.out and "freed" in ended.out and len(registry.list()) == 1
    assert "nothing to remove" in factory("models", "gc").out
    assert factory("models", "gc", "--keep-last", "0").code == 2
    (registry.root / "manifests" / "a-v2.json").write_text("{")
    ended = factory("models", "gc", "--json")
    assert ended.code == 8 and ended.json["error"]["exit_code"] == 8
