"""Answers of a model in memory: as the plain measurement's when greedy, repeatable when sampled, and kept."""

import json

import pytest

from factory.contracts import Message, Sample
from factory.errors import ConfigError
from factory.evaluation.answers import AnswerFile, ask_local
from factory.evaluation.endpoint import Answer, Asking
from factory.stages.models.load import load

SAMPLES = [Sample(f"s{i}", "t", (Message("user", "the cat sat on the mat"[: 6 + 3 * i]),), "x") for i in range(3)]


@pytest.fixture(scope="module")
def loaded(text_base):
    return load(text_base, precision="fp32")


def asked(loaded, path, attempts, temperature, batch_size=64, samples=SAMPLES):
    file = AnswerFile(path, {"k": attempts})
    ask_local(loaded, samples, attempts, Asking(6, temperature), file, seed=3, batch_size=batch_size)
    return file.found


def test_sampled_answers_depend_on_seed_and_question_alone(loaded, tmp_path):
    whole = asked(loaded, tmp_path / "a.jsonl", 4, 1.0)
    assert set(whole) == {(sample.id, number) for sample in SAMPLES for number in range(4)}
    assert len({whole["s0", number].text for number in range(4)}) > 1, "attempts differ"
    assert asked(loaded, tmp_path / "b.jsonl", 4, 1.0, batch_size=4) == whole
    alone = asked(loaded, tmp_path / "c.jsonl", 4, 1.0, samples=SAMPLES[1:2])
    assert alone == {key: answer for key, answer in whole.items() if key[0] == "s1"}


def test_greedy_answers_are_those_of_the_build(loaded, tmp_path):
    import torch

    from factory.stages.models.generate import generate

    found = asked(loaded, tmp_path / "a.jsonl", 1, 0.0)
    prompts = [loaded.codec.prompt(sample.messages) for sample in SAMPLES]
    for one in generate(loaded, prompts, max_new_tokens=6, temperature=0.0, generator=torch.Generator()):
        assert found[f"s{one.prompt_index}", 0] == Answer(loaded.codec.completion(one.ids), len(one.ids), one.finished)


def test_a_line_that_a_kill_cut_off_is_asked_again_and_other_settings_are_refused(tmp_path):
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path, {"k": 1})
    file.keep(("s0", 0), Answer("a", 1, True))
    file.keep(("s1", 0), Answer("b", 1, True))
    path.write_bytes(path.read_bytes()[:-9])
    again = AnswerFile(path, {"k": 1})
    assert set(again.found) == {("s0", 0)} and [sample.id for sample, _ in again.missing(SAMPLES, 1)] == ["s1", "s2"]
    again.keep(("s1", 0), Answer("c", 1, True))
    assert [json.loads(line).get("text") for line in path.read_text().splitlines()] == [None, "a", "c"]
    with pytest.raises(ConfigError, match="other questions or settings"):
        AnswerFile(path, {"k": 2})
