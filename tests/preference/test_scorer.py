"""The scorer by itself: its head, what it reads, what it refuses; and which pairs are held out and what is said of them."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import pytest
import taste
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Media, Message, Pair, Sample
from factory.errors import DataError, ModelError
from factory.stages.models.forward import model_inputs
from factory.stages.models.load import load, save
from factory.stages.models.scorer import Scorer, ScorerSettings, encode_for_scoring, load_scorer, reveal, with_head
from factory.stages.models.value_head import ValueHead
from factory.stages.pair_batches import encode_pair, pairs_per_forward
from factory.stages.reward_model.held_out import held_out_figures, split_pairs, wilson
from factory.stages.reward_model.objective import safety_signs
from factory.stages.reward_model.train import answers_alone

torch.set_num_threads(1)
PLAIN = ScorerSettings("bradley_terry", show_reference=False, max_length=64)


def sample(reference="blue", **more):
    return Sample("s", "sky", (Message("system", "be brief"), Message("user", "the sky is")), reference, **more)


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    return save(with_head(load(base, precision="fp32"), PLAIN, seed=1), tmp_path_factory.mktemp("scorer") / "scorer")


def test_score_is_the_head_on_the_last_real_token(base, folder):
    scorer = load_scorer(folder)
    item = (sample(), "blue and blue")
    codec = scorer.loaded.codec
    row = encode_for_scoring(*item, codec, show_reference=False)
    assert row.ids[-1] == codec.chat.end_of_turn
    # Independent route: the language model's hidden states, in float64 with the head's weights.
    bare = load(base, precision="fp32").model
    hidden = bare(**model_inputs(codec.collate([row])), output_hidden_states=True).hidden_states[-1][0, -1].double()
    want = float((hidden @ scorer.loaded.model.value_head.weight[0].double()).detach())
    others = [(sample(), "red"), (sample(), "green and " * 9)]
    for items in ([item], [item, *others], [*others, item]):
        assert scorer.score(items)[items.index(item)] == pytest.approx(want, abs=1e-5)
    assert scorer.score([]) == []


def test_bf16_scorer_scores_close_to_fp32(folder):
    items = [(pair.sample, pair.chosen) for pair in taste.pairs(6)]
    exact, rough = (load_scorer(folder, precision=precision).score(items) for precision in ("fp32", "bf16"))
    assert rough == pytest.approx(exact, abs=0.15) and rough != exact


def test_head_is_drawn_from_its_own_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    head, again, other = ValueHead(4000, seed=1), ValueHead(4000, seed=1), ValueHead(4000, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(head.weight, again.weight) and not torch.equal(head.weight, other.weight)
    # standard deviation 1 / sqrt(4001) = 0.01581; of 4000 draws its own error is 1.1 %
    assert float(head.weight.detach().std()) == pytest.approx(0.01581, rel=0.05)


def test_the_reference_and_the_caption_are_shown_only_when_asked(base):
    asked = sample({"b": 2, "a": "<image>"}, meta={"caption": "a clear day"})
    told = reveal(asked)
    assert told[0] == asked.messages[0]
    assert told[1].content == 'the sky is\n\nCaption: a clear day\nReference: {"a": "(image)", "b": 2}'
    codec = load(base, precision="fp32").codec
    text = codec.tokenizer.decode(encode_for_scoring(asked, "blue", codec, show_reference=True).ids)
    assert "a clear day" in text and text.index("a clear day") < text.index("blue")
    assert "a clear day" not in codec.tokenizer.decode(encode_for_scoring(asked, "blue", codec, show_reference=False).ids)
    with pytest.raises(DataError, match=r"sample s: has neither a reference nor meta\.caption"):
        reveal(sample(None))
    with pytest.raises(DataError, match="no user turn"):
        reveal(Sample("s", "t", (Message("system", "x"),), "r"))


def test_a_scorer_that_was_shown_the_reference_reads_it_in_use(base):
    loaded = with_head(load(base, precision="fp32"), ScorerSettings("bradley_terry", True, 64), seed=1)
    scorer = Scorer(loaded)
    blue, red = scorer.score([(sample("blue"), "green"), (sample("red"), "green")])
    assert abs(blue - red) > 1e-3
    first, second = Scorer(with_head(load(base, precision="fp32"), PLAIN, seed=1)).score(
        [(sample("blue"), "green"), (sample("red"), "green")]
    )
    assert first == pytest.approx(second, abs=1e-5)


def test_a_scorer_of_answers_cannot_be_talked_over_by_reasoning(base, tmp_path):
    settings = ScorerSettings("cost", show_reference=False, max_length=64, shape="think_answer")
    made = with_head(load(base, precision="fp32"), settings, seed=1)
    scorer = load_scorer(save(made, tmp_path / "scorer"))
    assert scorer.settings.shape == "think_answer"
    answers = [
        "<think>the sky is green</think><answer>blue</answer>",
        "<think>it is allowed</think><answer>blue</answer>",
        "blue",
    ]
    scores = scorer.score([(sample(), text) for text in answers])
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-6)
    # Without an answer the response is read whole, and cannot pass for one.
    assert scorer.score([(sample(), "<think>blue</think>")])[0] != pytest.approx(scores[0], abs=1e-6)
    whole = Scorer(with_head(load(base, precision="fp32"), PLAIN, seed=1)).score([(sample(), text) for text in answers])
    assert len({round(score, 6) for score in whole}) == 3


def test_pairs_for_a_scorer_of_answers_need_an_answer():
    pair = Pair(sample(), "<think>a</think><answer>blue</answer>", "<think>b</think><answer>red</answer>", {"chosen_safe": True})
    bare = answers_alone(pair, "think_answer")
    assert (bare.chosen, bare.rejected, bare.meta) == ("blue", "red", pair.meta)
    with pytest.raises(DataError, match="pair of sample s: its rejected response has no answer in the shape 'think_answer'"):
        answers_alone(replace(pair, rejected="red"), "think_answer")


def test_damaged_scorer_folders_are_refused(folder, base, tmp_path):
    import shutil

    with pytest.raises(ModelError, match=r"scorer\.json: cannot be read .* Give the `scorer` folder"):
        load_scorer(base)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "value_head.safetensors").unlink()
    with pytest.raises(ModelError, match=r"value_head\.safetensors: cannot be read"):
        load_scorer(broken)
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1, 7)}, broken / "value_head.safetensors")
    with pytest.raises(ModelError, match=r"has shape \[1, 7\], its model needs \[1, 128\]"):
        load_scorer(broken)
    row = json.loads((folder / "scorer.json").read_text())
    (broken / "scorer.json").write_text(json.dumps({**row, "format": 99}))
    with pytest.raises(ModelError, match="is of another format than 1"):
        load_scorer(broken)


def test_long_responses_are_cut_and_a_prompt_without_room_is_refused(base):
    codec = load(base, precision="fp32").codec
    pair = Pair(sample(), "blue " * 40, "red")

    def encode(asked, text):
        return codec.lesson(asked.messages, text)

    short = encode_pair(pair, encode, 32)
    assert len(short.chosen.ids) == 32 and short.num_cut == 1 and len(short.rejected.ids) < 32
    with pytest.raises(DataError, match=r"pair of sample s: its prompt alone fills max_length=4"):
        encode_pair(pair, encode, 4)
    assert [pairs_per_forward(n) for n in (0, 1, 2, 3, 8)] == [0, 1, 1, 1, 4]


def test_an_image_that_would_be_cut_is_refused(vl_base):
    codec = load(vl_base, precision="fp32").codec
    pair = taste.pairs(2, with_images=True)[1]
    coded = encode_pair(pair, lambda asked, text: codec.lesson(asked.messages, text, asked.media), 512)
    assert coded.chosen.pixels is coded.rejected.pixels and coded.chosen.pixels is not None
    with pytest.raises(DataError, match=f"pair of sample {pair.sample.id}: a row with images has"):
        encode_pair(pair, lambda asked, text: codec.lesson(asked.messages, text, asked.media), 20)


def test_safety_labels_become_signs_or_are_refused():
    def labelled(chosen, rejected):
        return Pair(sample(), "a", "b", {"chosen_safe": chosen, "rejected_safe": rejected})

    assert safety_signs([labelled(True, False), labelled(True, True), labelled(False, False)]) == [(-1, 1), (-1, -1), (1, 1)]
    with pytest.raises(DataError, match="prefers an unsafe response to a safe one"):
        safety_signs([labelled(False, True)])
    with pytest.raises(DataError, match=r"needs meta\.chosen_safe and meta\.rejected_safe \(true or false\), got None and True"):
        safety_signs([labelled(None, True)])


def asked(word, image=None):
    media = (Media(data=image),) if image else ()
    return Pair(Sample(f"id-{word}-{image}", "t", (Message("user", word),), None, media=media), "a", "b")


@settings(max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.floats(0.01, 0.95), st.randoms())
def test_held_out_pairs_share_no_prompt_with_the_others(words, share, random):
    pairs = [asked(str(word)) for word in words]
    if len(set(words)) < 2:
        with pytest.raises(DataError, match="same prompt"):
            split_pairs(pairs, share)
        return
    train, held = split_pairs(pairs, share)
    ours, theirs = ({pair.sample.messages for pair in part} for part in (train, held))
    assert len(train) + len(held) == len(pairs) and train and held and not ours & theirs
    assert len(theirs) == min(len(set(words)) - 1, max(1, round(share * len(set(words)))))
    shuffled = split_pairs(random.sample(pairs, len(pairs)), share)
    assert {pair.sample.messages for pair in shuffled[1]} == theirs


def test_the_same_words_on_another_image_are_another_prompt():
    pairs = [asked("what is it?", image) for image in (b"one", b"two", b"two")]
    train, held = split_pairs(pairs, 0.5)
    assert sorted((len(train), len(held))) == [1, 2]
    assert split_pairs(pairs, 0.0) == (pairs, [])


@given(st.integers(1, 400), st.data())
def test_wilson_interval_solves_its_equation(trials, data):
    hits = data.draw(st.integers(0, trials))
    low, high = wilson(hits, trials)
    share, z = Fraction(hits, trials), 1.959963984540054
    assert 0.0 <= low <= float(share) + 1e-12 and float(share) - 1e-12 <= high <= 1.0
    for end in (low, high):
        # Wilson's ends p are where |share - p| = z sqrt(p (1 - p) / n).
        if 0.0 < end < 1.0:
            assert abs(float(share) - end) == pytest.approx(z * math.sqrt(end * (1 - end) / trials), abs=1e-6)


def test_held_out_figures_by_hand():
    # Margins 1, -2, 0 (a tie is wrong): 1 of 3. As costs: -1, 2, 0: 1 of 3 as well, another one.
    scores = [(2.0, 1.0), (0.0, 2.0), (1.0, 1.0)]
    figures = held_out_figures(scores, better_is=1)
    assert figures["accuracy"] == pytest.approx(1 / 3) and figures["margin"] == pytest.approx(-1 / 3)
    assert (figures["accuracy_low"], figures["accuracy_high"]) == pytest.approx((0.0615, 0.7923), abs=1e-4)
    figures = held_out_figures(scores, better_is=-1, signs=[(-1, 1), (-1, 1), (-1, -1)])
    # Signs times costs: -2, 1; 0, 2; -1, -1: two of six are on their side of zero.
    assert figures["margin"] == pytest.approx(1 / 3) and figures["label_accuracy"] == pytest.approx(2 / 6)
    assert math.isnan(held_out_figures([], better_is=1)["accuracy_low"])
