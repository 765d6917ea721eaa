"""nuScenes' JSON tables, read directly: key frames of the front camera with the way that was driven and the boxes around it.

A version folder (`v1.0-mini`, `v1.0-trainval`) is found by its `ego_pose.json`. The large tables are streamed, and only what key
frames need is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from factory.data.files import FileFormat
from factory.data.readers_text import read_json
from factory.data.rows import RowFault
from factory.domains.driving.clips import RATE, Clip, in_car_frame, wrapped

TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data",
    "scene", "sensor", "visibility",
)  # fmt: skip
ANCHOR = "ego_pose.json"
CAMERA = "CAM_FRONT"
FRAMES_AHEAD = 3 * RATE
BOX_REACH_M = 40.0
MAX_GAP_S = 0.75
"""Key frames come every half second; a longer gap ends a clip."""


LARGEST = 1e15
"""No coordinate, size or time in microseconds of a drive is beyond it."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) >= count and all(map(_is_number, value))


KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "translation": (lambda value: _numbers(value, 2), "[x, y, z]"), "size": (lambda value: _numbers(value, 2), "[width, length, height]"),
    "rotation": (lambda value: _numbers(value, 4), "a quaternion [w, x, y, z]"), "timestamp": (_is_number, "microseconds"),
    "is_key_frame": (lambda value: isinstance(value, bool), "true or false"),
}  # fmt: skip
"""Column -> whether a cell is what it must be, and what that is. All other columns are texts."""
_TEXT: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, str), "a text")


@dataclass(frozen=True, slots=True)
class Frame:
    """One key frame: token, time in s, picture, our pose in the world (m, radians), and the boxes of others (x, y, heading, length, width)."""

    token: str
    time: float
    picture: str
    x: float
    y: float
    heading: float
    boxes: tuple[tuple[float, float, float, float, float], ...] = ()


def yaw_of(rotation: Any) -> float:
    """Heading in radians of a quaternion (w, x, y, z). Raises RowFault."""
    if not isinstance(rotation, list) or len(rotation) != 4 or not all(isinstance(v, int | float) for v in rotation):
        raise RowFault("rotation", f"want a quaternion [w, x, y, z], got {str(rotation)[:60]}.")
    w, x, y, z = rotation
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _rows(folder: Path, table: str, *columns: str) -> Iterator[Mapping[str, Any]]:
    """Rows of one table. Raises RowFault when the table is missing, or a row lacks a column or holds another kind of thing in it: tables
    refer to each other, so one row cannot be left out."""
    path = folder / f"{table}.json"
    if not path.is_file():
        raise RowFault("file", f"{folder.name}/{table}.json is missing. A version folder holds {len(TABLES)} tables.")
    for number, row in read_json(path):
        fault = row if isinstance(row, RowFault) else None
        reason = fault.reason if fault else next(filter(None, (_wrong(row, name) for name in columns)), "")  # type: ignore[arg-type]
        if reason:
            raise RowFault("file", f"{folder.name}/{table}.json row {number}: {reason}")
        yield row  # type: ignore[misc]


def _wrong(row: Mapping[str, Any], name: str) -> str:
    """What is wrong with a cell; empty when nothing is."""
    if name not in row:
        return f"no column {name!r}."
    fits, want = KINDS.get(name, _TEXT)
    return "" if fits(row[name]) else f"{name} is {row[name]!r:.60}; want {want}."


def read_frames(folder: Path) -> dict[str, list[Frame]]:
    """scene token -> its key frames in the order of time. Raises RowFault."""
    channels = {row["token"]: row["channel"] for row in _rows(folder, "sensor", "token", "channel")}
    cameras = {
        row["token"]
        for row in _rows(folder, "calibrated_sensor", "token", "sensor_token")
        if channels.get(row["sensor_token"]) == CAMERA
    }
    shots: dict[str, tuple[str, str]] = {}
    for row in _rows(
        folder, "sample_data", "sample_token", "calibrated_sensor_token", "ego_pose_token", "filename", "is_key_frame"
    ):
        if row["is_key_frame"] and row["calibrated_sensor_token"] in cameras:
            shots[row["sample_token"]] = (row["filename"], row["ego_pose_token"])
    wanted = {pose for _, pose in shots.values()}
    poses = {
        row["token"]: (float(row["translation"][0]), float(row["translation"][1]), yaw_of(row["rotation"]))
        for row in _rows(folder, "ego_pose", "token", "translation", "rotation") if row["token"] in wanted
    }  # fmt: skip
    boxes = read_boxes(folder)
    scenes: dict[str, list[Frame]] = {}
    for row in _rows(folder, "sample", "token", "timestamp", "scene_token"):
        picture, pose = shots.get(row["token"], ("", ""))
        if pose not in poses:
            continue
        frame = Frame(row["token"], row["timestamp"] / 1e6, picture, *poses[pose], boxes.get(row["token"], ()))
        scenes.setdefault(row["scene_token"], []).append(frame)
    for frames in scenes.values():
        frames.sort(key=lambda frame: frame.time)
    return scenes


