"""The report is drawn from a run folder only, holds everything in one file, and shows what the folder says."""

import json
import re
import struct
import zlib

import pytest
import yaml

from factory.errors import RegistryError
from factory.report import build_report
from factory.report.plots import smoothed
from factory.report.read import read_jsonl


def png() -> bytes:
    """A 1 x 1 red PNG."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00")) + chunk(b"IEND", b"")
    )  # fmt: skip


def figures(value, n=400):
    return {
        "primary": {"name": "accuracy", "value": value, "n": n, "ci": [value - 0.04, value + 0.04]},
        "majority": 0.3, "tasks": {"choice": {"value": value, "num": value * n, "n": n}},
        "statuses": {"ok": 1, "wrong": 1}, "length": {"right": 3.0, "wrong": 5.0, "truncated": 2},
    }  # fmt: skip


def eval_step(folder, stage, value):
    folder.mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "images" / "0000.png").write_bytes(png())
    body = {"stage": stage, "model": "m", "splits": {"test": figures(value), "validation": figures(value)}, "blind": figures(0.25),
            "probes": {"zero-shot": {"balanced_accuracy": 0.61}}, "verdicts": {}}  # fmt: skip
    (folder / "eval.json").write_text(json.dumps(body))
    common = {"task": "choice", "prompt": "<image> which?", "reference": "B", "tokens": 3, "finished": True}
    rows = [
        {
            "id": "right-1",
            "completion": "<answer>B</answer>",
            "score": 1.0,
            "status": "ok",
            "reason": "letter B",
            "image": "0000.png",
            **common,
        },
        {
            "id": "wrong-1",
            "completion": "<script>alert(1)</script>",
            "score": 0.0,
            "status": "wrong",
            "reason": "got A",
            "image": None,
            **common,
        },
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_dir(tmp_path):
    run = tmp_path / "pathology-embedded-s0-abcdef12"
    eval_step(run / "stages" / "01-base-eval", "base", 0.0)
    rl = run / "stages" / "02-rl"
    rl.mkdir()
    (rl / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": i, "loss": 1 / (i + 1), "reward": i / 9, "entropy": 0.5}) + "\n" for i in range(10))
    )
    (rl / "rollouts.jsonl").write_text(
        json.dumps({"step": 9, "completion": "<answer>B</answer>", "reward": 1.0, "parts": {"letter": 1.0}}) + "\n"
    )
    eval_step(run / "stages" / "03-rl-eval", "rl", 0.8125)
    (run / "resolved.yaml").write_text(
        yaml.safe_dump(
            {"domain": "pathology", "recipe": "embedded", "base": "embedded-vl", "seed": 3, "stages": {"rl": {"kind": "rl"}}}
        )
    )
    (run / "run.json").write_text(
        json.dumps({"command": "factory build --domain pathology --seed 3", "versions": {"torch": "2.13.0"}})
    )
    rows = [{"stage": "base"}, {"stage": "rl", "diff": 0.8125, "diff_ci": [0.77, 0.85], "against": "base"}]
    (run / "result.json").write_text(json.dumps({"chosen": "rl", "rows": rows}))
    return run


def test_report_is_one_file_that_loads_nothing(run_dir):
    page = build_report(run_dir).read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "@import" not in page and "url(http" not in page


def test_report_shows_the_figures_and_how_to_reproduce_them(run_dir):
    page = build_report(run_dir).read_text()
    for wanted in (
        "81.2 %",
        "[77.2, 85.2]",
        "+81.2",
        "(325/400)",
        "25.0 %",
        "factory build --domain pathology --seed 3",
        "embedded base",
        "zero-shot: balanced_accuracy",
    ):
        assert wanted in page, wanted


def test_report_escapes_what_a_model_wrote(run_dir):
    page = build_report(run_dir).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_report_draws_loss_reward_and_entropy(run_dir):
    page = build_report(run_dir).read_text()
    for title in ("rl: loss", "rl: reward by part", "rl: entropy"):
        assert title in page, title


def test_model_card_names_the_kept_stage_and_the_limits(run_dir):
    build_report(run_dir)
    card = (run_dir / "MODEL_CARD.md").read_text()
    assert "**Stage kept:** rl" in card
    assert "## Not for" in card


def test_tensorboard_events_hold_the_metrics(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    build_report(run_dir)
    events = EventAccumulator(str(run_dir / "tensorboard" / "rl")).Reload()
    assert [round(event.value, 4) for event in events.Scalars("loss")][:3] == [1.0, 0.5, 0.3333]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RegistryError, match=r"no resolved\.yaml"):
        build_report(tmp_path)


def test_smoothing_looks_only_back():
    # window 2: 1, (1+3)/2, (3+5)/2
    assert smoothed([1.0, 3.0, 5.0], 2) == [1.0, 2.0, 4.0]


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2')
    assert read_jsonl(path) == [{"step": 1}]
