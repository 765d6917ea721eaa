"""`factory data contamination`: how much of a pack's held-out questions stands in the training data."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, percent, say, table
from factory.errors import ConfigError


def contamination(
    domain: options.Domain = None, recipe: options.Recipe = None, data: options.DataPaths = None, overrides: options.Set = None,
    words: Annotated[int, typer.Option("--words", min=3, help="Length of the runs of words that are compared.")] = 13,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Samples to list, those with most shared runs first.")] = 10,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Report held-out questions whose text, image or runs of words occur in training. A build refuses equal ones; this also shows near ones."""
    import json
    from dataclasses import replace

    from factory.config.validate import require_data
    from factory.contracts import DataRequest
    from factory.data.contamination import compare
    from factory.pipeline.overlap import training_items
    from factory.plugins import load_pack

    if domain is None and recipe is None:
        raise ConfigError("whose data? Add --domain NAME (`factory domains list` shows them).")
    composed = options.composed_from(domain, recipe, None, data, overrides, None, False, None)
    require_data(composed.config, composed.provenance)
    config, pack = composed.config, load_pack(composed.config.domain)
    request = DataRequest(
        paths=tuple(config.data.paths), on_bad_row=config.data.on_bad_row.value, max_bad_fraction=config.data.max_bad_fraction,
        options=json.loads(json.dumps(composed.plain["pack"], sort_keys=True)), online=config.online,
    )  # fmt: skip
    sizes = {"test": config.eval.samples, "validation": config.eval.validation_samples}
    held_out = chain.from_iterable(
        pack.samples(split, config.eval.seed, replace(request, limit=size)) for split, size in sizes.items()
    )
    found = compare(held_out, training_items(pack, request, config.seed), length=words)
    hits = sorted(found.hits.values(), key=lambda hit: (-len(hit.kinds - {"words"}), -hit.share, hit.id))
    counts = {kind: found.count(kind) for kind in ("text", "image", "words")}
    if as_json:
        rows = [{"id": hit.id, "kinds": sorted(hit.kinds), "share": hit.share, "where": hit.where} for hit in hits]
        emit_json(
            {"held_out": found.num_held_out, "training": found.num_training, "counts": counts, "words": words, "hits": rows}
        )
        return
    titles = {
        "text": "the same words in all",
        "image": "the same image",
        "words": f"a run of {words} words (or all of a shorter text)",
    }
    cells = [
        (titles[kind], count, percent(count / found.num_held_out if found.num_held_out else None))
        for kind, count in counts.items()
    ]
    say(table(("in training", "held-out samples", "share"), cells, right=("held-out samples", "share"),
              title=f"{found.num_held_out} held-out samples against {found.num_training} training items of {config.domain}"))  # fmt: skip
    if hits and limit:
        listed = [(hit.id, ", ".join(sorted(hit.kinds)), percent(hit.share), hit.where) for hit in hits[:limit]]
        say(table(("held-out sample", "shares", "of its runs", "first met in"), listed, right=("of its runs",)))
    say(
        "Questions made from one template share words without sharing answers; an equal image or a whole text is what a build refuses."
    )
