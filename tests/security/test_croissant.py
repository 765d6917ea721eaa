"""Croissant descriptions: what they say is true of the files, and mlcroissant reads them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"question": "a", "n": 1, "tags": ["x"]}\n{"question": "b", "n": 2, "score": 0.5}\n')
    (folder / "labels.csv").write_text("id,label\n1,yes\n2,no\n")
    return folder


def test_files_are_hashed_and_columns_typed(data, factory):
    done = factory("data", "describe", str(data), "--croissant", str(data / "croissant.json"), "--licence", "CC-BY-4.0", "--json")
    assert done.json["files"] == 2 and done.json["tables"] == 2
    made = json.loads((data / "croissant.json").read_text())
    assert made["conformsTo"].endswith("croissant/1.0") and made["license"] == "CC-BY-4.0" and made["name"] == "set"
    for file in made["distribution"]:
        content = (data / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"
    types = {field["source"]["extract"]["column"]: field["dataType"] for rows in made["recordSet"] for field in rows["field"]}
    assert types["question"] == "sc:Text" and types["n"] == "sc:Integer" and types["score"] == "sc:Float" and "label" in types
    assert str(data.parent) not in json.dumps(made), "no path of this machine"
    assert factory("data", "describe", str(data), "--croissant", str(data / "croissant.json")).code == 3, "nothing is overwritten"


def test_mlcroissant_reads_it_and_finds_the_rows(data, factory):
    mlcroissant = pytest.importorskip("mlcroissant", reason="the package mlcroissant is not installed")
    out = data / "croissant.json"
    assert factory("data", "describe", str(data), "--croissant", str(out), "--about", "Two tables.").code == 0
    dataset = mlcroissant.Dataset(jsonld=str(out))
    assert not dataset.metadata.ctx.issues.errors
    rows = list(dataset.records("set-labels.csv-rows"))
    assert [row["set-labels.csv-rows/label"] for row in rows] == [b"yes", b"no"]
