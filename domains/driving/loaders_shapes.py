"""Rows of driving sets, each turned into a Record.

| shape | set it comes from |
| --- | --- |
| metaad | AlphaDrive's rows: `image, problem, solution` |
| drivelm | questions of a DriveLM JSON |
| nuscenes | key frames of nuScenes' tables: actions and waypoints |
| comma2k19 | moments of a comma2k19 segment: actions and waypoints |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from factory.data.rows import RowFault
from factory.data.shapes import text_cell
from factory.domains.driving.actions import Plan, read_plan
from factory.domains.driving.clips import Clip
from factory.domains.driving.describe import COMMAND_WORDS
from factory.domains.driving.drivelm import TAGS, named_objects
from factory.domains.driving.questions import ASKED
from factory.packs.choices import check_options, resolve_answer, split_options
from factory.packs.common_shapes import COMMON, RowShape, image_cell
from factory.packs.records import QUESTIONS, SAMPLES, Record
from factory.packs.settings import one_of
from factory.packs.sources import LoadSettings

CAMERAS = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
ASKS = ("actions", "waypoints")
CLOSED_MAX_WORDS = 5
"""Longest answer of a DriveLM question without tag that exact match can judge fairly."""


@dataclass(frozen=True)
class LoadOptions(LoadSettings):
    """Loader settings; the keys of `pack.*` with these names."""

    cameras: tuple[str, ...] = ("CAM_FRONT",)
    """DriveLM's cameras to show, in this order; none asks without pictures."""
    ask: tuple[str, ...] = ASKS
    """What recorded drives are asked for: `actions`, `waypoints`."""
    pictures: bool = True
    """Show the front camera of nuScenes; false asks without pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.cameras:
            one_of("an item of pack.cameras", name, CAMERAS)
        for name in self.ask:
            one_of("an item of pack.ask", name, ASKS)


# --- AlphaDrive's rows --------------------------------------------------------------------------------------------------

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def checked_plan(text: str, column: str) -> Plan:
    """Actions on both axes. Raises RowFault."""
    try:
        plan = read_plan(text)
    except ValueError as err:
        raise RowFault(column, f"{err}; want a speed and a path action such as 'KEEP, LEFT_TURN'.") from err
    if not plan.speed or not plan.path:
        raise RowFault(column, f"{text.strip()[:60]!r} names no {'path' if plan.speed else 'speed'} action; want both.")
    return plan


def _metaad(row: Mapping[str, Any], settings: Any) -> Record:
    images, name = image_cell(row)
    solution = text_cell(row, "solution")
    found = _ANSWER.findall(solution)
    if len(found) > 1:
        raise RowFault("solution", f"{len(found)} <answer> blocks, want one.")
    written = (found[0] if found else solution).strip()
    plan = checked_plan(written, "solution")
    reference = ", ".join(sorted(plan.speed) + sorted(plan.path))
    is_lesson = "<think>" in solution and bool(found)
    return Record(
        QUESTIONS if is_lesson else SAMPLES, text=text_cell(row, "problem"), images=images, image_field=name, task="clip",
        answer=reference, reference=reference, response=solution if is_lesson else "",
    )  # fmt: skip


# --- DriveLM ------------------------------------------------------------------------------------------------------------


def _drivelm(row: Mapping[str, Any], settings: Any) -> Record:
    answer = row.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        raise RowFault("A", "has no answer. The validation answers are withheld by DriveLM's server; use the train file.")
    answer = answer.strip()
    tag = tag_of(row.get("tag"))
    question, options = split_options(row["drivelm_question"])
    record = Record(
        SAMPLES, key=f"{row['scene_token']}/{row['frame_token']}/{row['section']}/{row['place']}", text=question.strip()
    )
    record.group = f"scene={row['scene_token']}"
    record.meta = {"section": row["section"], "tag": TAGS.get(tag, "none") if tag is not None else "none"}
    record.images, record.image_field = _pictures(row.get("image_paths"), settings), "image_paths"
    if options and tag in (None, 0):
        record.options = check_options(options)
        record.answer, record.task = resolve_answer(answer, record.options), "choice"
        return record
    record.text, record.answer = row["drivelm_question"].strip(), answer
    if tag == 3 or (tag is None and named_objects(answer) and row["section"] == "perception"):
        if not named_objects(answer):
            raise RowFault("A", "tag 3 (match), but the answer names no object <id,camera,x,y>.")
        record.task = "objects"
    else:
        record.task = "question" if tag == 0 or (tag is None and len(answer.split()) <= CLOSED_MAX_WORDS) else "answer"
    return record


def tag_of(value: Any) -> int | None:
    """DriveLM's tag: a number, a list of one, or none (in the mini files). Raises RowFault for another one."""
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in TAGS:
        raise RowFault("tag", f"is {value!r}; known are {', '.join(f'{k} ({v})' for k, v in TAGS.items())}.")
    return int(value)


