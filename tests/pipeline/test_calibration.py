"""What finished steps teach the estimates: by hand, against a general least-squares solver, and through the file."""

import itertools
import math

import numpy as np
import pytest

from factory.pipeline.calibration import (
    FIRST,
    HUBER,
    IN_PLACE,
    KEPT,
    LOAD_S,
    NOISE,
    PROCESS_MIB,
    START_S,
    Calibration,
    Factors,
    add_calibration,
    fitted,
    read_calibration,
)


def test_nothing_seen_changes_nothing():
    assert fitted(Factors(2.0, 0.3), []) == Factors(2.0, 0.3)
    assert fitted(Factors(2.0, 0.3), [(1.0, math.inf), (math.inf, 1.0), (math.nan, math.nan), (1.0, 0.0)]) == Factors(2.0, 0.3)


@pytest.mark.parametrize(("work", "seconds"), [(100.0, 56.0), (0.5, 9.0), (30.0, 500.0), (400.0, 14.0)])
def test_one_step_is_repeated(work, seconds):
    assert fitted(Factors(), [(work, seconds)]).seconds(work) == pytest.approx(seconds, rel=0.1)


def test_start_and_work_are_told_apart_by_steps_of_different_sizes():
    true = Factors(0.8, 0.25)
    steps = [(work, true.seconds(work)) for work in (0.5, 1.0, 20.0, 400.0)]
    found = fitted(Factors(2.5, 1.0), steps)
    for work, near in ((0.1, 0.2), (10.0, 0.1), (1000.0, 0.02)):
        assert found.seconds(work) == pytest.approx(true.seconds(work), rel=near)


def test_short_steps_of_another_pack_do_not_spoil_long_ones_nor_the_reverse():
    """Evals of a pack of 24 s with much work, then those of another of 5 s with none: each is repeated, whichever came first."""
    for order in ((("big", (14.0, 24.0)), ("small", (0.2, 5.0))), (("small", (0.2, 5.0)), ("big", (14.0, 24.0)))):
        known = Calibration({"cpu-1-thread/eval": {pack: [step] for pack, step in order}})
        assert known.factors("cpu-1-thread", "eval", "big").seconds(14.0) == pytest.approx(24.0, rel=0.1)
        assert known.factors("cpu-1-thread", "eval", "small").seconds(0.2) == pytest.approx(5.0, rel=0.1)


def test_one_step_on_a_busy_machine_hardly_counts():
    steps = [(100.0, 56.0)] * 4 + [(100.0, 300.0)]
    assert fitted(Factors(), steps).seconds(100.0) == pytest.approx(56.0, rel=0.08)


def loss(factors, before, steps):
    """What `fitted` minimises, written out."""
    total = (math.log(factors.start / before.start) ** 2 + math.log(factors.work / before.work) ** 2) / 2
    for work, seconds in steps:
        miss = abs(math.log(factors.seconds(work) / seconds) / NOISE)
        total += miss**2 / 2 if miss <= HUBER else HUBER * (miss - HUBER / 2)
    return total


def test_no_factors_explain_the_steps_better():
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = [(float(w), float(s)) for w, s in zip(rng.choice([0.1, 5, 50], 5), rng.uniform(5, 90, 5), strict=True)]
        before = Factors(float(rng.uniform(0.5, 2)), float(rng.uniform(0.1, 2)))
        found = fitted(before, steps)
        best = loss(found, before, steps)
        for start, work in itertools.product(np.exp(np.linspace(-2.5, 2.5, 81)), repeat=2):
            assert loss(Factors(before.start * start, before.work * work), before, steps) >= best * 0.995


def test_a_kind_begins_with_what_other_packs_took_and_else_with_the_table():
    known = Calibration({"cpu-1-thread/rl": {"toy": [(100.0, 100.0)] * 3}})
    assert known.factors("cpu-1-thread", "rl", "other").seconds(100.0) == pytest.approx(100.0, rel=0.02)
    assert known.factors("cpu-1-thread", "sft", "toy") == FIRST["cpu-1-thread/sft"]
    assert known.factors("cpu-1-thread", "eval", "toy") == Factors()
    assert known.factors("gpu", "rl", "toy").seconds(3.0) == START_S + LOAD_S + 3.0
    assert FIRST[f"cpu-1-thread/{IN_PLACE}"].start < FIRST["cpu-1-thread/base"].start


def test_the_file_keeps_the_newest_of_each_pack_and_survives_damage(tmp_path):
    path = tmp_path / "c.json"
    for number in range(KEPT + 3):
        add_calibration(path, "cpu", "sft", "toy", step=(number, 10.0 + number), process_mib=400.0 + number if number else None)
    add_calibration(path, "cpu", "sft", "other", step=(1.0, 2.0), process_mib=700.0)
    known = read_calibration(path)
    assert known.steps["cpu/sft"]["toy"] == [(float(n), 10.0 + n) for n in range(3, KEPT + 3)]
    assert known.steps["cpu/sft"]["other"] == [(1.0, 2.0)]
    assert known.process_bytes("cpu", "sft", "toy") == int((400 + 3 + KEPT // 2) * 2**20)
    assert known.process_bytes("cpu", "sft", "third") > 400 * 2**20 and known.process_bytes("cpu", "rl", "toy") == int(
        PROCESS_MIB * 2**20
    )
    for damaged in (
        "{",
        "[]",
        '{"cpu/sft": [1.0]}',
        '{"form": 2, "steps": {"a": {"b": [1]}}, "process_mib": {}}',
        '{"form": 2, "steps": 3, "process_mib": {}}',
        '{"steps": {"cpu/sft": {"toy": [[1.0, 7.0]]}}, "process_mib": {}}',
    ):
        path.write_text(damaged)
        assert read_calibration(path) == Calibration()
    assert read_calibration(tmp_path / "none.json") == Calibration()
