"""Two processes train as one does on the same recorded rollouts, a rollout that has to be doubled to keep step included."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import learnable
import pytest
import torch
from safetensors.torch import load_file

from factory.stages.models.load import load
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.engines.recorded import write_recording
from factory.stages.rl.engines.transformers import TransformersEngine
from factory.stages.rl.rollouts import Request, Sampling

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recording(base, tmp_path_factory):
    """Three rollouts of each question, by the base policy."""
    loaded = load(base, precision="fp32")
    engine = TransformersEngine(loaded)
    engine.sync(WeightSource(0, loaded.model, adapter=False))
    requests = [Request(place, s, loaded.codec.prompt(s.messages)) for place, s in enumerate(learnable.samples())]
    rollouts = sorted(engine.generate(requests, Sampling(3, 6), seed=3), key=lambda r: (r.place, r.index))
    path = tmp_path_factory.mktemp("recording") / "rollouts.jsonl"
    write_recording(path, [(learnable.SKIES[r.place], r) for r in rollouts])
    return path


def run(base, recording, workdir, world):
    workdir.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join(os.path.abspath(p) for p in [str(HERE), *sys.path] if p or p == "")
    common = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "one_rank.py"), str(base), str(workdir), str(recording)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=common | ({"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(world)} if world > 1 else {}),
        )
        for r in range(world)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output.decode()[-3000:]
    finally:
        for process in processes:
            process.kill()
    assert [(workdir / f"rank-{rank}").read_text() for rank in range(world)] == [str(world)] * world
    return json.loads((workdir / "rows.json").read_text()), load_file(workdir / "model" / "model.safetensors")


def test_two_processes_equal_one(base, recording, tmp_path):
    rows, weights = run(base, recording, tmp_path / "one", 1)
    rows_of_two, weights_of_two = run(base, recording, tmp_path / "two", 2)
    for one, two in zip(rows, rows_of_two, strict=True):
        # 9 rollouts on 2 processes: 5 and 4, so one process repeats a rollout, which must not count.
        assert one["tokens"] == two["tokens"] and one["reward"] == two["reward"]
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-6)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    # The second step's rollouts are older than the weights: their old log-probs were computed again.
    assert "stale_rollouts" not in rows[0] and rows[1]["stale_rollouts"] > 0
    base_weights = load_file(base / "model.safetensors")
    assert any(not torch.equal(base_weights[name], weights[name]) for name in weights)
    for name, tensor in weights.items():
        # AdamW's first steps have the size of lr whatever the gradient, so rounding may show at 1e-3 of that.
        torch.testing.assert_close(weights_of_two[name], tensor, atol=2e-4, rtol=1e-3)