def _pictures(paths: Any, settings: LoadOptions) -> list[str] | None:
    """Paths of the wanted cameras, from `samples/` on, so that pack.image_root can be nuScenes' folder."""
    if not settings.cameras:
        return None
    if not isinstance(paths, Mapping):
        raise RowFault("image_paths", "has none. Set pack.cameras=[] to ask without pictures.")
    found = []
    for camera in settings.cameras:
        path = paths.get(camera)
        if not isinstance(path, str):
            raise RowFault("image_paths", f"has no {camera}.")
        start = path.find("samples/")
        found.append(path[start:] if start > 0 else path)
    return found


# --- recorded drives ----------------------------------------------------------------------------------------------------


def _asked(clip: Clip, given: str, settings: LoadOptions, key: str) -> Iterator[Record]:
    """A question for the actions and one for the waypoints of a drive."""
    if "actions" in settings.ask:
        text = f"{given}\n{ASKED['plan']}"
        plan = f"{clip.speed}, {clip.path}"
        yield Record(SAMPLES, key=f"{key}/actions", text=text, answer=plan, reference=plan, task="clip")
    if "waypoints" in settings.ask:
        points = [[round(x, 1) + 0.0, round(y, 1) + 0.0] for x, y in clip.points]  # + 0.0: no -0.0
        yield Record(SAMPLES, key=f"{key}/waypoints", text=f"{given}\n{ASKED['waypoints']}", reference=points, task="trajectory")


def _nuscenes(row: Mapping[str, Any], settings: Any) -> Iterator[Record]:
    clip: Clip = row["clip"]
    given = f"Your current speed is {clip.speed_before:.1f} m/s, and the navigation command is '{COMMAND_WORDS[clip.command]}'."
    for record in _asked(clip, given, settings, row["nuscenes_sample"]):
        record.group = f"log={row['log_token']}" if row["log_token"] else f"scene={row['scene_token']}"
        record.meta = {"scene_name": row["scene_name"], "speed": round(clip.speed_before, 2)}
        if record.task == "trajectory":
            record.meta |= {"points": [list(point) for point in clip.points], "boxes": row["boxes"]}
        if settings.pictures:
            record.images, record.image_field = row["picture"], "filename"
        yield record


def _comma(row: Mapping[str, Any], settings: Any) -> Iterator[Record]:
    clip: Clip = row["clip"]
    past = ", ".join(f"{speed:.1f}" for speed in row["speeds"][:2])
    given = f"Your speed was {past} m/s two and one seconds ago and is {row['speeds'][2]:.1f} m/s now. "
    lead = row["lead"]
    given += (
        f"The car ahead is {lead['gap']:.0f} m away, its speed relative to yours {lead['closing']:+.1f} m/s. " if lead
        else "No car is ahead in your lane. "
    )  # fmt: skip
    given += f"The navigation command is '{COMMAND_WORDS[clip.command]}'."
    for record in _asked(clip, given, settings, f"{row['route']}/{row['comma_segment']}/{row['time_s']:g}"):
        record.group = f"segment={row['route']}/{row['comma_segment']}"
        record.meta = {"time_s": row["time_s"], "speed": round(clip.speed_before, 2)}
        if record.task == "trajectory":
            record.meta["points"] = [list(point) for point in clip.points]
        if row["frame"]:
            record.images = row["frame"]
        yield record


METAAD = RowShape(
    "metaad", "AlphaDrive rows", (("image", "image_path", "images"), ("problem",), ("solution",)), None, QUESTIONS, _metaad
)
DRIVELM = RowShape("drivelm", "DriveLM questions", (("drivelm_question",),), frozenset({"drivelm"}), SAMPLES, _drivelm)
NUSCENES = RowShape("nuscenes", "nuScenes key frames", (("nuscenes_sample",),), frozenset({"nuscenes"}), SAMPLES, _nuscenes)
COMMA = RowShape("comma2k19", "comma2k19 moments", (("comma_segment",),), frozenset({"comma2k19"}), SAMPLES, _comma)
SHAPES = (METAAD, DRIVELM, NUSCENES, COMMA, *COMMON)
