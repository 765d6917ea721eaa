"""Mixers: from the verifiers' scores to one number, by vectors, by hand and by law."""

import math
import random
import statistics

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError, TrainingError
from factory.stages.rl.pieces.basics import Weighted
from factory.stages.rl.pieces.mixers import Annealed, FormatGate, MarkovGate, Multiply, NormaliseThenSum, z_scores

TWO = scored.mixture({"exact": 1.0, "format": 1.0})
JUDGED = scored.mixture({"exact": 2.0, "context": 1.0, "reasoning": 1.0, "format": 0.0})

score = st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0])
rows = st.lists(
    st.fixed_dictionaries({"exact": score, "context": score, "reasoning": score, "format": score}), min_size=1, max_size=8
)

PIECES = [
    Weighted(),
    Annealed(parts=["context"]),
    FormatGate(part="format"),
    FormatGate(part="format", hard=True),
    Multiply(factors=["format", "context"]),
    MarkovGate(context="context", reasoning="reasoning", format="format"),
    NormaliseThenSum(),
]


def mixed(piece, groups, mix=JUDGED, step=0, total=100):
    made = [scored.group(group, mix) for group in groups]
    piece.mix(scored.context(step, total, mix), made)
    return [[one.mixed for one in group.rollouts] for group in made]


@pytest.mark.proves("mixer.normalise_then_sum", "vector")
def test_normalise_then_sum_and_sum_then_normalise_by_the_guides_vectors():
    # B15: rewards [[1, .1], [1, 0], [0, .1], [0, 0]], weights 1, eps 1e-4.
    group = [{"exact": a, "format": b} for a, b in ((1.0, 0.1), (1.0, 0.0), (0.0, 0.1), (0.0, 0.0))]
    assert mixed(NormaliseThenSum(), [group], TWO)[0] == pytest.approx([1.224658, 0.000954, -0.000954, -1.224658], abs=1e-6)
    sums = z_scores([1.1, 1.0, 0.1, 0.0], 1e-4)
    assert sums == pytest.approx([0.947737, 0.775421, -0.775421, -0.947737], abs=1e-6)


@pytest.mark.proves("mixer.normalise_then_sum", "float64", "law")
@given(st.lists(rows, min_size=1, max_size=4))
def test_normalise_then_sum_against_a_slow_reference(groups):
    weights, eps = {"exact": 2.0, "context": 1.0, "reasoning": 1.0}, 1e-4
    totals = []
    for group in groups:
        sums = [0.0] * len(group)
        for name, weight in weights.items():
            values = [row[name] for row in group]
            if len(values) > 1 and statistics.stdev(values) > 0:
                sums = [
                    s + weight * (v - statistics.mean(values)) / (statistics.stdev(values) + eps)
                    for s, v in zip(sums, values, strict=True)
                ]
        totals.append(sums)
    flat = [one for group in totals for one in group]
    centre, spread = statistics.mean(flat), statistics.stdev(flat) if len(flat) > 1 else 0.0
    for got, want in zip(mixed(NormaliseThenSum(), groups), totals, strict=True):
        assert got == pytest.approx([(one - centre) / (spread + eps) for one in want], abs=1e-8)
        assert math.isclose(math.fsum(got), 0.0, abs_tol=1e-7)
        if all(one == 0 for one in want):
            assert got == [0.0] * len(got), "exactly nothing, not a rounding error"


@pytest.mark.proves("mixer.normalise_then_sum", "table")
def test_added_terms_are_components_and_a_gate_comes_first():
    made = scored.group([{"exact": 1.0}, {"exact": 0.0}])
    for one, term in zip(made.rollouts, (0.0, 5.0), strict=True):
        one.shaping["reward.x"] = term
    NormaliseThenSum(eps=0.0).mix(scored.context(), [made])
    # z-scores +-0.7071 for the answer and -+0.7071 for the term: they cancel, whatever the term's size.
    assert [one.mixed for one in made.rollouts] == pytest.approx([0.0, 0.0], abs=1e-12)
    gated = scored.mixture({"exact": 1.0}, gate="format")
    group = [{"exact": 1.0, "format": 0.0}, {"exact": 0.0, "format": 1.0}]
    assert mixed(NormaliseThenSum(), [group], gated)[0] == [0.0, 0.0], "the gate makes both 0, and then they are equal"
    assert "gates come first (t)" in NormaliseThenSum().check_mixture(gated)[0] and not NormaliseThenSum().check_mixture(TWO)


