"""A judge that sees the extension alone, with TimeMaster's cap; and what its settings refuse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from factory.config.compose import compose
from factory.contracts import Message, Sample, Status
from factory.errors import ConfigError
from factory.rewards.judges.judge import Judge
from factory.rewards.judges.settings import build_mixture, read_judges

SAMPLE = Sample("s", "classify", (Message("user", "Which?"),), "Laptop", meta={"classes": ["Desktop", "Laptop"]})


def settings_of(**more):
    row = {
        "kind": "endpoint",
        "url": "http://localhost:8000/v1",
        "model": "m",
        "shape": "timemaster",
        "block": "extension",
        **more,
    }
    return read_judges({"judges": {"advice": row}})["advice"]


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch):
    """(completion, grade, settings) -> verdict, with the text that the judge was shown in `seen`."""
    seen: list[str] = []

    def judged(completion: str, grade: float, **more):
        judge = Judge("advice", settings_of(**more), SimpleNamespace(complete=None))
        monkeypatch.setattr(Judge, "raw", lambda self, text, sample: seen.append(text) or grade)
        return judge(completion, SAMPLE), seen

    return judged


def test_the_judge_sees_the_extension_alone(verdict) -> None:
    found, seen = verdict("<think>a</think><class>Laptop</class><extension>Charge at night.</extension>", 0.9)
    assert found.score == 0.9 and seen == ["Charge at night."]
    found, _ = verdict("<think>a</think><class>Laptop</class>", 0.9)
    assert found.status is Status.unparsable and "no <extension>" in found.reason


def test_the_cap_on_stock_phrases(verdict) -> None:
    stock = compose("timeseries", recipe="timemaster-judge").config.judges["advice"]["stock"]
    for text, want in (("Charge at night.", 0.8), ("Further diagnostic tests are needed.", 0.4), ("Refer to a specialist.", 0.4)):
        found, _ = verdict(f"<think>a</think><class>Laptop</class><extension>{text}</extension>", 0.8, stock=stock)
        assert found.score == want, text
    found, _ = verdict("<think>a</think><class>Laptop</class><extension>further tests</extension>", 0.3, stock=stock)
    assert found.score == 0.3  # a cap, no floor
    assert settings_of(stock="a") != settings_of(stock="b")
    assert Judge("x", settings_of(stock="a"), None).version != Judge("x", settings_of(stock="b"), None).version


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no regular expression"):
        settings_of(stock="(")
    with pytest.raises(ConfigError, match="no further block"):
        settings_of(block="summary")
    with pytest.raises(ConfigError, match="stock_cap"):
        settings_of(stock_cap=1.5)


def test_the_recipe_gives_the_judge_a_third() -> None:
    from factory.domains.timeseries import PACK

    config = compose("timeseries", recipe="timemaster-judge").config
    build = {"judges": dict(config.judges), "mixture": dict(config.mixture)}
    mix = build_mixture(PACK.manifest.tasks, build, known=PACK.verifiers()).of("classify")
    assert mix.weights["advice"] / sum(mix.weights.values()) == pytest.approx(1 / 3)
