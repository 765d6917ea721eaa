"""comma2k19 segments: `global_pose/` and `processed_log/` with numpy arrays in files without extension.

A segment is named by its folder; `global_pose/frame_times` is the file by which it is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.data.files import FileFormat
from factory.data.rows import RowFault
from factory.domains.driving.actions import HORIZON_S
from factory.domains.driving.clips import Clip, in_car_frame, times_after, wrapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP_S = 0.5
"""Time between two moments that are asked about."""
ANCHOR = "frame_times"
RADAR_COLUMNS = ("ahead_m", "left_m", "closing_m_s", "unused", "unused", "address", "is_new")
"""Columns of the radar array; the two unused ones are always NaN. The speed is the target's, relative to ours: negative comes nearer."""
OWN_LANE_M = 1.75
RADAR_MEMORY_S = 0.2
"""Radar targets this old still count."""
MAX_SECONDS = 3600
"""Longest segment; a damaged time would make moments without end."""
MAX_ARRAY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Segment:
    """One minute of driving. Times in s of one clock; speeds in m/s; positions on the local ground plane in m."""

    name: str
    route: str
    can_times: NDArray[Any]
    can_speeds: NDArray[Any]
    pose_times: NDArray[Any]
    pose_speeds: NDArray[Any]
    east_north: NDArray[Any]
    """[N, 2]."""
    headings: NDArray[Any]
    """[N] radians, anticlockwise from east, without jumps."""
    radar_times: NDArray[Any]
    radar: NDArray[Any]
    """[M, 7], see RADAR_COLUMNS."""


