"""The index follows the manifests: only what changed is read, and what was read before stays right."""

from __future__ import annotations

import json
import sqlite3
from random import Random

import pytest

from factory.errors import RegistryError
from factory.registry import index as index_module
from factory.registry.models import Registry
from factory.registry.relatives import Keys, relatives_of
from factory.registry.seal import SEAL, sealed, unsealed


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the manifests that the index reads from now on."""
    seen: list[str] = []
    read = index_module.read_record

    def counted(path):
        seen.append(path.stem)
        return read(path)

    monkeypatch.setattr(index_module, "read_record", counted)
    return seen


def ids(registry) -> list[str]:
    return sorted(row["id"] for row in registry.list())


def test_a_new_model_costs_one_reading(registry, put, reads):
    put("a"), put("b"), put("c")
    assert reads == ["a-v1", "b-v1", "c-v1"]  # each once, when it was registered
    assert ids(registry) == ["a-v1", "b-v1", "c-v1"] and len(reads) == 3
    assert registry.index.holds_the_truth()


def test_a_manifest_edited_in_place_is_read_again_and_no_other(registry, put, reads):
    put("a"), put("b")
    path = registry.root / "manifests" / "a-v1.json"
    path.write_text(json.dumps(sealed({**unsealed(json.loads(path.read_text())), "domain": "elsewhere"})))
    reads.clear()
    assert [row["id"] for row in registry.list("elsewhere")] == ["a-v1"] and reads == ["a-v1"]
    assert ids(registry) == ["a-v1", "b-v1"] and registry.index.holds_the_truth()


def test_a_manifest_that_is_gone_leaves_no_row(registry, put, reads):
    one, _ = put("a"), put("b")
    (registry.root / "manifests" / "a-v1.json").unlink()
    reads.clear()
    assert ids(registry) == ["b-v1"] and reads == []
    assert "a-v1" not in registry.index.built_from(one.lineage[0].fingerprint) and registry.index.holds_the_truth()


def test_an_index_of_an_older_form_is_built_again(registry, put, reads):
    put("a")
    registry.index.path.unlink()
    with sqlite3.connect(registry.index.path) as connection:
        connection.executescript("CREATE TABLE models (id TEXT PRIMARY KEY); CREATE TABLE state (manifests TEXT)")
    reads.clear()
    assert ids(registry) == ["a-v1"] and reads == ["a-v1"] and registry.index.holds_the_truth()


def test_reindex_reads_everything(registry, put, reads):
    put("a"), put("b")
    reads.clear()
    assert registry.reindex() == 2 and reads == ["a-v1", "b-v1"]


def test_an_index_without_the_youngest_table_is_built_again(registry, put):
    record = put("a")
    put("b")
    with sqlite3.connect(registry.index.path) as connection:
        connection.executescript("DROP TABLE kin")
    assert registry.index.relatives(record).same_base == {"b-v1": "base embedded-text"} and registry.index.holds_the_truth()


def test_kin_come_from_the_index_as_from_the_records_and_no_other_manifest_is_read(registry, put, reads):
    random = Random(3)
    records = [put("m0", "0")]
    for number in range(1, 12):
        parent = random.choice([None, *records])
        base = {"ref": parent.id, "hash": parent.artifacts["model"]} if parent else {"ref": "own", "hash": f"{number % 3:064x}"}
        files = {f"f{n}": f"{n:064x}" for n in random.sample(range(5), 2)}
        pack = {"name": "toy", "version": "1", "hash": f"{number % 2:064x}"}
        records.append(put(f"m{number}", str(number), base=base, data={"pack": pack, "files": files}))
    reads.clear()
    found = [registry.index.relatives(record) for record in records]
    assert reads == [] and found == [relatives_of(record, Keys(records)) for record in records]
    assert any(len(kin.descendants) > 2 for kin in found) and any(kin.parents for kin in found)


def test_nothing_is_written_for_a_registry_that_is_not_there(tmp_path):
    assert Registry(tmp_path / "none").list() == [] and list(tmp_path.iterdir()) == []


def test_a_figure_changed_by_one_digit_is_refused_and_one_changed_on_purpose_is_read(registry, put):
    put("a", evals={"cpt": {"test": {"name": "accuracy", "value": 0.75, "n": 4}}})
    path = registry.root / "manifests" / "a-v1.json"
    path.write_text(path.read_text().replace("0.75", "0.95"))
    with pytest.raises(RegistryError, match="not what was written"):
        registry.show("a")
    [problem] = registry.verify()
    assert "not what was written" in problem.what
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != SEAL}))
    assert registry.show("a").evals["cpt"]["test"]["value"] == 0.95 and registry.verify() == []
