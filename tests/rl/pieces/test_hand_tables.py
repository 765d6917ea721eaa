"""Hand-computed tables, the arithmetic beside them, for pieces whose other vectors are the guides'."""

import math

import pytest
import scored

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.difficulty import ObserveWeight
from factory.stages.rl.pieces.exgrpo import bucket_weights
from factory.stages.rl.pieces.kl_schedules import CosineKl, GrpoD
from factory.stages.rl.pieces.length import EfficientLength, Repetition
from factory.stages.rl.pieces.pad import power_weights, softmax_weights
from factory.stages.rl.pieces.ssr import priorities


def at(step):
    return StepContext(step, 10, 0, 64, 8)


@pytest.mark.proves("reward.efficient_length", "table")
def test_efficient_length():
    # 0.05 * clip(0.005 (100 - len) + 0.5, 0, 1): 40: 0.8 -> 0.04; 100: 0.5 -> 0.025; 180: 0.1 -> 0.005; 200: 0; 300: -0.5 -> 0; 0: 1 -> 0.05
    found = [EfficientLength(budget=100).score(None, None, scored.rollout(tokens=n)) for n in (40, 100, 180, 200, 300)]
    assert found == pytest.approx([0.04, 0.025, 0.005, 0.0, 0.0])


@pytest.mark.proves("reward.repetition", "table")
def test_repetition():
    # bigrams of "a b a b c": ab ba ab bc: 3 distinct of 4: -0.5 * 1/4; of "a b c": 2 of 2: 0; of "a a a": 1 of 2: -0.25
    found = [Repetition(ngram=2).score(None, None, scored.rollout(text=text)) for text in ("a b a b c", "a b c", "a a a")]
    assert found == pytest.approx([-0.125, 0.0, -0.25])


@pytest.mark.proves("weigh.observe", "table")
def test_observe():
    # 4 * 1 * p (1 - p): one of four right: 4 * 3/16 = 0.75; one of three: 4 * 2/9 = 8/9; advantages 2 and -1
    for values, factor in (([1.0, 0.0, 0.0, 0.0], 0.75), ([1.0, 0.0, 0.0], 8 / 9)):
        group = scored.group([{"exact": value} for value in values])
        for rollout in group.rollouts:
            rollout.advantage = 2.0 if rollout.right else -1.0
        ObserveWeight(peak=1.0).apply(at(0), [group])
        assert [r.advantage for r in group.rollouts] == pytest.approx([2 * factor, *[-factor] * (len(values) - 1)])


@pytest.mark.proves("kl_schedule.grpo_d", "table")
def test_grpo_d():
    # min 0.02, max 0.06, turn at 4 of 10: 0.04, then -0.005 a step to 0.02 at step 4, then +0.04/6 a step: 0.04 at step 7
    found = [GrpoD(min=0.02, max=0.06, turn=0.4).coef(at(step), 1.0) for step in (0, 1, 2, 4, 7)]
    assert found == pytest.approx([0.04, 0.035, 0.03, 0.02, 0.04])


@pytest.mark.proves("kl_schedule.cosine", "table")
def test_cosine():
    # 0.1 / 2 (1 + cos(pi s / 10)): s 0: 0.1; s 2: 0.05 (1 + 0.809017) = 0.0904508; s 5: 0.05; s 8: 0.05 (1 - 0.809017) = 0.0095492
    assert [CosineKl().coef(at(step), 0.1) for step in (0, 2, 5, 8)] == pytest.approx([0.1, 0.0904508, 0.05, 0.0095492], abs=1e-7)


@pytest.mark.proves("resample.pad_code", "table")
@pytest.mark.proves("resample.pad_paper", "table")
def test_pad():
    # |A| 0.25 and 0.5 are kept, 0.01 and 1 not. Power 2: 1/16 and 4/16 of 5/16: 0.2, 0.8. Softmax at tau 0.25/ln 3: e^(ln 3), e^(2 ln 3) = 3, 9: 1/4, 3/4
    assert power_weights([0.25, 0.5, 0.01, 1.0], low=0.03, high=0.97, power=2.0) == pytest.approx([0.2, 0.8, 0.0, 0.0])
    tau = 0.25 / math.log(3)
    assert softmax_weights([0.25, 0.5, 0.01, 1.0], low=0.03, high=0.97, tau=tau) == pytest.approx([0.25, 0.75, 0.0, 0.0])


@pytest.mark.proves("resample.ssr", "table")
def test_ssr():
    # |A|^alpha over their sum: alpha 2 of 1 and 2: 1/5, 4/5; alpha 0: equal
    assert priorities([1.0, 2.0], 2.0) == pytest.approx([0.2, 0.8]) and priorities([1.0, 2.0], 0.0) == pytest.approx([0.5, 0.5])


@pytest.mark.proves("inject.exgrpo", "table")
def test_exgrpo_buckets():
    # K = 4. code: N(k; 2, 1): e^-0.5 = .606531, 1, .606531 over 2.213061: .274069, .451863, .274069
    assert bucket_weights(4, "code") == pytest.approx([0.274069, 0.451863, 0.274069], abs=1e-6)
    # paper: N(k/4; 0.5, 1): e^-(1/32) = .969233, 1, .969233 over 2.938467: .329843, .340314, .329843
    assert bucket_weights(4, "paper") == pytest.approx([0.329843, 0.340314, 0.329843], abs=1e-6)
