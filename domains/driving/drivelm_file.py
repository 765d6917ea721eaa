"""DriveLM's JSON (scene -> key_frames -> frame -> QA), one row per question."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.data.files import FileFormat, open_checked, read_at_most
from factory.data.rows import RowFault

SECTIONS = ("perception", "prediction", "planning", "behavior")
SNIFFED_BYTES = 1 << 16
MAX_BYTES = 2**30


def read_drivelm(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """Questions of all frames, numbered through. Raises RowFault when the file is no DriveLM JSON."""
    with open_checked(path) as handle:
        data = read_at_most(handle, MAX_BYTES)
    try:
        scenes = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as err:
        raise RowFault("file", f"is no JSON: {err}.") from err
    if not isinstance(scenes, Mapping):
        raise RowFault("file", "must be an object: scene token -> {key_frames: ...}.")
    number = 0
    for scene, content in scenes.items():
        frames = content.get("key_frames") if isinstance(content, Mapping) else None
        if not isinstance(frames, Mapping):
            number += 1
            yield number, RowFault("key_frames", f"scene {scene!r} has none.")
            continue
        for frame, about in frames.items():
            for row in _questions(str(scene), str(frame), about):
                number += 1
                yield number, row


def _questions(scene: str, frame: str, about: Any) -> Iterator[dict[str, Any] | RowFault]:
    sections = about.get("QA") if isinstance(about, Mapping) else None
    if not isinstance(sections, Mapping):
        yield RowFault("QA", f"frame {frame!r} of scene {scene!r} has none.")
        return
    for section, items in sections.items():
        for place, item in enumerate(items if isinstance(items, list) else []):
            if not isinstance(item, Mapping) or not isinstance(item.get("Q"), str):
                yield RowFault("Q", f"frame {frame!r}, {section} {place + 1}: is no question.")
                continue
            yield {
                "drivelm_question": item["Q"], "answer": item.get("A"), "tag": item.get("tag"), "cluster": item.get("cluster"),
                "section": section, "scene_token": scene, "frame_token": frame, "place": place,
                "image_paths": about.get("image_paths"),
            }  # fmt: skip


@dataclass(frozen=True)
class DriveLmFile(FileFormat):
    """A `.json` whose beginning names `key_frames`."""

    def fits(self, path: Path) -> bool:
        """True when the first 64 KiB hold the key."""
        if not path.name.lower().removesuffix(".gz").endswith(".json"):
            return False
        try:
            with path.open("rb") as raw:
                is_zipped = raw.read(2) == b"\x1f\x8b"
            with gzip.open(path, "rb") if is_zipped else path.open("rb") as handle:
                return b'"key_frames"' in handle.read(SNIFFED_BYTES)
        except (OSError, EOFError, zlib.error):
            return False


FORMAT = DriveLmFile("drivelm", (".json",), "DriveLM JSON (scene -> key_frames -> QA)", read_drivelm)
