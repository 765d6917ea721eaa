"""Loaders: comma2k19 (a real minute), nuScenes tables, DriveLM JSON, AlphaDrive rows; what is wrong is named."""

import io
import json
import math
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from factory.contracts import DataRequest
from factory.domains.driving.comma import RADAR_COLUMNS, clip_at, lead_at, moments, read_segment
from factory.errors import DataError


def request(*paths, **options):
    return DataRequest(tuple(map(str, paths)), options=options)


def everything(pack, asked):
    found = []
    for split in ("train", "validation", "test"):
        try:
            found += list(pack.samples(split, 0, asked))
        except DataError as err:
            assert "no samples in split" in str(err)
    return found


# --- comma2k19 ----------------------------------------------------------------------------------------------------------


def test_the_real_minute_has_the_labels_of_its_sources(pack, segment_folder):
    samples = [sample for sample in everything(pack, request(segment_folder)) if sample.task == "clip"]
    speeds = Counter(sample.reference.split(", ")[0] for sample in samples)
    assert speeds == {"ACCELERATE": 29, "DECELERATE": 22, "KEEP": 63}
    assert {sample.reference.split(", ")[1] for sample in samples} == {"STRAIGHT"}
    assert len({sample.split for sample in samples}) == 1  # one drive stays in one split
    ways = [sample.reference for sample in everything(pack, request(segment_folder)) if sample.task == "trajectory"]
    assert len(ways) == 114 and "-0.0]" not in str(ways)


def test_pose_speed_agrees_with_can(segment_folder):
    segment = read_segment(segment_folder)
    can = np.interp(segment.pose_times, segment.can_times, segment.can_speeds)
    assert np.corrcoef(can, segment.pose_speeds)[0, 1] >= 0.999
    assert len(segment.can_times) == 4974
    assert math.degrees(np.ptp(segment.headings)) == pytest.approx(1.2, abs=0.1)
    assert (segment.can_speeds.min(), segment.can_speeds.max()) == pytest.approx((7.97, 19.84), abs=0.01)


def test_waypoints_of_the_real_minute_follow_the_speed(segment_folder):
    segment = read_segment(segment_folder)
    for start in moments(segment)[::10]:
        clip = clip_at(segment, start)
        length = math.dist((0, 0), clip.points[-1])
        mean = np.interp(np.linspace(start, start + 3, 61), segment.can_times, segment.can_speeds).mean()
        assert length == pytest.approx(3 * mean, rel=0.03)
        assert abs(clip.points[-1][1]) < 1.0


def test_the_unused_radar_columns_are_nan_and_do_no_harm(segment_folder):
    segment = read_segment(segment_folder)
    assert RADAR_COLUMNS[3:5] == ("unused", "unused") and np.isnan(segment.radar[:, 3:5]).all()
    leads = [lead_at(segment, start) for start in moments(segment)]
    seen = [lead for lead in leads if lead is not None]
    assert len(seen) > 60 and all(9 < lead["gap"] < 185 and math.isfinite(lead["closing"]) for lead in seen)


def save(path, array):
    with path.open("wb") as out:  # np.save would add an extension to a path
        np.save(out, array)


@pytest.mark.parametrize(
    ("breaking", "told"),
    [
        (lambda f: (f / "global_pose" / "frame_velocities").unlink(), "frame_velocities is missing"),
        (lambda f: (f / "processed_log" / "CAN" / "speed" / "value").write_bytes(b"junk"), "no numpy array"),
        (lambda f: save(f / "processed_log" / "CAN" / "speed" / "t", np.zeros((4, 4))), "has the shape"),
        (lambda f: save(f / "global_pose" / "frame_times", np.arange(1200.0)[::-1]), "times do not rise"),
        (
            lambda f: save(f / "global_pose" / "frame_times", np.array(["a"] * 1200, dtype=object)),
            "no numpy array",
        ),
    ],
)
def test_broken_segments_are_named(pack, segment_folder, tmp_path, breaking, told):
    copy = tmp_path / "segment"
    shutil.copytree(segment_folder, copy, copy_function=shutil.copyfile)
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    breaking(copy)
    report = pack.check(request(copy))
    assert report.num_good == 0 and told in str(report.first_bad[0])


