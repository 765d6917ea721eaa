"""Published metrics by hand: open loop in both conventions, PDMS and EPDMS, DriveLM, text likeness; the NAVSIM process."""

import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.domains.driving import drivelm, navsim, open_loop, text_scores
from factory.errors import ConfigError, DataError

ERRORS = [0.1, 0.2, 0.4, 0.6, 0.9, 1.2]


def test_l2_in_both_conventions():
    # The guide's vector. VAD: (.1 + .2) / 2; (.1 + .2 + .4 + .6) / 4; 3.4 / 6
    assert open_loop.at_seconds(ERRORS, "uniad") == pytest.approx({1: 0.2, 2: 0.6, 3: 1.2})
    assert open_loop.at_seconds(ERRORS, "vad") == pytest.approx({1: 0.15, 2: 0.325, 3: 0.566667}, abs=1e-6)
    with pytest.raises(ValueError, match="uniad, vad"):
        open_loop.at_seconds(ERRORS, "st-p3")


@given(st.lists(st.floats(0, 100), min_size=6, max_size=6))
def test_the_conventions_differ_unless_the_error_is_constant(values):
    rising = sorted(values)
    late, mean = open_loop.at_seconds(rising, "uniad"), open_loop.at_seconds(rising, "vad")
    assert all(mean[second] <= late[second] + 1e-9 for second in (1, 2, 3))


def test_collisions_leave_out_samples_whose_truth_collides():
    way = [(2.0 * t, 0.0) for t in range(1, 7)]
    parked = [[[8.0, 0.0, 0.0, 4.0, 2.0]]] * 6  # met from 4 m on: |8 - x| < (4.084 + 4) / 2 = 4.04
    aside = [[[8.0, 3.0, 0.0, 4.0, 2.0]]] * 6  # 3 m aside > (1.85 + 2) / 2
    assert open_loop.hits(way, parked) == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert open_loop.hits(way, aside) == [0.0] * 6
    still = [(0.1, 0.0)] * 6
    rows = [{"got": way, "want": still, "boxes": parked}, {"got": still, "want": way, "boxes": parked}]
    figures = open_loop.report(rows)
    assert figures["collision/num_left_out"] == 1.0
    assert figures["collision_uniad/1s"] == 1.0 and figures["collision_vad/1s"] == 0.5


def test_pdms_of_the_guide():
    terms = {"NC": 1, "DAC": 1, "TTC": 1, "C": 1, "EP": 0.6}
    assert navsim.pdms(terms) == pytest.approx(0.8333333)
    assert navsim.pdms(terms | {"NC": 0.5}) == pytest.approx(0.4166667)
    assert navsim.pdms(terms | {"DAC": 0}) == 0.0


def test_epdms_of_the_guide():
    # Multipliers product .5; (5 x .6 + 5 + 2 + 2 + 2 x .5) / 16 = 13 / 16 = .8125, halved = .40625.
    terms = {"NC": 0.5, "DAC": 1, "DDC": 1, "TLC": 1, "EP": 0.6, "TTC": 1, "LK": 1, "HC": 1, "EC": 0.5}
    assert navsim.epdms(terms) == pytest.approx(0.40625)
    # The human driver fails EC too, so it counts 1: (3 + 5 + 2 + 2 + 2) / 16 x .5.
    assert navsim.epdms(terms, {"EC": 0}) == pytest.approx(14 / 16 * 0.5)
    assert navsim.epdms(terms | {"DDC": 0}, {"DDC": 0}) == pytest.approx(0.40625)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"NC": 0.7}, "NC is 0.7"), ({"EP": 1.5}, "EP is 1.5"), ({"DAC": 0.5}, "DAC is 0.5"), ({"TTC": math.nan}, "TTC is nan")],
)
def test_terms_out_of_range(change, told):
    with pytest.raises(ValueError, match=told):
        navsim.pdms({"NC": 1, "DAC": 1, "TTC": 1, "C": 1, "EP": 0.6} | change)


def test_the_second_stage_is_weighted_by_distance():
    # Weights 1 and exp(-1/2) = .60653: (.9 + .6 x .60653) / 1.60653
    assert navsim.second_stage([0.9, 0.6], [0.0, 2.0], 2.0) == pytest.approx((0.9 + 0.6 * 0.6065307) / 1.6065307)
    assert navsim.second_stage([0.9, 0.6], [900.0, 901.0], 1.0) == pytest.approx(0.9, abs=1e-3)


POSES = [[float(t), 0.0, 0.0] for t in range(8)]
STAND_IN = """
import json, sys
asked, answered, cache = sys.argv[1:]
with open(answered, "w") as out:
    for line in open(asked):
        row = json.loads(line)
        done = {"token": row["token"], "score": row["poses"][-1][0] / 10} if row["token"] != "bad" else {"token": "bad", "fault": "no cache"}
        out.write(json.dumps(done) + "\\n")
"""