def load_array(path: Path, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """An array without extension, never a pickle. Raises RowFault naming the file when it is missing, broken or of another shape."""
    what = "/".join(path.parts[-4:])
    if not path.is_file():
        raise RowFault("file", f"{what} is missing. Copy the whole segment folder.")
    if path.stat().st_size > MAX_ARRAY_BYTES:
        raise RowFault("file", f"{what} is larger than {MAX_ARRAY_BYTES} bytes; is it an array of one minute?")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # a map: a damaged shape is found before memory is taken for it
    except Exception as err:  # numpy reads the header as Python literals, each step with errors of its own
        raise RowFault("file", f"{what} is no numpy array: {err}. Copy the segment again.") from err
    if not isinstance(array, np.ndarray):
        raise RowFault("file", f"{what} is an archive of arrays, want one array. Copy the segment again.")
    array = np.array(array)
    if array.ndim == 2 and array.shape[1] == 1 and len(shape) == 1:
        array = array[:, 0]
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        raise RowFault(
            "file", f"{what} has the shape {array.shape}, want {' x '.join('N' if n is None else str(n) for n in shape)}."
        )
    if not np.issubdtype(array.dtype, np.number):
        raise RowFault("file", f"{what} holds {array.dtype}, want numbers.")
    return array


def read_segment(folder: Path) -> Segment:
    """Read a segment's folder. Raises RowFault for missing or broken files, and for times that do not rise."""
    pose, can = folder / "global_pose", folder / "processed_log" / "CAN"
    pose_times = load_array(pose / "frame_times", (None,))
    positions = load_array(pose / "frame_positions", (len(pose_times), 3))
    velocities = load_array(pose / "frame_velocities", (len(pose_times), 3))
    can_times = load_array(can / "speed" / "t", (None,))
    can_speeds = load_array(can / "speed" / "value", (len(can_times),))
    radar_times, radar = np.empty(0), np.empty((0, 7))
    if (can / "radar" / "value").is_file():
        radar_times = load_array(can / "radar" / "t", (None,))
        radar = load_array(can / "radar" / "value", (len(radar_times), 7))
    for name, times in (("frame_times", pose_times), ("CAN/speed/t", can_times)):
        if len(times) < 2 or not np.all(np.isfinite(times)) or np.any(np.diff(times) < 0):
            raise RowFault(name, "the times do not rise.")
        if times[-1] - times[0] > MAX_SECONDS:
            raise RowFault(
                name, f"spans {times[-1] - times[0]:g} s, more than {MAX_SECONDS}; a segment is one minute. Copy it again."
            )
    ground, flat = _on_ground(positions, velocities)
    headings = np.unwrap(np.arctan2(flat[:, 1], flat[:, 0]))
    speeds = np.linalg.norm(velocities, axis=1)
    return Segment(
        folder.name, folder.parent.name or folder.name, can_times, can_speeds, pose_times, speeds, ground, headings, radar_times, radar
    )  # fmt: skip


def _on_ground(positions: NDArray[Any], velocities: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """([N, 2], [N, 2]): earth-centred positions and velocities on the east-north plane at the first position (spherical up)."""
    up = positions[0] / np.linalg.norm(positions[0])
    east = np.cross([0.0, 0.0, 1.0], up)
    east /= np.linalg.norm(east)
    axes = np.stack([east, np.cross(up, east)], axis=1)
    return (positions - positions[0]) @ axes, velocities @ axes


def clip_at(segment: Segment, start: float) -> Clip:
    """The three seconds after a time. Speeds come from CAN, the way from the pose."""
    before, after = np.interp([start, start + HORIZON_S], segment.can_times, segment.can_speeds)
    times = [start, *times_after(start)]
    east = np.interp(times, segment.pose_times, segment.east_north[:, 0])
    north = np.interp(times, segment.pose_times, segment.east_north[:, 1])
    headings = np.interp([start, times[-1]], segment.pose_times, segment.headings)
    points = [(float(x), float(y)) for x, y in zip(east, north, strict=True)]
    turned = wrapped(float(headings[1] - headings[0]))
    return Clip(float(before), float(after), turned, in_car_frame(points[0], float(headings[0]), points[1:]))


def moments(segment: Segment) -> list[float]:
    """Times every half second from the first CAN speed on that have three seconds after them."""
    first, last = float(segment.can_times[0]), float(segment.can_times[-1])
    count = math.floor((last - HORIZON_S - first) / STEP_S + 1e-9) + 1
    return [first + STEP_S * index for index in range(max(0, count))]


def lead_at(segment: Segment, time: float) -> dict[str, float] | None:
    """The nearest radar target in our lane: `gap` in m and `closing` in m/s (negative: it comes nearer); None without one."""
    near = (segment.radar_times <= time + 1e-6) & (segment.radar_times > time - RADAR_MEMORY_S)
    rows = segment.radar[near]
    rows = rows[np.isfinite(rows[:, :3]).all(axis=1) & (np.abs(rows[:, 1]) < OWN_LANE_M)]
    if not len(rows):
        return None
    nearest = rows[rows[:, 0].argmin()]
    return {"gap": round(float(nearest[0]), 2), "closing": round(float(nearest[2]), 2)}


def read_comma(anchor: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """One row per moment of the segment that `global_pose/frame_times` belongs to."""
    folder = anchor.parent.parent
    segment = read_segment(folder)
    for number, start in enumerate(moments(segment), 1):
        history = np.interp([start - 2, start - 1, start], segment.can_times, segment.can_speeds)
        frame = int(np.searchsorted(segment.pose_times, start))
        yield number, {
            "comma_segment": segment.name, "route": segment.route, "time_s": round(start - float(segment.can_times[0]), 3),
            "clip": clip_at(segment, start), "speeds": [round(float(v), 2) for v in history], "lead": lead_at(segment, start),
            "frame": _frame(folder, frame),
        }  # fmt: skip


def _frame(folder: Path, index: int) -> str | None:
    """A picture that the user has cut out of the segment's video, `frames/000123.jpg` or `.png`."""
    for suffix in ("jpg", "png"):
        path = folder / "frames" / f"{index:06d}.{suffix}"
        if path.is_file():
            return str(path)
    return None


@dataclass(frozen=True)
class CommaFile(FileFormat):
    """`frame_times` in a folder `global_pose`; the other arrays of the segment are read with it."""

    def fits(self, path: Path) -> bool:
        """True for the file by which a segment is found."""
        return path.name == ANCHOR and path.parent.name == "global_pose"


FORMAT = CommaFile("comma2k19", (ANCHOR,), "comma2k19 segment (folder with global_pose/ and processed_log/)", read_comma)