# --- AlphaDrive's rows --------------------------------------------------------------------------------------------------


def picture(path, side=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (90, 90, 90)).save(path)


def test_alphadrive_rows(pack, tmp_path):
    picture(tmp_path / "a.png")
    rows = [
        {"id": f"r{i}", "image": "a.png", "problem": "Current speed 4 m/s ... plan.", "solution": solution}
        for i, solution in enumerate([
            "<answer>DECELERATE, STRAIGHT</answer>", "<think>Red light.</think><answer>STOP, STRAIGHT</answer>", "KEEP, LEFT_TURN",
            "<answer>ACCELERATE, STOP, STRAIGHT</answer>", "<answer>STRAIGHT</answer>", "<answer>GO, STRAIGHT</answer>",
            "<answer>KEEP, STRAIGHT</answer><answer>STOP, STRAIGHT</answer>",
        ])
    ]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    report = pack.check(request(tmp_path))
    assert report.num_good == 4
    told = [str(bad) for bad in report.first_bad]
    assert any("names no speed action" in line for line in told)
    assert any("'GO' is no meta-action" in line for line in told)
    assert any("2 <answer> blocks" in line for line in told)
    asked = DataRequest((str(tmp_path),), max_bad_fraction=1.0)
    samples = everything(pack, asked)
    assert {sample.reference for sample in samples} == {
        "DECELERATE, STRAIGHT",
        "STOP, STRAIGHT",
        "KEEP, LEFT_TURN",
        "ACCELERATE, STOP, STRAIGHT",
    }
    assert {sample.task for sample in samples} == {"clip"}
    [lesson] = [lesson for split in ("train", "validation", "test") for lesson in _lessons(pack, split, asked)]
    assert lesson.response.startswith("<think>Red light.")
    for sample in samples:
        assert pack.verifiers()["accuracy"](pack.gold(sample), sample).score == 1.0


def _lessons(pack, split, asked):
    try:
        return list(pack.lessons(split, 0, asked))
    except DataError:
        return []


# --- DriveLM ------------------------------------------------------------------------------------------------------------


def drivelm(frames):
    return {"scene-1": {"scene_description": "rain", "key_frames": frames}}


def question(q, a, tag=None):
    return {"Q": q, "A": a, "C": None, "con_up": None, "con_down": None, "cluster": None, "layer": None, "tag": tag}


def test_drivelm_questions_by_tag(pack, tmp_path):
    frame = {
        "key_object_infos": {},
        "QA": {
            "perception": [
                question("What are the important objects?", "A car <c1,CAM_BACK,1088.3,497.5> behind us.", [3]),
                question("What is moving? Please select the correct answer: A. the car B. the tree", "A", [0]),
            ],
            "prediction": [question("Will <c1,CAM_BACK,1088.3,497.5> stop?", "No.", [0])],
            "planning": [question("What should we do?", "Slow down, because a car is close behind and the light is red.", [1])],
            "behavior": [question("Predict the behavior.", "Going straight.", None)],
        },
        "image_paths": {"CAM_FRONT": "../nuscenes/samples/CAM_FRONT/f.jpg", "CAM_BACK": "../nuscenes/samples/CAM_BACK/b.jpg"},
    }
    (tmp_path / "v1_1_train_nus.json").write_text(json.dumps(drivelm({"frame-1": frame})))
    picture(tmp_path / "nuscenes" / "samples" / "CAM_FRONT" / "f.jpg")
    asked = request(tmp_path / "v1_1_train_nus.json", image_root=str(tmp_path / "nuscenes"))
    samples = {sample.meta["section"] + sample.task: sample for sample in everything(pack, asked)}
    assert set(samples) == {"perceptionobjects", "perceptionchoice", "predictionquestion", "planninganswer", "behaviorquestion"}
    assert samples["perceptionchoice"].reference == "A" and samples["perceptionchoice"].meta["options"] == {
        "A": "the car",
        "B": "the tree",
    }
    assert all(len(sample.media) == 1 and sample.meta["group"] == "scene=scene-1" for sample in samples.values())
    for sample in samples.values():
        assert pack.verifiers()["accuracy"](pack.gold(sample), sample).score == 1.0
    bare = everything(pack, request(tmp_path / "v1_1_train_nus.json", cameras=[]))
    assert len(bare) == 5 and not any(sample.media for sample in bare)