def test_the_sidecar_protocol(tmp_path):
    script = tmp_path / "scorer.py"
    script.write_text(STAND_IN)
    asked = {"python": sys.executable, "metric_cache": str(tmp_path), "folder": tmp_path / "x", "script": script}
    assert navsim.score_in_sidecar({"a": POSES}, **asked) == {"a": {"score": 0.7}}
    with pytest.raises(DataError, match="1 of 2 trajectories have no score, first bad: no cache"):
        navsim.score_in_sidecar({"a": POSES, "bad": POSES}, **asked)
    with pytest.raises(DataError, match="want 8 poses"):
        navsim.score_in_sidecar({"a": POSES[:3]}, **asked)
    with pytest.raises(ConfigError, match="no such interpreter"):
        navsim.score_in_sidecar({"a": POSES}, **{**asked, "python": str(tmp_path / "none")})


def test_without_navsim_the_message_says_where_to_install_it(tmp_path):
    with pytest.raises(ConfigError, match=r"has no NAVSIM.*Install the devkit there"):
        navsim.score_in_sidecar({"a": POSES}, python=sys.executable, metric_cache="", folder=tmp_path)


# --- DriveLM ------------------------------------------------------------------------------------------------------------

GOLD = [
    ("Slow down because the car ahead brakes.", "Slow down because the car ahead brakes."),
    ("Keep going at the same speed.", "Keep going at the same speed."),
    ("No.", "No."),
]


def test_gold_against_gold_is_the_maximum():
    # The published script once gave .896 for perfect answers (DriveLM#34).
    assert drivelm.language_score(GOLD) == pytest.approx(1.0)
    assert drivelm.strict_accuracy(GOLD) == 1.0
    assert drivelm.final_score(judge=100, language=drivelm.language_score(GOLD), match=100, accuracy=1.0) == pytest.approx(1.0)
    assert drivelm.final_score(judge=50, language=0.5, match=25, accuracy=0.5) == pytest.approx(0.2 + 0.1 + 0.05 + 0.1)


def test_strict_accuracy_is_strict():
    assert drivelm.strict_accuracy([("The correct answer is A.", "A")]) == 0.0  # DriveLM#171


def test_match_hits_need_less_than_16_px_and_each_object_once():
    def named(text):
        return drivelm.named_objects(text)

    want = named("<c1,CAM_BACK,100.0,100.0>, <c2,CAM_FRONT,50.0,60.0>")
    assert drivelm.match_f1(named("<c9,CAM_BACK,107.9,107.9>"), want) == (pytest.approx(2 / 3), 1)
    assert drivelm.match_f1(named("<c9,CAM_BACK,108.0,108.0>"), want) == (0.0, 0)
    assert drivelm.match_f1(named("<c9,CAM_FRONT,100.0,100.0>"), want) == (0.0, 0)
    assert drivelm.match_f1(named("<a,CAM_BACK,100.0,100.0><b,CAM_BACK,101.0,100.0>"), want) == (0.5, 1)
    assert len(named("<c1,CAM_BACK,1088.3,497.5> again <c2,CAM_BACK,1088.3,497.5>")) == 1


def test_bleu_by_hand():
    # "the cat sat" against "the cat sat down": 1-grams 3/3, 2-grams 2/2, 3-grams 1/1; brevity exp(1 - 4/3)
    penalty = math.exp(1 - 4 / 3)
    assert text_scores.corpus_bleu([("the cat sat", "the cat sat down")], 3) == pytest.approx([penalty] * 3)
    # "the the" against "the cat": clipped 1/2, no common 2-gram
    assert text_scores.corpus_bleu([("the the", "the cat")], 2) == pytest.approx([0.5, 0.0])
    assert text_scores.corpus_bleu([("No.", "No.")]) == [1.0] * 4


def test_rouge_l_by_hand():
    # Common "slow the car" = 3 words of 4 and 5: P .75, R .6, beta 1.2: 2.44 x .45 / (.6 + 1.44 x .75)
    assert text_scores.rouge_l("slow down the car", "slow near the red car") == pytest.approx(2.44 * 0.45 / (0.6 + 1.44 * 0.75))


def test_cider_needs_two_texts_and_rewards_rare_words():
    assert text_scores.cider([("a b", "a b")]) == 0.0
    same = [("the red light", "the red light"), ("the left lane", "the left lane")]
    assert text_scores.cider(same) == pytest.approx(10.0)
    common = [("the", "the red light"), ("the", "the left lane")]
    assert text_scores.cider(common) == 0.0  # "the" is in every reference


@given(st.text(max_size=80), st.text(max_size=80))
def test_likeness_is_bounded(answer, reference):
    assert 0.0 <= text_scores.sentence_likeness(answer, reference) <= 1.0 + 1e-9
    assert json.dumps(text_scores.corpus_bleu([(answer, reference)]))
