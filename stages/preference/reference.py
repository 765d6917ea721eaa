"""Log-probabilities of both responses of every pair under the model that the stage began with: computed once, kept on disk.

Once they are known no copy of the reference is needed. They must be computed before a checkpoint is taken up, for then the
weights in memory are still those of the stage's start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from factory.contracts import Pair
from factory.stages.pair_batches import PairBatches
from factory.stages.preference.objective import sequence_logprobs

if TYPE_CHECKING:
    from factory.stages.learner import Learner

log = logging.getLogger(__name__)

FILE_NAME = "reference.safetensors"


def reference_logprobs(batches: PairBatches, learner: Learner, workdir: Path, *, key: str, pairs_per_round: int) -> Tensor:
    """[N, 2] float32 on the CPU, the same on every rank: (chosen, rejected) of each pair, summed over the response, nats.

    Args:
        learner: its model still has the weights of the stage's start; an adapter is switched off for the while.
        workdir: where `reference.safetensors` is kept for a resume.
        key: `pairs_key` of the pairs and settings; a file with another key is computed again.
    """
    path = workdir / FILE_NAME
    kept = learner.gather(_read(path, key) if learner.is_main else None)[0]
    if kept is not None:
        log.info("reference log-probabilities of %d pairs taken from %s", len(kept), path)
        return torch.tensor(kept)
    off = learner.model.disable_adapter() if learner.loaded.adapter else contextlib.nullcontext()
    with off:
        values = batches.measure(lambda batch: sequence_logprobs(learner.model, batch), pairs_per_round)
    table = torch.tensor(values)
    if learner.is_main:
        unfinished = path.with_suffix(".partial")
        save_file({"logprobs": table}, unfinished, metadata={"key": key})
        os.replace(unfinished, path)
    learner.wait()
    return table


def pairs_key(pairs: Sequence[Pair], **settings: object) -> str:
    """Digest of what the log-probabilities depend on beside the model: the pairs in order, and the settings given."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for pair in pairs:
        sample = pair.sample
        row = [sample.id, [(m.role, m.content) for m in sample.messages], len(sample.media), pair.chosen, pair.rejected]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def drop_reference(learner: Learner, workdir: Path) -> None:
    """Remove the file once the stage's result is saved. Call it on every rank."""
    if learner.is_main:
        (workdir / FILE_NAME).unlink(missing_ok=True)
    learner.wait()


def _read(path: Path, key: str) -> list[list[float]] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") == key:
                return file.get_tensor("logprobs").tolist()
    except (SafetensorError, OSError) as err:
        log.warning("%s cannot be read (%s); it is computed again", path, err)
    return None