def test_normalise_then_sum_needs_the_scores():
    made = scored.group([{}, {}])
    made.rollouts[0].outcome = 1.0
    with pytest.raises(TrainingError, match="mixer=weighted"):
        NormaliseThenSum().mix(scored.context(), [made])


@pytest.mark.proves("mixer.weighted", "table")
def test_weighted_is_the_mixture_plus_what_was_added():
    made = scored.group([{"exact": 1.0, "context": 0.5, "reasoning": 0.0}], JUDGED)
    made.rollouts[0].shaping = {"a": 0.25, "b": -1.0}
    Weighted().mix(scored.context(mix=JUDGED), [made])
    # (2 x 1 + 1 x 0.5 + 1 x 0) / 4 = 0.625, plus 0.25 - 1.
    assert made.rollouts[0].mixed == pytest.approx(-0.125)


@pytest.mark.proves("mixer.annealed", "table")
def test_annealed_parts_fade_and_the_others_keep_their_scale():
    group = [{"exact": 1.0, "format": 1.0}, {"exact": 0.0, "format": 1.0}]
    # Weights 1 and 1, T = 100: at step 0 (1, 0.5); at step 50 the format's half is worth exp(-0.5) of it.
    assert mixed(Annealed(parts=["format"]), [group], TWO)[0] == pytest.approx([1.0, 0.5])
    half = 0.5 * math.exp(-0.5)
    assert mixed(Annealed(parts=["format"]), [group], TWO, step=50)[0] == pytest.approx([0.5 + half, half])
    assert mixed(Annealed(parts=["format"], horizon=10), [group], TWO, step=10)[0][1] == pytest.approx(0.5 * math.exp(-1))


@pytest.mark.proves("mixer.annealed", "law")
@given(rows, st.integers(0, 98))
def test_annealed_never_rises_over_the_run(group, step):
    piece = Annealed(parts=["context", "reasoning"])
    now, later = (mixed(piece, [group], step=s)[0] for s in (step, step + 1))
    weighted = mixed(Weighted(), [group])[0]
    assert all(b <= a <= w + 1e-12 for a, b, w in zip(now, later, weighted, strict=True))


@pytest.mark.proves("mixer.format_gate", "table")
def test_the_format_gate_and_its_hard_form():
    group = [
        {"exact": 1.0, "format": 0.0},
        {"exact": 1.0, "format": 1.0},
        {"exact": 0.5, "format": 1.0},
        {"exact": 1.0, "format": 0.5},
    ]
    assert mixed(FormatGate(part="format"), [group], TWO)[0] == [0.0, 1.0, 0.5, 1.0]
    assert mixed(FormatGate(part="format", hard=True), [group], TWO)[0] == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.proves("mixer.format_gate", "law")
@given(rows)
def test_the_format_gate_pays_nothing_for_a_broken_form_and_the_rest_otherwise(group):
    for row, value, hard in zip(
        group, *(mixed(FormatGate(part="format", hard=h), [group])[0] for h in (False, True)), strict=True
    ):
        rest = (2 * row["exact"] + row["context"] + row["reasoning"]) / 4
        assert value == pytest.approx(rest if row["format"] else 0.0)
        assert hard == float(row["exact"] == 1 and row["format"] == 1)


@pytest.mark.proves("mixer.multiply", "table")
def test_multiply_scales_the_rest():
    # BusterX: acc x (fmt + 1) with fmt in {-1, 0}: a format score of 0 or 1.
    group = [{"exact": 1.0, "format": 0.0}, {"exact": 1.0, "format": 1.0}, {"exact": 0.5, "format": 0.5}]
    assert mixed(Multiply(factors=["format"]), [group], TWO)[0] == [0.0, 1.0, 0.25]


@pytest.mark.proves("mixer.multiply", "law")
@given(rows)
def test_multiply_is_the_product_in_any_order_of_the_factors(group):
    one, other = (mixed(Multiply(factors=names), [group])[0] for names in (["context", "format"], ["format", "context"]))
    want = [row["context"] * row["format"] * (2 * row["exact"] + row["reasoning"]) / 3 for row in group]
    assert one == pytest.approx(other) and one == pytest.approx(want)


