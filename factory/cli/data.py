"""`factory data preview | check | convert | contamination | describe`: look at what a pack makes of your data, and find every row it cannot use."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import contamination, convert, describe, options
from factory.cli.output import emit_json, say, table
from factory.contracts import SPLITS, DataRequest, Document, DomainPack, Lesson, Media, Sample
from factory.errors import ConfigError, DataError

if TYPE_CHECKING:
    from factory.config.schema import BuildConfig

app = typer.Typer(no_args_is_help=True, help="Preview, check, compare and convert training data.")
app.command("convert")(convert.convert)
app.command("contamination")(contamination.contamination)
app.command("describe")(describe.describe)

Paths = Annotated[list[str] | None, typer.Argument(help="Files or folders. None: the pack's own generator.")]


class What(StrEnum):
    """What a pack supplies."""

    samples = "samples"
    lessons = "lessons"
    corpus = "corpus"


class Split(StrEnum):
    """Parts of the data."""

    train = "train"
    validation = "validation"
    test = "test"


def request_of(config: BuildConfig) -> DataRequest:
    """The data settings of a build as the packs take them."""
    settings = config.data
    return DataRequest(
        paths=tuple(settings.paths), on_bad_row=settings.on_bad_row.value, max_bad_fraction=settings.max_bad_fraction,
        options=config.pack, online=config.online,
    )  # fmt: skip


@app.command()
def preview(
    paths: Paths = None, domain: options.Domain = None, recipe: options.Recipe = None,
    what: Annotated[What, typer.Option("--what", help="Questions, worked lessons, or pretraining texts.")] = What.samples,
    split: Annotated[Split, typer.Option("--split", help="Part of the data.")] = Split.train,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many.")] = 3,
    overrides: options.Set = None, seed: options.Seed = None, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Print the first samples, lessons or documents as the stages would receive them."""
    from factory.config.validate import require_data
    from factory.plugins import load_pack

    composed = options.composed_from(domain, recipe, None, paths, overrides, seed, False, None)
    require_data(composed.config, composed.provenance)
    pack = load_pack(composed.config.domain)
    request = replace(request_of(composed.config), limit=number)
    source: Iterable[Any] = getattr(pack, what.value)(split.value, composed.config.seed, request)
    items = list(islice(source, number))
    if as_json:
        emit_json([to_plain(item) for item in items])
        return
    if not items:
        say(f"no {what.value} in split {split.value}")
    for item in items:
        say(render(item), "")


def to_plain(item: Sample | Lesson | Document) -> dict[str, Any]:
    """JSON-ready form; image bytes become their size and hash."""
    if isinstance(item, Lesson):
        return {"sample": to_plain(item.sample), "response": item.response}
    media = [{"kind": m.kind, "path": m.path, "sha256": m.sha256()} for m in item.media]
    if isinstance(item, Document):
        return {"id": item.id, "text": item.text, "media": media, "split": item.split, "source": item.source}
    return {**item.to_json(), "media": media}


def render(item: Sample | Lesson | Document) -> str:
    """One item as a person reads it."""
    if isinstance(item, Lesson):
        return f"{render(item.sample)}\n  response   {_indented(item.response)}"
    lines = [f"{item.id}  ({item.split}{', ' + item.source if item.source else ''})"]
    lines += [f"  image {number}    {_image(media)}" for number, media in enumerate(item.media, start=1)]
    if isinstance(item, Document):
        return "\n".join([*lines, f"  text       {_indented(item.text)}"])
    lines += [f"  {message.role:<10} {_indented(message.content)}" for message in item.messages]
    lines += [f"  task       {item.task}", f"  reference  {json.dumps(item.reference, ensure_ascii=False)}"]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 13)


def _image(media: Media) -> str:
    return media.path if media.path is not None else f"{len(media.data or b'')} bytes, sha256 {media.sha256()[:12]}"


@app.command()
def check(
    paths: Annotated[list[str], typer.Argument(help="Files or folders.")],
    domain: options.Domain = None, recipe: options.Recipe = None, overrides: options.Set = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Bad rows to print; all are in the folder named below.")] = 50,
    quarantine: Annotated[Path | None, typer.Option("--quarantine", help="Folder for the list of all bad rows.")] = None,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Read all your data, print every bad row with file, row, field and reason; exit 3 when there are any."""
    from factory.config.validate import require_data
    from factory.plugins import load_pack

    if domain is None and recipe is None:
        raise ConfigError("which pack should read the data? Add --domain NAME (`factory domains list` shows them).")
    composed = options.composed_from(domain, recipe, None, paths, overrides, None, False, None)
    require_data(composed.config, composed.provenance)
    folder = quarantine.expanduser() if quarantine else Path(tempfile.mkdtemp(prefix="factory-bad-rows-"))
    # Everything is read whatever the share of bad rows: this command is there to show them all.
    request = replace(request_of(composed.config), on_bad_row="quarantine", max_bad_fraction=1.0, quarantine_dir=str(folder))
    found = read_all(load_pack(composed.config.domain), request)
    bad = bad_rows(folder)
    if as_json:
        emit_json({**found, "bad_rows": bad, "quarantine_dir": str(folder)})
    else:
        _print(found, bad, limit, folder)
    if bad or found.get("bad"):
        raise typer.Exit(DataError.exit_code)


def read_all(pack: DomainPack, request: DataRequest) -> dict[str, Any]:
    """Counts of a full read: the pack's own `check(request)` where it has one, else every split of all it provides."""
    own_check = getattr(pack, "check", None)
    if own_check is not None:
        return dict(own_check(request).to_json())
    counts: dict[str, int] = {}
    for what in pack.manifest.provides:
        for split in SPLITS:
            counts[f"{what} {split}"] = sum(1 for _ in getattr(pack, what)(split, 0, request))
    return {"tallies": counts}


def bad_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows that loaders wrote aside, without repeats (several loads may meet the same row)."""
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            seen.setdefault((row["file"], row["row"], row["field"], row["reason"]), row)
    return list(seen.values())


def _print(found: dict[str, Any], bad: list[dict[str, Any]], limit: int, folder: Path) -> None:
    if bad:
        cells = [(row["file"], row["row"] or "whole file", row["field"], row["reason"]) for row in bad[:limit]]
        say(table(("file", "row", "field", "reason"), cells, right=("row",), title="Bad rows"))
    if found.get("tallies"):
        say(table(("counted", "number"), found["tallies"].items(), right=("number",)))
    for note in found.get("notes", ()):
        say(f"note: {note}")
    total = (
        f"{found['good']} good rows, {found['bad']} bad, in {found['files']} files" if "good" in found else f"{len(bad)} bad rows"
    )
    say(total + (f"; the whole list: {folder}" if bad else ""))
