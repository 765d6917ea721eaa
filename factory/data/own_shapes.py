"""Rows of our own (samples, lessons, pairs as JSON) in and out of `Talk`, beside those of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from factory.contracts import Media
from factory.data.report import RowFault
from factory.data.talk_shapes import CHAT, Row, TalkShape
from factory.data.talk_shapes import SHAPES as OTHERS
from factory.data.talks import ABSENT, Talk, content_id, images_of, turns_of


def _read_sample(sample: Any, response: str | None = None, rejected: str | None = None, more: Row | None = None) -> Talk:
    if not isinstance(sample, Mapping) or not {"id", "task", "messages", "reference"} <= set(sample):
        raise RowFault("sample", "must have id, task, messages and reference.")
    images = [
        one["path"] if one.get("path") is not None else images_of(f"data:image/png;base64,{one.get('data')}")[0]
        for one in sample.get("media") or ()
    ]
    reference = ABSENT if sample["reference"] is None else sample["reference"]
    kept = {
        key: sample[key] for key in ("id", "task", "meta", "split", "source") if sample.get(key) not in (None, "", {})
    } | dict(more or {})
    meta = dict(kept.get("meta") or {})
    others = meta.pop("columns", {})
    kept = {**kept, "meta": meta} if meta else {key: value for key, value in kept.items() if key != "meta"}
    # As text: a column of mappings with other keys in each row is no column for parquet.
    extra = {"factory": json.dumps(kept, ensure_ascii=False, sort_keys=True), **others}
    return Talk(turns_of(sample["messages"], "messages", CHAT), response, rejected, reference, tuple(images), extra)


def _write_sample(talk: Talk) -> tuple[dict[str, Any], dict[str, Any]]:
    """(sample as JSON, the meta of a pair). Columns of others go to `meta["columns"]`."""
    kept = json.loads(talk.extra.get("factory", "{}"))
    more = kept.pop("pair_meta", {})
    meta = dict(kept.get("meta") or {})
    others = {key: value for key, value in talk.extra.items() if key != "factory"}
    if others:
        meta["columns"] = others
    media = [Media(data=one) if isinstance(one, bytes) else Media(path=one) for one in talk.images]
    return {
        "id": kept.get("id") or content_id(talk), "task": kept.get("task") or str(talk.extra.get("ability") or "open"),
        "messages": [{"role": m.role, "content": m.content} for m in talk.messages],
        "reference": None if talk.reference is ABSENT else talk.reference, "media": [one.to_json() for one in media], "meta": meta,
        "split": kept.get("split") or "train", "source": kept.get("source") or "",
    }, more  # fmt: skip


def _read_lesson(row: Row) -> Talk:
    if not isinstance(row.get("response"), str):
        raise RowFault("response", "must be text.")
    return _read_sample(row.get("sample"), row["response"])


def _read_pair(row: Row) -> Talk:
    if not isinstance(row.get("chosen"), str) or not isinstance(row.get("rejected"), str):
        raise RowFault("chosen", "chosen and rejected must be text.")
    return _read_sample(row.get("sample"), row["chosen"], row["rejected"], {"pair_meta": row["meta"]} if row.get("meta") else {})


def _write_pair(talk: Talk) -> dict[str, Any]:
    sample, meta = _write_sample(talk)
    return {"sample": sample, "chosen": talk.response, "rejected": talk.rejected, "meta": meta}


def _shape(name: str, title: str, own: str, needs: str, read: Any, write: Callable[[Talk], dict[str, Any]]) -> TalkShape:
    holds = frozenset({"reference", "images", *needs.split()})
    return TalkShape(
        name,
        title,
        frozenset(own.split()),
        frozenset(needs.split()),
        holds,
        read,
        lambda talk, has_parts: write(talk),
        keeps_extra=True,
    )


SHAPES: Mapping[str, TalkShape] = {
    **OTHERS,
    "sample": _shape("sample", "ours: id, task, messages, reference, media", "messages", "", _read_sample, lambda talk: _write_sample(talk)[0]),
    "lesson": _shape("lesson", "ours: sample, response", "sample response", "response", _read_lesson,
                     lambda talk: {"sample": _write_sample(talk)[0], "response": talk.response}),
    "pair": _shape("pair", "ours: sample, chosen, rejected", "sample chosen rejected", "response rejected", _read_pair, _write_pair),
}  # fmt: skip
"""Every shape that `factory data convert` knows."""
