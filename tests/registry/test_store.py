"""Content-addressed storage: equal content is equal, damage is named, nothing of the user's is touched."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import RegistryError
from factory.registry.files import entries, tree_hash, write_atomic
from factory.registry.store import Store

NAMES = st.text("abcxyz", min_size=1, max_size=4)
TREES = st.dictionaries(
    st.tuples(NAMES, NAMES).map(lambda pair: f"d{pair[0]}/f{pair[1]}"), st.binary(max_size=40), min_size=1, max_size=6
)


def plant(folder: Path, tree: dict[str, bytes]) -> Path:
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@settings(deadline=None, max_examples=40)
@given(TREES)
def test_what_was_stored_comes_back_and_verifies(tree):
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "objects")
        digest = store.add(plant(Path(name) / "model", tree))
        assert {file.path: (store.path(digest) / file.path).read_bytes() for file in store.files(digest)} == tree
        assert store.verify(digest) == []
        assert store.num_bytes(digest) == sum(map(len, tree.values()))


@settings(deadline=None, max_examples=40)
@given(TREES, TREES)
def test_hashes_are_equal_exactly_when_names_and_content_are(first, second):
    with tempfile.TemporaryDirectory() as name:
        a, b = (tree_hash(entries(plant(Path(name) / side, tree))) for side, tree in (("a", first), ("b", second)))
        assert (a == b) == (first == second)


@settings(deadline=None, max_examples=40)
@given(TREES, st.data())
def test_any_flipped_byte_or_missing_or_added_file_is_named(tree, data):
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "objects")
        digest = store.add(plant(Path(name) / "model", tree))
        victim = data.draw(st.sampled_from(sorted(tree)))
        path, how = store.path(digest) / victim, data.draw(st.sampled_from(["flip", "delete", "add"]))
        if how == "add":
            (path.parent / "extra").write_bytes(b"")
            wanted = (f"objects/{digest}/{victim.rsplit('/', 1)[0]}/extra", "was not there")
        else:
            path.chmod(0o644)
            path.unlink() if how == "delete" else path.write_bytes(tree[victim] + b"!")
            wanted = (f"objects/{digest}/{victim}", "missing" if how == "delete" else "damaged")
        (problem,) = store.verify(digest)
        assert problem.path == wanted[0] and problem.what.startswith(wanted[1])


def test_a_changed_file_list_is_noticed(tmp_path):
    store = Store(tmp_path / "objects")
    digest = store.add(plant(tmp_path / "model", {"d/f": b"x"}))
    (tmp_path / "objects" / f"{digest}.json").write_text("[]")
    assert "list of files was changed" in store.verify(digest)[0].what


def test_storing_again_is_free_and_mends_a_damaged_object(tmp_path):
    store, model = Store(tmp_path / "objects"), plant(tmp_path / "model", {"d/f": b"good"})
    digest = store.add(model)
    before = (store.path(digest) / "d/f").stat().st_ino
    assert store.add(model) == digest and (store.path(digest) / "d/f").stat().st_ino == before
    (store.path(digest) / "d/f").unlink()
    (store.path(digest) / "d/f").write_bytes(b"bad!")
    assert store.add(model) == digest and store.verify(digest) == []
    assert sorted(path.name for path in store.root.iterdir()) == sorted([digest, f"{digest}.json"])


def test_objects_outlive_the_run_and_are_read_only(tmp_path):
    store, model = Store(tmp_path / "objects"), plant(tmp_path / "model", {"d/f": b"x"})
    digest = store.add(model)
    assert stat.S_IMODE((store.path(digest) / "d/f").stat().st_mode) == 0o444
    (model / "d/f").unlink()
    assert store.verify(digest) == []


def test_a_file_that_a_link_leads_to_elsewhere_is_copied_and_stays_writable(tmp_path):
    elsewhere = plant(tmp_path / "users", {"d/f": b"x"}) / "d/f"
    model = plant(tmp_path / "model", {"d/g": b"y"})
    (model / "link").symlink_to(elsewhere)
    digest = Store(tmp_path / "objects").add(model)
    assert elsewhere.stat().st_nlink == 1 and elsewhere.stat().st_mode & stat.S_IWUSR
    assert (tmp_path / "objects" / digest / "link").read_bytes() == b"x"


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path / "objects")
    assert store.verify(store.add(plant(tmp_path / "model", {"d/f": b"x"}))) == []


def test_nothing_to_store_is_refused_and_leaves_nothing(tmp_path):
    store = Store(tmp_path / "objects")
    with pytest.raises(RegistryError, match="missing or empty"):
        store.add(tmp_path / "nowhere")
    with pytest.raises(RegistryError, match="the stored model is gone"):
        store.path("0" * 64)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    write_atomic(path, "old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
