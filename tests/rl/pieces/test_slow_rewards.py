"""Group rewards, caption and format rewards and token terms against slow float64 references, written from the papers' formulas.

Every reference is plain loops over the guides' formula (part B); none calls our code for what it checks.
"""

import itertools
import math
from collections import Counter
from fractions import Fraction
from hashlib import sha256
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import scored
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_policy import Scripted
from scripted_policy import rollout as written

from factory.contracts import IMAGE, Media, Message, Sample
from factory.stages.rl.pieces.caption import CaptionReward, SatoriReward, bleu4, rouge_l, union_iou
from factory.stages.rl.pieces.care import ConsistencyBonus
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.curriculum import StagedEntropy
from factory.stages.rl.pieces.segments import LineGain
from factory.stages.rl.pieces.tis import TruncatedImportance
from factory.stages.rl.pieces.vote import MajorityVote

quick = settings(max_examples=30, deadline=None)


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=1e-9, atol=1e-12)


def care_by_the_guide(accuracies, answers):
    """B4.2: `answers[i]` are the reference's log-probs over the tokens after <answer>."""
    total = Fraction(0)
    for accuracy in accuracies:
        total += Fraction(accuracy).limit_denominator(100)  # 0.3 is 3/10
    chosen = []
    for i, accuracy in enumerate(accuracies):
        if accuracy > 0.1 and Fraction(accuracy).limit_denominator(100) * len(accuracies) >= total:
            chosen.append(i)
    confidence, mean = {}, np.float64(0.0)
    for i in chosen:
        product = np.float64(1.0)
        for logprob in answers[i]:
            product *= np.exp(np.float64(logprob))
        confidence[i] = np.minimum(product ** (1.0 / len(answers[i])), 0.95)
        mean += confidence[i] / len(chosen)
    return [0.5 * a if i in confidence and confidence[i] >= mean - 0.01 else 0.0 for i, a in enumerate(accuracies)]


@pytest.mark.proves("group_reward.care", "float64")
@quick
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.7, 1.0]), st.lists(st.floats(-6, 0), min_size=1, max_size=3)),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_care(rows):
    marks = ["think ", "<answer>", "</answer>"]
    own = [[f"w{i}.{t} " for t in range(len(logprobs))] for i, (_, logprobs) in enumerate(rows)]
    # What stands outside of the answer has another log-prob, which must not count.
    services = scored.Vocabulary(
        [*marks, *(word for words in own for word in words)],
        ref=[-9.0, -8.0, -7.0, *(x for _, logprobs in rows for x in logprobs)],
    )
    group = scored.group([{"exact": accuracy} for accuracy, _ in rows])
    for rollout, words in zip(group.rollouts, own, strict=True):
        rollout.ids = services.encode("think ", "<answer>", *words, "</answer>")
    ConsistencyBonus().apply(scored.context(services=services), group)
    found = [rollout.shaping["group_reward.care"] for rollout in group.rollouts]
    close(found, care_by_the_guide([accuracy for accuracy, _ in rows], [logprobs for _, logprobs in rows]))


def vote_by_the_guide(answers, seed, step):
    """B4.8: the most frequent answer, a missing one a class of its own; equal counts drawn by the step's generator."""
    most, leaders = 0, []
    for one in answers:
        times = sum(1 for other in answers if other == one)
        if times > most:
            most, leaders = times, [one]
        elif times == most and one not in leaders:
            leaders.append(one)
    named = sorted(one for one in leaders if one is not None)
    if not named:
        return [0.0] * len(answers)
    generator = Random(int(sha256(f"{seed}/vote/s/{step}".encode()).hexdigest()[:16], 16) // 4)
    label = named[generator.randrange(len(named))]
    return [1.0 if one == label else 0.0 for one in answers]


@pytest.mark.proves("group_reward.vote", "float64")
@quick
@given(st.lists(st.sampled_from(["4", "5", "blue", None]), min_size=1, max_size=9), st.integers(0, 9), st.integers(0, 9))
def test_vote(answers, seed, step):
    group = scored.group([{"text": "" if one is None else f"so \\boxed{{{one}}}", "exact": 0.0} for one in answers])
    MajorityVote(shape="boxed").apply(scored.context(step, seed=seed), group)
    assert group.values() == vote_by_the_guide(answers, seed, step)


@pytest.mark.proves("auxiliary.staged_entropy", "float64")
@quick
@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3, unique=True).map(sorted),
    st.integers(1, 60).flatmap(lambda total: st.tuples(st.integers(0, total - 1), st.just(total))),
    st.sampled_from([(), (2, 5, 10), (1, 9, 10)]),
    st.lists(st.lists(st.floats(0, 8), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_staged_entropy(gammas, at, tenths, entropy):
    step, total = at
    stage = 0
    for k, end in enumerate(tenths or (Fraction(10, 3), Fraction(20, 3), 10)):
        if k < 2 and Fraction(step, total) >= Fraction(end) / 10:
            stage = k + 1
    piece = StagedEntropy(*gammas, ends=[tenth / 10 for tenth in tenths])
    found = piece(scored.context(step, total), SimpleNamespace(entropy=torch.tensor(entropy, dtype=torch.float64)))
    # B3.8: the objective gains gamma_stage * H, so the loss has it with a minus.
    close(found.numpy(), [[-gammas[stage] * h for h in row] for row in entropy])


def line_weights(lines, floor):
    """B3.9 as text: each line weighs by how much it moves the running words towards the whole text's."""
    names = sorted({word for line in lines for word in line})
    whole = np.array([sum(line.count(name) for line in lines) for name in names], np.float64)
    nears = [np.float64(0.0)]
    for k in range(len(lines)):
        so_far = np.array([sum(line.count(name) for line in lines[: k + 1]) for name in names], np.float64)
        is_empty = not so_far.any()
        nears.append(np.float64(0.0) if is_empty else so_far @ whole / (np.linalg.norm(so_far) * np.linalg.norm(whole)))
    gains = [max(after - before, 0.0) for before, after in itertools.pairwise(nears)]
    sizes = [len(line) + 1 for line in lines]
    weights = []
    for gain, size in zip(gains, sizes, strict=True):
        share = gain / sum(gains) / (size / sum(sizes)) if names else 1.0
        weights += [floor + (1 - floor) * share] * size
    return weights


@pytest.mark.proves("token_weight.line_gain", "float64")
@quick
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=5), min_size=1, max_size=5), st.floats(0, 0.99))
def test_line_gain(lines, floor):
    services = scored.Vocabulary(["a ", "b ", "c ", "d ", "\n"])
    group = scored.group([{}])
    one = group.rollouts[0]
    one.ids, one.advantage = services.encode(*(token for line in lines for token in [*(f"{w} " for w in line), "\n"])), -0.5
    LineGain(floor=floor).apply(scored.context(services=services), [group])
    close(one.token_weights, line_weights(lines, floor))


