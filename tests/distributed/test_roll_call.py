"""A process that does not come is named, with its phase, by the one that waits for it."""

import json

from factory.testing.ranks import run_ranks

STUCK = """
import json, sys, time
from datetime import timedelta
from pathlib import Path
import torch.distributed as dist
from factory.errors import TrainingError
from factory.stages.roll_call import RollCall

workdir, stuck = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo")
rank = dist.get_rank()
roll = RollCall(workdir, rank, 2, timeout_s=3.0)
roll.enter("RL step 4 of 9: rollouts and their rewards")
roll.call()
roll.enter("update 8 of 18: forward and backward")
if rank == stuck:
    roll.enter("RL step 5 of 9: rollouts and their rewards")
    deadline = time.monotonic() + 120
    while not (workdir / "said.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
else:
    try:
        roll.call()
    except TrainingError as err:
        (workdir / "said.tmp").write_text(json.dumps(str(err)))
        (workdir / "said.tmp").rename(workdir / "said.json")
"""


def said(tmp_path, stuck):
    run_ranks(STUCK, [str(tmp_path), str(stuck)], world=2)
    return json.loads((tmp_path / "said.json").read_text())


def test_the_main_process_names_the_one_that_hangs(tmp_path):
    message = said(tmp_path, 1)
    assert message.startswith("update 8 of 18: forward and backward: rank 0 waited 3 s")
    assert (
        "Missing: rank 1 is in 'RL step 5 of 9: rollouts and their rewards' for " in message and "collective_timeout_s" in message
    )


def test_the_others_name_the_main_process(tmp_path):
    assert "Missing: rank 0 is in 'RL step 5 of 9: rollouts and their rewards' for " in said(tmp_path, 0)


def test_one_process_alone_waits_for_nobody(tmp_path):
    from factory.stages.roll_call import RollCall

    alone = RollCall(tmp_path, 0, 1, 0.001)
    alone.enter("update 1")
    alone.call()
    assert not list(tmp_path.iterdir()), "nothing is written for a process alone"
