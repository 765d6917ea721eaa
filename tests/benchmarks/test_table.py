"""The common form of a measurement: reaches, ratios and the written table, with figures by hand."""

import json
import mmap
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import run
import table
from table import Row, compared, limited, markdown, repeated


def test_the_ratio_is_that_of_the_medians_and_its_spread_the_widest():
    # medians 4 and 2; the smallest of one by the largest of the other: 3 / 5 and 6 / 1
    row = compared("x", "peer", "ratio >= 1.2", [3, 4, 6], [1, 2, 5], "tokens/s")
    assert (row.ours, row.theirs, row.ratio, row.low, row.high) == (4, 2, 2, 3 / 5, 6)
    assert row.is_reached


@pytest.mark.parametrize(
    ("reach", "is_reached"), [("ratio >= 0.5", True), ("ratio > 0.5", False), ("ratio <= 0.5", True), ("ours < 1", False), ("ours < 1.5", True), ("", None)]
)  # fmt: skip
def test_reaches(reach, is_reached):
    assert Row("x", "-", reach, 1.0, 2.0, 0.5, None, None, "s").is_reached is is_reached


def test_a_reach_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match=r"write it as 'ratio >= 1\.2'"):
        Row("x", "-", "fast", 1.0, None, None, None, None, "s")


def test_a_limit_on_the_ratio_without_a_ratio_is_not_reached():
    assert limited("x", "ratio < 1", [0.1], "s").is_reached is False


def test_warm_ups_are_dropped():
    figures = iter(range(10))
    assert repeated(lambda: next(figures), repeats=5, warm_ups=2) == [2, 3, 4, 5, 6]


def test_the_written_table():
    row = compared("cpt", "TRL 1", "ratio >= 1.2", [2000.0], [1000.0], "tokens/CPU-s", "same loss")
    lines = markdown([row, replace(row, reach="ratio >= 3", notes="")])
    assert lines[2] == "| cpt [tokens/CPU-s] | TRL 1 | 2,000 | 1,000 | 2 (2 to 2) | ratio >= 1.2 | yes |"
    assert lines[3].endswith("| ratio >= 3 | **no** |") and lines[-1] == "- cpt, TRL 1: same loss"


def test_rows_survive_json():
    row = limited("help", "ours < 0.3", [0.2, 0.25], "s")
    assert Row(**json.loads(json.dumps(asdict(row)))) == row


def test_memory_above_base_sees_what_is_kept_only_for_a_while():
    with table.peak_above_base() as memory:
        # Pages of its own: an earlier test may have left the allocator with so many that a new object needs none.
        with mmap.mmap(-1, 64 * 2**20) as held:
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
    assert 60 * 2**20 < memory.above_base_bytes < 90 * 2**20


def test_a_side_runs_alone_and_its_failure_is_told():
    assert table.alone("table:figure", {"value": 1234.0}) == "1,234"
    with pytest.raises(RuntimeError, match="table:figure failed"):
        table.alone("table:figure", {"nothing": 1})


def test_every_benchmark_with_rows_is_found():
    assert {"growth", "rewards", "sft", "startup", "tiling"} <= {path.stem for path in run.modules()}
    assert not {"table", "run", "toy_texts"} & {path.stem for path in run.modules()}


def test_a_benchmark_that_fails_is_told_in_the_results(tmp_path, monkeypatch):
    bad = tmp_path / "bad.py"
    bad.write_text('"""Bad."""\ndef rows(quick, seed): ...\nraise SystemExit("no slide here")\n')
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(tmp_path / "R.md")])
    assert run.main() == 1
    assert "no slide here" in (tmp_path / "R.md").read_text()
