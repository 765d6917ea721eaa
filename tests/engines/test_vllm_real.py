"""The real vLLM server on CPU with a tiny model: rollouts, weights after every step, canary, restart after a kill."""

import os
import signal
import subprocess

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


def check_rows(rows, first=1):
    """Every step had its own weights, and the server computes what the policy does."""
    assert [row["engine_version"] for row in rows] == [float(row["step"] - 1) for row in rows]
    assert [row["step"] for row in rows] == list(range(first, first + len(rows)))
    for row in rows:
        assert (
            0.0 < row["engine_canary"] <= 1e-4
            and row["sampler_gap_max"] <= 1e-4
            and row["tis_mean"] == pytest.approx(1.0, abs=1e-4)
        )


def server_pids():
    """API servers of vLLM: children of the small programs between them and this process. vLLM renames its processes."""
    rows = subprocess.run(["ps", "-wweo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    table = {int(pid): (int(parent), args) for pid, parent, args in (row.split(None, 2) for row in rows)}
    own = [pid for pid, (parent, args) in table.items() if parent == os.getpid() and "vllm_child.py" in args]
    return [pid for pid, (parent, _) in table.items() if parent in own]


def test_a_stage_trains_with_full_weights_through_a_kill_of_the_server(run_stage, real_vllm, base):
    killed = []

    def kill_once(row):
        if row["step"] == 2:
            killed.extend(server_pids())
            os.kill(killed[0], signal.SIGKILL)

    workdir, rows, _ = run_stage(real_vllm, on_row=kill_once, num_steps=4)
    assert len(killed) == 1
    check_rows(rows)
    assert [row["engine_restarts"] for row in rows] == [0, 0, 1, 1]
    assert (workdir / "vllm" / "server.log").read_text().count("--- start ") == 2
    before, after = load_file(base / "model.safetensors"), load_file(workdir / "model" / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not list((workdir / "vllm").glob("weights-*")) and not server_pids(), "nothing of the server is left"


def test_only_the_adapter_goes_over_with_lora(run_stage, real_vllm, tmp_path):
    sent = []

    def look(row):
        sent.append(sorted(path.name for path in (tmp_path / "run" / "vllm").glob("weights-*/*.safetensors")))

    workdir, rows, _ = run_stage(real_vllm, adapter={"kind": "lora", "rank": 4}, on_row=look)
    check_rows(rows)
    assert sent == [["adapter_model.safetensors"]] * 3
    assert (workdir / "model" / "adapter_model.safetensors").is_file()


def test_the_next_rollouts_are_written_beside_the_training(run_stage, real_vllm):
    """One step off: from the second step on the server's rollouts are those of the weights before the last update."""
    _, rows, _ = run_stage(real_vllm, num_steps=5, one_step_off=True)
    assert [row["engine_version"] for row in rows] == [float(row["step"] - 1) for row in rows]
    assert [row["staleness"] for row in rows] == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert all(0.0 < row["engine_canary"] <= 1e-4 for row in rows)
    assert rows[0]["sampler_gap_max"] <= 1e-4 and all(row["sampler_gap_max"] > 1e-3 for row in rows[1:]), "one update apart"
    assert all(0.5 < row["tis_mean"] < 1.5 for row in rows)
    waited = [round(row["time_waited_s"], 2) for row in rows]
    print("seconds waited for rollouts and weights:", waited, "of", [round(row["time_s"], 2) for row in rows])


def test_it_learns_as_with_the_transformers_engine(run_stage, real_vllm):
    """From answering one of three colours at random to the right one, by either engine; the last steps' rewards agree."""
    settings = {"num_steps": 30, "max_new_tokens": 4}
    ends = {}
    for engine in ("transformers", "vllm"):
        _, rows, _ = run_stage(real_vllm, folder=engine, engine=engine, **settings)
        print(engine, [round(row["reward"], 3) for row in rows])
        assert rows[0]["reward"] < 0.65, "it starts by guessing"
        ends[engine] = sum(row["reward"] for row in rows[-5:]) / 5
    check_rows(rows)
    assert min(ends.values()) > 0.9, ends
    # 95% intervals of two shares of 160 rollouts each; at least a half-rollout's width where all are right.
    half = {engine: 1.96 * (max(share * (1 - share), 1 / 320) / 160) ** 0.5 for engine, share in ends.items()}
    assert abs(ends["transformers"] - ends["vllm"]) <= sum(half.values()), (ends, half)
