"""Trackers: off by default, local unless online, never fatal; the real W&B, MLflow and trackio where they are installed.

They may lie in an environment of their own: FACTORY_TEST_TRACKERS_PYTHON names its Python, which must import factory's needs too.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from factory.errors import ConfigError
from factory.pipeline.events import Event
from factory.tracking import targets, trackers
from factory.tracking.trackers import About, Tracking, read_names, send_run, summary_of, tracked

ROOT = Path(__file__).parents[2]


class Fake:
    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def _take(self, *call):
        if call[0] == self.fails_at:
            raise RuntimeError("server gone")
        self.calls.append(call)

    def log(self, *values):
        self._take("log", *values)

    def summary(self, *values):
        self._take("summary", *values)

    def close(self, *values):
        self._take("close", *values)


@pytest.fixture
def about(tmp_path):
    return About("r1", tmp_path / "run", tmp_path, {"seed": 0, "eval": {"samples": 4}}, {"domain": "toy"})


RESULT = {
    "rows": [
        {"stage": "base", "value": 0.25, "validation": 0.5, "diff": None},
        {"stage": "sft", "value": 0.75, "validation": 0.5, "diff": 0.5},
    ]
}


def test_names_are_checked_and_local_ones_mean_nothing_more():
    assert read_names(["mlflow,jsonl", "wandb", "mlflow", "tensorboard"]) == ("mlflow", "wandb")
    with pytest.raises(ConfigError, match="wandb"):
        read_names(["wandbb"])


def test_without_the_flag_nothing_is_opened(about, monkeypatch):
    monkeypatch.setattr(trackers, "open_tracker", lambda *a: pytest.fail("opened"))
    seen = []
    with tracked((), about, seen.append) as on_event:
        assert on_event == seen.append


def test_training_rows_and_held_out_figures_are_sent_and_evaluations_progress_is_not(about, monkeypatch):
    fake, seen = Fake(), []
    monkeypatch.setattr(trackers, "open_tracker", lambda name, about: fake)
    with tracked(("mlflow",), about, seen.append) as on_event:
        on_event(
            Event(
                "progress",
                "02-sft",
                values={"step": 3, "total": 9, "loss": 1.5, "nan": float("nan"), "ok": True, "note": "x", "time_s": 4.0},
            )
        )
        on_event(Event("progress", "03-sft-eval", values={"step": 3, "total": 9, "phase": "test"}))
        on_event(Event("result", values=RESULT))
    assert fake.calls == [
        ("log", "sft", 3, {"loss": 1.5}),
        ("summary", {"eval/base/test": 0.25, "eval/base/validation": 0.5, "eval/sft/test": 0.75, "eval/sft/validation": 0.5, "eval/sft/difference": 0.5}),
        ("close", "finished"),
    ]  # fmt: skip
    assert len(seen) == 3


def test_a_failing_tracker_warns_once_and_the_build_goes_on(about, monkeypatch, caplog):
    made = {"mlflow": Fake("log"), "wandb": Fake()}
    monkeypatch.setattr(trackers, "open_tracker", lambda name, about: made[name])
    with caplog.at_level(logging.WARNING), tracked(("mlflow", "wandb"), about, lambda event: None) as on_event:
        for step in (1, 2):
            on_event(Event("progress", "02-sft", values={"step": step, "loss": 1.0}))
    assert len([r for r in caplog.records if "mlflow failed" in r.getMessage()]) == 1
    assert [call[0] for call in made["wandb"].calls] == ["log", "log", "close"] and not made["mlflow"].calls


def test_a_failed_build_is_closed_as_failed(about, monkeypatch):
    fake = Fake()
    monkeypatch.setattr(trackers, "open_tracker", lambda name, about: fake)
    with pytest.raises(ValueError), tracked(("wandb",), about, lambda event: None):
        raise ValueError
    assert fake.calls == [("close", "failed")]


def test_far_addresses_need_leave(about, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with pytest.raises(ConfigError, match="network is off"):
        targets.Mlflow(about)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    with pytest.raises(ConfigError, match="add --online"):
        targets.Trackio(about)
    targets._allow("x", "http://127.0.0.1:5000", False)
    targets._allow("x", "sqlite:////tmp/x.db", False)


def test_a_tracker_that_is_not_installed_is_told_before_the_build(about, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        trackers.open_tracker("wandb", about)


def test_a_summary_leaves_out_what_was_not_measured():
    assert "eval/base/difference" in summary_of(RESULT) and summary_of({}) == {}
    fake = Fake()
    Tracking({"a": fake}).summary(summary_of(RESULT))
    assert "eval/base/difference" not in fake.calls[0][1]


def run_folder(home: Path) -> Path:
    """A run as a build leaves it, with one trained stage."""
    folder = home / "runs" / "r1"
    (folder / "stages" / "01-sft").mkdir(parents=True)
    (folder / "resolved.yaml").write_text(
        yaml.safe_dump(
            {"domain": "toy", "recipe": "embedded", "base": "embedded-text", "seed": 0, "stages": {"sft": {"kind": "sft"}}}
        )
    )
    (folder / "result.json").write_text(json.dumps(RESULT))
    rows = [{"step": step, "total": 3, "loss": 2.0 / step, "lr": 1e-3} for step in (1, 2, 3)]
    (folder / "stages" / "01-sft" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_run_on_disk_is_sent_whole(tmp_path, monkeypatch, about):
    fake = Fake()
    monkeypatch.setattr(trackers, "open_tracker", lambda name, about: fake)
    assert send_run(run_folder(tmp_path), ("mlflow",), about) == ("mlflow",)
    assert [call[:3] for call in fake.calls if call[0] == "log"] == [("log", "sft", step) for step in (1, 2, 3)]
    assert fake.calls[-1] == ("close", "finished")


READ = {
    "mlflow": """
import sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}/tracking/mlflow.db")
runs = client.search_runs([client.get_experiment_by_name("factory").experiment_id])
assert len(runs) == 1, runs
run = runs[0]
assert run.info.status == "FINISHED" and run.data.params["stages.sft.kind"] == "sft" and run.data.tags["domain"] == "toy"
assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "sft/loss")][:3] == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
assert run.data.metrics["eval/sft/test"] == 0.75
""",
    "wandb": """
import glob, struct, sys
from wandb.proto import wandb_internal_pb2 as pb
(path,) = glob.glob(f"{sys.argv[1]}/runs/r1/tracking/wandb/offline-run-*/*.wandb")
data, at, part = open(path, "rb").read(), 7, b""  # 7 bytes of header, then LevelDB's log: blocks of 32 KiB, [crc 4][length 2][type 1]
rows, summary = [], {}
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
    part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
    if kind in (1, 4):
        record = pb.Record()
        record.ParseFromString(part)
        part = b""
        if record.HasField("history"):
            rows.append({item.key or "/".join(item.nested_key): item.value_json for item in record.history.item})
        for item in record.summary.update:
            summary[item.key or "/".join(item.nested_key)] = item.value_json
assert [float(row["sft/loss"]) for row in rows] == [2.0, 1.0, 2.0 / 3], rows
assert [int(float(row["sft/step"])) for row in rows] == [1, 2, 3]
assert float(summary["eval/sft/test"]) == 0.75, summary
""",
    "trackio": """
import glob, os, sqlite3, sys, json
(path,) = [p for p in glob.glob(f"{sys.argv[1]}/tracking/trackio/**/*.db", recursive=True) if "factory" in os.path.basename(p)]
rows = [json.loads(row[0]) for row in sqlite3.connect(path).execute("select metrics from metrics order by id")]
assert [row["sft/loss"] for row in rows if "sft/loss" in row][:3] == [2.0, 1.0, 2.0 / 3], rows
assert any(row.get("eval/sft/test") == 0.75 for row in rows)
""",
}
BLOCKED = """
import socket, sys
_connect = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        print("CONNECTS TO", address, file=sys.stderr)
        raise OSError("the network is off")
    return _connect(self, address)
socket.socket.connect = connect
"""


def python_with(package: str) -> str:
    named = os.environ.get("FACTORY_TEST_TRACKERS_PYTHON")
    if named is None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here, and FACTORY_TEST_TRACKERS_PYTHON names no Python that has it")
    return named or sys.executable


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_the_real_tracker_holds_the_run_and_connects_nowhere(name, tmp_path):
    python = python_with(name)
    run_folder(tmp_path)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "FACTORY_HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "online",
    }
    send = f"{BLOCKED}\nfrom factory.cli.app import run\nsys.exit(run(['track', 'r1', '--track', '{name}']))"
    for _ in range(2 if name == "mlflow" else 1):  # a second time goes on in the same run
        done = subprocess.run([python, "-c", send], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        assert "CONNECTS TO" not in done.stderr, done.stderr
    read = subprocess.run(
        [python, "-c", READ[name], str(tmp_path)], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300
    )
    assert read.returncode == 0, read.stderr[-2000:]