def test_drivelm_faults_are_named(pack, tmp_path):
    frames = {
        "f1": {
            "QA": {"planning": [question("Q?", ""), question("Q?", "go", [7]), {"Q": None}, question("Objects?", "a car", [3])]}
        },
        "f2": {},
    }
    (tmp_path / "d.json").write_text(json.dumps(drivelm(frames)))
    report = pack.check(request(tmp_path, cameras=[]))
    told = "\n".join(str(bad) for bad in report.first_bad)
    for part in ("has no answer", "tag: is [7]", "is no question", "names no object", "frame 'f2' of scene 'scene-1' has none"):
        assert part.replace("[7]", "7") in told
    (tmp_path / "cut.json").write_text('{"s": {"key_frames": {')
    assert "is no JSON" in "\n".join(str(bad) for bad in pack.check(request(tmp_path / "cut.json")).first_bad)


# --- nuScenes -----------------------------------------------------------------------------------------------------------


def tables(folder, *, frames=12, speed=10.0, turn=0.0, gap=0.5):
    """A version folder with one scene: `frames` key frames along an arc of `turn` radians a second, and one parked car."""
    folder.mkdir(parents=True)
    poses, samples, shots, boxes = [], [], [], []
    x = y = heading = 0.0
    for index in range(frames):
        at = int(index * gap * 1e6)
        poses.append(
            {
                "token": f"p{index}",
                "timestamp": at,
                "translation": [x, y, 0],
                "rotation": [math.cos(heading / 2), 0, 0, math.sin(heading / 2)],
            }
        )
        samples.append({"token": f"s{index}", "timestamp": at, "scene_token": "scene", "prev": "", "next": ""})
        for camera, key in (("cam", True), ("lidar", True), ("cam", False)):
            shots.append({
                "token": f"d{index}{camera}{key}", "sample_token": f"s{index}", "calibrated_sensor_token": camera, "ego_pose_token": f"p{index}",
                "filename": f"samples/CAM_FRONT/{index}.jpg", "is_key_frame": key,
            })  # fmt: skip
        boxes.append(
            {
                "token": f"a{index}",
                "sample_token": f"s{index}",
                "translation": [30.0, 4.0, 0],
                "size": [2.0, 4.5, 1.6],
                "rotation": [1, 0, 0, 0],
            }
        )
        for _ in range(10):
            x, y, heading = (
                x + speed * gap / 10 * math.cos(heading),
                y + speed * gap / 10 * math.sin(heading),
                heading + turn * gap / 10,
            )
    content = {
        "sensor": [{"token": "c", "channel": "CAM_FRONT"}, {"token": "l", "channel": "LIDAR_TOP"}],
        "calibrated_sensor": [{"token": "cam", "sensor_token": "c"}, {"token": "lidar", "sensor_token": "l"}],
        "sample_data": shots, "ego_pose": poses, "sample": samples, "sample_annotation": boxes,
        "scene": [{"token": "scene", "name": "scene-0001", "log_token": "log"}],
        "attribute": [], "category": [], "instance": [], "log": [], "map": [], "visibility": [],
    }  # fmt: skip
    for name, rows in content.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def test_nuscenes_tables(pack, tmp_path):
    folder = tables(tmp_path / "nuscenes" / "v1.0-mini")
    for index in range(12):
        picture(tmp_path / "nuscenes" / "samples" / "CAM_FRONT" / f"{index}.jpg")
    samples = everything(pack, request(folder, image_root=str(tmp_path / "nuscenes")))
    # 12 key frames, one needed before and six after: 5 moments, two questions each.
    assert Counter(sample.task for sample in samples) == {"clip": 5, "trajectory": 5}
    assert {sample.reference for sample in samples if sample.task == "clip"} == {"KEEP, STRAIGHT"}
    way = next(sample for sample in samples if sample.task == "trajectory")
    assert way.reference == [[5.0, 0.0], [10.0, 0.0], [15.0, 0.0], [20.0, 0.0], [25.0, 0.0], [30.0, 0.0]]
    assert len(way.media) == 1 and way.meta["group"] == "log=log"
    first = min(
        (sample for sample in samples if sample.task == "trajectory"), key=lambda sample: sample.meta["boxes"][0][0][0] * -1
    )
    assert first.meta["boxes"][0][0] == pytest.approx(
        [25.0, 4.0, 0.0, 4.5, 2.0]
    )  # the parked car from 5 m on; length before width


