"""The CPT loop: documents in, packed or padded micro-batches through the Learner, a model folder out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from factory.contracts import Document, Outputs, RunContext
from factory.errors import DataError
from factory.stages.batches import DataOrder, LazyEncoded, cache_bytes, deal
from factory.stages.cpt.config import CptConfig
from factory.stages.cpt.general import count_general, read_general
from factory.stages.learner import Learner
from factory.stages.metrics import Throughput
from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.load import load
from factory.stages.models.segments import attend_by_segment
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
    attend_by_segment(loaded.model)
    encoded = LazyEncoded(
        documents, lambda d: loaded.codec.document(d.text, d.media), cache_bytes(config.cache_mb, config.epochs)
    )
    limit = config.pack_length or learner.max_context
    dealing = (learner.rank, learner.world_size, config.optim.micro_batch_size)
    meter, objective, figures = Throughput(), TokenNLL(), {}
    for step in range(learner.resume({"order": order}), order.num_steps):
        texts, pictures = by_media(order.indices(step), documents)
        rows = text_rows([encoded[i] for i in texts], limit, is_packed=config.pack_length > 0)
        parts = deal(rows, *dealing, length=lambda row: sum(len(segment.ids) for segment in row))
        for part, is_filler in deal(pictures, *dealing, length=lambda i: len(documents[i].text)):
            parts.append(([picture_row(encoded[i], limit, documents[i]) for i in part], is_filler))
        batches = [collate(part, is_filler, loaded.codec, learner) for part, is_filler in parts]
        figures = learner.step(batches, objective)
        if learner.is_main:
            ctx.log(step=step + 1, total=order.num_steps, **figures, **meter.lap(figures["tokens"]))
        learner.save_checkpoint_if_due(step + 1, {"order": order})
    learner.save_model(ctx.workdir / "model")
    metrics = {"last_step": figures, "num_documents": len(documents), "num_steps": order.num_steps} | learner.setbacks.told()
    return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl"))


def read_documents(config: CptConfig, ctx: RunContext) -> list[Document]:
    """The pack's training documents and the general ones, `documents` in all (fewer if the disk holds fewer)."""
    general = read_general(config, ctx.request, ctx.seed)
    wanted = config.documents - count_general(config)
    domain = list(ctx.pack.corpus("train", ctx.seed, replace(ctx.request, limit=wanted)))[:wanted]
    if len(domain) + len(general) < config.documents:
        log.warning("%d documents found, %d asked for; all of them are used", len(domain) + len(general), config.documents)
    return domain + general


def by_media(indices: Sequence[int], documents: Sequence[Document]) -> tuple[list[int], list[int]]:
    """(texts, documents with images) of a batch. Every rank must read all texts to pack them, but only its own images."""
    return [i for i in indices if not documents[i].media], [i for i in indices if documents[i].media]


def text_rows(texts: Sequence[Encoded], limit: int, *, is_packed: bool) -> list[list[Encoded]]:
    """Rows of segments. Texts longer than `limit` are cut into several segments, never dropped."""
    return pack(texts, limit) if is_packed else [[piece] for text in texts for piece in chunks(text, limit)]


def picture_row(encoded: Encoded, limit: int, document: Document) -> list[Encoded]:
    """A document with images: one row, one segment. Raises DataError naming the document when it is too long."""
    try:
        return [cut(encoded, limit)]
    except DataError as err:
        raise DataError(f"document {document.id}: {err}") from err


def collate(part: Sequence[Sequence[Encoded]], is_filler: bool, codec: Codec, learner: Learner) -> Any:
    """One micro-batch of rows."""
    batch = collate_packed(part, codec, learner.device)
    return Filler(batch) if is_filler else batch
