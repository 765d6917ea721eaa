"""The probes on views that know everything, nothing, or one strand only."""

from types import SimpleNamespace

import numpy as np
import pytest

from factory.contracts import DataRequest
from factory.domains.biology import evals
from factory.domains.biology.pack import PACK
from factory.domains.biology.sequences import gc_count, wallace


class View:
    """Log-probability 0 for the continuation that `rule` gives to the prompt, -1 for all others."""

    def __init__(self, rule=lambda prompt: "", answers=None, limit=60):
        self.rule, self.answers, self.request = rule, answers or {}, DataRequest(limit=limit)

    def continuation_logprobs(self, prompts, continuations):
        return np.array(
            [0.0 if text.strip() == self.rule(prompt) else -1.0 for (prompt, _), text in zip(prompts, continuations, strict=True)]
        )


def test_labels_read_the_answers_of_the_primary_eval():
    samples = list(PACK.samples("test", 3, DataRequest(limit=200)))
    right = {sample.id: PACK.gold(sample) for sample in samples}
    found = evals.labels(View(answers=right, limit=200), "test", 3)
    assert {key.partition("/")[0] for key in found} == {"effect", "regulation", "pathway"}
    for task in ("effect", "regulation", "pathway"):
        assert found[f"{task}/macro_f1"] == found[f"{task}/mcc"] == 1.0
        assert 0 < found[f"{task}/majority"] < 1
    constant = evals.labels(
        View(answers={sample.id: "<think>x</think><answer>up</answer>" for sample in samples}, limit=200), "test", 3
    )
    assert constant["regulation/mcc"] == 0.0
    assert constant["effect/macro_f1"] == 0.0


def test_several_right_labels_count_as_one():
    rows = [{"task": "variant_disease", "reference": ["pathogenic; a", "pathogenic; b"], "completion": "Answer: pathogenic; B"}]
    from factory.domains.biology.figures import label_figures

    assert label_figures(rows, ["variant_disease"], evals.label_said)["variant_disease/accuracy"] == 1.0


def test_a_view_that_counts_is_consistent_and_right():
    view = View(lambda prompt: str((gc_count if prompt.startswith("gc") else wallace)(prompt.split()[1])))
    found = evals.strand_consistency(view, "test", 0)
    for task in ("gc", "melting"):
        assert found[f"{task}/accuracy"] == found[f"{task}/consistency"] == 1.0
        assert found[f"{task}/chance"] < 0.5


def test_a_view_that_looks_at_the_first_base_is_not():
    found = evals.strand_consistency(View(lambda prompt: "2" if prompt.split()[1][0] in "AC" else "3"), "test", 0)
    # The first base of the other strand is the partner of the last one: independent, so about one half agree.
    assert found["gc/consistency"] == pytest.approx(0.5, abs=0.2)


def test_likeliest_label_of_a_view_that_knows_and_of_one_that_guesses():
    known = {f"{q.text} ;": str(q.reference) for task in ("effect", "regulation", "pathway")
             for q in evals.probe_questions(task, "test", 0, evals.PROBED)}  # fmt: skip
    found = evals.likeliest_label(View(lambda prompt: known[prompt]), "test", 0)
    assert all(found[f"{task}/accuracy"] == 1.0 for task in ("effect", "regulation", "pathway"))
    guess = evals.likeliest_label(View(lambda prompt: "up"), "test", 0)
    assert guess["regulation/mcc"] == 0.0


def test_real_data_answers_are_read_from_the_same_rows(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("sequence,label\nACGTAC,promoter\nTTTTTT,none\n")
    request = DataRequest(paths=(str(path),))
    answers = {sample.id: "promoter" for sample in PACK.samples("test", 0, request)}
    found = evals.labels(SimpleNamespace(request=request, answers=answers), "test", 0)
    assert (found["region_class/accuracy"], found["region_class/majority"]) == (0.5, 0.5)