@pytest.mark.proves("mixer.markov_gate", "table")
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # Weights: exact 2, context 1, reasoning 1, format only a gate. All open: (2 + 1 + 1) / 4.
        ((1.0, 1.0, 1.0, 1.0), 1.0),
        # Reasoning 0.4 is not above 0.4: accuracy is 0; (0 + 1 + 0.4) / 4.
        ((1.0, 1.0, 0.4, 1.0), 0.35),
        # Context 0.4: reasoning and accuracy are 0; 0.4 / 4.
        ((1.0, 0.4, 1.0, 1.0), 0.1),
        ((1.0, 0.5, 0.5, 1.0), 0.75),
        ((1.0, 1.0, 1.0, 0.0), 0.0),
    ],
)
def test_the_markov_gate_goes_from_context_to_reasoning_to_accuracy(row, expected):
    named = dict(zip(("exact", "context", "reasoning", "format"), row, strict=True))
    piece = MarkovGate(context="context", reasoning="reasoning", format="format")
    assert mixed(piece, [[named]])[0] == [pytest.approx(expected)]


@pytest.mark.proves("mixer.markov_gate", "law")
@given(rows, st.floats(0, 0.99))
def test_the_markov_gate_never_pays_more_than_the_sum_and_all_of_it_when_open(group, threshold):
    piece = MarkovGate(context="context", reasoning="reasoning", threshold=threshold)
    for row, got, full in zip(group, mixed(piece, [group])[0], mixed(Weighted(), [group])[0], strict=True):
        assert 0.0 <= got <= full + 1e-12
        if min(row["context"], row["reasoning"]) > threshold:
            assert got == pytest.approx(full)


@pytest.mark.proves("mixer.weighted", "law")
@given(rows, st.sampled_from(PIECES), st.integers(0, 2**20))
def test_no_mixer_looks_at_the_order_or_at_masked_rollouts(group, piece, seed):
    found = mixed(piece, [group])[0]
    order = list(range(len(group)))
    random.Random(seed).shuffle(order)
    assert scored.near(mixed(piece, [[group[i] for i in order]])[0], [found[i] for i in order])
    at = seed % (len(group) + 1)
    with_masked = mixed(piece, [[*group[:at], {"exact": None}, *group[at:]]])[0]
    assert with_masked.pop(at) is None and scored.near(with_masked, found)


@pytest.mark.parametrize("piece", [p for p in PIECES if not isinstance(p, Weighted | NormaliseThenSum)], ids=lambda p: p.key)
def test_a_value_that_was_replaced_stays_and_a_stored_one_is_mixed_again(piece):
    made = scored.group([{"exact": 1.0, "format": 0.0, "context": 0.0, "reasoning": 0.0}] * 2, JUDGED)
    for one in made.rollouts:
        one.outcome, one.shaping = 0.75, {"x": 0.125}
    made.rollouts[1].kind = "replay"
    piece.mix(scored.context(mix=JUDGED), [made])
    assert made.rollouts[0].mixed == 0.875
    fresh = mixed(piece, [[{"exact": 1.0, "format": 0.0, "context": 0.0, "reasoning": 0.0}]])[0][0]
    assert made.rollouts[1].mixed == pytest.approx(fresh + 0.125)


@pytest.mark.parametrize("piece", [FormatGate(part="format"), Multiply(factors=["format"]), PIECES[5]], ids=lambda p: p.key)
def test_a_failed_gate_masks(piece):
    made = scored.group([{"format": None}, {}], JUDGED)
    piece.mix(scored.context(mix=JUDGED), [made])
    assert made.rollouts[0].is_masked and made.rollouts[0].score is None and made.rollouts[1].score is not None


def test_the_plan_checks_the_parts():
    for piece in (
        FormatGate(part="formt"),
        Multiply(factors=["formt"]),
        MarkovGate(context="formt", reasoning="exact"),
        Annealed(parts=["formt"]),
    ):
        with pytest.raises(ConfigError, match=r"no verifier 'formt'\. Did you mean 'format'"):
            piece.check_mixture(TWO)
    assert "so nothing changes there" in Annealed(parts=["format"]).check_mixture(JUDGED)[0]
    assert not Annealed(parts=["format"]).check_mixture(TWO)


@pytest.mark.proves("mixer.normalise_then_sum", "run")
@pytest.mark.parametrize(
    "pieces",
    [{"mixer": "normalise_then_sum", "advantage": "none"}, {"mixer": {"markov_gate": {"context": "calm/half", "reasoning": "calm"}}},
     {"mixer": {"multiply": {"factors": ["calm"]}}}, {"mixer": {"format_gate": {"part": "calm"}}}],
    ids=["normalise", "markov", "multiply", "gate"],
)  # fmt: skip
def test_a_real_run_learns_from_mixed_parts(run_stage, pieces):
    import judged

    # Blue alone is right, and calm as well: its share rises.
    _, rows, _ = run_stage(kit=judged, num_steps=8, pieces=pieces)
    assert rows[-1]["reward/exact"] > rows[0]["reward/exact"] + 0.2
