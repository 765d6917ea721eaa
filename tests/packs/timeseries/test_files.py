"""Readers on files written here: gaps, broken rows, long and wide tables, WFDB, what is refused and how it is told."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from factory.contracts import DataRequest
from factory.domains.timeseries import PACK
from factory.domains.timeseries.augment import altered
from factory.domains.timeseries.files_tables import TableLayout, read_csv_series
from factory.domains.timeseries.files_ts import read_ts
from factory.domains.timeseries.files_ucr import plain_label, read_arff, read_tsv, read_txt
from factory.domains.timeseries.measured import measure
from factory.domains.timeseries.reading import SERIES, dataset_of
from factory.domains.timeseries.series import from_json
from factory.domains.timeseries.windows import anomaly_windows, forecast_windows, group_in_time, stretches
from factory.errors import ConfigError, DataError

HEADER = "@problemName X\n@timeStamps false\n@univariate true\n@classLabel true a b\n@data\n"


def request(path: Path, **options) -> DataRequest:
    return DataRequest(paths=(str(path),), options=options, max_bad_fraction=options.pop("bad", 0.05))


def rows_of(reader, path: Path, *args) -> list:
    return [row[SERIES] if isinstance(row, dict) else row for _, row in reader(path, *args)]


def test_missing_values_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "X_TRAIN.ts"
    path.write_text("# c\n% c\n\n" + HEADER.upper().replace("A B", "a b") + "1,?,3:a\n# c\n4,NaN,6:b\n")
    first, second = rows_of(read_ts, path)
    np.testing.assert_array_equal(first.values, [[1, np.nan, 3]])
    assert (first.label, second.label, first.classes, first.dataset) == ("a", "b", ("a", "b"), "X")


def test_bad_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "X_TEST.ts"
    path.write_text(HEADER + "1,2,3:a\n1,x,3:a\n1,inf,3:b\n?,?:b\n1,2,3\n:a\n4,5,6:b\n7,8:?\n")
    report = PACK.check(request(path))
    assert (report.num_good, report.num_bad) == (2, 6)
    told = {bad.row: f"{bad.field}: {bad.reason}" for bad in report.first_bad}
    assert set(told) == {7, 8, 9, 10, 11, 13}
    assert "value 2 is 'x'" in told[7] and "infinite" in told[8] and "every value is missing" in told[9]
    assert "no ':' before its label" in told[10] and "label: is missing" in told[13]
    with pytest.raises(DataError, match="6 of 8 rows are bad"):
        list(PACK.samples("test", 0, request(path)))


def test_stamps_with_colons_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "T.ts"
    path.write_text(
        "@timestamps true\n@classlabel true 1 2\n@data\n(2020-01-02 00:00:00,2),(2020-01-01 10:00:00,1):(3,5),(20,6),(4,7):1\n(1,1),(1,2):2\n"
    )
    first, second = rows_of(read_ts, path)
    np.testing.assert_array_equal(first.values, [[1, 2, np.nan], [5, 7, 6]])  # second channel: 3 < 4 < 20, as numbers
    assert "two values for one time stamp" in str(second)


def test_a_header_that_says_nothing_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "N.ts"
    path.write_text("@data\n1,2:x\n3,4:y\n")
    assert [row.label for row in rows_of(read_ts, path)] == ["x", "y"]
    path.write_text("@classLabel false\n@data\n1,2:3,4\n")
    [row] = rows_of(read_ts, path)
    assert row.label is None and row.values.shape == (2, 2)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    for name, content, told in (("a.ts", b"", "empty"), ("b.ts", b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
                                ("c.ts", b"@classlabel true a\n1,2:a\n", "no @data"), ("d.arff", b"@relation x\n", "no @data")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=told):
            list(PACK.corpus("train", 0, request(tmp_path / name)))


def test_gzip_and_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "X_TRAIN.ts.gz"
    whole = gzip.compress((HEADER + "".join(f"{k},{k * 7 % 13},{k * 5 % 11}:{'ab'[k % 2]}\n" for k in range(300))).encode())
    path.write_bytes(whole)
    assert len(rows_of(read_ts, path)) == 300
    path.write_bytes(whole[: len(whole) // 2])
    report = PACK.check(request(path))
    assert report.bad_files == {"X_TRAIN.ts.gz"}


def test_arff_with_channels(tmp_path: Path) -> None:
    path = tmp_path / "M.arff"
    path.write_text(
        "@relation M\n@attribute m relational\n@attribute t1 numeric\n@attribute t2 numeric\n@end m\n@attribute c {up,down}\n@data\n"
        "'1,2\\n3,4',up\n'1,2\\n3,4',left\n'1,2',\n"
    )
    good, label, _ = rows_of(read_arff, path)
    np.testing.assert_array_equal(good.values, [[1, 2], [3, 4]])
    assert good.label == "up" and "attribute allows up, down" in str(label)


def test_old_ucr_text(tmp_path: Path) -> None:
    path = tmp_path / "Old_TRAIN.txt"
    path.write_text("  1.0000000e+00  2.0 3.0 NaN\n  10.0  2.0 NaN NaN\n")
    first, second = rows_of(read_txt, path)
    assert (first.label, second.label, first.classes) == ("1", "10", ("1", "10"))
    assert first.values.shape == (1, 2) and second.values.shape == (1, 1)  # the padding at the end is no part of the series
    readme = tmp_path / "README.txt"
    readme.write_text("Some words about the data.\n")
    assert rows_of(read_txt, readme) == []
    anomaly = tmp_path / "001_UCR_Anomaly_x_100_150_159.txt"
    anomaly.write_text("\n".join(str(np.sin(k / 5)) for k in range(300)))
    [row] = rows_of(read_txt, anomaly)
    assert stretches(row.marks) == [(150, 160)]


def test_a_tsv_with_a_header_is_another_table(tmp_path: Path) -> None:
    path = tmp_path / "qa.tsv"
    path.write_text("question\toptions\tanswer\nWhich word fits?\tA. up B. down\tA\n")
    [(_, row)] = list(read_tsv(path))
    assert row["answer"] == "A"
    [sample] = [s for split in ("train", "validation", "test") for s in _maybe(path, split)]
    assert sample.task == "choice" and PACK.verifiers()["letter"]("<think>x</think><answer>A</answer>", sample).score == 1.0


def _maybe(path: Path, split: str, **options):
    try:
        return list(PACK.samples(split, 0, request(path, **options)))
    except DataError:
        return []


def write_csv(path: Path, names: list[str], rows: list[list]) -> Path:
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows(rows)
    return path


def test_long_tables(tmp_path: Path) -> None:
    rows = []
    for series in range(4):
        for step in range(6):
            for channel in ("x", "y"):
                if not (series == 1 and step == 2 and channel == "y"):
                    rows.append(
                        [f"s{series}", 5 - step, channel, series * 10 + step + (100 if channel == "y" else 0), "ab"[series % 2]]
                    )
    path = write_csv(tmp_path / "long.csv", ["id", "time", "channel", "value", "label"], rows)
    found = rows_of(read_csv_series, path, TableLayout())
    assert [row.key for row in found] == ["s0", "s1", "s2", "s3"] and found[0].channels == ("x", "y")
    np.testing.assert_array_equal(found[0].values[0], [5, 4, 3, 2, 1, 0])  # put in the order of time
    assert np.isnan(found[1].values[1]).sum() == 1 and found[1].label == "b" and found[0].classes == ("a", "b")
    samples = [s for split in ("train", "validation", "test") for s in _maybe(path, split)]
    assert len(samples) == 4 and {s.task for s in samples} == {"classify"}


def test_one_bad_value_spoils_its_series_alone(tmp_path: Path) -> None:
    rows = [[s, t, "oops" if (s, t) == ("b", 1) else t, "pq"[s == "b"]] for s in "abc" for t in range(3)]
    path = write_csv(tmp_path / "bad.csv", ["id", "time", "value", "label"], rows)
    report = PACK.check(request(path))
    assert (report.num_good, report.num_bad) == (2, 1)
    assert "'oops'" in report.first_bad[0].reason and "row " in report.first_bad[0].reason
    twice = write_csv(tmp_path / "twice.csv", ["time", "value"], [[0, 1], [0, 2]])
    assert "two values for one time stamp" in PACK.check(request(twice)).first_bad[0].reason


def test_declared_columns_and_missing_ones(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "power.csv", ["Day", "Load", "Kind"], [[k, k % 3, "x"] for k in range(6)])
    [row] = rows_of(read_csv_series, path, TableLayout(columns={"time": "Day", "value": "Load"}))
    assert row.values.shape == (1, 6)
    report = PACK.check(request(path, columns={"time": "Date", "value": "Load"}))
    assert "pack.columns.time names it" in report.first_bad[0].reason
    with pytest.raises(ConfigError, match=r"pack\.columns"):
        PACK.check(request(path, columns={"tme": "Day"}))


def test_wide_tables(tmp_path: Path) -> None:
    rows = [["up" if k % 2 else "down", *(v * (1 if k % 2 else -1) for v in range(8))] for k in range(10)]
    path = write_csv(tmp_path / "wide.csv", ["label", *(f"t{k}" for k in range(8))], rows)
    found = rows_of(read_csv_series, path, TableLayout())
    assert len(found) == 10 and found[1].label == "up" and found[1].values.shape == (1, 8)
    declared = write_csv(
        tmp_path / "declared.csv", ["mood", "mo", "tu", "we"], [["good", 1, 2, 3], ["bad", 3, 2, 1], ["", 1, 1, 1]]
    )
    report = PACK.check(request(declared, layout="wide", columns={"label": "mood"}))
    assert (report.num_good, report.num_bad) == (2, 1)


def test_parquet_and_json_lines_with_whole_series(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"id": str(k), "series": [float(k), 1.0, None, 3.0], "label": "ab"[k % 2]} for k in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("list.parquet", "list.jsonl"):
        report = PACK.check(request(tmp_path / name))
        assert report.num_bad == 20 and "pack.classes" in report.first_bad[0].reason
        samples = list(PACK.samples("train", 0, request(tmp_path / name, classes=["a", "b"])))
        assert samples and np.isnan(from_json(samples[0].meta["series"])[0, 2])
    pq.write_table(
        pa.Table.from_pylist([{"time": k, "value": float(k), "is_anomaly": 0} for k in range(40)]), tmp_path / "long.parquet"
    )
    assert PACK.check(request(tmp_path / "long.parquet")).num_good == 1
    (tmp_path / "gluon.jsonl").write_text(
        json.dumps({"start": "2020-01-01", "target": [np.sin(k / 3) for k in range(400)]}) + "\n"
    )
    options = {"task": "forecast", "window": 20, "horizon": 4}
    assert len(list(PACK.samples("train", 0, request(tmp_path / "gluon.jsonl", **options)))) > 10


def test_timemaster_rows(tmp_path: Path) -> None:
    row = {"data_source": "ctu", "prompt": [{"role": "user", "content": "<image>\nWhich? <think> </think><class></class><extension></extension>"}],
           "images": ["x.png"], "ability": "time series", "reward_model": {"style": "rule", "ground_truth": "Laptop"},
           "extra_info": {"split": "train", "index": 0}}  # fmt: skip
    from PIL import Image

    Image.new("RGB", (600, 250)).save(tmp_path / "x.png")
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert "pack.classes" in PACK.check(request(path)).first_bad[0].reason
    for split in ("train", "validation", "test"):
        for sample in _maybe(path, split, classes=["Desktop", "Laptop"]):
            assert sample.task == "classify" and sample.meta["form"] == "timemaster"
            assert PACK.verifiers()["label"]("<think>x</think><class>laptop</class><extension>y</extension>", sample).score == 1.0
    report = PACK.check(request(path, classes=["Desktop", "Tablet"]))
    assert "none of pack.classes" in report.first_bad[0].reason


def test_wfdb_records(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    time = np.arange(600) / 100.0
    for name in ("r1", "r2"):
        signal = np.stack([np.sin(time), np.cos(time)], axis=1)
        wfdb.wrsamp(
            name, fs=100, units=["mV", "mV"], sig_name=["I", "II"], p_signal=signal, fmt=["16", "16"], write_dir=str(tmp_path)
        )
    (tmp_path / "REFERENCE.csv").write_text("r1,N\nr2,A\nr3,~\n")
    report = PACK.check(request(tmp_path))
    assert (report.num_good, report.num_bad) == (2, 0), report.first_bad
    samples = [s for split in ("train", "validation", "test") for s in _maybe(tmp_path, split)]
    assert {s.reference for s in samples} == {"normal", "af"} and samples[0].meta["rate"] == 100.0
    assert samples[0].meta["classes"] == ["af", "noisy", "normal"] and samples[0].meta["length"] == 600
    values = from_json(samples[0].meta["series"])
    np.testing.assert_allclose(values[0], np.sin(time), atol=1e-3)
    (tmp_path / "r2.dat").unlink()
    assert "signal file is missing" in PACK.check(request(tmp_path)).first_bad[0].reason


def test_tsf_through_aeon(tmp_path: Path) -> None:
    pytest.importorskip("aeon")
    path = tmp_path / "m.tsf"
    path.write_text("@relation m\n@attribute series_name string\n@attribute start_timestamp date\n@frequency monthly\n@missing false\n"
                    "@equallength false\n@data\nT1:1990-01-01 00-00-00:" + ",".join(str(k % 12) for k in range(90)) + "\n")  # fmt: skip
    assert PACK.check(request(path)).num_good == 1
    assert list(PACK.samples("train", 0, request(path, task="forecast", window=12, horizon=3)))


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    from factory.domains.timeseries import files_records
    from factory.errors import PluginError

    def refuse(name: str):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(PluginError, match=r"pip install 'domain-factory\[timeseries\]'"):
        list(files_records.read_wfdb(tmp_path / "x.hea"))


def test_altered_copies_belong_to_training_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "A.ts"
    path.write_text(
        HEADER + "".join(",".join(f"{v:.4f}" for v in rng.standard_normal(20)) + f":{'ab'[k % 2]}\n" for k in range(40))
    )
    options = {"augment": 3, "splits": {"validation": 0.2, "test": 0.2}}
    plain = {
        split: list(PACK.samples(split, 0, request(path, splits=options["splits"]))) for split in ("train", "validation", "test")
    }
    more = {split: list(PACK.samples(split, 0, request(path, **options))) for split in ("train", "validation", "test")}
    assert len(more["train"]) == 4 * len(plain["train"])
    assert [s.id.split(".")[0] for s in more["test"]] == [s.id.split(".")[0] for s in plain["test"]]
    held = {s.meta["group"] for split in ("validation", "test") for s in more[split]}
    assert not held & {s.meta["group"] for s in more["train"]}
    assert not any(s.meta.get("copy") for split in ("validation", "test") for s in more[split])
    mixed = list(PACK.corpus("train", 0, request(path, synthetic=0.5, splits=options["splits"])))
    real = [d for d in mixed if d.source != "timeseries-synthetic"]
    assert len(real) == len(plain["train"]) and abs(len(mixed) - 2 * len(real)) <= 1


def test_altered_keeps_shape_and_likeness() -> None:
    import random

    values = np.stack([np.sin(np.arange(200) / 9.0), np.cos(np.arange(200) / 9.0)])
    found = altered(values, random.Random(1))
    assert found.shape == values.shape and not np.array_equal(found, values)
    assert np.corrcoef(found[0], values[0])[0, 1] > 0.5
    assert altered(values, random.Random(1)).tolist() == found.tolist()


def test_measured_words() -> None:
    values = np.full(64, 0.0)
    values[20:24] = 1.0
    values[50] = -1.0
    assert measure(values[None]) == {"peak": "16", "dip": "48", "start": "middle", "end": "middle", "wide": "0", "turns": "few"}
    assert measure(np.stack([np.zeros(64), values]))["channel"] == "2"


def test_windows_and_their_groups() -> None:
    marks = np.zeros(1000, dtype=bool)
    marks[500:510] = True
    found = list(anomaly_windows(np.zeros((1, 1000)), marks, 100))
    assert len(found) == 4 and all(w.values.shape == (1, 100) and w.start + w.interval[0] == 500 for w in found)
    assert not list(anomaly_windows(np.zeros((1, 1000)), ~marks, 100))  # longer than half a window
    ramp = np.arange(300, dtype=float)[None]
    assert {w.after for w in forecast_windows(ramp, 50, 10)} == {"up"}
    assert {w.after for w in forecast_windows(-ramp, 50, 10)} == {"down"}
    assert not list(forecast_windows(np.zeros((1, 300)), 50, 10))  # no spread, no scale
    shares = {"validation": 0.1, "test": 0.1}
    from factory.data.splits import split_of

    for start, want in ((0, "train"), (799, None), (800, "validation"), (900, "test"), (890, None)):
        group = group_in_time("k", start, 20, 1000, shares)
        assert (split_of(group, shares) if group else None) == (want if start != 799 else None)


def test_names() -> None:
    assert dataset_of(Path("GunPoint_TRAIN.ts.gz")) == "GunPoint" and dataset_of(Path("a_b.csv")) == "a_b"
    assert [plain_label(text) for text in ("1.0", "1.5", " x ", "10")] == ["1", "1.5", "x", "10"]
