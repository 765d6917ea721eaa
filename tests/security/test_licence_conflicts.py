"""Terms that forbid commercial use stop a build that is marked commercial, unless a written reason says otherwise."""

from __future__ import annotations

import pytest

from factory.config.compose import compose
from factory.errors import ConfigError
from factory.pipeline.plan import make_plan
from factory.registry.licence_classes import forbids_commercial_use, licence_notes
from factory.report.licences import classify, roll_up

REASON = "We hold a commercial licence of the owner, contract 17 of 2026."


@pytest.mark.parametrize(
    "text",
    [
        "CC-BY-NC-4.0",
        "cc-by-nc-sa-4.0",
        "mixed, partly non-commercial",
        "Research use only",
        "non commercial",
        "academic use only",
    ],
)
def test_terms_that_forbid(text):
    assert forbids_commercial_use(text)


@pytest.mark.parametrize(
    "text", ["Apache-2.0", "MIT", "CC-BY-4.0", "cc-by-sa-4.0", "not stated", "llama3.1", "ncsa", "the user's own"]
)
def test_terms_that_do_not(text):
    assert not forbids_commercial_use(text)


def plan(tmp_path, home, *overrides: str):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"question": "Which is safe?", "options": ["a", "b"], "answer": "A"}\n')
    return make_plan(compose("safety", data=[str(data)], overrides=overrides), home=home)


def test_plan_refuses_the_conflict_and_names_it(tmp_path, home):
    with pytest.raises(ConfigError, match=r"CC-BY-NC-4.0.*licence_override") as caught:
        plan(tmp_path, home, "data.licence=CC-BY-NC-4.0", "intended_use=commercial")
    assert caught.value.exit_code == 2
    for use in ("research", "unstated"):
        assert plan(tmp_path, home, "data.licence=CC-BY-NC-4.0", f"intended_use={use}").notes == ()
    assert plan(tmp_path, home, "data.licence=MIT", "intended_use=commercial").notes == ()


def test_a_written_reason_overrides_and_goes_into_lineage_and_card(tmp_path, home, put):
    from factory.report.card import card_text, facts_of_record

    made = plan(tmp_path, home, "data.licence=CC-BY-NC-4.0", "intended_use=commercial", f"licence_override={REASON!r}")
    [note] = made.notes
    assert REASON in note and "CC-BY-NC-4.0" in note and made.to_json()["notes"] == [note]
    record = put("marked", notes=made.notes, config=made.composed.plain)
    card = card_text(facts_of_record(record), modality="text", is_adapter=False, loader="L")
    assert REASON in card and "CC-BY-NC-4.0" in card and "non-commercial" in card
    with pytest.raises(ConfigError, match="in a sentence"):
        plan(tmp_path, home, "data.licence=CC-BY-NC-4.0", "intended_use=commercial", "licence_override=ok")


def test_uncleared_terms_are_told_and_identifier_modes_too(tmp_path, home):
    notes = plan(tmp_path, home, "intended_use=commercial", "pack.identifiers=allow").notes
    assert "not cleared: data of data.paths" in notes[0] and "not looked for (pack.identifiers=allow)" in notes[1]


def test_a_base_of_such_terms_conflicts_too():
    with pytest.raises(ConfigError, match="base model x"):
        licence_notes([("base model x", "CC-BY-NC-4.0")], "commercial", "")


def test_terms_change_no_fingerprint(tmp_path, home):
    def prints(*overrides: str) -> list[str]:
        return [step.fingerprint for step in plan(tmp_path, home, *overrides).steps]

    assert prints() == prints("data.licence=MIT", "intended_use=commercial")


def test_the_roll_up_takes_the_users_word_for_the_users_data():
    base, pack = {"ref": "b", "licence": "Apache-2.0"}, {"name": "p", "license": "MIT"}
    assert roll_up(base, pack, (), 2, "CC-BY-NC-4.0").kind == "non-commercial" == classify("CC-BY-NC-4.0")
    assert roll_up(base, pack, (), 2).kind == "unknown"
