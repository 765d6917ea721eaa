"""Manifests as strangers might write them, and a registry on a disk that may only be read."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import RegistryError
from factory.registry.lineage import lineage_text
from factory.registry.models import Registry
from factory.registry.records import ModelRecord
from factory.registry.relatives import Keys, relatives_of
from factory.registry.why import explain, why_text

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../x", "sft", "a" * 64, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sft", "test", "value", "ci", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value, here=()):
    """Every place in nested data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*here, key)
        yield from paths(part, (*here, key))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_record_with_anything_in_it_is_refused_or_can_be_listed_and_explained(making, data):
    row = json.loads(json.dumps(making.record(version=1, artifacts={"model": "a" * 64}).to_json()))
    changed = copy.deepcopy(row)
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(sorted(paths(changed), key=str)))
        place = changed
        for key in way:
            place = place[key]
        if data.draw(st.booleans()):
            place[last] = data.draw(VALUES)
        else:
            del place[last]
        if not list(paths(changed)):
            break
    try:
        record = ModelRecord.from_json(changed, "here")
    except RegistryError as err:
        assert str(err).startswith("here: ")
        return
    other = ModelRecord.from_json({**row, "name": "other"}, "there")
    assert ModelRecord.from_json(json.loads(json.dumps(record.to_json())), "again") == record
    with tempfile.TemporaryDirectory() as name:
        registry = Registry(Path(name) / "registry")
        stored = registry.enter(record)
        assert [found["id"] for found in registry.list()] == [stored.id] and registry.index.holds_the_truth()
        try:
            assert why_text(explain(record, relatives_of(record, Keys([record, other]))))
            assert lineage_text(record)
        except RegistryError as err:
            assert "lineage" in str(err)


def test_an_unmeasured_model_is_listed(put, registry):
    put(evals={"sft": {"test": None}})
    assert registry.list()[0]["value"] is None


def test_models_are_listed_from_a_disk_that_may_only_be_read(registry, put, monkeypatch):
    put()
    wanted = registry.list()
    registry.index.path.unlink()

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    assert registry.list() == wanted and registry.index.built_from("f2") == ["toy-v1"] and registry.verify() == []
    with pytest.raises(RegistryError, match="the index cannot be written"):
        registry.reindex()
    assert not registry.index.path.exists() and not list(registry.root.glob(".index*"))
