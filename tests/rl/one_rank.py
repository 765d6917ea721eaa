"""One process of an RL run: `python one_rank.py BASE WORKDIR ENGINE PIECES`; rank and world come from the environment."""

import json
import os
import sys
from pathlib import Path

import learnable
import torch.distributed as dist

from factory.config.schema import OptimConfig
from factory.contracts import DataRequest, RunContext
from factory.stages.rl import STAGE
from factory.stages.rl.config import RlConfig


def main(base: Path, workdir: Path, engine: str, pieces: dict) -> None:
    """Two steps; the main process writes its log rows to rows.json."""
    rows = []
    config = RlConfig(
        preset="grpo",
        num_steps=2,
        samples=3,
        prompts_per_step=3,
        group_size=3,
        max_new_tokens=pieces.pop("max_new_tokens", 6),
        engine=engine,
        optim=OptimConfig(lr=1e-3, warmup_steps=0, weight_decay=0.0, checkpoint_every=0),
        pieces=pieces,
    )
    ctx = RunContext(
        stage="rl",
        workdir=workdir,
        model_dir=base,
        pack=learnable.pack(),
        domain="learnable:VERIFIERS",
        seed=7,
        request=DataRequest(),
        build={"precision": "fp32", "mixture": {}, "launch": {}, "pool": {"workers": 1}},
        log=lambda **row: rows.append(row),
    )
    STAGE.run(config, ctx)
    (workdir / f"rank-{os.environ.get('RANK', '0')}").write_text(str(dist.get_world_size() if dist.is_initialized() else 1))
    if rows:
        (workdir / "rows.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]), sys.argv[3], json.loads(sys.argv[4]))
