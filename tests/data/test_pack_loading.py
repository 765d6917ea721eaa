"""The loader that all packs share: own file formats, several questions from one row, groups, drawn images, factory rows."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from factory.contracts import DataRequest, Media, Message, Sample
from factory.data.files import FileFormat
from factory.data.rows import RowFault
from factory.errors import ConfigError, DataError
from factory.packs.common_shapes import COMMON, RowShape
from factory.packs.loading import Loader
from factory.packs.records import SAMPLES, Record

NO_SPLIT = {"splits": {"validation": 0.0, "test": 0.0}, "shuffle_buffer": 1}


def read_strata(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """`name: layer layer layer`, one a line; a line without a colon is a bad row."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as handle:
        for number, line in enumerate(handle, 1):
            name, colon, layers = line.partition(":")
            if not colon:
                yield number, RowFault("strata", f"line {line.strip()!r} has no colon.")
            else:
                yield number, {"strata": name.strip(), "layers": layers.split()}


def two_questions(row: dict[str, Any], settings: Any) -> Iterator[Record]:
    if not row["layers"]:
        raise RowFault("layers", "is empty.")
    group = f"site={row['strata']}"
    yield Record(SAMPLES, key=f"{row['strata']}-top", text="top?", answer=row["layers"][0], group=group, draw=picture)
    yield Record(SAMPLES, key=f"{row['strata']}-count", text="how many?", reference=len(row["layers"]), group=group, task="count")


def picture() -> tuple[Media, ...]:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return (Media(data=out.getvalue()),)


STRATA = FileFormat("strata", (".strata",), "strata (.strata)", read_strata)
SHAPE = RowShape("strata", "layers of a site", (("strata",), ("layers",)), frozenset({"strata"}), SAMPLES, two_questions)
LOADER = Loader("geology", (SHAPE, *COMMON), task_of=lambda record: "top", formats=(STRATA,), generator_keys=("style",))


def request(path: Path, **options: Any) -> DataRequest:
    return DataRequest(paths=(str(path),), options={**NO_SPLIT, **options})


def test_a_packs_own_format_is_read_and_one_row_gives_several_questions(tmp_path):
    path = tmp_path / "a.strata"
    path.write_text("quarry: chalk flint chalk\n")
    top, count = LOADER.samples(request(path), "train", 0)
    assert (top.task, top.reference, top.messages[0].content, len(top.media)) == ("top", "chalk", "<image>\ntop?", 1)
    assert (count.task, count.reference, count.media, count.id) == ("count", 3, (), "a.strata:quarry-count")
    assert LOADER.gives(request(path)) == {"samples"} and LOADER.detect(path).name == "strata"


def test_gzip_may_follow_an_own_suffix(tmp_path):
    path = tmp_path / "a.strata.gz"
    path.write_bytes(gzip.compress(b"quarry: chalk\n"))
    assert len(list(LOADER.samples(request(path), "train", 0))) == 2


def test_bad_rows_of_an_own_format_are_named_and_never_lose_the_others(tmp_path):
    path = tmp_path / "a.strata"
    path.write_text("quarry: chalk\nnothing here\npit:\n")
    report = LOADER.check(request(path))
    assert [(bad.row, bad.field) for bad in report.first_bad] == [(2, "strata"), (3, "layers")] and report.num_good == 1
    with pytest.raises(DataError, match="2 of 3"):
        list(LOADER.samples(request(path), "train", 0))


def test_questions_of_one_group_share_a_split(tmp_path):
    path = tmp_path / "a.strata"
    path.write_text("".join(f"site{number}: chalk flint\n" for number in range(60)))
    made = DataRequest(paths=(str(path),), options={"splits": {"validation": 0.3, "test": 0.3}})
    groups = {split: {s.meta["group"] for s in LOADER.samples(made, split, 0)} for split in ("train", "validation", "test")}
    assert sum(map(len, groups.values())) == 60 and all(groups.values())
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["validation"]


def test_options_of_the_generator_pass_and_unknown_ones_do_not(tmp_path):
    path = tmp_path / "a.strata"
    path.write_text("quarry: chalk\n")
    assert list(LOADER.samples(request(path, style="terse"), "train", 0))
    with pytest.raises(ConfigError, match=r"pack\.stile is no option of the geology pack\. Did you mean 'style'"):
        list(LOADER.samples(request(path, stile="terse"), "train", 0))


def test_unknown_files_are_refused_with_all_known_kinds(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("?")
    with pytest.raises(DataError, match=r"strata \(\.strata\)"):
        list(LOADER.samples(request(path), "train", 0))


def test_samples_that_the_factory_wrote_come_back(tmp_path):
    sample = Sample("x", "count", (Message("user", "<image>\nhow many?"),), 3, picture(), {"difficulty": "easy"}, "train", "here")
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(sample.to_json()) + "\n")
    [back] = LOADER.samples(request(path), "train", 0)
    assert (back.task, back.messages, back.reference, back.media) == (sample.task, sample.messages, 3, sample.media)
    assert back.meta["difficulty"] == "easy" and back.id == "s.jsonl:x"
    path.write_text(json.dumps({**sample.to_json(), "response": "<answer>3</answer>"}) + "\n")
    [lesson] = LOADER.lessons(request(path), "train", 0)
    assert lesson.response == "<answer>3</answer>"
    path.write_text(json.dumps({**sample.to_json(), "media": [{"kind": "image"}]}) + "\n")
    with pytest.raises(DataError, match="media"):
        list(LOADER.samples(request(path), "train", 0))