@pytest.mark.proves("token_weight.tis", "float64")
@quick
@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(-9, 0)), min_size=1, max_size=6), st.floats(1, 5))
def test_tis(pairs, cap):
    group = scored.group([{"tokens": len(pairs)}])
    one = group.rollouts[0]
    one.ids, one.logprobs = list(range(len(pairs))), [sampler for _, sampler in pairs]
    services = scored.Vocabulary([""] * len(pairs), ref=[trainer for trainer, _ in pairs])
    TruncatedImportance(cap=cap).apply(scored.context(services=services), [group])
    # min(pi_old / mu, cap), as a ratio of probabilities.
    ratios = [np.exp(np.float64(trainer)) / np.exp(np.float64(sampler)) for trainer, sampler in pairs]
    close(one.token_weights, [np.minimum(ratio, cap) for ratio in ratios])


def bleu_by_hand(said, gold):
    """Sentence BLEU-4: clipped n-gram hits, add-one above single words (Lin and Och), geometric mean, brevity penalty."""
    if not said or not gold:
        return 0.0
    product = np.float64(1.0)
    for n in (1, 2, 3, 4):
        own = [said[i : i + n] for i in range(len(said) - n + 1)]
        left = [gold[i : i + n] for i in range(len(gold) - n + 1)]
        hits = 0
        for gram in own:
            if gram in left:
                left.remove(gram)
                hits += 1
        product *= (hits + (n > 1)) / (len(own) + (n > 1))
    brevity = np.exp(1 - len(gold) / len(said)) if len(said) < len(gold) else 1.0
    return brevity * product**0.25


def rouge_by_hand(said, gold):
    """ROUGE-L: the F1 of precision and recall of the longest common subsequence, over all subsequences of the caption."""
    longest = 0
    for chosen in range(2 ** len(said)):
        part, rest = [word for i, word in enumerate(said) if chosen >> i & 1], iter(gold)
        if all(word in rest for word in part):
            longest = max(longest, len(part))
    if not longest:
        return 0.0
    precision, recall = longest / len(said), longest / len(gold)
    return 2 * precision * recall / (precision + recall)


def cells(boxes):
    """Unit squares that boxes with whole-number corners cover."""
    return {(x, y) for x1, y1, x2, y2 in boxes for x in range(x1, x2) for y in range(y1, y2)}


words = st.lists(st.sampled_from("abc"), max_size=6)
box = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@pytest.mark.proves("reward.satori", "float64")
@quick
@given(words, words, st.lists(box, max_size=3), st.lists(box, min_size=1, max_size=3), st.booleans())
def test_satori(said, gold, boxes, gold_boxes, is_kept):
    close(bleu4(" ".join(said), " ".join(gold)), bleu_by_hand(said, gold))
    close(rouge_l(" ".join(said), " ".join(gold)), rouge_by_hand(said, gold))
    both, either = cells(boxes) & cells(gold_boxes), cells(boxes) | cells(gold_boxes)
    close(union_iou(boxes, gold_boxes), len(both) / len(either))
    sample = scored.sample(caption=" ".join(gold), boxes=[list(one) for one in gold_boxes])
    rollout = scored.rollout()
    rollout.fields = {
        "form": "kept" if is_kept else "broken",
        "caption": " ".join(said),
        "bbox": " ".join(str(list(b)) for b in boxes),
    }
    # B8.20: format 1 + caption (BLEU-4 + ROUGE-L)/2 + IoU of the united boxes; a broken form has nothing to check.
    expected = 1 + (bleu_by_hand(said, gold) + rouge_by_hand(said, gold)) / 2 + len(both) / len(either)
    close(SatoriReward().score(None, sample, rollout), expected if is_kept else 0.0)


