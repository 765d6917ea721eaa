"""A run folder as a build leaves it, of any size, with every figure known."""

from __future__ import annotations

import json
import struct
import zlib

import yaml

STAGES = ("base", "sft", "rl")


def png(colour: tuple[int, int, int]) -> bytes:
    """A 1 x 1 PNG."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\x00" + bytes(colour))) + chunk(b"IEND", b"")


def is_right(stage: str, number: int) -> bool:
    """base: none; sft: every even sample; rl: every third that is odd as well, and it unlearns every tenth."""
    if stage == "base":
        return False
    return number % 2 == 0 if stage == "sft" else (number % 2 == 0 and number % 10 != 0) or number % 6 == 3


def sample(stage: str, number: int, num_images: int) -> dict:
    right = is_right(stage, number)
    status = "error" if stage == "rl" and number % 100 == 99 else "ok" if right else "wrong"
    return {
        "id": f"s-{number}", "task": f"task-{number % 4}", "prompt": f"<image> question {number} <script>alert(1)</script>",
        "completion": f"<think>thought {number % 50} of {stage}</think><answer>{number % 7 if right else 'no'}</answer>",
        "reference": str(number % 7), "score": float(right and status == "ok"), "status": status, "tokens": 8 + number % 5,
        "reason": "right" if right else f"got no, want {number % 7}", "finished": True,
        "image": f"{number:04}.png" if number < num_images else None,
    }  # fmt: skip


def eval_step(folder, stage, num_samples, num_images):
    (folder / "images").mkdir(parents=True)
    for number in range(num_images):
        (folder / "images" / f"{number:04}.png").write_bytes(png((number % 3, 0, 0)))
    rows = [sample(stage, number, num_images) for number in range(num_samples)]
    value = sum(row["score"] for row in rows) / num_samples
    tasks = {f"task-{k}": {"value": value, "num": value * num_samples / 4, "n": num_samples // 4} for k in range(4)}
    statuses = {name: sum(row["status"] == name for row in rows) for name in ("ok", "wrong", "error")}
    figures = {
        "primary": {"name": "accuracy", "value": value, "n": num_samples, "ci": [max(0, value - 0.02), value + 0.02]}, "majority": 0.2,
        "tasks": tasks, "statuses": statuses, "length": {"right": 10.0, "wrong": 20.0, "truncated": 0},
    }  # fmt: skip
    body = {
        "stage": stage,
        "model": "m",
        "splits": {"test": figures, "validation": figures},
        "blind": figures,
        "probes": {},
        "verdicts": {},
    }
    (folder / "eval.json").write_text(json.dumps(body))
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "stage.lock").write_text(json.dumps({"seconds": 36.0}))


def rl_step(folder, num_steps):
    folder.mkdir(parents=True)
    metrics, tasks, rollouts = [], [], []
    for step in range(1, num_steps + 1):
        rate = step / num_steps
        metrics.append({"step": step, "total": num_steps, "loss": 1 / step, "lr": 1e-4, "reward": rate, "reward/letter": rate, "reward/format": 1 - rate / 2,
                        "entropy": 0.5, "length": 10.0, "tokens": 100.0, "generated_tokens": 300.0, "time_rollouts_s": 3.0, "time_update_s": 1.0,
                        "zero_advantage_share": 0.25, "task/choice/share": 1.0, "task/choice/pass": rate})  # fmt: skip
        tasks.append(
            {"step": step, "tasks": {"choice": [8, 0, round(8 * rate), 8 * rate, 1, 0], "finding": [8, 1, 0, 0.0, 1, 1]}}
        )
        for right in (True, False):
            status = {"letter": "ok" if right else "wrong", "format": "ok"}
            rollouts.append({"step": step, "task": "choice", "completion": "<answer>B</answer>", "value": float(right), "masked": False,
                             "parts": {"letter": float(right), "format": 1.0}, "statuses": status, "reasons": {}})  # fmt: skip
    for name, rows in (("metrics", metrics), ("tasks", tasks), ("rollouts", rollouts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    verdicts = {"letter": {"ok": 5, "wrong": 4, "timeout": 1}}
    (folder / "stage.lock").write_text(json.dumps({"seconds": 7200.0, "outputs": {"metrics": {"verdicts": verdicts}}}))


def make_run(folder, *, num_samples=60, num_images=6, num_steps=40, seed=0, lr=1e-4):
    """base, sft and rl measured on `num_samples`; rl trained for `num_steps`. Returns the folder."""
    stages = folder / "stages"
    for number, stage in enumerate(STAGES):
        eval_step(stages / f"{2 * number + 1:02}-{stage}-eval", stage, num_samples, num_images)
    rl_step(stages / "04-rl", num_steps)
    config = {"domain": "pathology", "recipe": "embedded", "base": "embedded-vl", "seed": seed, "launch": {"processes": 1, "threads": 2},
              "stages": {"rl": {"kind": "rl", "optim": {"lr": lr}}}}  # fmt: skip
    (folder / "resolved.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(
        json.dumps({"command": "factory build --domain pathology", "versions": {}, "platform": {"device": "cpu-1-thread"}})
    )
    (folder / "plan.json").write_text(json.dumps({"steps": [{"name": "04-rl", "kind": "rl", "seconds": 3600.0}]}))
    (folder / "result.json").write_text(json.dumps({"chosen": "rl", "rows": []}))
    return folder
