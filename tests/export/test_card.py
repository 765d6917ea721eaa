"""The card of an exported model, read back by huggingface_hub's own parser; and the licence roll-up."""

import pytest
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from factory.report.card import bare_card, card_text, facts_of_record
from factory.report.licences import classify, roll_up


def card(record, **more):
    return card_text(facts_of_record(record(**more)), modality="text", is_adapter=False, loader="load(FOLDER)")


def test_the_hub_reads_the_card_and_the_measured_result(record):
    parsed = ModelCard(card(record))
    assert isinstance(parsed.data, ModelCardData)
    (result,) = parsed.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.75, "test")
    assert result.metric_args == {"n": 40, "ci95_low": 0.6, "ci95_high": 0.86}
    assert parsed.data.base_model == "Qwen/Qwen3-0.6B" and parsed.data.license == "apache-2.0"
    assert (parsed.data.library_name, parsed.data.pipeline_tag) == ("transformers", "text-generation")


def test_the_model_index_is_in_the_form_that_the_hub_writes(record):
    import yaml

    head = yaml.safe_load(card(record).split("---\n")[1])
    name, results = model_index_to_eval_results(head["model-index"])
    assert name == "demo-v0" and results[0].dataset_type == "domain-factory/timeseries"


def test_a_model_without_a_measurement_claims_none(record):
    parsed = ModelCard(card(record, evals={}))
    assert parsed.data.eval_results is None and "It was not measured." in parsed.text


def test_results_stand_in_the_order_of_the_stages_and_name_this_model(record):
    text = card(record)
    assert text.index("| base | accuracy | 25.0 %") < text.index("| **sft** (this model) | accuracy | 75.0 %")
    assert "Teaching." in text and "Decisions." in text


def test_a_bare_card_is_read_and_claims_nothing():
    parsed = ModelCard(bare_card("x", modality="vl", is_adapter=False, loader="load(FOLDER)"))
    assert parsed.data.license == "unknown" and parsed.data.eval_results is None


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Apache-2.0", "permissive"), ("MIT", "permissive"), ("CC-BY-4.0", "attribution"), ("ODC-BY", "attribution"),
        ("CC-BY-SA-3.0", "share-alike"), ("CC-BY-NC-SA-4.0", "non-commercial"), ("CC-BY-NC-ND", "non-commercial"),
        ("research use, gated", "restricted"), ("none stated", "unknown"), ("MIT on the hub, not checked by us", "unknown"),
        ("", "unknown"), ("the user's own", "unknown"), ("mixed, partly non-commercial", "unknown"), ("Frobnitz-7", "unknown"),
        ("ODC-BY, not checked by us", "unknown"), ("llama3.1", "restricted"),
    ],
)  # fmt: skip
def test_licences_are_classed_and_doubt_is_unknown(said, kind):
    assert classify(said) == kind


def rolled(base="Apache-2.0", data="MIT", num_files=0, bundled=True):
    return roll_up(
        {"ref": "b", "licence": base},
        {"name": "p", "license": "MIT"},
        [{"id": "d", "license": data, "bundled": bundled}],
        num_files,
    )


def test_the_roll_up_takes_the_most_restrictive_part():
    assert (rolled().tag, rolled().kind) == ("apache-2.0", "permissive")
    assert (rolled(data="CC-BY-NC-4.0").tag, rolled(data="CC-BY-NC-4.0").kind) == ("cc-by-nc-4.0", "non-commercial")
    both = rolled(base="CC-BY-NC-SA-4.0", data="CC-BY-NC-4.0")
    assert (both.tag, both.name) == ("other", "non-commercial-see-card"), "two different terms have no tag in common"
    assert rolled(base="unknown: read the base's own licence").tag == "unknown"


def test_a_source_that_was_not_used_does_not_count_but_the_users_files_do():
    assert rolled(data="CC-BY-NC-4.0", bundled=False).kind == "permissive"
    own = rolled(num_files=2)
    assert own.kind == "unknown" and own.parts[-1].name == "2 files of the user"