@pytest.mark.proves("reward.caption", "float64")
@quick
@given(
    st.lists(st.sampled_from(["a cat", "a dog", "a bird", None]), min_size=1, max_size=6), st.booleans(),
    st.dictionaries(st.sampled_from(["a cat", "a dog", "a bird"]), st.sampled_from("BC")), st.floats(0.01, 2),
)  # fmt: skip
def test_caption(captions, has_image, answers, weight):
    form = make("format", "caption_reason_answer", {})
    replies = {what: f"<think>w</think><answer>{answers.get(what, 'none')}</answer>" for what in ("a cat", "a dog", "a bird")}
    services = Scripted(answers=replies, form=form)
    image = Media(data=b"1")
    sample = Sample("s", "t", (Message("user", f"{IMAGE * has_image}what?"),), "B", media=(image,) if has_image else ())
    pairs, expected = [], []
    for i, caption in enumerate(captions):
        text = "<answer>B</answer>\0" if caption is None else f"<info>{caption}</info><think>a</think><answer>B</answer>\0"
        pairs.append((sample, written(text, index=i, services=services)))
        # B7.4: 0.1 (here the weight) if the text-only model answers right from the caption alone.
        expected.append(weight if has_image and caption is not None and answers.get(caption) == "B" else 0.0)
    reward = CaptionReward(weight=weight)
    ctx = scored.context(services=services)
    reward.prepare(ctx, pairs)
    close([reward.score(ctx, *pair) for pair in pairs], expected)


FORMS = {
    "think_answer": ["think", "answer"], "caption_reason_answer": ["info", "think", "answer"],
    "satori": ["caption", "bbox", "answer"], "observe": ["observe", "think", "answer"], "context": ["context", "think", "answer"],
    "two_pass": ["think", "answer", "reflection", "think", "answer"],
}  # fmt: skip
"""B7.4 to B7.6, B4.9: the blocks of each form in order."""


def keeps_form(parts, blocks):
    """Whether a list of marks and plain texts is these blocks in order, none empty, nothing outside."""
    wanted = [mark for name in blocks for mark in (f"<{name}>", f"</{name}>")]
    if [part for part in parts if part.startswith("<")] != wanted:
        return False
    inside, depth = Counter(), 0
    for part in parts:
        if part.startswith("<"):
            depth += 1
        elif part.strip() and depth % 2 == 0:
            return False
        else:
            inside[depth] += len(part.strip())
    return all(inside[depth] for depth in range(1, len(wanted), 2))


@st.composite
def completions(draw):
    """A form's name and the pieces of a text that keeps it, or nearly so."""
    name = draw(st.sampled_from(sorted(FORMS)))
    parts = []
    for block in FORMS[name]:
        parts += [
            f"<{block}>",
            draw(st.sampled_from(["a", "two words", "B", "7"])),
            f"</{block}>",
            draw(st.sampled_from(["", " ", "\n"])),
        ]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(parts) - 1))
        known = [mark for block in FORMS[name] for mark in (f"<{block}>", f"</{block}>")]
        new = draw(st.sampled_from([[], ["text"], ["  "], [draw(st.sampled_from(known))]]))
        parts[at : at + draw(st.integers(0, 1))] = new
    return name, parts


@pytest.mark.proves("reward.format", "float64")
@quick
@given(completions(), st.floats(0.1, 2), st.sampled_from([0.0, -1.0]))
def test_format(made, weight, broken):
    name, parts = made
    rollout = scored.rollout()
    rollout.fields = dict(make("format", name, {}).read("".join(parts)))
    piece = make("reward", "format", {"weight": weight, "broken": broken})
    close(piece.score(None, None, rollout), weight * (1.0 if keeps_form(parts, FORMS[name]) else broken))


def test_the_references_would_notice_another_formula():
    assert care_by_the_guide([1.0, 1.0, 0.0, 1.0], [[-0.1], [-0.5], [-0.05], [-0.02]]) == [0.5, 0.0, 0.0, 0.5]
    assert vote_by_the_guide(["4", "4", "5", None, "4", "5", "6", "4"], 0, 0) == [1, 1, 0, 0, 1, 0, 0, 1]
    assert not math.isclose(bleu_by_hand(list("abc"), list("abd")), rouge_by_hand(list("abc"), list("abd")))
    assert line_weights([["a", "b"], ["a"]], 0.5) != line_weights([["a", "b"], ["a"]], 0.0)
    assert not keeps_form(["<think>", "a", "</think>", "x", "<answer>", "B", "</answer>"], FORMS["think_answer"])
