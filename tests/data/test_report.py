"""The report's limits: what is counted, what is written aside, and when a load stops."""

from __future__ import annotations

import json

import pytest

from factory.data.rows import RowFault, RowRef, RowReport, read_rows
from factory.errors import ConfigError, DataError

from .conftest import lines


def fill(report: RowReport, good: int, bad: int) -> None:
    for _ in range(good):
        report.accept()
    for row in range(bad):
        report.reject(RowRef("a.csv", row + 1), "answer", "is blank.")


def test_a_share_of_bad_rows_at_the_limit_passes_and_above_it_stops():
    fill(at_limit := RowReport(max_bad_fraction=0.05), 95, 5)
    at_limit.finish()
    fill(above := RowReport(max_bad_fraction=0.05), 94, 6)
    with pytest.raises(
        DataError, match=r"6 of 100 rows are bad, above data.max_bad_fraction=0.05. First:\n  a.csv:1: answer: is blank."
    ):
        above.finish()


def test_a_hopeless_load_stops_before_its_end():
    report = RowReport(max_bad_fraction=0.05)
    with pytest.raises(DataError, match=r"11 of 200 rows"):
        fill(report, 189, 500)
    # 189 good and 11 bad are the first 200 rows, and 5.5 % of them


def test_stop_raises_on_the_first_bad_row():
    with pytest.raises(DataError, match=r"a.csv:1: answer: is blank. Mend the row, or set data.on_bad_row=quarantine"):
        fill(RowReport(on_bad_row="stop"), 5, 1)


def test_one_unreadable_file_of_two_stops_however_many_rows_the_other_has():
    report = RowReport(max_bad_fraction=0.05)
    report.open_file("a.csv")
    fill(report, 1000, 0)
    report.reject_file(RowRef("b.csv", 0), "is empty.")
    with pytest.raises(DataError, match=r"1 of 2 files cannot be read to their end"):
        report.finish()


def test_bad_rows_are_written_aside_without_their_content(tmp_path):
    path, aside = tmp_path / "a.jsonl", tmp_path / "aside" / "q.jsonl"
    path.write_text(lines([{"name": "secret"}, '{"name": "secret'] + [{"name": "x"}] * 30))
    report = RowReport(quarantine_file=aside)
    for _ in read_rows(path, report):
        report.accept()
    report.finish()
    [row] = [json.loads(line) for line in aside.read_text().splitlines()]
    assert (row["file"], row["row"], row["field"]) == ("a.jsonl", 2, "json") and "not valid JSON" in row["reason"]
    assert "secret" not in aside.read_text()
    assert list(aside.parent.iterdir()) == [aside]


def test_a_quarantine_file_of_an_earlier_load_is_removed_when_all_is_well(tmp_path):
    aside = tmp_path / "q.jsonl"
    aside.write_text("{}\n")
    fill(report := RowReport(quarantine_file=aside), 3, 0)
    report.finish()
    assert not aside.exists()


def test_a_fault_inside_the_row_block_is_counted_and_other_errors_pass():
    report = RowReport(max_bad_fraction=1.0)
    with report.row(RowRef("a", 7)):
        raise RowFault("x", "is odd.")
    assert (report.first_bad[0].row, report.first_bad[0].field) == (7, "x")
    with pytest.raises(KeyError), report.row(RowRef("a", 8)):
        raise KeyError("ours")


@pytest.mark.parametrize("setting", [{"on_bad_row": "ignore"}, {"max_bad_fraction": 1.5}])
def test_a_setting_out_of_range_is_refused(setting):
    with pytest.raises(ConfigError, match=r"data."):
        RowReport(**setting)


def test_the_report_survives_json():
    fill(report := RowReport(max_bad_fraction=1.0), 3, 1)
    report.note("one"), report.note("one")
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["rows"] == 4 and plain["bad_fraction"] == 0.25 and plain["faults"] == {"answer": 1} and plain["notes"] == ["one"]
