"""Recording specialists' opinions from an endpoint, and reading them back as the attending physician's questions."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from factory.contracts import DataRequest, Message, Sample
from factory.domains.medicine import PACK
from factory.domains.medicine.ask_specialists import Endpoint, attending_sample, department_for, main, read_triage, record
from factory.errors import ConfigError, DataError

LEFT = Sample(
    "t.jsonl:1", "closed", (Message("user", "Which side?"),), "left", (), {"modality": "fundus", "group": "g1"}, "train", "x"
)
LETTERED = Sample("t.jsonl:2", "choice", (Message("user", "Which?\nA. gout\nB. sepsis"),), "B", (),
                  {"options": {"A": "gout", "B": "sepsis"}, "answer_text": "sepsis", "group": "g2"}, "train", "x")  # fmt: skip


@pytest.fixture
def server():
    """A specialist that answers `left` and `right` in turn and keeps what it was asked."""
    asked: list[dict] = []

    class Specialist(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            said = ("left", "right")[(len(asked) - 1) % 2]
            reply = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            """Quiet."""

    httpd = HTTPServer(("127.0.0.1", 0), Specialist)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1", asked
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    ("opinions", "tier", "accuracy"),
    [(["left", "Left.", "the left side"], "easy", 1.0), (["left", "right", "right"], "medium", 1 / 3), (["right"], "hard", 0.0)],
)
def test_tier_of_recorded_opinions(opinions, tier, accuracy):
    sample = attending_sample(LEFT, "ophthalmologist", opinions)
    assert (sample.task, sample.meta["tier"], sample.meta["specialist_accuracy"]) == ("attending", tier, pytest.approx(accuracy))
    assert f"Opinion 1 of the ophthalmologist: {opinions[0]}" in sample.messages[-1].content
    assert PACK.verifiers()["accuracy"]("<think>x</think><answer>left</answer>", sample).score == 1.0


def test_lettered_questions_take_the_letter_or_the_text():
    sample = attending_sample(LETTERED, "radiologist", ["B", "A", "sepsis"])
    assert sample.meta["specialist_accuracy"] == pytest.approx(2 / 3)
    for answer in ("B", "sepsis"):
        assert PACK.verifiers()["accuracy"](f"<think>x</think><answer>{answer}</answer>", sample).score == 1.0


def test_departments_come_from_the_triage_agent_first(tmp_path):
    rows = [
        {"id": "t.jsonl:1", "completion": "<think>eye</think><answer>Surgeon</answer>"},
        {"id": "t.jsonl:2", "completion": "no idea"},
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    triage = read_triage(path)
    assert triage == {"t.jsonl:1": "surgeon"}
    assert department_for(LEFT, triage) == "surgeon"
    assert department_for(LEFT, {}) == "ophthalmologist" and department_for(LETTERED, {}) == "radiologist"


def test_recording_goes_on_where_it_ended(tmp_path):
    out = tmp_path / "opinions.jsonl"
    assert record([LEFT], lambda department, sample: "left", out, num=3, triage={}) == 1
    assert record([LEFT, LETTERED], lambda department, sample: "B", out, num=3, triage={}) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["attending:t.jsonl:1", "attending:t.jsonl:2"]


def test_from_endpoint_to_training_rows(server, tmp_path):
    url, asked = server
    data = tmp_path / "vqa.jsonl"
    rows = [
        {"id": f"q{i}", "question": "Which?", "options": {"A": "left", "B": "right"}, "answer_idx": "A", "answer": "left"}
        for i in range(3)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "opinions.jsonl"
    arguments = ["--data", str(data), "--url", url, "--model", "m", "--out", str(out), "--opinions", "2"]
    for split in ("train", "validation", "test"):
        main([*arguments, "--split", split])
    assert len(asked) == 6 and asked[0]["temperature"] == 1.0
    assert "radiologist" in asked[0]["messages"][0]["content"]
    options = {"respect_splits": False, "splits": {"validation": 0.0, "test": 0.0}}
    samples = list(PACK.samples("train", 0, DataRequest(paths=(str(out),), options=options)))
    assert len(samples) == 3
    assert all(s.task == "attending" and s.meta["tier"] == "medium" and "Opinion 2" in s.text() for s in samples)


def test_data_does_not_leave_the_building_unasked():
    with pytest.raises(ConfigError, match="--online"):
        Endpoint("https://api.example.com/v1", "m")


def test_a_dead_server_is_named():
    with pytest.raises(DataError, match="Is the server up"):
        Endpoint("http://127.0.0.1:9/v1", "m", timeout_s=2)("radiologist", LEFT)