def read_boxes(folder: Path) -> dict[str, tuple[tuple[float, float, float, float, float], ...]]:
    """sample token -> boxes (x, y, heading, length, width) in the world. Empty without annotations (the test set)."""
    if not (folder / "sample_annotation.json").is_file():
        return {}
    found: dict[str, list[tuple[float, float, float, float, float]]] = {}
    for row in _rows(folder, "sample_annotation", "sample_token", "translation", "size", "rotation"):
        width, length = row["size"][:2]  # nuScenes gives width first
        box = (*map(float, row["translation"][:2]), yaw_of(row["rotation"]), float(length), float(width))
        found.setdefault(row["sample_token"], []).append(box)
    return {token: tuple(boxes) for token, boxes in found.items()}


def read_nuscenes(anchor: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """One row per key frame with a frame before it (for the speed) and three seconds after it."""
    folder = anchor.parent
    frames_of = read_frames(folder)
    names = {row["token"]: (row["name"], str(row.get("log_token") or "")) for row in _rows(folder, "scene", "token", "name")}
    number = 0
    for scene, frames in sorted(frames_of.items(), key=lambda item: names.get(item[0], (item[0], ""))):
        name, log = names.get(scene, (scene, ""))
        for index in range(1, len(frames) - FRAMES_AHEAD):
            window = frames[index - 1 : index + FRAMES_AHEAD + 1]
            number += 1
            if any(not 0 < b.time - a.time <= MAX_GAP_S for a, b in pairwise(window)):
                yield (
                    number,
                    RowFault("timestamp", f"scene {name}: key frames are more than {MAX_GAP_S:g} s apart, or of one time."),
                )
                continue
            now = frames[index]
            yield number, {
                "nuscenes_sample": now.token, "scene_token": scene, "scene_name": name, "log_token": log, "picture": now.picture,
                "clip": _clip(window), "boxes": [_boxes_near(now, later) for later in window[2:]],
            }  # fmt: skip


def _clip(window: list[Frame]) -> Clip:
    past, now, later = window[0], window[1], window[2:]

    def speed(a: Frame, b: Frame) -> float:
        return math.dist((a.x, a.y), (b.x, b.y)) / (b.time - a.time)

    points = in_car_frame((now.x, now.y), now.heading, [(frame.x, frame.y) for frame in later])
    return Clip(speed(past, now), speed(later[-2], later[-1]), wrapped(later[-1].heading - now.heading), points)


def _boxes_near(now: Frame, later: Frame) -> list[list[float]]:
    """Boxes of a later frame in the car's frame now: [ahead, left, heading, length, width]."""
    found = []
    for x, y, heading, length, width in later.boxes:
        [(ahead, left)] = in_car_frame((now.x, now.y), now.heading, [(x, y)])
        if math.hypot(ahead, left) <= BOX_REACH_M:
            found.append([ahead, left, round(wrapped(heading - now.heading), 3), round(length, 2), round(width, 2)])
    return found


@dataclass(frozen=True)
class NuscenesTable(FileFormat):
    """Any of the 13 tables beside an `ego_pose.json`; that one yields the rows, the others are read with it."""

    def fits(self, path: Path) -> bool:
        """True for a table of a version folder."""
        return path.name.removesuffix(".json") in TABLES and path.suffix == ".json" and (path.parent / ANCHOR).is_file()


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    return read_nuscenes(path) if path.name == ANCHOR else iter(())


FORMAT = NuscenesTable(
    "nuscenes", tuple(f"{name}.json" for name in TABLES), "nuScenes tables (a version folder with ego_pose.json)", _read
)
