"""Each kind of table, whole and damaged: the right rows come out, and the bad ones are named by file, row, field, reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.data.files import list_files
from factory.data.readers_text import CHUNK_CHARS
from factory.data.report import RowReport
from factory.data.rows import read_rows
from factory.errors import DataError

from .conftest import lines, png

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=20)
TABLES = st.lists(st.fixed_dictionaries({"id": CELLS, "caption": CELLS}), min_size=1, max_size=8)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@QUICK
@given(rows=TABLES, kind=st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz"]))
def test_what_is_written_is_read_back(tmp_path, read_all, rows, kind):
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind in ("csv", "tsv"):
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, ["id", "caption"], delimiter="\t" if kind == "tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=len(rows) % 3 or None), encoding="utf-8")
    else:
        encoded = lines(rows).encode()
        path.write_bytes(gzip.compress(encoded) if kind.endswith("gz") else encoded)
    good, bad = read_all(path)
    assert [row for _, row in good] == rows
    assert not bad


def test_a_long_json_array_is_read_across_chunks(tmp_path, read_all):
    rows = [{"n": i, "text": "é" * (i * 997 % 3 * CHUNK_CHARS // 2)} for i in range(20)]
    path = tmp_path / "long.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    good, bad = read_all(path)
    assert [row for _, row in good] == rows and not bad


def test_a_bad_json_line_is_named_and_the_next_line_is_read(tmp_path, read_all):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": oops}\n[1]\n{"a": 2}\n')
    good, bad = read_all(path)
    assert [number for number, _ in good] == [1, 5]
    assert bad[0][:2] == (3, "json") and "not valid JSON: Expecting value: line 1 column 7" in bad[0][2]
    assert bad[1] == (4, "json", "a row is a JSON object, got list.")


def test_a_json_lines_file_cut_short_says_truncated(tmp_path, read_all):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": "half a sen')
    good, bad = read_all(path)
    assert len(good) == 1
    assert bad[0][:2] == (2, "json") and "the file is truncated" in bad[0][2]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_byte_that_is_not_utf8_is_given_with_its_offset(tmp_path, read_all, name):
    start = b'{"a": "x"}\n' if name == "a.jsonl" else b"a\nx\n"
    broken = b'{"a": "\xe9t\xe9"}\n' if name == "a.jsonl" else b"caf\xe9\n"
    path = tmp_path / name
    path.write_bytes(start + broken + start.splitlines(True)[-1])
    good, bad = read_all(path)
    offset = len(start) + broken.index(b"\xe9")
    row = 2 if name == "a.jsonl" else 3
    assert bad == [(row, "encoding", f"byte 0xe9 at byte offset {offset} is not UTF-8. Convert the file to UTF-8.")]
    assert len(good) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, read_all):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfimage_path,caption\nx.png,tissue\n")
    assert read_all(path) == ([(2, {"image_path": "x.png", "caption": "tissue"})], [])


def test_a_semicolon_csv_and_cells_with_line_breaks_are_read(tmp_path, read_all):
    path = tmp_path / "a.csv"
    path.write_text('id;caption\n1;"two\nlines"\n2;one\n')
    assert read_all(path)[0] == [(2, {"id": "1", "caption": "two\nlines"}), (4, {"id": "2", "caption": "one"})]


def test_a_csv_row_with_too_many_cells_is_named_by_its_line(tmp_path, read_all):
    path = tmp_path / "a.csv"
    path.write_text("id,caption\n1,a\n2,nuclei, large\n3,c\n")
    good, bad = read_all(path)
    assert [number for number, _ in good] == [2, 4]
    assert bad == [(3, "csv", "3 cells, but the header names 2 columns. Quote cells that hold the delimiter.")]


def test_a_csv_that_ends_inside_a_quoted_cell_says_so(tmp_path, read_all):
    path = tmp_path / "a.csv"
    path.write_text('id,caption\n1,a\n2,"cut of')
    good, bad = read_all(path)
    assert len(good) == 1
    assert bad[0][:2] == (3, "csv") and "or the file is truncated" in bad[0][2]


def test_a_column_named_twice_is_refused(tmp_path, read_all):
    path = tmp_path / "a.csv"
    path.write_text("id,caption,id\n1,a,2\n")
    assert read_all(path) == ([], [(0, "header", "column 'id' appears twice.")])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is an HTML page"),
        (b"\0" * 2048, "holds only zero bytes"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "tar"])
def test_a_file_that_is_something_else_is_named(tmp_path, read_all, kind, content, says):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    good, [(row, field, reason)] = read_all(path)
    assert (good, row, field) == ([], 0, "file") and says in reason


def test_utf16_text_is_refused_with_the_remedy(tmp_path, read_all):
    path = tmp_path / "a.csv"
    path.write_bytes("id,caption\n".encode("utf-16"))
    assert "UTF-16. Save it as UTF-8" in read_all(path)[1][0][2]


def test_a_truncated_json_array_keeps_its_whole_elements(tmp_path, read_all):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"n": 1}, {"n": 2}, {"n": 3}])[:-6])
    good, bad = read_all(path)
    assert [row["n"] for _, row in good] == [1, 2]
    assert bad[0][:2] == (3, "file") and "truncated or not valid JSON at element 3" in bad[0][2]


def test_rows_nested_by_subset_and_split_carry_their_path(tmp_path, read_all):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"Atlas": {"test": [{"q": 1}], "val": [{"q": 2}]}, "about": "x"}))
    assert read_all(path)[0] == [(1, {"q": 1, "_path": "Atlas/test"}), (2, {"q": 2, "_path": "Atlas/val"})]


def test_json_lines_under_the_name_json_are_read(tmp_path, read_all):
    path = tmp_path / "a.json"
    path.write_text(lines([{"a": 1}, {"a": 2}]))
    assert [row for _, row in read_all(path)[0]] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("keep", [0.5, 0.97])
def test_a_truncated_parquet_file_is_named(tmp_path, read_all, keep):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [str(i) * 40 for i in range(500)]}), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    good, [(row, field, reason)] = read_all(path)
    assert (good, row, field) == ([], 0, "file") and "cannot be read as parquet after row 0" in reason


def test_a_damaged_parquet_page_is_named_by_its_row(tmp_path, read_all):
    path = tmp_path / "a.parquet"
    table = pa.table({"a": [f"{i:08d}" for i in range(400)]})
    pq.write_table(table, path, row_group_size=100, compression="zstd", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    good, bad = read_all(path)
    assert [row["a"] for _, row in good] == [f"{i:08d}" for i in range(len(good))] and 0 < len(good) <= 200
    assert bad[0][:2] == (len(good) + 1, "file") and "truncated or damaged" in bad[0][2]


def test_a_truncated_gzip_is_named_after_its_last_whole_line(tmp_path, read_all):
    path = tmp_path / "a.jsonl.gz"
    packed = gzip.compress(lines([{"n": i, "t": str(i * 7919) * 9} for i in range(3000)]).encode())
    path.write_bytes(packed[: len(packed) // 2])
    good, bad = read_all(path)
    assert 0 < len(good) < 3000
    assert bad[0][1] == "file" and f"ends early after line {len(good)}" in bad[0][2]


def test_a_webdataset_shard_gives_one_row_per_key(tmp_path, read_all):
    members = [("00000/a.jpg", b"j"), ("00000/a.txt", b"caption\n"), ("00000/b.json", b'{"caption": "x"}'), ("00000/b.png", b"p")]
    good, bad = read_all(write_tar(tmp_path / "a.tar", members))
    assert good == [
        (1, {"__key__": "00000/a", "jpg": b"j", "txt": "caption"}),
        (2, {"__key__": "00000/b", "json": {"caption": "x"}, "png": b"p"}),
    ]
    assert not bad


def test_faults_inside_a_shard_are_named_by_sample_and_member(tmp_path, read_all):
    members = [("a.txt", b"caf\xe9"), ("b.json", b"{"), ("c.txt", b"ok"), ("a.txt", b"again")]
    good, bad = read_all(write_tar(tmp_path / "a.tar", members))
    assert [number for number, _ in good] == [3]
    assert [(row, field) for row, field, _ in bad] == [(1, "txt"), (2, "json"), (4, "__key__")]
    assert "byte 0xe9 at byte offset 3 is not UTF-8" in bad[0][2]


def test_a_truncated_shard_keeps_its_whole_samples(tmp_path, read_all):
    path = write_tar(tmp_path / "a.tar", [(f"{i}.txt", b"x" * 900) for i in range(4)])
    path.write_bytes(path.read_bytes()[: 2 * (512 + 1024) + 512 + 100])  # two whole members, a header and 100 bytes
    good, bad = read_all(path)
    assert [row["__key__"] for _, row in good] == ["0", "1"]
    assert bad[0][:2] == (3, "file") and "after 2 whole samples" in bad[0][2]


def test_a_link_in_a_shard_is_not_followed(tmp_path, read_all):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(info)
    assert read_all(path) == ([], [])


def test_folders_are_walked_in_order_without_hidden_and_side_files(tmp_path):
    for name in ("b.jsonl", "a/x.csv", ".hidden.csv", ".git/c.csv", "dataset_info.json", "pic.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    found = list_files([str(tmp_path / "set")])
    assert [(file.name, file.kind) for file in found] == [("set/b.jsonl", "jsonl"), ("set/pic.png", None), ("set/a/x.csv", "csv")]


def test_a_missing_path_says_what_to_check():
    with pytest.raises(DataError, match=r"nowhere: no such file or folder. Check --data"):
        list_files(["nowhere"])


def test_a_file_that_is_no_table_lists_the_known_kinds(tmp_path):
    (tmp_path / "a.docx").write_bytes(png())
    with pytest.raises(DataError, match=r"not a table by its name. Known: JSON lines"):
        list(read_rows(tmp_path / "a.docx", RowReport()))


def test_the_hub_is_refused_offline():
    with pytest.raises(DataError, match=r"hub:owner/set: needs the network, which is off. Pass --online"):
        list_files(["hub:owner/set"])
    with pytest.raises(DataError, match=r"owner/set: no such file or folder"):
        list_files(["owner/set"])


def test_a_hub_data_set_is_read_split_by_split(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    tables = {split: datasets.Dataset.from_dict({"n": [split]}) for split in ("train", "test")}
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: list(tables))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, *, split, streaming: tables[split].to_iterable_dataset())
    [file] = list_files(["owner/set"], online=True)
    rows = [(str(ref), row) for ref, row in read_rows(file, RowReport())]
    assert rows == [("hub:owner/set:1", {"split": "test", "n": "test"}), ("hub:owner/set:2", {"split": "train", "n": "train"})]


def test_images_of_a_hub_data_set_stay_encoded(monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "images": datasets.Sequence(datasets.Image())})
    cell = {"bytes": png(), "path": None}
    table = datasets.Dataset.from_dict({"image": [cell], "images": [[cell, cell]]}, features=features)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, *, split, streaming: table.to_iterable_dataset())
    [(_, row)] = read_rows(list_files(["hub:owner/set"], online=True)[0], RowReport())
    assert row["image"]["bytes"] == png() and [one["bytes"] for one in row["images"]] == [png(), png()]


def test_a_hub_that_refuses_is_a_fault_of_the_file(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(name, config):
        raise ConnectionError("gated")

    monkeypatch.setattr(datasets, "get_dataset_split_names", refuse)
    report = RowReport(max_bad_fraction=1.0)
    assert not list(read_rows(list_files(["hub:owner/set"], online=True)[0], report))
    assert report.first_bad[0].reason.startswith("the hub refuses 'owner/set' after row 0: ConnectionError: gated")
