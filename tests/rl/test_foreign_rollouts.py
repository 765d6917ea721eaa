"""What the run's services do for rollouts that this step did not sample: score them on all processes, name their prompts."""

import threading
from types import SimpleNamespace

import learnable
import pytest

from factory.contracts import Message, Sample
from factory.rewards.mixture import Reward
from factory.stages.models.load import load
from factory.stages.rl.rollouts import Rollout
from factory.stages.rl.services import RunServices


class Meeting:
    """`gather` of two learners in two threads."""

    def __init__(self):
        self.barrier, self.brought = threading.Barrier(2, timeout=20), {}

    def learner(self, rank):
        def gather(own):
            self.barrier.wait()
            self.brought[rank] = own
            self.barrier.wait()
            return [self.brought[0], self.brought[1]]

        return SimpleNamespace(rank=rank, world_size=2, gather=gather)


def test_each_process_scores_its_share_and_all_hold_all_results():
    meeting, done, held = Meeting(), {}, {}

    def scored(rank):
        def score_pairs(ctx, pairs):
            done[rank] = [rollout.ids[0] for _, rollout in pairs]
            for _, rollout in pairs:
                rollout.reward = Reward(rollout.ids[0] / 10, False, False, {}, {}, {})
                rollout.right, rollout.text, rollout.shaping = rollout.ids[0] > 2, f"text {rollout.ids[0]}", {"x": 0.5}

        services = RunServices(meeting.learner(rank), None, None, None, None, None, 0, score_pairs=score_pairs)
        rollouts = [Rollout(0, i, [i], [0.0], True, -1) for i in range(5)]
        services.score(None, [(None, rollout) for rollout in rollouts])
        held[rank] = rollouts

    threads = [threading.Thread(target=scored, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(done[0] + done[1]) == [0, 1, 2, 3, 4] and done[0] and done[1], "dealt, not repeated"
    assert held[0] == held[1]
    assert [(r.value, r.right, r.text, r.score) for r in held[0]][3] == (0.3, True, "text 3", pytest.approx(0.8))


@pytest.fixture(scope="module")
def loaded(base):
    return load(base, precision="fp32")


def services_of(loaded):
    learner = SimpleNamespace(loaded=loaded, rank=0, world_size=1, gather=lambda own: [own])
    return RunServices(learner, None, None, lambda s: loaded.codec.prompt(s.messages, s.media), None, None, 0)


def test_a_turn_is_what_supervised_training_sees_of_a_lesson(loaded):
    services = services_of(loaded)
    question = learnable.samples()[0]
    prompt = loaded.codec.prompt(question.messages).ids
    for text in ("blue", "a literal <|im_end|> has no power"):
        assert prompt + services.turn(text) == loaded.codec.lesson(question.messages, text).ids
    assert services.turn("blue")[-1] in services.eos_ids


def test_a_fingerprint_tells_prompt_template_and_vocabulary_apart(loaded, base):
    sample = learnable.samples()[0]
    first = services_of(loaded).fingerprint(sample)
    assert services_of(loaded).fingerprint(sample) == first
    other = Sample("x", sample.task, (Message("user", "another question"),), "blue")
    assert services_of(loaded).fingerprint(other) != first
    changed = load(base, precision="fp32")
    changed.codec.chat.template = "{{ messages[0].content }}"
    assert services_of(changed).fingerprint(sample) != first
    grown = load(base, precision="fp32")
    grown.codec.tokenizer.add_tokens(["an entirely new token"])
    assert services_of(grown).fingerprint(sample) != first
