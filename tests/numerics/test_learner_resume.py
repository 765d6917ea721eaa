"""A stage killed with SIGKILL at random moments ends with the bytes of one that was never killed."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch

from factory.config.schema import OptimConfig
from factory.errors import Interrupted, TrainingError
from factory.stages.batches import DataOrder
from factory.stages.checkpoint import newest_checkpoint
from factory.stages.learner import Learner
from factory.stages.metrics import read_metrics
from factory.stages.models.load import load
from factory.stages.objectives import TokenNLL
from factory.stages.stopping import ask_to_stop, is_asked_to_stop

torch.set_num_threads(1)
FORK = multiprocessing.get_context("fork")

CPT = {"documents": 30, "epochs": 2, "batch_size": 5, "pack_length": 64, "optim": {"checkpoint_every": 2, "micro_batch_size": 1}}
SFT_LORA = {
    "lessons": 30, "epochs": 2, "batch_size": 5, "max_length": 128, "adapter": {"kind": "lora", "rank": 4, "dropout": 0.3},
    "optim": {"checkpoint_every": 3},
}  # fmt: skip


def run_killed(world, job, rng):
    """Start the job again and again; kill it a random time after a random row until it ends by itself. Returns the kills."""
    path = world.Path(job["workdir"]) / "metrics.jsonl"
    for kills in range(6):
        child = FORK.Process(target=world.run_stage, args=(job,))
        child.start()
        target = len(read_metrics(path)) + rng.randint(1, 4)
        while child.is_alive() and len(read_metrics(path)) < target:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        if kills < 5 and child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        if child.exitcode == 0:
            return kills
        assert child.exitcode == -signal.SIGKILL
    raise AssertionError("the job never ended")


def timeless(path):
    """The rows without the clock's figures."""
    return [{k: v for k, v in row.items() if not k.startswith(("time", "tokens_per"))} for row in read_metrics(path)]


@pytest.mark.parametrize(("kind", "config"), [("cpt", CPT), ("sft", SFT_LORA)], ids=["cpt-packed", "sft-lora-dropout"])
def test_killed_stage_equals_uninterrupted_stage(world, text_base, tmp_path, kind, config):
    jobs = [
        {"kind": kind, "base": str(text_base), "workdir": str(tmp_path / name), "config": config}
        for name in ("straight", "killed")
    ]
    straight = FORK.Process(target=world.run_stage, args=(jobs[0],))
    straight.start()
    straight.join()
    assert straight.exitcode == 0
    kills = run_killed(world, jobs[1], random.Random(kind))
    assert kills >= 2
    file = "adapter_model.safetensors" if "adapter" in config else "model.safetensors"
    weights = [(tmp_path / name / "model" / file).read_bytes() for name in ("straight", "killed")]
    assert weights[0] == weights[1]
    rows = [timeless(tmp_path / name / "metrics.jsonl") for name in ("straight", "killed")]
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == list(range(1, 13))
    assert newest_checkpoint(tmp_path / "killed" / "checkpoints") is not None, "they go with the step, not before"


def learner_with_checkpoint(base, tmp_path, world, **optim):
    learner = Learner(load(base, precision="fp32"), OptimConfig(warmup_steps=0, **optim), 4, tmp_path, seed=0)
    batch = learner.loaded.codec.collate([learner.loaded.codec.document(world.sentence(1))])
    learner.step([batch], TokenNLL())
    return learner


def test_pieces_come_back_and_other_pieces_are_refused(text_base, tmp_path, world):
    class Counter:
        value = 3.5

        def state_dict(self):
            return {"value": self.value, "table": torch.arange(3)}

        def load_state_dict(self, state):
            self.value, self.table = state["value"], state["table"]

    learner = learner_with_checkpoint(text_base, tmp_path, world)
    learner.save_checkpoint(1, {"counter": Counter()})
    fresh = Counter()
    fresh.value = 0
    assert learner.resume({"counter": fresh}) == 1
    assert fresh.value == 3.5 and fresh.table.tolist() == [0, 1, 2]
    with pytest.raises(TrainingError, match=r"holds the pieces \['counter'\], not \['order'\]"):
        learner.resume({"order": DataOrder(4, 1, 2, 0)})


def test_no_checkpoint_starts_at_zero_and_clears_the_metrics(text_base, tmp_path, world):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    learner = learner_with_checkpoint(text_base, tmp_path, world)
    assert learner.resume({}) == 0
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_checkpoint_of_another_model_is_refused(text_base, vl_base, tmp_path, world):
    learner_with_checkpoint(text_base, tmp_path, world).save_checkpoint(1, {})
    other = Learner(load(vl_base, precision="fp32"), OptimConfig(), 4, tmp_path, seed=0)
    with pytest.raises(TrainingError, match="made for a model with other trainable weights"):
        other.resume({})


def test_checkpoints_are_due_every_n_steps_but_not_at_the_end(text_base, tmp_path, world):
    learner = learner_with_checkpoint(text_base, tmp_path, world, checkpoint_every=2)
    assert [learner.save_checkpoint_if_due(step, {}) for step in (1, 2, 3, 4)] == [False, True, False, False]
    learner.optim.checkpoint_every = 0
    assert not learner.save_checkpoint_if_due(2, {})


def test_a_stage_that_is_asked_to_stop_leaves_a_checkpoint_and_goes_on_as_if_it_had_not(text_base, tmp_path, world):
    config = {"documents": 12, "batch_size": 4, "pack_length": 64, "optim": {"checkpoint_every": 0}}
    job = {"kind": "cpt", "base": str(text_base), "config": config}
    straight, stopped = ({**job, "workdir": str(tmp_path / name)} for name in ("straight", "stopped"))
    world.run_stage(straight)
    (tmp_path / "stopped").mkdir()
    for step in (1, 2):
        ask_to_stop(tmp_path / "stopped")
        with pytest.raises(Interrupted, match=f"stopped after step {step} of 3"):
            world.run_stage(stopped)
        assert newest_checkpoint(tmp_path / "stopped" / "checkpoints")[0] == step and not is_asked_to_stop(tmp_path / "stopped")
    ask_to_stop(tmp_path / "stopped")
    world.run_stage(stopped)  # only the last step is left, and after it the stage is done
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "stopped")]
    assert weights[0] == weights[1]
