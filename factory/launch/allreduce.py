"""A worker that every process of a job runs before it is trusted with a stage: one sum over all of them, checked and timed.

    python -m factory.launch.allreduce RESULT.json      # with torchrun's variables

NCCL where every process has a GPU, gloo elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

NUM_VALUES = 4 * 2**20
"""float32 values of the tensor: 16 MiB."""
LIMIT_S = 120


def main(path: Path) -> int:
    """Sum a tensor over all processes; the first one writes what it saw to `path`. 1 when the sum is wrong."""
    import torch
    import torch.distributed as dist

    from factory.registry.files import write_json

    local = int(os.environ["LOCAL_RANK"])
    has_gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=LIMIT_S))
    rank, size = dist.get_rank(), dist.get_world_size()
    values = torch.full((NUM_VALUES,), float(rank + 1), device=device)
    dist.all_reduce(values.clone())  # the first one sets the connections up
    if has_gpu:
        torch.cuda.synchronize()
    began = time.perf_counter()
    dist.all_reduce(values)
    if has_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    is_right = bool((values == size * (size + 1) / 2).all())
    if rank == 0:
        version = ".".join(map(str, torch.cuda.nccl.version())) if has_gpu else ""
        write_json(
            path,
            {
                "backend": backend,
                "nccl": version,
                "processes": size,
                "bytes": NUM_VALUES * 4,
                "seconds": seconds,
                "right": is_right,
            },
        )
    dist.barrier()
    dist.destroy_process_group()
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
