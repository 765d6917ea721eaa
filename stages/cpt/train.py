"""The CPT loop: documents in, packed or padded micro-batches through the Learner, a model folder out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from factory.contracts import Document, Outputs, RunContext
from factory.stages.batches import DataOrder, LazyEncoded, micro_batches, share_of
from factory.stages.cpt.config import CptConfig
from factory.stages.cpt.general import count_general, read_general
from factory.stages.learner import Learner
from factory.stages.metrics import Throughput
from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.load import load
from factory.stages.objectives import Filler, TokenNLL
from factory.stages.packing import chunks, collate_packed, cut, pack

log = logging.getLogger(__name__)


def train(config: CptConfig, ctx: RunContext) -> Outputs:
    """Train on every document `epochs` times; resumes by itself from the newest checkpoint.

    Raises:
        DataError: no documents, an unreadable one, or one with images that is too long.
        TrainingError: loss or gradient not finite.
    """
    documents = read_documents(config, ctx)
    loaded = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
    order = DataOrder(len(documents), config.epochs, config.batch_size, ctx.seed)
    learner = Learner.from_context(loaded, config.optim, order.num_steps, ctx)
    encoded = LazyEncoded(documents, lambda d: loaded.codec.document(d.text, d.media), config.cache_items)
    meter, objective, figures = Throughput(), TokenNLL(), {}
    for step in range(learner.resume({"order": order}), order.num_steps):
        rows = [encoded[i] for i in order.indices(step)]
        figures = learner.step(batches(rows, config, loaded.codec, learner), objective)
        if learner.is_main:
            ctx.log(step=step + 1, total=order.num_steps, **figures, **meter.lap(figures["tokens"]))
        learner.save_checkpoint_if_due(step + 1, {"order": order})
    learner.save_model(ctx.workdir / "model")
    learner.drop_checkpoints()
    metrics = {"last_step": figures, "num_documents": len(documents), "num_steps": order.num_steps}
    return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl"))


def read_documents(config: CptConfig, ctx: RunContext) -> list[Document]:
    """The pack's training documents and the general ones, `documents` in all (fewer if the disk holds fewer)."""
    general = read_general(config, ctx.request, ctx.seed)
    wanted = config.documents - count_general(config)
    domain = list(ctx.pack.corpus("train", ctx.seed, replace(ctx.request, limit=wanted)))[:wanted]
    if len(domain) + len(general) < config.documents:
        log.warning("%d documents found, %d asked for; all of them are used", len(domain) + len(general), config.documents)
    return domain + general


def batches(rows: Sequence[Encoded], config: CptConfig, codec: Codec, learner: Learner) -> list[Any]:
    """This rank's micro-batches of one global batch.

    Texts are packed first and dealt out as rows (a row = its segments); documents with images, and all without packing, are
    padded. Long texts are cut into several segments, never dropped.
    """
    limit = config.pack_length or learner.max_context
    texts = [row for row in rows if row.pixels is None]
    pictures = [[cut(row, limit)] for row in rows if row.pixels is not None]
    lines = pack(texts, limit) if config.pack_length else [[piece] for text in texts for piece in chunks(text, limit)]

    def collate(part: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
        if any(len(row) > 1 for row in part):
            return collate_packed(part, pad_id=codec.pad_id, is_vl=codec.modality == "vl", device=learner.device)
        return codec.collate([row[0] for row in part], device=learner.device)

    mine = [
        collate(part)
        for kind in (lines, pictures)
        for part in micro_batches(share_of(kind, learner.rank, learner.world_size), config.optim.micro_batch_size)
    ]
    # With fewer rows than processes some have none; they keep step on a row that counts for nothing.
    return mine or [Filler(collate((lines or pictures)[:1]))]
