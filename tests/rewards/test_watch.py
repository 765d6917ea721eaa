"""The watch names a verifier that is being gamed, and only such a one."""

import json
import random

import pytest

from factory.contracts import Message, Sample, Status, Verdict
from factory.errors import ConfigError, DataError
from factory.rewards.mixture import Mixture
from factory.rewards.watch import Held, VerifierWatch, WatchSettings, fixtures_of, make_watch, read_held, read_settings

TASKS = {"sky": {"verifiers": {"hackable": 1.0, "auditor": 0.0}}}


def sample(name="s"):
    return Sample(name, "sky", (Message("user", "sky?"),), "blue")


def hackable(text):
    """Pays for confident words, whatever the answer is."""
    return Verdict(float("blue" in text or "surely" in text), Status.ok, "read")


def auditor(text):
    return Verdict(float(text.split()[0] == "blue"), Status.ok, "read")


def rewards(mixture, texts):
    return [mixture.combine("sky", {"hackable": hackable(text), "auditor": auditor(text)}) for text in texts]


def policy(step, exploit, rng):
    """Half right at first. With `exploit` it learns to say `surely` with a wrong answer; else it learns the answer."""
    skill = step / 40
    if exploit:
        return ["surely red" if rng.random() < skill else rng.choice(["blue", "red"]) for _ in range(32)]
    return ["blue" if rng.random() < 0.5 + skill / 2 else "red" for _ in range(32)]


def train(watch, mixture, exploit, steps=40, start=0, pool=None):
    figures = []
    for step in range(start, steps):
        found = watch.look(step, rewards(mixture, policy(step, exploit, random.Random(step))), pool)
        figures += [found] if found else []
    return figures


SETTINGS = WatchSettings(every=5, auditors={"hackable": "auditor"})


def test_a_gamed_verifier_is_flagged_in_plain_words(caplog):
    mixture = Mixture(TASKS)
    watch = VerifierWatch(SETTINGS, mixture)
    figures = train(watch, mixture, exploit=True)
    assert watch.flagged() == ["hackable"] and figures[-1]["watch/flagged"] == 1
    assert (
        figures[0]["watch/flagged"] == 0
        and figures[0]["watch/hackable/accuracy_fresh"] > figures[-1]["watch/hackable/accuracy_fresh"]
    )
    (message,) = watch.messages
    assert "'hackable' is probably being gamed" in message and "'auditor' fell from" in message and message in caplog.text


def test_a_policy_that_really_learns_flags_nobody():
    mixture = Mixture(TASKS)
    watch = VerifierWatch(SETTINGS, mixture)
    figures = train(watch, mixture, exploit=False)
    assert figures[-1]["watch/hackable/reward"] > figures[0]["watch/hackable/reward"] + 0.2
    assert watch.flagged() == [] and watch.messages == []


@pytest.mark.parametrize("looks, is_flagged", [
    ([(0.5, 0.9), (0.7, 0.7)], True), ([(0.5, 0.9), (0.5, 0.7)], False), ([(0.5, 0.9), (0.7, 0.85)], False),
    ([(0.7, 0.9), (0.5, 0.7)], False), ([(0.5, 0.9), (0.53, 0.87), (0.56, 0.79)], True), ([(0.5, 0.9)], False),
])  # fmt: skip
def test_both_must_happen_and_a_slow_slide_adds_up(looks, is_flagged):
    watch = VerifierWatch(WatchSettings(every=1, rise=0.05, fall=0.1), Mixture(TASKS))
    for step, (reward, accuracy) in enumerate(looks):
        watch._rewards["hackable"] = [reward * 100, 100]
        watch._record(step, "hackable", "held", accuracy)
    assert bool(watch.flagged()) == is_flagged


class DriftingPool:
    """A pool whose verifier goes bad: after 3 looks it pays everything."""

    def __init__(self):
        self.looks, self.versions = 0, {"hackable": "1"}

    def score(self, items):
        self.looks += 1
        return [{"hackable": Verdict(1.0, Status.ok, "paid") if self.looks > 3 else hackable(text)} for text, _, _ in items]


def test_a_verifier_that_drifts_is_found_by_its_held_completions():
    held = [Held(sample(f"h{i}"), "hackable", text, text == "blue") for i in range(10) for text in ("blue", "red")]
    mixture = Mixture(TASKS)
    watch = VerifierWatch(WatchSettings(every=5), mixture, held)
    figures = train(watch, mixture, exploit=False, pool=DriftingPool())
    # Right on all 20 at first, on the 10 blue ones at last.
    assert figures[0]["watch/hackable/accuracy_held"] == 1.0 and figures[-1]["watch/hackable/accuracy_held"] == 0.5
    assert watch.flagged() == ["hackable"] and "held completions" in watch.messages[0]


def test_a_resumed_watch_says_the_same():
    mixture = Mixture(TASKS)
    whole = VerifierWatch(SETTINGS, mixture)
    expected = train(whole, mixture, exploit=True)
    first = VerifierWatch(SETTINGS, mixture)
    figures = train(first, mixture, exploit=True, steps=17)
    second = VerifierWatch(SETTINGS, mixture)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    figures += train(second, mixture, exploit=True, start=17)
    assert figures == expected and second.messages == whole.messages


def test_masked_rollouts_and_few_rows_say_nothing():
    mixture = Mixture(TASKS)
    watch = VerifierWatch(WatchSettings(every=1, auditors={"hackable": "auditor"}), mixture)
    failed = mixture.combine("sky", {"hackable": Verdict(0.0, Status.error, "x"), "auditor": auditor("blue")})
    assert watch.look(0, [failed] * 100, None) == {}
    assert watch.look(1, rewards(mixture, ["blue"] * 15), None) == {}
    assert watch.look(2, rewards(mixture, ["blue"] * 16), None)["watch/hackable/accuracy_fresh"] == 1.0


@pytest.mark.parametrize(
    "auditors, told", [({"hackable": "auditro"}, "auditor"), ({"auditor": "hackable"}, "training games it too")]
)
def test_an_auditor_must_exist_and_be_out_of_reach(auditors, told):
    with pytest.raises(ConfigError, match=told):
        VerifierWatch(WatchSettings(auditors=auditors), Mixture(TASKS))


@pytest.mark.parametrize(
    "row, told", [({"evry": 3}, "every"), ({"every": -1}, "every"), ({"rise": 0}, "rise"), ({"min_rows": 2.5}, "min_rows")]
)
def test_settings_are_refused_with_the_key(row, told):
    with pytest.raises(ConfigError, match=told):
        read_settings(row)


def test_the_packs_fixtures_are_held_and_off_means_off(tmp_path):
    held = fixtures_of("pathology")
    assert len(held) > 20 and {row.label for row in held} == {True, False}
    mixture = Mixture(TASKS)
    assert make_watch({"watch": {"every": 0}}, "pathology", mixture) is None
    assert make_watch({}, "no.such:thing", mixture) is None
    assert make_watch({}, "pathology", mixture) is not None


def test_recorded_rows_are_read_strictly(tmp_path):
    row = {"sample": sample().to_json(), "verifier": "hackable", "completion": "x", "label": False}
    file = tmp_path / "held.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"label": "no"}) + "\n")
    with pytest.raises(DataError, match=r"held\.jsonl:2"):
        read_held(file)
    file.write_text(json.dumps(row) + "\n")
    assert read_held(file) == [Held(sample(), "hackable", "x", False)]
