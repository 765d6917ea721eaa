"""One process of a pair-training run: `python pair_rank.py JOB.json`; rank and world come from the environment."""

import json
import os
import sys
from pathlib import Path

import taste
import torch.distributed as dist


def main(job: dict) -> None:
    """Run one stage; the main process writes its log rows to rows.json."""
    from factory.plugins import load_stage

    rows, workdir = [], Path(job["workdir"])
    pack = taste.Pack(with_images=job["with_images"], num=9)
    ctx = taste.context(workdir, Path(job["base"]), pack=pack, log=lambda **row: rows.append(row))
    outputs = load_stage(job["kind"]).run(taste.config(job["kind"], **job["config"]), ctx)
    (workdir / f"rank-{os.environ.get('RANK', '0')}").write_text(str(dist.get_world_size() if dist.is_initialized() else 1))
    if rows:
        (workdir / "rows.json").write_text(json.dumps({"rows": rows, "metrics": dict(outputs.metrics)}))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
