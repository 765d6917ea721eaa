"""Two processes train as one does on the same recorded rollouts, a rollout that has to be doubled to keep step included."""

import json
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
from factory.testing.ranks import run_ranks

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


PLAIN = {"kl": {"k3": {"coef": 0.05}}}
SHARED = {
    **PLAIN,
    "reference": {"ema": {"every": 1, "decay": 0.5}},
    "group_reward": {"care": {"opens": "", "closes": ""}},
    "token_weight": "tw_grpo",
    "auxiliary": {"staged_entropy": {"easy": 0.0, "medium": 0.01, "hard": 0.3, "ends": [0.2, 0.4, 1.0]}},
}
"""Pieces whose forwards are dealt out to the processes, a reference that every process keeps, and a term that follows the clock."""


def run(base, engine, workdir, world, pieces=PLAIN):
    workdir.mkdir()
    run_ranks(HERE / "one_rank.py", [str(base), str(workdir), engine, json.dumps(pieces)], world=world)
    assert [(workdir / f"rank-{rank}").read_text() for rank in range(world)] == [str(world)] * world
    return json.loads((workdir / "rows.json").read_text()), load_file(workdir / "model" / "model.safetensors")


@pytest.mark.parametrize("pieces", [PLAIN, SHARED], ids=["plain", "shared"])
def test_two_processes_equal_one(base, recording, tmp_path, pieces):
    rows, weights = run(base, f"recorded:{recording}", tmp_path / "one", 1, pieces)
    rows_of_two, weights_of_two = run(base, f"recorded:{recording}", tmp_path / "two", 2, pieces)
    for one, two in zip(rows, rows_of_two, strict=True):
        # 9 rollouts on 2 processes: 5 and 4, so one process repeats a rollout, which must not count.
        assert one["tokens"] == two["tokens"] and one["reward"] == two["reward"]
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-6)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert two["kl"] == pytest.approx(one["kl"], abs=1e-6)
    if "auxiliary" in pieces:
        [term] = {name for name in rows[0] if name.startswith("auxiliary/")}
        assert rows[0][term] == rows_of_two[0][term] == 0.0 > rows[1][term], "the second step is in the last stage"
        assert rows_of_two[1][term] == pytest.approx(rows[1][term], rel=1e-4)
    # The second step's rollouts are older than the weights: their old log-probs were computed again.
    assert "stale_rollouts" not in rows[0] and rows[1]["stale_rollouts"] > 0
    base_weights = load_file(base / "model.safetensors")
    assert any(not torch.equal(base_weights[name], weights[name]) for name in weights)
    for name, tensor in weights.items():
        # AdamW's first steps have the size of lr whatever the gradient, so rounding may show at 1e-3 of that.
        torch.testing.assert_close(weights_of_two[name], tensor, atol=2e-4, rtol=1e-3)


FORCED = {"max_new_tokens": 1, "hook": {"force_answer": {"opens": "", "closes": " so", "answer": "", "answer_tokens": 3}}}
SILENT = {"neutral": [""], "if_right": "", "if_wrong": ""}
RETHOUGHT = {
    "hook": {"forced_rethinking": {"probability": 1.0, "cut_share": 1.0, "marks": list("aeiou"), "min_tokens": 1, "max_tokens": 3, **SILENT}},
    "auxiliary": "sft_selected",
}  # fmt: skip
"""Cut before the last vowel and written anew: an accepted one replaces its rollout."""


@pytest.mark.parametrize(("pieces", "count"), [(FORCED, "forced_answers"), (RETHOUGHT, "rethinkings_kept")])
def test_hooks_that_generate_give_the_same_rollouts_on_two_processes(base, tmp_path, pieces, count):
    """Sampled, not recorded: what a prompt draws depends on its place in the step, not on the process that holds it."""
    rows, weights = run(base, "transformers", tmp_path / "one", 1, pieces)
    rows_of_two, weights_of_two = run(base, "transformers", tmp_path / "two", 2, pieces)
    for one, two in zip(rows, rows_of_two, strict=True):
        assert [one[name] for name in ("tokens", "reward", count)] == [two[name] for name in ("tokens", "reward", count)]
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
    assert sum(row[count] for row in rows) > 0
    for name, tensor in weights.items():
        torch.testing.assert_close(weights_of_two[name], tensor, atol=2e-4, rtol=1e-3)


AVERAGE = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from factory.stages.models.load import load
from factory.stages.rl.reference import MovingReference

dist.init_process_group("gloo")
reference = MovingReference(load(Path(sys.argv[1]), precision="fp32"), decay=0.5, every=1)
held = reference.state_dict()["average"]
assert bool(held) == (dist.get_rank() == 0), "the main process alone holds it in the checkpoint"
reference.load_state_dict({"average": {name: torch.full_like(one, 3.0) for name, one in held.items()}})
with reference.model(torch.device("cpu")) as model:
    assert all((p == 3.0).all() for p in model.parameters() if p.requires_grad)
dist.barrier()  # a process that leaves while the other still talks makes gloo abort
dist.destroy_process_group()
"""


def test_every_process_takes_the_average_of_the_main_one_from_a_checkpoint(base):
    run_ranks(AVERAGE, [str(base)], world=2)
