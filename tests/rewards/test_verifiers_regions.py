"""Boxes, intervals, puzzles, JSON and embeddings: golden vectors of guides/techniques.md B15 and hand tables."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Sample, Status
from factory.errors import ConfigError
from factory.rewards.detections import BoxSet, Detection, griffon_precision, griffon_recall, matched_ious, read_detections
from factory.rewards.embeddings import bmas, clip_direction_reward
from factory.rewards.intervals import IntervalIoU, interval_iou, read_interval
from factory.rewards.json_schema import JsonAnswer, equal_fields, schema_fault
from factory.rewards.puzzles import Integers, SceneChanges, adjacency_score, counting_score, order_score, patch_score, star_points
from factory.rewards.regions import iou


def tagged(answer: str) -> str:
    """An answer in the commonest shape."""
    return f"<think>a</think><answer>{answer}</answer>"


def sample(reference=None, **meta) -> Sample:
    return Sample("s", "t", (), reference, meta=meta)


def test_griffon_vectors_of_b15():
    # IoUs .4 .6 .8 of 3: recall 2/3 early; late 1/3, below one half, so 0. Precision (0 + .6 + 1)/3 early, (0 + 0 + .8)/3 late.
    assert griffon_recall([0.4, 0.6, 0.8], 3) == pytest.approx(2 / 3)
    assert griffon_recall([0.4, 0.6, 0.8], 3, is_late=True) == 0.0
    assert griffon_precision([0.4, 0.6, 0.8], 3) == pytest.approx(0.533333, abs=1e-6)
    assert griffon_precision([0.4, 0.6, 0.8], 3, is_late=True) == pytest.approx(0.266667, abs=1e-6)
    assert griffon_recall([0.6, 0.8, 0.9, 0.9], 4) == 1.0


BOX = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 6), st.integers(1, 6)).map(
    lambda t: (float(t[0]), float(t[1]), float(t[0] + t[2]), float(t[1] + t[3]))
)


@given(st.lists(BOX, min_size=1, max_size=4), st.lists(BOX, min_size=1, max_size=4))
@settings(max_examples=120, deadline=None)
def test_the_match_is_the_best_of_all_and_does_not_depend_on_order(got, want):
    small, large = sorted((got, want), key=len)
    best = max(sum(iou(a, b) for a, b in zip(small, chosen, strict=True)) for chosen in itertools.permutations(large, len(small)))
    found = matched_ious([Detection(box) for box in got], [Detection(box) for box in want])
    assert sum(found) == pytest.approx(best)
    assert sum(matched_ious([Detection(box) for box in reversed(got)], [Detection(box) for box in want])) == pytest.approx(best)


def test_labels_must_agree_and_extra_boxes_cost():
    gold = [{"bbox_2d": [0, 0, 10, 10], "label": "Cat"}]
    answer = lambda *boxes: tagged(json.dumps(list(boxes)))  # noqa: E731
    right, other = {"bbox_2d": [0, 0, 10, 10], "label": "cat"}, {"bbox_2d": [0, 0, 10, 10], "label": "dog"}
    assert BoxSet()(answer(right), sample(gold)).score == 1.0
    assert BoxSet()(answer(other), sample(gold)).score == 0.0
    assert BoxSet(has_labels=False)(answer(other), sample(gold)).score == 1.0
    # One of four right: precision 1/4, recall 1, F1 0.4. As published, Griffon's precision ignores the three others.
    flood = [right, *({"bbox_2d": [50 + i, 50, 60 + i, 60], "label": "cat"} for i in range(3))]
    assert BoxSet()(answer(*flood), sample(gold)).score == pytest.approx(0.4)
    assert BoxSet(rule="griffon")(answer(*flood), sample(gold)).parts["precision"] == pytest.approx(0.25)
    assert BoxSet(rule="griffon", precision_over="matched")(answer(*flood), sample(gold)).parts["precision"] == 1.0


def test_no_object_wants_an_empty_list():
    assert BoxSet()(tagged("[]"), sample([])).score == 1.0
    assert BoxSet()(tagged("[[0, 0, 1, 1]]"), sample([])).status is Status.wrong
    assert BoxSet()(tagged("[]"), sample([[0, 0, 1, 1]])).score == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "[1, 2, 3]",
        "[[0, 0, 0, 0]]",
        '{"a": 1}',
        "[[1,2,3,NaN]]",
        str([[0, 0, 1, 1]] * 201),
        "[" * 5000,
        "[٠, ٠, ٣, ٣]",
    ],
)
def test_what_is_no_list_of_boxes(text):
    with pytest.raises(ValueError):
        read_detections(text)


def test_boxes_in_all_writings():
    for text in (
        "[[1, 2, 3, 4]]",
        "[1, 2, 3, 4]",
        '{"boxes": [[1, 2, 3, 4]]}',
        '```json\n[{"bbox": [1, 2, 3, 4]}]\n```',
        "(1, 2, 3, 4)",
    ):
        assert [found.box for found in read_detections(text)] == [(1.0, 2.0, 3.0, 4.0)]


@pytest.mark.parametrize(
    ("text", "span"),
    [("[3, 5]", (3, 5)), ('{"start": 3, "end": 5.5}', (3, 5.5)), ("3.0 to 5.0", (3, 5)), ("00:03 - 00:05", (3, 5)), ("1:00:03 – 1:00:05", (3603, 3605)),
     ("from 3 s to 5 s", (3, 5)), ("12.5s - 15s.", (12.5, 15)), ('```json\n{"start_time": 1, "end_time": 2}\n```', (1, 2))],
)  # fmt: skip
def test_intervals_are_read_as_people_write_them(text, span):
    assert read_interval(text) == span


@pytest.mark.parametrize(
    "text",
    ["", "5 to 3", "3", "[3, 5], [7, 9]", "-1 to 5", "3 to 3", "[3, NaN]", "[0, 1e999]", "٣ to ٥", '{"start": true, "end": 5}'],
)
def test_what_is_no_interval(text):
    with pytest.raises(ValueError):
        read_interval(text)


def test_temporal_r1_by_hand():
    # [3, 5] against [4, 8]: 1 s of 5 s. Temporal-R1: 0.5 * 0.2 + 0.5.
    assert interval_iou((3, 5), (4, 8)) == pytest.approx(0.2)
    assert IntervalIoU()(tagged("[3, 5]"), sample([4, 8])).score == pytest.approx(0.2)
    assert IntervalIoU(format_share=0.5)(tagged("[3, 5]"), sample([4, 8])).score == pytest.approx(0.6)
    assert IntervalIoU()(tagged("[3, 50]"), sample([4, 8], duration=10)).status is Status.unparsable


SPAN = st.tuples(st.integers(0, 50), st.integers(1, 30)).map(lambda t: (float(t[0]), float(t[0] + t[1])))


@given(SPAN, SPAN, st.floats(0.1, 10))
def test_interval_iou_laws(a, b, scale):
    assert interval_iou(a, b) == interval_iou(b, a) and 0.0 <= interval_iou(a, b) <= 1.0
    assert interval_iou(a, a) == 1.0
    # Dividing by the clip's length, as Temporal-R1 does, changes nothing.
    shrunk = [(x / scale, y / scale) for x, y in (a, b)]
    assert interval_iou(*shrunk) == pytest.approx(interval_iou(a, b))


def test_video_ssr_vectors_of_b15():
    identity = [1, 2, 3, 4, 5, 6]
    assert [
        order_score(order, identity) for order in (identity, identity[::-1], [2, 1, 3, 4, 5, 6], [1, 1, 3, 4, 5, 6])
    ] == pytest.approx([1, 0, 0.888889, 0], abs=1e-6)
    assert counting_score([3, 4], [3, 5]) == pytest.approx(0.9)
    assert counting_score([3], [3, 5]) == 0.0
    assert counting_score([0, 9], [0, 3]) == pytest.approx(0.5)


@given(st.permutations(range(6)))
def test_jigsaw_laws(order):
    gold = list(range(6))
    for score in (order_score(order, gold), patch_score(order, gold), adjacency_score(order, gold, 2, 3)):
        assert 0.0 <= score <= 1.0 and (score == 1.0) == (order == gold)


def test_jigsaw_r1_by_hand():
    # 2 x 2, right column swapped: patches 0 and 2 stay (1/2); neighbours right: only 0 below 2 of 4 (1/4).
    assert patch_score([0, 3, 2, 1], [0, 1, 2, 3]) == 0.5
    assert adjacency_score([0, 3, 2, 1], [0, 1, 2, 3], 2, 2) == 0.25
    with pytest.raises(ValueError, match="grid"):
        Integers(rule="adjacency")(tagged("0 1 2"), sample([0, 1, 2], grid=[2, 2]))
    for faulty in ([], [1, 1], "12", [1.5], None):
        with pytest.raises(ValueError):
            Integers()(tagged("1"), sample(faulty))


def test_star_r1_vector_of_b15():
    gold = [("1", "color", "red"), ("2", "size", "big"), ("3", "color", "blue"), ("4", "shape", "cube")]
    # 2 exact (10), 1 index only (0.5), one fewer than the gold (-1): 9.5 of 20.
    got = [gold[0], gold[1], ("3", "shape", "cone")]
    assert star_points(got, gold) == 9.5
    verdict = SceneChanges()(tagged(json.dumps(got)), sample([list(change) for change in gold]))
    assert verdict.score == pytest.approx(9.5 / 20) and verdict.parts["points"] == 9.5
    # Index and attribute 1.5; a stranger -1; the same right triple again -1.
    assert star_points([("1", "color", "green")], gold[:1]) == 1.5
    assert star_points([gold[0], gold[0]], gold[:1]) == 4.0
    assert star_points([("9", "color", "red")], gold[:1]) == -1.0


@given(st.permutations(range(4)))
def test_star_points_do_not_depend_on_order(order):
    gold = [("1", "color", "red"), ("1", "size", "big"), ("2", "color", "blue"), ("3", "shape", "cube")]
    got = [("1", "color", "red"), ("1", "size", "small"), ("2", "shape", "cone"), ("9", "x", "y")]
    assert star_points([got[i] for i in order], gold) == star_points(got, [gold[i] for i in order]) == 5.0 + 1.5 + 0.5 - 1.0


# guides/domains.md 12: {e1, e2} against {e1}: (1/2 + 1) / 2; {e1} against {(1,1)}: cos 45 degrees; {e1} against {e1, e2, e2}: (1 + 1/3) / 2.
def test_bmas_vectors():
    assert bmas([[1, 0], [0, 1]], [[1, 0]]) == pytest.approx(0.75)
    assert bmas([[1, 0]], [[1, 1]]) == pytest.approx(0.7071068)
    assert bmas([[1, 0]], [[1, 0], [0, 1], [0, 1]]) == pytest.approx(2 / 3)
    assert bmas([[3, 4], [1, 0]], [[3, 4], [1, 0]]) == pytest.approx(1.0)
    # Stop words weigh nothing: the first mean is that of the second token alone, 1; so (1 + 1) / 2.
    assert bmas([[1, 0], [0, 1]], [[0, 1]], weights=[0, 1]) == pytest.approx(1.0)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_bmas_laws(n, m, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 4)), rng.normal(size=(m, 4))
    slow = lambda a, b: math.fsum(max(float(p @ q) / math.sqrt(float(p @ p) * float(q @ q)) for q in b) for p in a) / len(a)  # noqa: E731
    assert bmas(x, y) == pytest.approx((slow(x, y) + slow(y, x)) / 2)
    assert bmas(x, y) == pytest.approx(bmas(y, x)) == pytest.approx(bmas(x[::-1], 7 * y))


@pytest.mark.parametrize("pair", [([], [[1, 0]]), ([[1, 0]], [[1, 0, 0]]), ([[float("nan"), 0]], [[1, 0]]), ([1, 0], [[1, 0]])])
def test_bmas_refuses_what_has_no_meaning(pair):
    with pytest.raises(ValueError):
        bmas(*pair)


def test_clip_reward_vector_of_b15():
    assert clip_direction_reward((0.6, 0.8), (1, 0), (0, 1), 0.5) == pytest.approx(0.63)
    assert clip_direction_reward((0.6, 0.8), (1, 0), (0, 1), 0.0) == pytest.approx(0.6)


def test_json_fields_are_counted_both_ways():
    # a equal, b differs, c is only in the answer, d only in the reference: 1 of 4.
    assert equal_fields({"a": 1, "b": 2, "c": 3}, {"a": 1.0, "b": 3, "d": 4}) == (1, 4)
    assert equal_fields({"a": True}, {"a": 1}) == (0, 1)
    assert equal_fields([1, 2], [1]) == (1, 2)
    assert equal_fields({}, {}) == (1, 1)
    assert equal_fields({"x": 1.04}, {"x": 1.0}, rel_tol=0.05) == (1, 1)
    assert JsonAnswer(rule="fields")('{"a": 1, "b": 9}', sample({"a": 1, "b": 2})).score == 0.5
    assert JsonAnswer()('{"count": 2}', sample({"count": 2})).score == 1.0


def test_a_schema_is_kept_or_the_answer_is_unparsable():
    schema = {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer"}}}
    for text, status in (
        ('{"count": 2}', Status.ok),
        ('{"count": 3}', Status.wrong),
        ('{"count": "2"}', Status.unparsable),
        ('{"n": 2}', Status.unparsable),
    ):
        assert JsonAnswer(schema=schema)(text, sample({"count": 2})).status is status
        assert JsonAnswer()(text, sample({"count": 2}, schema=schema)).status is status
    assert "count: '2' is not of type 'integer'" in JsonAnswer(schema=schema)('{"count": "2"}', sample({"count": 2})).reason


def test_a_schema_fetches_nothing_and_faulty_ones_are_refused():
    with pytest.raises(ValueError, match="never fetched"):
        schema_fault({"a": 1}, {"$ref": "http://192.0.2.1/x.json"})
    with pytest.raises(ConfigError, match="schema is faulty"):
        JsonAnswer(schema={"type": "no such type"})
