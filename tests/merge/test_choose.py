"""Choice among models: which words count, the entropy at them against a float64 reference, and who wins."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Eval, Message, Sample
from factory.errors import ConfigError
from factory.stages.merge import choose
from factory.stages.merge.config import By, How, MergeConfig
from factory.stages.merge.critical import critical_entropy, critical_positions, critical_starts
from factory.stages.models.load import load, save

WORDS = ["wait", "alternatively", "however"]
WORDS_ASKED = ("red", "blue", "so")


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("Wait, this is wrong.", [0]),
        ("It is red. Wait: blue.\nhowever so", [11, 23]),
        ("<think>\nalternatively</think>", [8]),
        ("we wait here", []),  # inside a sentence
        ("Waiting. waits", []),  # other words
        ('He says: "Wait"', [10]),
        ("", []),
    ],
)
def test_openers_by_hand(text, starts):
    assert critical_starts(text, WORDS, sentence_start=True) == starts


def test_anywhere_counts_words_inside_sentences_too():
    assert critical_starts("we wait. however", WORDS, sentence_start=False) == [3, 9]


@given(st.text(alphabet="wait. \nhx", max_size=40))
def test_openers_are_among_the_words_anywhere(text):
    opening = critical_starts(text, WORDS, sentence_start=True)
    anywhere = critical_starts(text, WORDS, sentence_start=False)
    assert set(opening) <= set(anywhere)
    assert all(text[start : start + 4].casefold() in ("wait", "howe") for start in anywhere)


def test_position_is_the_token_in_which_the_word_begins(base):
    codec = load(base, precision="fp32").codec
    text = "the sky is red. Wait, alternatively blue. however"
    ids = codec.chat.plain_ids(text)
    got = critical_positions([*ids, codec.eos_ids[0]], codec, ["wait", "however"], sentence_start=True)
    before = [codec.tokenizer.decode(ids[:index]) for index in got]
    through = [codec.tokenizer.decode(ids[: index + 1]) for index in got]
    for start, short, longer in zip((text.index("Wait"), text.index("however")), before, through, strict=True):
        assert len(short) <= start < len(longer)


def reference_entropy(loaded, prompt, ids, index):
    """-sum p log p in float64 of the distribution that follows everything before ids[index]; one row, no batch."""
    batch = loaded.codec.collate([type(prompt)([*prompt.ids, *ids[:index]], [0] * (len(prompt.ids) + index))])
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        logits = loaded.model(**inputs).logits[0, -1].double()
    p = torch.exp(logits - logits.max())
    p = p / p.sum()
    return float(-(p * torch.log(p)).sum())


def test_entropy_against_a_float64_reference(base):
    loaded = load(base, precision="fp32")
    texts = ["wait. the sky is red. Wait", "the sky", "so. alternatively is blue"]
    prompts = [loaded.codec.prompt(sample.messages) for sample in _samples(3)]
    completions = [[*loaded.codec.chat.plain_ids(text), loaded.codec.eos_ids[0]] for text in texts]
    got = critical_entropy(loaded, prompts, completions, WORDS, batch_size=2)
    expected = [
        reference_entropy(loaded, prompt, ids, index)
        for prompt, ids in zip(prompts, completions, strict=True)
        for index in critical_positions(ids, loaded.codec, WORDS, sentence_start=True)
    ]
    assert (got.count, got.completions) == (3, 2) and len(expected) == 3
    assert got.mean == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_no_critical_word_has_no_entropy(base):
    loaded = load(base, precision="fp32")
    prompts = [loaded.codec.prompt(sample.messages) for sample in _samples(1)]
    got = critical_entropy(loaded, prompts, [loaded.codec.chat.plain_ids("the sky is red")], WORDS)
    assert (got.mean, got.count, got.completions) == (None, 0, 0)


def _samples(count):
    return [Sample(f"v{i}", "sky", (Message("user", f"the sky is {WORDS_ASKED[i % 3]}"),), "blue") for i in range(count)]


@pytest.fixture
def sharp(base, tmp_path):
    """The base with its last norm tripled: logits are three times as large, so every distribution is sharper."""
    loaded = load(base, precision="fp32")
    with torch.no_grad():
        loaded.model.model.norm.weight.mul_(3.0)
    return save(loaded, tmp_path / "sharp" / "model")


@pytest.fixture
def scripted(monkeypatch):
    """Every model writes the same scripted text instead of sampling."""

    def script(text):
        monkeypatch.setattr(
            choose, "complete", lambda loaded, prompts, config, seed: [loaded.codec.chat.plain_ids(text) for _ in prompts]
        )

    return script


@pytest.mark.parametrize("order", [("sharp", "flat"), ("flat", "sharp")])
def test_the_less_certain_model_is_kept(run_stage, base, sharp, scripted, order):
    scripted("wait. the sky is blue. however red")
    models = {"sharp": sharp, "flat": base}
    workdir, outputs = run_stage({name: models[name] for name in order}, how=How.choose, samples=3)
    measured = outputs.metrics["measured"]
    assert outputs.metrics["chosen"] == "flat" and measured["flat"]["value"] > measured["sharp"]["value"]
    assert measured["flat"]["count"] == 6  # 2 words x 3 completions
    assert (workdir / "model" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert json.loads((workdir / "merge.json").read_text()) == outputs.metrics
    load(workdir / "model", precision="fp32")


def test_figures_are_those_of_the_reference(run_stage, base, sharp, scripted):
    scripted("however. wait")
    pack = SimpleNamespace(samples=lambda split, seed, request: _samples(request.limit))
    _, outputs = run_stage({"flat": base, "sharp": sharp}, how=How.choose, samples=2, its_pack=pack)
    for name, folder in (("flat", base), ("sharp", sharp)):
        loaded = load(folder, precision="fp32")
        ids = loaded.codec.chat.plain_ids("however. wait")
        prompts = [loaded.codec.prompt(sample.messages) for sample in _samples(2)]
        at = critical_positions(ids, loaded.codec, ["however", "wait"], sentence_start=True)
        expected = [reference_entropy(loaded, prompt, ids, index) for prompt in prompts for index in at]
        assert outputs.metrics["measured"][name]["value"] == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_words_that_nobody_writes_are_refused(run_stage, base, sharp, scripted):
    scripted("the sky is blue")
    with pytest.raises(ConfigError, match=r"none of the words wait, however stands .*merge.by=validation"):
        run_stage({"flat": base, "sharp": sharp}, how=How.choose, samples=2, words=["wait", "however"])


def test_model_without_critical_words_cannot_win():
    config = MergeConfig(reads=["a", "b"], how=How.choose)
    assert choose.best_of({"a": {"value": None}, "b": {"value": 0.1}}, config, "merge") == "b"


def test_tie_goes_to_the_first_named():
    config = MergeConfig(reads=["a", "b"], how=How.choose)
    assert choose.best_of({"b": {"value": 0.5}, "a": {"value": 0.5}}, config, "merge") == "b"


def test_chosen_adapter_becomes_full_weights(run_stage, base, adapter, monkeypatch):
    monkeypatch.setattr(choose, "measure", lambda config, ctx, source, samples: {"value": float(source.name == "rl")})
    workdir, outputs = run_stage({"sft": base, "rl": adapter}, how=How.choose, samples=1)
    assert outputs.metrics["chosen"] == "rl" and not (workdir / "scratch").exists()
    mine, theirs = (
        load(workdir / "model", precision="fp32").model.state_dict(),
        load(adapter, precision="fp32").model.state_dict(),
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_choice_by_validation_score(run_stage, base, sibling, monkeypatch):
    def complete(loaded, prompts, config, seed):
        text = "blue" if loaded.source == sibling else "red"
        return [loaded.codec.chat.plain_ids(text) for _ in prompts]

    monkeypatch.setattr(choose, "complete", complete)
    asked = []
    pack = SimpleNamespace(
        manifest=None,
        samples=lambda split, seed, request: asked.append((split, seed)) or _samples(request.limit),
        evals=lambda: {"sky": Eval("sky", verifier="blue", primary=True)},
    )
    _, outputs = run_stage(
        {"red": base, "blue": sibling}, how=How.choose, by=By.validation, samples=3, its_pack=pack,
        domain="colours:VERIFIERS", build={"pool": {"workers": 1}},
    )  # fmt: skip
    assert outputs.metrics["measured"] == {"red": {"value": 0.0, "count": 3}, "blue": {"value": 1.0, "count": 3}}
    assert outputs.metrics["chosen"] == "blue"
    assert asked == [("validation", 20_000)], "no test sample is drawn"


def test_real_completions_are_the_same_again(base):
    loaded = load(base, precision="fp32")
    prompts = [loaded.codec.prompt(sample.messages) for sample in _samples(3)]
    config = MergeConfig(reads=["a", "b"], how=How.choose, temperature=1.0, max_new_tokens=6)
    first = choose.complete(loaded, prompts, config, 5)
    assert first == choose.complete(loaded, prompts, config, 5) != choose.complete(loaded, prompts, config, 6)
