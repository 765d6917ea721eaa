"""The synthetic signals: features are really in the values, classes and answers are balanced, modes show the same sample."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from factory.contracts import DataRequest
from factory.domains.timeseries import PACK
from factory.domains.timeseries.families import FAMILIES
from factory.domains.timeseries.puzzles import GRID, LENGTH, PUZZLES
from factory.domains.timeseries.series import from_json
from factory.domains.timeseries.signals import draw_signal, free_features
from factory.errors import ConfigError


def signals(family: str, label: str, count: int = 12, difficulty: str = "easy"):
    return [draw_signal(random.Random(f"{family}-{label}-{k}"), FAMILIES[family], difficulty, label) for k in range(count)]


def test_no_two_classes_of_a_family_share_a_row_of_features() -> None:
    for family in FAMILIES.values():
        rows = [tuple(sorted(row.items())) for row in family.classes.values()]
        assert len(set(rows)) == len(rows)
        for row in family.classes.values():
            assert all(value in family.features[name] for name, value in row.items())
        # A class must not fit another one's row either: some shared feature differs, so the features decide.
        for label, row in family.classes.items():
            for other, row2 in family.classes.items():
                shared = set(row) & set(row2)
                assert label == other or any(row[name] != row2[name] for name in shared), (label, other)
        assert set(family.advice) == set(family.classes)


def test_emg_potentials_have_the_lengths_and_heights_of_their_class() -> None:
    height = {label: np.mean([np.abs(s.series.values).max() for s in signals("emg", label)]) for label in FAMILIES["emg"].classes}
    assert height["myopathy"] < 0.5 * height["healthy"] < height["neuropathy"]

    # A potential is biphasic and about 6 sigma long: the mean frequency falls with its length.
    def pace(label: str) -> float:
        spectra = [np.abs(np.fft.rfft(s.series.values[0])) ** 2 for s in signals("emg", label)]
        frequencies = np.fft.rfftfreq(400, 1 / 4000.0)
        return float(np.mean([(frequencies * p).sum() / p.sum() for p in spectra]))

    assert pace("myopathy") > pace("healthy") > pace("neuropathy")


def beat_gaps(values: np.ndarray) -> np.ndarray:
    """Gaps between R peaks in samples: maxima above 0.6 mV, at least 20 samples apart."""
    peaks: list[int] = []
    for i in np.argsort(values)[::-1]:
        if values[i] < 0.6:
            break
        if all(abs(i - p) > 20 for p in peaks):
            peaks.append(int(i))
    return np.diff(sorted(peaks))


def test_ecg_rhythm_is_regular_or_not() -> None:
    def spread(label: str) -> float:
        return float(
            np.median([gaps.std() / gaps.mean() for s in signals("ecg", label) if len(gaps := beat_gaps(s.series.values[0])) > 2])
        )

    assert spread("normal") < 0.05 < 0.15 < spread("af")
    assert spread("other") > 0.1


def test_gravity_and_motion_of_har() -> None:
    def mean(label: str, axis: int) -> float:
        return float(np.mean([s.series.values[axis].mean() for s in signals("har", label)]))

    assert mean("standing", 0) > 0.9 and mean("laying", 2) > 0.9 and 0.6 < mean("sitting", 0) < 0.85
    still = [s.series.values[0].std() for s in signals("har", "standing")]
    moving = [s.series.values[0].std() for s in signals("har", "walking")]
    assert max(still) < 0.1 < min(moving)


def test_ctu_bursts_of_a_laptop_taper_and_plateaus_do_not() -> None:

    tops = {
        label: [np.percentile(s.series.values[0], 95) - np.percentile(s.series.values[0], 80) for s in signals("ctu", label)]
        for label in ("desktop", "laptop")
    }
    assert np.mean(tops["laptop"]) > 2 * np.mean(tops["desktop"])


def test_rcw_call_rises_from_50_to_200_hz() -> None:
    for signal in signals("rcw", "call", difficulty="easy"):
        values = signal.series.values[0]
        frames = np.stack([values[k : k + 64] * np.hanning(64) for k in range(0, 436, 8)])
        power = np.abs(np.fft.rfft(frames, 256, axis=1)) ** 2
        frequencies = np.fft.rfftfreq(256, 1 / 500.0)
        band = (frequencies >= 48) & (frequencies <= 205)
        strong = power[:, band].max(axis=1) > np.quantile(power[:, band].max(axis=1), 0.6)
        peaks = frequencies[band][power[:, band].argmax(axis=1)][strong]
        times = np.arange(len(strong))[strong]
        assert np.corrcoef(times, peaks)[0, 1] > 0.7


@pytest.mark.parametrize("family", list(FAMILIES))
def test_difficulty_is_signal_over_noise(family: str) -> None:
    label = next(iter(FAMILIES[family].classes))
    easy, hard = signals(family, label, 4, "easy"), signals(family, label, 4, "hard")
    assert min(s.snr for s in easy) > max(s.snr for s in hard)
    assert all(s.series.values.shape == (max(1, len(FAMILIES[family].channels)), FAMILIES[family].length) for s in easy)


def test_snr_is_what_it_says() -> None:
    from factory.domains.timeseries.series import add_noise

    rng = np.random.default_rng(0)
    clean = np.sin(np.arange(4000) / 7.0)[None]
    noisy = add_noise(rng, clean, 10.0)
    assert 10 * np.log10(clean.var() / (noisy - clean).var()) == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize("kind", list(PUZZLES))
def test_puzzles_are_balanced_and_answers_hold(kind: str) -> None:
    puzzles = [PUZZLES[kind](random.Random(f"{kind}-{k}"), "easy") for k in range(300)]
    counts = Counter(str(p.answer) for p in puzzles)
    assert (
        counts.most_common(1)[0][1] / 300 < {"anomaly": 0.2, "change": 0.28, "forecast": 0.45, "compare": 0.6, "count": 0.3}[kind]
    )
    assert all(p.series.length == LENGTH for p in puzzles)
    if kind == "compare":
        for p in puzzles:
            red, blue = p.series.values
            seen = dict(p.seen)
            assert (red.mean() > blue.mean()) == (seen["mean"] == "red")
            assert (red.std() > blue.std()) == (seen["swing"] == "red")
    if kind == "count":
        for p in puzzles:
            above = p.series.values[0] > 0.2
            assert int((above[1:] & ~above[:-1]).sum() + above[0]) == p.answer
            assert [int(text) % GRID for text in dict(p.seen)["at"].split()] == [0] * p.answer
    if kind == "anomaly":
        assert all(a % 16 == 0 and b - a in (16, 32) and b <= LENGTH for a, b in (p.answer for p in puzzles))
    if kind == "change":
        for p in (p for p in puzzles if p.what == "mean"):
            values = p.series.values[0]
            assert abs(values[: p.answer].mean() - values[p.answer :].mean()) > 1.0
    if kind == "forecast":
        for p in (p for p in puzzles if dict(p.seen)["pattern"] == "line"):
            slope = np.polyfit(np.arange(LENGTH), p.series.values[0], 1)[0]
            assert (slope > 0.02, slope < -0.02) == (p.answer == "up", p.answer == "down")


def test_no_constant_answer_explains_the_score() -> None:
    samples = list(PACK.samples("test", 0, DataRequest(limit=600)))
    by_task: dict[str, Counter[str]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, Counter())[str(sample.reference)] += 1
    assert len(by_task) == 7
    best = sum(counts.most_common(1)[0][1] for counts in by_task.values()) / len(samples)
    assert best < 0.35


def test_modes_show_the_same_sample() -> None:
    image = list(PACK.samples("test", 3, DataRequest(limit=30)))
    text = list(PACK.samples("test", 3, DataRequest(limit=30, options={"mode": "text"})))
    for one, other in zip(image, text, strict=True):
        assert (one.id, one.task, one.reference) == (other.id, other.task, other.reference)
        assert one.meta["series"] == other.meta["series"]
        assert len(one.media) == 1 and not other.media
        question = one.messages[-1].content.removeprefix("<image>\n")
        assert other.messages[-1].content.endswith(question)
    assert PACK.modality({"mode": "text"}) == "text" and PACK.modality({}) == "vl"


def test_numbers_keep_the_pulses() -> None:
    from factory.domains.timeseries.series import Series
    from factory.domains.timeseries.written import whole_numbers, written

    values = np.zeros((1, 320))
    values[0, 17] = 1.0
    assert whole_numbers(Series(values), 32)[0] == [99 if k == 1 else 0 for k in range(32)]
    gap = np.array([[0.0, np.nan, 1.0]])
    assert written(Series(gap, channels=("x",)), 8) == "x : 0 ? 99"


def test_series_survive_the_meta() -> None:
    for sample in PACK.samples("train", 0, DataRequest(limit=10)):
        values = from_json(sample.meta["series"])
        assert values.shape[1] == sample.meta["length"] and np.isfinite(values).all()


def test_full_style_and_timemaster_form_of_lessons() -> None:
    options = {"style": "full", "form": "timemaster", "system": "expert", "shares": {"classify": 1.0}}
    verifiers = PACK.verifiers()
    for lesson in PACK.lessons("train", 0, DataRequest(limit=60, options=options)):
        verdict = verifiers["timemaster"](lesson.response, lesson.sample)
        assert verdict.score == 1.0, (verdict.reason, lesson.response)
        assert lesson.sample.messages[0].role == "system" and "<extension>" in lesson.sample.messages[0].content


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mode": "picture"}, "pack.mode"), ({"famlies": ["emg"]}, "pack.famlies"), ({"families": ["eeg"]}, "pack.families"),
        ({"shares": {"classify": -1}}, "pack.shares.classify"), ({"families": []}, "pack.families is empty"),
        ({"difficulties": {"easy": 0}}, "pack.difficulties"), ({"form": "timemaster", "thinking": "off"}, "needs reasoning"),
    ],
)  # fmt: skip
def test_wrong_options_say_what_to_do(options: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        list(PACK.samples("test", 0, DataRequest(limit=1, options=options)))


def test_free_features_are_those_that_decide_nothing() -> None:
    assert free_features(FAMILIES["rcw"]) == ("hum",) and free_features(FAMILIES["emg"]) == ()