@pytest.mark.parametrize(
    ("turn", "path", "command"),
    [(0.3, "LEFT_TURN", "turn left"), (-0.3, "RIGHT_TURN", "turn right"), (0.02, "STRAIGHT", "go straight")],
)
def test_turns_of_a_drive(pack, tmp_path, turn, path, command):
    folder = tables(tmp_path / "v1.0-mini", turn=turn, speed=6.0)
    samples = everything(pack, request(folder, pictures=False, ask=["actions"]))
    assert {sample.reference for sample in samples} == {f"KEEP, {path}"}
    assert all(command in sample.text() for sample in samples)


def test_nuscenes_faults_are_named(pack, tmp_path):
    folder = tables(tmp_path / "v1.0-mini", gap=1.0)
    report = pack.check(request(folder, pictures=False))
    assert report.num_good == 0 and "more than 0.75 s apart" in str(report.first_bad[0])
    (folder / "scene.json").unlink()
    assert "v1.0-mini/scene.json is missing" in str(pack.check(request(folder, pictures=False)).first_bad[0])
    (folder / "sample.json").write_text('[{"token": "s"}]')
    assert "no column 'timestamp'" in str(pack.check(request(folder, pictures=False)).first_bad[0])


def test_open_loop_figures_of_real_clips(pack, tmp_path):
    from factory.domains.driving.evals import open_loop

    folder = tables(tmp_path / "v1.0-mini")
    asked = request(folder, pictures=False, ask=["waypoints"])
    samples = everything(pack, asked)
    split = samples[0].split

    figures = open_loop(SimpleNamespace(request=asked, answers={s.id: pack.gold(s) for s in samples}), split, 0)
    assert figures["l2_uniad/3s"] == figures["l2_vad/3s"] == figures["no_way"] == figures["collision_vad/avg"] == 0.0
    late = dict.fromkeys((s.id for s in samples), "<think>x</think><answer>[[5,0],[10,0],[15,0],[20,0],[25,0],[33,0]]</answer>")
    figures = open_loop(SimpleNamespace(request=asked, answers=late), split, 0)
    assert figures["l2_uniad/3s"] == pytest.approx(3.0) and figures["l2_vad/3s"] == pytest.approx(0.5)


def test_pickles_are_not_read(pack, tmp_path):
    (tmp_path / "nuscenes_infos_train.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match="no table"):
        pack.check(request(tmp_path))


def test_a_common_set_still_loads(pack, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    (tmp_path / "i.png").write_bytes(buffer.getvalue())
    rows = [{"image": "i.png", "question": f"Is light {i} red?", "answer": "yes"} for i in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {sample.task for sample in everything(pack, request(tmp_path))} == {"question"}
