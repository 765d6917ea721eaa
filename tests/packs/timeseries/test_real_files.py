"""The real files of ../shared/data/timeseries, with the shapes, classes and traps of its SOURCES.md; aeon is the oracle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from factory.contracts import DataRequest
from factory.domains.timeseries import PACK
from factory.domains.timeseries.files_ts import read_ts, scan
from factory.domains.timeseries.files_ucr import read_arff, read_tsv
from factory.domains.timeseries.reading import SERIES, SeriesRow
from factory.errors import DataError


def rows_of(reader, path: Path) -> list[SeriesRow]:
    found = [row for _, row in reader(path)]
    assert all(isinstance(row, dict) for row in found)
    return [row[SERIES] for row in found]


def request(path: Path, **options) -> DataRequest:
    return DataRequest(paths=(str(path),), options=options)


EXPECTED = {
    # file: series, channels, lengths, labels
    "aeon/GunPoint/GunPoint_TRAIN.ts": (50, 1, {150}, {"1": 24, "2": 26}),
    "aeon/GunPoint/GunPoint_TEST.ts": (150, 1, {150}, {"1": 76, "2": 74}),
    "aeon/ItalyPowerDemand/ItalyPowerDemand_TRAIN.ts": (67, 1, {24}, {"1": 34, "2": 33}),
    "aeon/ItalyPowerDemand/ItalyPowerDemand_TEST.ts": (1029, 1, {24}, {"1": 513, "2": 516}),
    "aeon/BasicMotions/BasicMotions_TRAIN.ts": (40, 6, {100}, dict.fromkeys(("Standing", "Running", "Walking", "Badminton"), 10)),
    "aeon/BasicMotions/BasicMotions_TEST.ts": (40, 6, {100}, dict.fromkeys(("Standing", "Running", "Walking", "Badminton"), 10)),
    "aeon/UnitTest/UnitTest_TRAIN.ts": (20, 1, {24}, {"1": 10, "2": 10}),
    "aeon/UnitTest/UnitTest_TEST.ts": (22, 1, {24}, {"1": 12, "2": 10}),
    "aeon/UnitTest/UnitTestTimeStamps_TRAIN.ts": (4, 1, {4}, {"1": 2, "2": 2}),
    "timerbed_emg/EMG_TRAIN.ts": (63, 1, {1500}, {"0": 21, "1": 21, "2": 21}),
    "timerbed_emg/EMG_TEST.ts": (15, 1, {1500}, {"0": 5, "1": 5, "2": 5}),
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_ts_files_have_their_shapes_and_classes(data: Path, name: str) -> None:
    count, channels, lengths, labels = EXPECTED[name]
    rows = rows_of(read_ts, data / name)
    assert len(rows) == count
    assert {len(row.values) for row in rows} == {channels}
    assert {row.values.shape[1] for row in rows} == lengths
    assert Counter(row.label for row in rows) == labels
    assert set(rows[0].classes) == set(labels)


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_unequal_lengths_and_the_label_10(data: Path, split: str) -> None:
    path = data / f"aeon/PickupGestureWiimoteZ/PickupGestureWiimoteZ_{split}.ts"
    rows = rows_of(read_ts, path)
    lengths = [row.values.shape[1] for row in rows]
    assert min(lengths) >= 29 and max(lengths) <= 361 and len(set(lengths)) > 10
    assert Counter(row.label for row in rows) == {str(n): 5 for n in range(1, 11)}
    assert rows[0].classes == tuple(str(n) for n in range(1, 11))
    samples = list(PACK.samples("test" if split == "TEST" else "train", 0, request(path)))
    ten = next(s for s in samples if s.reference == "10")
    assert PACK.verifiers()["label"]("<think>x</think><answer>1</answer>", ten).score == 0.0
    assert PACK.verifiers()["label"]("<think>x</think><answer>10</answer>", ten).score == 1.0


def test_aeon_and_we_read_the_same(data: Path) -> None:
    datasets = pytest.importorskip("aeon.datasets")
    for name in EXPECTED:
        values, labels = datasets.load_from_ts_file(str(data / name))
        rows = rows_of(read_ts, data / name)
        assert [row.label.lower() for row in rows] == [str(label) for label in labels]  # aeon puts labels in lower case
        np.testing.assert_array_equal(np.stack([row.values for row in rows]), values)
    path = data / "aeon/PickupGestureWiimoteZ/PickupGestureWiimoteZ_TRAIN.ts"
    values, _ = datasets.load_from_ts_file(str(path))
    for row, other in zip(rows_of(read_ts, path), values, strict=True):
        np.testing.assert_array_equal(row.values, other)


@pytest.mark.parametrize("name", ["GunPoint", "ItalyPowerDemand"])
def test_arff_and_tsv_hold_what_ts_holds(data: Path, name: str) -> None:
    base = rows_of(read_ts, data / f"aeon/{name}/{name}_TRAIN.ts")
    for suffix, reader in ((".arff", read_arff), (".tsv", read_tsv)):
        path = data / f"aeon/{name}/{name}_TRAIN{suffix}"
        if not path.is_file():
            continue
        rows = rows_of(reader, path)
        assert [row.label for row in rows] == [row.label for row in base]
        assert rows[0].classes == base[0].classes
        np.testing.assert_allclose(np.stack([r.values for r in rows]), np.stack([r.values for r in base]), rtol=1e-5, atol=1e-6)


def test_the_header_of_emg_lies_and_the_rows_are_believed(data: Path) -> None:
    for split in ("TRAIN", "TEST"):
        header = scan(data / f"timerbed_emg/EMG_{split}.ts")
        assert header.classes == ("0", "1", "2")
        assert any("t r u e" in lie for lie in header.lies)
    report = PACK.check(request(data / "timerbed_emg/EMG_TRAIN.ts"))
    assert any("@classLabel says t r u e" in note for note in report.notes)


def test_copies_are_reported_and_share_a_split(data: Path) -> None:
    # SOURCES.md: 13 unique of 15 test rows, 55 unique of 63 train rows, no overlap between them
    for split, total, distinct in (("TEST", 15, 13), ("TRAIN", 63, 55)):
        report = PACK.check(request(data / f"timerbed_emg/EMG_{split}.ts"))
        assert report.num_good == total and report.num_bad == 0
        assert report.tallies[f"copies EMG_{split}.ts"] == total - distinct
        assert any(f"{distinct} of {total} series are distinct" in note for note in report.notes)
    groups = {
        split: {sample.meta["group"] for sample in PACK.samples(split, 0, request(data / "timerbed_emg"))}
        for split in ("train", "validation", "test")
    }
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["validation"]
    assert len(groups["test"]) == 13


def test_regression_targets_are_refused_with_the_remedy(data: Path) -> None:
    path = data / "aeon/Covid3Month/Covid3Month_TEST.ts"
    for task in ("auto", "classify"):
        with pytest.raises(DataError, match=r"pack\.task=regress"):
            list(PACK.samples("test", 0, request(path, task=task)))
    samples = list(PACK.samples("test", 0, request(path, task="regress")))
    assert len(samples) == 61 and {s.task for s in samples} == {"regress"} and {s.meta["length"] for s in samples} == {84}
    assert samples[0].reference == pytest.approx(0.0118838, abs=1e-7)
    verdict = PACK.verifiers()["value"](PACK.gold(samples[0]), samples[0])
    assert verdict.score == pytest.approx(1.0)
    with pytest.raises(DataError, match="no number to be predicted"):
        list(PACK.samples("test", 0, request(data / "aeon/GunPoint/GunPoint_TEST.ts", task="regress")))


def test_time_stamps_are_put_in_order(data: Path) -> None:
    rows = rows_of(read_ts, data / "aeon/UnitTest/UnitTestTimeStamps_TRAIN.ts")
    assert rows[0].meta["first_stamp"] == "2007-01-01 00:00:00"
    np.testing.assert_array_equal(rows[0].values, [[241.97, 241.75, 241.64, 241.71]])


def test_one_data_set_in_three_formats_is_read_once(data: Path) -> None:
    report = PACK.check(request(data / "aeon/GunPoint"))
    assert report.num_good == 200
    assert any("2 other format(s)" in note for note in report.notes)


def test_marked_anomalies_become_windows(data: Path) -> None:
    folder = data / "aeon/KDD-TSAD_135"
    samples = list(PACK.samples("test", 0, request(folder)))
    assert len(samples) == 4 and {s.task for s in samples} == {"anomaly"}
    # is_anomaly is set for rows 4187 to 4198 of the test file less its start: each window holds the same 12 steps
    starts = {s.meta["start"] + s.reference[0] for s in samples}
    assert len(starts) == 1 and {b - a for a, b in (s.reference for s in samples)} == {12}
    assert all(s.meta["length"] == 256 for s in samples)
    documents = list(PACK.corpus("train", 0, request(folder)))
    assert len(documents) == 1  # the training file has no anomaly: its series is captioned


def test_a_forecast_is_split_by_time(data: Path) -> None:
    options = {"task": "forecast", "columns": {"time": "Date", "value": "Passengers"}, "window": 12, "horizon": 3,
               "splits": {"validation": 0.2, "test": 0.3}}  # fmt: skip
    starts = {}
    for split in ("train", "validation", "test"):
        samples = list(PACK.samples(split, 0, request(data / "aeon/Airline/Airline.csv", **options)))
        starts[split] = [s.meta["start"] for s in samples]
        assert all(s.reference in ("up", "down", "flat") for s in samples)
    assert max(starts["train"]) + 12 <= 72 and min(starts["validation"]) >= 72 and min(starts["test"]) >= 100  # 144 months


def test_tables_that_do_not_say_how_they_lie_are_refused_with_the_remedy(data: Path) -> None:
    for path, told in (
        ("aeon/Airline/Airline.csv", r"pack\.columns"),
        ("aeon/segmentation/ElectricDevices.csv", r"pack\.header=false"),
    ):
        with pytest.raises(DataError, match=told):
            list(PACK.corpus("train", 0, request(data / path)))
    options = {"header": False, "columns": {"time": "0", "value": "1"}}
    report = PACK.check(request(data / "aeon/segmentation/ElectricDevices.csv", **options))
    assert report.num_good == 1
    samples = list(PACK.samples("train", 0, request(data / "aeon/segmentation/ElectricDevices.csv", task="forecast", **options)))
    assert len(samples) > 20


def test_the_sets_inside_aeon_also_load() -> None:
    aeon = pytest.importorskip("aeon")
    folder = Path(aeon.__file__).parent / "datasets" / "data"
    expected = {"ArrowHead": (36, 1, {251}, 3), "JapaneseVowels": (270, 12, set(range(7, 27)), 9), "OSULeaf": (200, 1, {427}, 6),
                "ACSF1": (100, 1, {1460}, 10)}  # fmt: skip
    for name, (count, channels, lengths, classes) in expected.items():
        path = folder / name / f"{name}_TRAIN.ts"
        if not path.is_file():
            continue
        rows = rows_of(read_ts, path)
        assert len(rows) == count and {len(row.values) for row in rows} == {channels}, name
        assert {row.values.shape[1] for row in rows} <= lengths and len(rows[0].classes) == classes, name


def test_real_samples_survive_both_modes(data: Path) -> None:
    path = data / "aeon/BasicMotions/BasicMotions_TEST.ts"
    image = list(PACK.samples("test", 0, request(path)))
    text = list(PACK.samples("test", 0, request(path, mode="text")))
    assert [s.id for s in image] == [s.id for s in text] and [s.reference for s in image] == [s.reference for s in text]
    assert all(len(s.media) == 1 for s in image) and not any(s.media for s in text)
    for sample in image:
        assert PACK.verifiers()["label"](PACK.gold(sample), sample).score == 1.0
